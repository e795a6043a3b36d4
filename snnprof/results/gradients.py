"""Gradients that came back to a layer in backward passes, counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GradientCount:
    """Elements of a layer's outputs, and of the gradients that came back to them.

    Of a layer of neurons its inputs stand in their place: the gradient is that of the membrane,
    where nothing else takes them.

    Attributes:
        elements: of all calls, whether or not a gradient came.
        reached: elements that one came to: those of the time steps with a backward pass. A second
            backward pass through the same elements adds as many again.
        nonzeros: of these the elements whose gradient is not zero.
    """

    elements: int
    reached: int
    nonzeros: int

    @property
    def density(self) -> float:
        """Non-zero gradients per element, over all time steps."""
        return self.nonzeros / self.elements

    @property
    def reached_share(self) -> float:
        """Share of the elements that a backward pass came to: K / T of SLTT-K."""
        return self.reached / self.elements

    def merge(self, other: GradientCount) -> GradientCount:
        """Both measurements as one."""
        return GradientCount(
            self.elements + other.elements,
            self.reached + other.reached,
            self.nonzeros + other.nonzeros,
        )


def join(one: GradientCount | None, other: GradientCount | None) -> GradientCount | None:
    """Both as one; None where one did not look: its elements are not known."""
    return None if one is None or other is None else one.merge(other)
