"""Text that somebody else chose, a layer's name for one, in one line that is shown as it is."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""The text with what is not printed written out: ``"a\nb"`` with a backslash and an n.

    Line ends would split rows, escape sequences would steer the terminal, marks of direction
    would show other text than there is.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
