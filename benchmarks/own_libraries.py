"""Networks of the spiking libraries that are installed, as their guides write them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from own_list import EVENTS, Tried
from own_neurons import CLASSES, Net, T, over_time, repeat
from torch import Tensor, nn


def spikingjelly(step_mode: str) -> nn.Module:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    net = nn.Sequential(
        layer.Conv2d(1, 4, 3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.IFNode(surrogate_function=surrogate.ATan()),
        layer.MaxPool2d(2, 2),
        layer.Flatten(),
        layer.Linear(64, CLASSES),
        neuron.LIFNode(),
    )
    functional.set_step_mode(net, step_mode)
    return net


def spikingjelly_inside() -> Net:
    return Net(lambda net, x: net.body(repeat(x)).mean(0), body=spikingjelly("m"))


def clock_driven() -> Net:
    """T inside, as the code of most papers has it."""
    from spikingjelly.clock_driven import layer, neuron

    def forward(net: Any, x: Tensor) -> Any:
        return net.fc(net.lif(net.conv(repeat(x))).flatten(2).mean(0))

    conv = layer.SeqToANNContainer(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
    lif = neuron.MultiStepLIFNode(tau=2.0, detach_reset=True)
    return Net(forward, conv=conv, lif=lif, fc=nn.Linear(256, CLASSES))


def clock_driven_steps() -> nn.Module:
    from spikingjelly.clock_driven import neuron

    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), neuron.LIFNode(), nn.Flatten(), nn.Linear(256, CLASSES)
    )


def snntorch_hidden() -> nn.Module:
    import snntorch

    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 16),
        snntorch.Leaky(beta=0.9, init_hidden=True),
        nn.Linear(16, CLASSES),
        snntorch.Leaky(beta=0.9, init_hidden=True, output=True),
    )


def snntorch_inside() -> Net:
    import snntorch

    def forward(net: Any, x: Tensor) -> Any:
        mem1, (syn2, mem2) = net.lif1.init_leaky(), net.lif2.init_synaptic()
        spikes, membranes = [], []
        for _ in range(T):
            spk1, mem1 = net.lif1(net.fc1(x.flatten(1)), mem1)
            spk2, syn2, mem2 = net.lif2(net.fc2(spk1), syn2, mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes), torch.stack(membranes)

    return Net(
        forward, fc1=nn.Linear(64, 16), lif1=snntorch.Leaky(beta=0.9),
        fc2=nn.Linear(16, CLASSES), lif2=snntorch.Synaptic(alpha=0.9, beta=0.8),
    )  # fmt: skip


def norse_cells() -> Net:
    import norse.torch

    def forward(net: Any, x: Tensor) -> Any:
        s1, s2, voltages = None, None, []
        for _ in range(T):
            z, s1 = net.lif(net.fc1(4 * x.flatten(1)), s1)
            v, s2 = net.out(net.fc2(z), s2)
            voltages.append(v)
        return torch.stack(voltages).max(0).values

    return Net(
        forward, fc1=nn.Linear(64, 16), lif=norse.torch.LIFCell(), fc2=nn.Linear(16, CLASSES),
        out=norse.torch.LICell(),
    )  # fmt: skip


def norse_lifted() -> nn.Module:
    import norse.torch

    net: nn.Module = norse.torch.SequentialState(
        norse.torch.Lift(nn.Conv2d(2, 4, 3)),
        norse.torch.LIF(),
        norse.torch.Lift(nn.Sequential(nn.Flatten(), nn.Linear(144, CLASSES))),
    )
    return net


def sinabs_rows() -> Net:
    """Layers over [B * T, ...], with squeezing neurons."""
    import sinabs.layers

    def forward(net: Any, x: Tensor) -> Any:  # [T, B, ...]
        rows = net.body(x.transpose(0, 1).flatten(0, 1))
        return rows.view(x.shape[1], x.shape[0], -1).transpose(0, 1)

    body = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        sinabs.layers.IAFSqueeze(num_timesteps=T),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
        sinabs.layers.IAFSqueeze(num_timesteps=T),
    )
    return Net(forward, body=body)


def sinabs_batch_first() -> Net:
    import sinabs.layers

    def forward(net: Any, x: Tensor) -> Any:  # [B, T, ...]
        hidden = net.lif(over_time(net.conv, x))
        return net.fc(hidden.flatten(2))

    return Net(
        forward, conv=nn.Conv2d(2, 4, 3), lif=sinabs.layers.LIF(tau_mem=5.0),
        fc=nn.Linear(144, CLASSES),
    )  # fmt: skip


_OF = {
    "spikingjelly.activation_based": (
        Tried("SpikingJelly, multi-step, mean over time", spikingjelly_inside, "inside"),
        Tried("SpikingJelly, multi-step, [T, B, ...]", lambda: spikingjelly("m"), "time-first"),
        Tried("SpikingJelly, step by step", lambda: spikingjelly("s"), "step"),
    ),
    "spikingjelly.clock_driven": (
        Tried("case 8: clock_driven, T inside", clock_driven, "inside"),
        Tried("case 8: clock_driven, step by step", clock_driven_steps, "step"),
    ),
    "snntorch": (
        Tried("snnTorch, hidden states", snntorch_hidden, "step"),
        Tried("snnTorch, states made in forward", snntorch_inside, "inside"),
    ),
    "norse": (
        Tried("Norse, cells in a loop", norse_cells, "inside"),
        Tried("Norse, lifted, SequentialState, events", norse_lifted, "time-first", EVENTS),
    ),
    "sinabs": (
        Tried("sinabs, [B * T, ...] inside, events", sinabs_rows, "time-first", EVENTS),
        Tried("sinabs, [B, T, ...], events", sinabs_batch_first, "batch-first", EVENTS),
    ),
}


def _is_there(module: str) -> bool:
    package = module.partition(".")[0]
    return find_spec(package) is not None and find_spec(module) is not None


LIBRARIES = tuple(tried for name, some in _OF.items() if _is_there(name) for tried in some)
