"""JSON that means one thing only."""

import pytest

from snnprof.core.strict_json import parse


def test_what_json_says() -> None:
    assert parse('{"a": [1, 2.5, null, true, "x"]}') == {"a": [1, 2.5, None, True, "x"]}
    assert parse(b'"\xc3\xa4"') == "\u00e4"
    assert parse("9" * 40) == 10**40 - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "'a' is there twice"),
        ('{"x": {"a": 1, "a": 1}}', "'a' is there twice"),
        ("Infinity", "Infinity is no number"),
        ("[-Infinity, NaN]", "-Infinity is no number"),
        ("1e999", "1e999 is more than a number can be"),
        ("9" * 5000, "a whole number of 5000 digits"),
        ("[" * 1000, "Expecting value|too deep"),
        ("[" * 1000 + "]" * 1000, "too deep"),
        (b"\xff", "utf-8"),
        ("", "Expecting value"),
    ],
)
def test_anything_else_is_a_value_error(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)
