"""Neuron operations (NOPs) counted as neurons run, whatever their library."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.core.forward_hooks import Hooks
from snnprof.core.processes import gathered
from snnprof.spiking.neuron_equations import equations_of


class NeuronOperations:
    """NOPs of all neurons of a model that run inside the block.

    3 per neuron and time step (charge, fire, reset), 1 for a stateless neuron and for an
    integrator that never fires; a layer's neurons and time steps are the places in its output.

    Args:
        model: with neurons of ours, or of a library that is known (docs/libraries.md), or
            registered with ``operations_per_step``.

    Attributes:
        total: NOPs so far; None where a neuron ran that states none, or none ran.
        unstated: names of those that ran and state none, with the reason.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._hooks = Hooks()
        self._counted = 0
        self._ran = False
        self.unstated: dict[str, str] = {}

    def __enter__(self) -> NeuronOperations:
        for name, module in self._model.named_modules():
            if equations_of(module) is not None:
                self._hooks.after(module, self._count(name))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.remove()

    def _count(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def count(module: nn.Module, inputs: tuple[Any, ...], out: Any) -> None:
            self._ran = True
            equations = equations_of(module)
            spikes = out[0] if isinstance(out, tuple | list) and len(out) else out
            if (
                equations is None
                or equations.operations_per_step is None
                or not isinstance(spikes, Tensor)
            ):
                unknown = None if equations is None else equations.unknown
                self.unstated[name or type(module).__name__] = unknown or "not stated"
                return
            self._counted += equations.operations_per_step * spikes.numel()

        return count

    @property
    def total(self) -> int | None:
        return self._counted if self._ran and not self.unstated else None

    def all_reduce(self) -> None:
        """Join those of all processes of torch.distributed: every one of them must call it."""
        parts = gathered((self._counted, self._ran, self.unstated))
        self._counted = sum(counted for counted, _, _ in parts)
        self._ran = any(ran for _, ran, _ in parts)
        self.unstated = {name: why for _, _, unstated in parts for name, why in unstated.items()}

    def per_sample(self, samples: int) -> int | None:
        """NOPs of one sample; None as :attr:`total`, and where samples differ.

        Args:
            samples: how many ran inside the block.

        Raises:
            SnnprofError: no samples.
        """
        if samples < 1:
            raise SnnprofError(f"samples={samples}: must be at least 1")
        if self.total is None or self.total % samples:
            return None
        return self.total // samples
