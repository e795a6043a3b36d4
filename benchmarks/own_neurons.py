"""Neurons and containers as public code writes them, for the networks that are tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

T, CLASSES = 4, 3
Build = Callable[[], Any]


class Spike(torch.autograd.Function):
    """H(m - 1), with a triangle for its gradient."""

    @staticmethod
    def forward(ctx: Any, m: Tensor) -> Tensor:
        ctx.save_for_backward(m)
        return (m >= 1).to(m.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (m,) = ctx.saved_tensors
        gradient: Tensor = grads[0] * (1 - (m - 1).abs()).clamp(min=0)
        return gradient


def fire(m: Tensor) -> Tensor:
    out: Tensor = Spike.apply(m)  # type: ignore[no-untyped-call]
    return out


class LIF(nn.Module):
    """Over [T, ...], or [B, T, ...] with dim=1, from rest."""

    def __init__(self, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        m, outs = torch.zeros_like(x.select(self.dim, 0)), []
        for current in x.unbind(self.dim):
            m = 0.5 * m + current
            outs.append(fire(m))
            m = m * (1 - outs[-1])
        return torch.stack(outs, self.dim)


class Keeping(nn.Module):
    """[B, ...], the membrane stays between calls until reset()."""

    def __init__(self) -> None:
        super().__init__()
        self.v: Tensor | None = None

    def reset(self) -> None:
        self.v = None

    def forward(self, x: Tensor) -> Tensor:
        m = x if self.v is None else 0.5 * self.v + x
        s = fire(m)
        self.v = m * (1 - s)
        return s


class Unforgetting(Keeping):
    """As Keeping, without a method that forgets."""

    reset = None  # type: ignore[assignment]


class StateInDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.state: dict[str, Tensor] = {}

    def reset(self) -> None:
        self.state.clear()

    def forward(self, x: Tensor) -> Tensor:
        m = 0.5 * self.state.get("mem", torch.zeros_like(x)) + x
        s = fire(m)
        self.state["mem"] = m - s
        return s


class StateInBuffer(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mem", torch.zeros(1, size), persistent=False)
        self.mem: Tensor

    def reset(self) -> None:
        self.mem = torch.zeros_like(self.mem[:1])

    def forward(self, x: Tensor) -> Tensor:
        m = 0.5 * self.mem + x
        s = fire(m)
        self.mem = m - s
        return s


class PLIF(Keeping):
    """With a learnable leak."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        m = x if self.v is None else self.v + (x - self.v) * self.w.sigmoid()
        s = fire(m)
        self.v = m - s
        return s


class IntegerSpikes(Keeping):
    """Spikes 0 to 4 in one time step (straight-through)."""

    def forward(self, x: Tensor) -> Tensor:
        m = x if self.v is None else 0.5 * self.v + x
        s = m + (m.clamp(0, 4).round() - m).detach()
        self.v = m - s
        return s


class SeqToANN(nn.Module):
    """Layers over [B, T, ...] folded to [B * T, ...] (tdBN, TET)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.module = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x.flatten(0, 1).contiguous())
        return out.view(x.shape[0], x.shape[1], *out.shape[1:])


class Folded(nn.Module):
    """A neuron over [T * B, ...] that unfolds what it is given (QCFS, DSR)."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = LIF()(x.view(T, -1, *x.shape[1:])).flatten(0, 1)
        return out


class Net(nn.Module):
    """Layers by name, and a forward made of them."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.made_of = forward

    def forward(self, x: Tensor) -> Any:
        return self.made_of(self, x)


def repeat(x: Tensor) -> Tensor:
    return x.unsqueeze(0).repeat(T, *[1] * x.dim())


def over_time(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer of [B, ...] over [T, B, ...]."""
    out = layer(x.flatten(0, 1))
    return out.view(*x.shape[:2], *out.shape[1:])


def image_body(neuron: Build, channels: int = 1) -> nn.Sequential:
    """Layers [B, channels, 8, 8] to [B, classes], one time step."""
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        neuron(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        neuron(),
        nn.Flatten(),
        nn.Linear(24, CLASSES),
    )


def flat_body(neuron: Build, features: int = 64) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 16), neuron(), nn.Linear(16, CLASSES))
