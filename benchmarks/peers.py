"""SpikingJelly's neurons in our networks, run as SpikingJelly runs its own."""

from __future__ import annotations

from functools import partial

from measuring import Build, Work
from spikingjelly.activation_based import functional, surrogate
from spikingjelly.activation_based.neuron import LIFNode, SLTTLIFNode
from torch import Tensor

import snnprof
from snnprof.spiking.neuron import Neuron
from snnprof.training.stepped_model import SteppedModel

# m = m / 2 + I, soft reset, slope 1 / (1 + (pi d)^2): what ours is set to.
_NODE = {"tau": 2.0, "decay_input": False, "v_reset": None}


class _Whole(Neuron):
    """Multi-step LIFNode: the sequence at once."""

    def __init__(self, timesteps: int) -> None:
        super().__init__(timesteps)
        self.node = LIFNode(**_NODE, surrogate_function=surrogate.ATan(), step_mode="m")

    def run(self, currents: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.node(currents), None


class _Single(Neuron):
    """SLTTLIFNode: one time step; it detaches its membrane itself."""

    def __init__(self, timesteps: int) -> None:
        super().__init__(timesteps)
        self.node = SLTTLIFNode(**_NODE, surrogate_function=surrogate.ATan(), step_mode="s")

    def run(self, currents: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.node(currents[0]).unsqueeze(0), None


# By training mode.
_NEURONS = {"stbp": _Whole, "online": _Single}


def spikingjelly(mode: str, work: Work) -> Build:
    """The network of ``work`` with their neurons.

    Its layers are called directly: nothing that ours do around a call is done.
    """

    def build() -> SteppedModel:
        network = work.network(lambda channels, *, second=False: _NEURONS[mode](work.timesteps))
        return snnprof.stepwise(
            network,
            reset=partial(functional.reset_net, network),
            detach=lambda: None,
            step=lambda x: network.run_steps(x.unsqueeze(0))[0],
            sequence=network.run_steps,
        )

    return build
