"""Every variant of our neurons, and their equations differentiated by torch."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from snnprof.spiking.hdlif import HDLIF, four_bit_, hdlif_step
from snnprof.spiking.ilif import IntegerLIF
from snnprof.spiking.learnable_lif import LearnableLIF
from snnprof.spiking.lif import LIF, LIFSettings, lif_step
from snnprof.spiking.neuron import Neuron
from snnprof.spiking.surrogates import SURROGATES


def sequence(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)


SWITCHES = ("four_bit", "parallel", "mem_bn", "seca", "literal", "authors_code")


VARIANTS = [
    dict(zip(SWITCHES, values, strict=True))
    for values in product((False, True), repeat=len(SWITCHES))
    if values[1] or not values[5]  # their code differs in the parallel neuron alone
]


LIFS = [
    LIFSettings(surrogate=surrogate, reset=reset, detach_reset=detached, threshold=threshold)
    for surrogate, reset, detached, threshold in product(
        SURROGATES, ("soft", "hard"), (False, True), (1.0, 0.75)
    )
]


def all_neurons(timesteps: int) -> list[Neuron]:
    hdlifs = [HDLIF(timesteps, 4, **variant) for variant in VARIANTS]
    lifs = (kind(timesteps, settings) for settings in LIFS for kind in (LIF, LearnableLIF))
    return [*hdlifs, *lifs, IntegerLIF(timesteps)]


def plain_run(neuron: Neuron, currents: Tensor) -> Tensor:
    """By the step equations, differentiated by torch."""
    membrane, spikes = None, []
    for t, current in enumerate(currents):
        if isinstance(neuron, LIF):
            spike, membrane = lif_step(membrane, current, neuron.settings)
        else:
            assert isinstance(neuron, HDLIF)
            threshold = neuron.threshold_logit[0 if neuron.first_threshold else t].sigmoid()
            leak = threshold if neuron.parallel else neuron.leak_logit[t].sigmoid()
            before = None if neuron.parallel else membrane
            spike, membrane = hdlif_step(before, current, leak, threshold, neuron.literal)
            if neuron.four_bit:
                spike = spike + (four_bit_(spike.detach().clone()) - spike).detach()
        spikes.append(spike)
    return torch.stack(spikes)


def gradients(neuron: Neuron, run: Callable[[Tensor], Tensor], currents: Tensor) -> list[Tensor]:
    currents = currents.clone().requires_grad_()
    out = run(currents)
    torch.manual_seed(3)
    torch.autograd.backward(out, torch.randn_like(out))
    leaves = [currents, *neuron.parameters()]
    found = [torch.zeros_like(x) if x.grad is None else x.grad.clone() for x in leaves]
    neuron.zero_grad()
    return found
