"""A neuron's equations against the neuron itself: currents [T, B, features], step by step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from snnprof.spiking.neuron_equations import NeuronEquations, equations_of

# (neuron, currents [T, B, ...]) to (spikes, membranes after the reset), each [T, B, ...]
Drive = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]


def currents(seed: int, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(6, 3, 5, generator=generator) + 0.3 * scale


def known(neuron: nn.Module) -> NeuronEquations:
    equations = equations_of(neuron)
    assert equations is not None and equations.unknown is None
    return equations


def replay(neuron: nn.Module, xs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Charged membranes, spikes and membranes after the reset, by the equations."""
    equations, state, made = known(neuron), None, []
    for t, x in enumerate(xs):
        charged, spike, state = equations.step(state, x, t)
        made.append((charged, spike, state if state.shape == spike.shape else state[0]))
    return tuple(torch.stack(parts) for parts in zip(*made, strict=True))


def assert_steps_as_the_library_does(
    neuron: nn.Module, drive: Drive, xs: Tensor, *, rtol: float = 0.0, atol: float = 0.0
) -> None:
    """The same spikes and membranes to the last bit, and the same gradients.

    Args:
        neuron: at rest.
        drive: runs it as its library does.
        xs: [T, B, ...].
        rtol, atol: of the gradients; the same to the last bit if not given.
    """
    generator = torch.Generator().manual_seed(0)
    of_spikes, of_membranes = torch.randn(2, *xs.shape, generator=generator)
    found = []
    for run in (drive, lambda n, x: replay(n, x)[1:]):
        x = xs.clone().requires_grad_()
        spikes, membranes = run(neuron, x)
        loss = (spikes * of_spikes).sum() + (membranes * of_membranes).sum()
        wanted = [x, *(p for p in neuron.parameters() if p.requires_grad)]
        grads = torch.autograd.grad(loss, wanted, allow_unused=True)
        found.append((spikes.detach(), membranes.detach(), grads))
    (spikes, membranes, grads), (our_spikes, our_membranes, our_grads) = found
    assert torch.equal(our_spikes, spikes)
    assert torch.equal(our_membranes, membranes)
    for ours, theirs in zip(our_grads, grads, strict=True):
        if theirs is None:
            assert ours is None
        else:
            assert theirs.abs().sum() > 0
            torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


def assert_leaks_as_the_library_does(
    neuron: nn.Module, step: Callable[[Tensor, Tensor], Tensor], low: float = -0.5
) -> None:
    """The leak that is stated is dm_t/dm_(t-1) of a silent neuron.

    Args:
        neuron: the layer.
        step: from (the membrane before, the current) to the membrane after, in the library.
        low: a membrane, and a current, at which no neuron fires.
    """
    before = torch.full((3, 5), low, requires_grad=True)
    after = step(before, torch.full((3, 5), low))
    (slope,) = torch.autograd.grad(after.sum(), before)
    leak = torch.as_tensor(known(neuron).leak).detach().expand_as(slope)
    torch.testing.assert_close(leak.to(slope.dtype), slope, rtol=2e-7, atol=0)  # 2 ulp
