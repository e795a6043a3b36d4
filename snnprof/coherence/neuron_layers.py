"""The layers of neurons of a network that can be compared."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from snnprof.coherence.neuron_probe import LayerRecord, NeuronProbe, RunProbe
from snnprof.coherence.neuron_replay import ReplayProbe
from snnprof.core.errors import SnnprofError
from snnprof.core.module_names import module_names, unwrapped
from snnprof.spiking.neuron import states_itself
from snnprof.spiking.neuron_equations import NeuronEquations, equations_of, not_stated

UNSTATED = "its registered equations do not claim it (NeuronEquations.identity)"


@dataclass(frozen=True)
class NeuronLayer:
    """A layer of neurons in a model, with the equations that it states."""

    module: nn.Module
    equations: NeuronEquations

    @property
    def neuron(self) -> str:
        """The neuron's name, variants included."""
        return self.equations.name or type(self.module).__name__

    @property
    def unclaimed(self) -> str | None:
        """Why the exact identity is not claimed for it; None where it is."""
        return None if self.equations.identity else self.equations.reason or UNSTATED

    def probe(self, cut: bool, record: LayerRecord | None) -> NeuronProbe:
        """A probe for one run: of the layer's own code, or a replay by its equations."""
        if states_itself(self.module):
            return RunProbe(self.module, self.equations, cut, record)
        return ReplayProbe(self.equations, cut, record)


def neuron_layers(model: nn.Module) -> dict[str, NeuronLayer]:
    """Every layer of neurons that states its equations, integrators that never fire too, by name.

    Raises:
        SnnprofError: there is none, or one of them states no step or no leak.
    """
    names = module_names(model)
    layers = {name: layer for m, name in names.items() if (layer := _layer(m)) is not None}
    if not any(layer.equations.spiking for layer in layers.values()):
        raise SnnprofError(
            f"{type(unwrapped(model)).__name__} has no neuron whose membrane is known: build it "
            "with snnprof.models.create, or state the equations of another library's neuron: "
            "@snnprof.register_neuron(ItsClass) on a function that returns its "
            "snnprof.NeuronEquations"
        )
    return layers


def _layer(module: nn.Module) -> NeuronLayer | None:
    equations = equations_of(module)
    if equations is None:
        return None
    for what, stated in (("step", equations.step), ("leak", equations.leak)):
        if stated is None and (equations.spiking or what == "step"):
            raise not_stated(module, what, "gradient coherence")
    return NeuronLayer(module, equations)
