"""A network with everything that a counter could disturb, and ways to see that it did not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnprof.counting import fanout, scan, scan_rows, weight_kind
from snnprof.counting.counter import SopCounter

from ..support.counting import count


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() < 1).to(gradient.dtype)


class LIF(nn.Module):
    """A neuron with a membrane that outlives the call."""

    def __init__(self):
        super().__init__()
        self.v = 0.0

    def forward(self, x):
        self.v = 0.5 * self.v + x
        spike = Spike.apply(self.v - 0.5)
        self.v = self.v - spike
        return spike


class Net(nn.Module):
    """Convolutions, batch norm, dropout, state: everything that could be disturbed."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.lif1 = LIF()
        self.block = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, groups=2, padding_mode="circular"), nn.Dropout(0.3), LIF()
        )
        self.up = nn.ConvTranspose2d(4, 2, 2, stride=2)
        self.fc = nn.Linear(2 * 8 * 8, 3)

    def forward(self, x):
        x = self.lif1(self.norm(self.stem(x)))
        return self.fc(self.up(self.block(x)).flatten(1))


LAYERS = ["stem", "block.0", "up", "fc"]


def make(seed: int = 0, **kwargs) -> Net:
    torch.manual_seed(seed)
    return Net(**kwargs)


def images(n: int = 3, seed: int = 1) -> Tensor:
    return torch.rand(n, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


def as_on_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the code path of tensors on a GPU."""
    for module in (fanout, scan, scan_rows, weight_kind):
        monkeypatch.setattr(module, "on_host", lambda x: False)


def attributes(model: nn.Module) -> list:
    """Every module's attributes, by name; of dictionaries (hooks too) the contents."""
    return [
        (name, key, dict(value) if isinstance(value, dict) else value)
        for name, module in model.named_modules()
        for key, value in vars(module).items()
    ]


def assert_same_attributes(before: list, after: list) -> None:
    assert [(name, key) for name, key, _ in before] == [(name, key) for name, key, _ in after]
    for (_, _, old), (_, _, new) in zip(before, after, strict=True):
        if isinstance(old, dict):
            assert list(old) == list(new)
            assert all(old[key] is new[key] for key in old)
        elif not isinstance(old, Tensor | float):  # the membrane moves, as it should
            assert old is new or old == new


def assert_nothing_left(model: nn.Module) -> None:
    for module in model.modules():
        for key, value in vars(module).items():
            if "hook" in key and isinstance(value, dict):
                assert not value, (module, key)
        assert "forward" not in vars(module)
    assert torch.overrides._get_current_function_mode_stack() == []


def train(model: nn.Module, steps: int = 3, counter: SopCounter | None = None):
    """Three training steps; everything that came of them."""
    torch.manual_seed(5)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trace = []
    for step in range(steps):
        x = images(seed=step).requires_grad_()
        out = model(x)
        loss = F.cross_entropy(out, torch.tensor([0, 1, 2]))
        optimiser.zero_grad()
        loss.backward()
        trace += [out.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]
        optimiser.step()
        for module in model.modules():
            if isinstance(module, LIF):
                trace.append(module.v.detach())
                module.v = module.v.detach()
    return [*trace, *model.state_dict().values(), torch.get_rng_state(), torch.rand(3)]


def fresh_counts(seed: int = 0):
    return count(make(seed).eval(), images(), images(seed=2))


def spikes(*shape: int, seed: int = 0) -> Tensor:
    """Sparser in later time steps, so that steps can be told apart."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    share = torch.linspace(0.9, 0.1, shape[0]).view(-1, *[1] * (len(shape) - 1))
    return (x < share).float()


class MultiStep(nn.Module):
    """[T, B, C, H, W] flattened to T*B for the convolution, as every multi-step library does."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        t, b = x.shape[:2]
        x = self.conv(x.flatten(0, 1)).unflatten(0, (t, b))
        s = (x > 0).float().mean((3, 4)).ceil()
        return self.fc(s)  # [T, B, 3]
