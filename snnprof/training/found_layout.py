"""How a model takes its time steps, once it has been found out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from snnprof.training.layouts import AUTO, laid_out
from snnprof.training.stepped_model import SteppedModel


@dataclass(frozen=True)
class FoundLayout:
    """How a model takes its time steps.

    Attributes:
        name: of :data:`~snnprof.training.layouts.LAYOUTS`; None for a model with a ``step`` or
            ``sequence`` of its own.
        output_dim: where T stands in its output: 0, 1, or None for outputs [B, classes].
        first_of_several: it returns several outputs, of which the first is taken.
        steps_alone: it can be run time step by time step with the same outputs.
        calls: of the model for a whole sequence.
        output_shape: of one sample at one time step, or of its averages, e.g. (10,).
        found: by trying; False where it was given, or known.
        batches: the layout that says where T stands in batches, where T = B leaves it open.
        remarks: what could not be seen.
    """

    name: str | None
    output_dim: int | None = None
    first_of_several: bool = False
    steps_alone: bool = True
    calls: int = 1
    output_shape: tuple[int, ...] = ()
    found: bool = False
    batches: str = AUTO
    remarks: tuple[str, ...] = ()

    def apply(self, stepped: SteppedModel) -> SteppedModel:
        """The model run in this layout."""
        if self.name is None or stepped.call is None:
            return stepped
        laid = laid_out(stepped, self.name, self.output_dim)
        return laid if self.steps_alone else replace(laid, step=None)
