"""Norse."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from snnprof.training.adapter_registry import ADAPTERS
from snnprof.training.stepped_model import SteppedModel, one_of, wrong_output

# Run over time by themselves: [T, B, ...].
_NORSE_SEQUENCES = {
    "norse.torch.module.lift.Lift",
    "norse.torch.module.snn.SNN",
    "norse.torch.module.snn.SNNRecurrent",
}


@ADAPTERS.register("norse")
def norse(model: nn.Module) -> SteppedModel:
    """Norse: ``out, state = model(x, state)``, as its SequentialState.

    With a ``Lift`` or a neuron that runs over time, such as ``LIF``, x is [T, B, ...]; with cells
    only, [B, ...].
    """
    held: list[Any] = [None]

    def run(x: Tensor) -> Tensor:
        result = model(x, held[0])
        if not isinstance(result, tuple) or len(result) != 2:
            raise wrong_output(result, "(output, state)", x)
        out: Tensor = result[0]
        held[0] = result[1]
        return out

    def forget() -> None:
        held[0] = None

    def cut() -> None:
        held[0] = tree_map(lambda s: s.detach() if isinstance(s, Tensor) else s, held[0])

    kinds = {kind for module in model.modules() for kind in type(module).__mro__}
    if _NORSE_SEQUENCES.isdisjoint(f"{kind.__module__}.{kind.__name__}" for kind in kinds):
        return SteppedModel(model, forget, cut, run, None, run, "step")
    return SteppedModel(model, forget, cut, one_of(run), run, run, "time-first")
