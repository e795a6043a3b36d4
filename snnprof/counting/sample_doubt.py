"""Doubt about a number of samples that looks like T."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class SampleDoubt:
    """Shapes of the first call of a model whose first dimension was read as the samples.

    They are doubted where the second dimension comes out in the samples' place ([A, D, ...] to
    [D, classes]), or both in theirs ([A, D, ...] to [A, D, classes]), and the first layer that was
    counted ran on both. An image, a volume or a signal that is convolved has channels there.
    """

    def __init__(self) -> None:
        self._given: tuple[int, ...] = ()
        self._out: tuple[int, ...] = ()
        self._on_both: bool | None = None  # the first layer; None: not seen yet
        self._is_said = False

    def begin(self, x: Tensor | None) -> None:
        """Begin the call with x."""
        self._given = () if x is None or x.is_nested else tuple(x.shape)

    def see_layer(self, x: Tensor, leading: tuple[int, ...]) -> None:
        """Take note of a layer's input, and of its dimensions before channels and space."""
        if self._on_both is not None or len(self._given) < 3:
            return
        first, second = self._given[:2]
        flat = leading[:1] == (first * second,) and x.dim() < len(self._given)
        looped = leading[:1] == (second,) and first != second
        self._on_both = flat or looped or leading[:2] == (first, second)

    def end(self, out: Any) -> None:
        """End the call with this output."""
        first = out[0] if isinstance(out, list | tuple) and out else out
        self._out = tuple(first.shape) if isinstance(first, Tensor) and not first.is_nested else ()

    def say_once(self) -> str | None:
        """The doubt in words; None without one, and from the second time on."""
        given, out = self._given, self._out
        both = len(out) == 3 and out[:2] == given[:2]
        second = len(out) == 2 and out[:1] == given[1:2] != given[:1]
        if self._is_said or not self._on_both or not (both or second):
            return None
        self._is_said = True
        return (
            f"an input {given} was read as [B, ...], {given[0]} samples, but with the output {out} "
            'it looks like [T, B, ...]: give layout="time-first", or "batch-first" for '
            "[B, T, ...]; result(samples=N) with the right number confirms what was counted"
        )
