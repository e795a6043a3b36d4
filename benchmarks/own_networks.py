"""Networks as public code writes them, in every way of taking time steps that was met there."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from own_neurons import (
    CLASSES,
    LIF,
    Folded,
    Keeping,
    Net,
    SeqToANN,
    T,
    fire,
    flat_body,
    image_body,
    over_time,
    repeat,
)
from torch import Tensor, nn


def repeat_inside() -> Net:
    def forward(net: Any, x: Tensor) -> Any:
        out = net.lif(over_time(net.conv, repeat(x)))
        out = net.lif(over_time(net.conv2, out))
        return over_time(net.fc, out.flatten(2)).mean(0)

    return Net(
        forward, conv=nn.Conv2d(1, 4, 3, padding=1), conv2=nn.Conv2d(4, 4, 3, stride=2),
        lif=LIF(), fc=nn.Linear(36, CLASSES),
    )  # fmt: skip


def swapping() -> Net:
    def forward(net: Any, x: Tensor) -> Any:  # [B, T, ...]
        x = x.transpose(0, 1)
        out = net.lif(over_time(net.fc1, x.flatten(2)))
        return net.fc2(out).transpose(0, 1)

    return Net(forward, fc1=nn.Linear(64, 16), fc2=nn.Linear(16, CLASSES), lif=LIF())


def tutorial() -> Net:
    """States made in forward, spikes and membranes returned (snnTorch)."""

    def forward(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1 = mem2 = torch.zeros(())
        spikes, membranes = [], []
        for _ in range(T):
            mem1 = 0.9 * mem1 + net.fc1(x.flatten(1))
            spk1 = fire(mem1)
            mem1 = mem1 - spk1
            mem2 = 0.9 * mem2 + net.fc2(spk1)
            spk2 = fire(mem2)
            mem2 = mem2 - spk2
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes), torch.stack(membranes)

    return Net(forward, fc1=nn.Linear(64, 16), fc2=nn.Linear(16, CLASSES))


def spikformer(kind: str = "plain") -> Net:
    """T inside; patches, one block of attention, classes averaged over tokens and time."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if kind == "softmax":
            return (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
        if kind == "linear":
            return q @ (k.transpose(-2, -1) @ v) * 0.5
        return q @ k.transpose(-2, -1) @ v * 0.5

    def forward(net: Any, x: Tensor) -> Any:
        x = over_time(net.patch, repeat(x)).flatten(3).transpose(-1, -2)  # [T, B, 16, 8]
        x = net.lif(x)
        q, k, v = (net.lif(layer(x)) for layer in (net.q, net.k, net.v))
        x = x + net.lif(net.proj(attention(q, k, v)))
        x = x + net.lif(net.fc2(net.lif(net.fc1(x))))
        return net.head(x.mean(2)).mean(0)

    def dim(out: int = 8, given: int = 8) -> nn.Linear:
        return nn.Linear(given, out)

    patch = nn.Sequential(nn.Conv2d(1, 8, 2, stride=2, bias=False), nn.BatchNorm2d(8))
    return Net(
        forward, patch=patch, q=dim(), k=dim(), v=dim(), proj=dim(), fc1=dim(16),
        fc2=dim(8, 16), head=dim(CLASSES), lif=LIF(),
    )  # fmt: skip


def tdbn() -> nn.Module:
    return nn.Sequential(
        SeqToANN(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)),
        LIF(1),
        SeqToANN(nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, padding=1)),
        LIF(1),
        SeqToANN(nn.Flatten(), nn.Linear(64, CLASSES)),
    )


def tet_inside() -> Net:
    """As tdbn, on images that it repeats itself, with an output at every time step."""

    def forward(net: Any, x: Tensor) -> Any:
        return net.body(x.unsqueeze(1).repeat(1, T, 1, 1, 1))

    return Net(
        forward, body=nn.Sequential(
            SeqToANN(nn.Conv2d(1, 4, 3, padding=1)), LIF(1),
            SeqToANN(nn.Flatten(), nn.Linear(256, CLASSES)),
        ),
    )  # fmt: skip


def folded() -> Net:
    def forward(net: Any, x: Tensor) -> Any:
        return net.body(repeat(x).flatten(0, 1)).view(T, len(x), -1).mean(0)

    return Net(forward, body=image_body(Folded))


def recurrent() -> Net:
    def forward(net: Any, x: Tensor) -> Any:  # [T, B, ...]
        s, m, outs = torch.zeros(x.shape[1], 16), torch.zeros(()), []
        for current in x:
            m = 0.5 * m + net.fc(current.flatten(1)) + net.back(s)
            s = fire(m)
            m = m - s
            outs.append(net.out(s))
        return torch.stack(outs)

    return Net(forward, fc=nn.Linear(64, 16), back=nn.Linear(16, 16), out=nn.Linear(16, CLASSES))


def sew() -> Net:
    def forward(net: Any, x: Tensor) -> Any:
        x = net.lif1(net.conv1(x))
        x = x + net.lif2(net.bn(net.conv2(x)))
        x = x + net.lif3(net.conv3(x))
        return net.fc(x.mean((2, 3)))

    def conv(given: int = 4) -> nn.Conv2d:
        return nn.Conv2d(given, 4, 3, padding=1, bias=False)

    return Net(
        forward, conv1=conv(1), conv2=conv(), conv3=conv(), bn=nn.BatchNorm2d(4),
        lif1=Keeping(), lif2=Keeping(), lif3=Keeping(), fc=nn.Linear(4, CLASSES),
    )  # fmt: skip


def event_net() -> Net:
    def forward(net: Any, x: Tensor) -> Any:  # [T, B, 2, 8, 8]
        out = net.lif(over_time(net.conv, x))
        return over_time(net.fc, out.flatten(2)).mean(0)

    return Net(forward, conv=nn.Conv2d(2, 4, 3, padding=1), fc=nn.Linear(256, CLASSES), lif=LIF())


def one_dimensional() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 5, padding=2), Keeping(), nn.Conv1d(4, 4, 3, stride=2), Keeping(),
        nn.Flatten(), nn.Linear(28, CLASSES),
    )  # fmt: skip


def three_dimensional() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 2, 3, padding=1), Keeping(), nn.Conv3d(2, 2, 3), Keeping(),
        nn.Flatten(), nn.Linear(2 * 3 * 4 * 4, CLASSES),
    )  # fmt: skip


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), Keeping(), nn.Conv2d(4, 4, 3, padding=1, groups=4),
        Keeping(), nn.Conv2d(4, 8, 1, groups=2), Keeping(), nn.Conv2d(8, 4, 3, dilation=2),
        Keeping(), nn.Flatten(), nn.Linear(64, CLASSES),
    )  # fmt: skip


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), Keeping(), nn.Conv2d(4, 4, 3), Keeping(),
        nn.ConvTranspose2d(4, 4, 3), Keeping(),
        nn.ConvTranspose2d(4, 1, 3, stride=2, padding=1, output_padding=1),
    )  # fmt: skip


def unet() -> Net:
    def forward(net: Any, x: Tensor) -> Any:
        down = net.lif1(net.conv1(x))
        deep = net.lif2(net.conv2(F.max_pool2d(down, 2)))
        return net.out(torch.cat([net.lif3(net.up(deep)), down], 1))

    return Net(
        forward, conv1=nn.Conv2d(1, 4, 3, padding=1), conv2=nn.Conv2d(4, 6, 3, padding=1),
        up=nn.ConvTranspose2d(6, 4, 2, stride=2), out=nn.Conv2d(8, CLASSES, 1),
        lif1=Keeping(), lif2=Keeping(), lif3=Keeping(),
    )  # fmt: skip


def unet_inside() -> Net:
    """As unet, T inside, averaged over time."""
    return steps_inside(unet())


def steps_inside(inner: nn.Module) -> Net:
    """A step-wise network from rest, T times, averaged."""

    def forward(net: Any, x: Tensor) -> Any:
        for module in net.inner.modules():
            if isinstance(module, Keeping):
                module.reset()
        return torch.stack([net.inner(x) for _ in range(T)]).mean(0)

    return Net(forward, inner=inner)


def tokens() -> Net:
    def forward(net: Any, x: Tensor) -> Any:  # token numbers [B, L]
        x = net.lif1(net.embed(x))
        return net.head(net.lif2(net.fc(x)).mean(1))

    return Net(
        forward, embed=nn.Embedding(20, 8), fc=nn.Linear(8, 8), head=nn.Linear(8, CLASSES),
        lif1=Keeping(), lif2=Keeping(),
    )  # fmt: skip


def language_model() -> Net:
    """Scores of every token, T inside."""

    def forward(net: Any, x: Tensor) -> Any:
        hidden = net.lif(repeat(net.embed(x)))
        return net.head(net.lif(net.fc(hidden))).mean(0).transpose(1, 2)  # [B, classes, L]

    return Net(
        forward, embed=nn.Embedding(20, 8), fc=nn.Linear(8, 8), head=nn.Linear(8, CLASSES),
        lif=LIF(),
    )  # fmt: skip


def poisson() -> Net:
    def forward(net: Any, x: Tensor) -> Any:
        return net.body((torch.rand_like(x) < x).float())

    return Net(forward, body=image_body(Keeping))


def poisson_inside() -> Net:
    def forward(net: Any, x: Tensor) -> Any:
        spikes = (torch.rand(T, *x.shape) < x).float()
        return over_time(net.fc2, net.lif(over_time(net.fc1, spikes.flatten(2)))).mean(0)

    return Net(forward, fc1=nn.Linear(64, 16), fc2=nn.Linear(16, CLASSES), lif=LIF())


def direct_encoding() -> Net:
    """The first convolution sees the image once, before the loop."""

    def forward(net: Any, x: Tensor) -> Any:
        current, m, outs = net.conv(x), torch.zeros(()), []
        for _ in range(T):
            m = 0.5 * m + current
            s = fire(m)
            m = m - s
            outs.append(net.fc(s.flatten(1)))
        return torch.stack(outs).sum(0)

    return Net(forward, conv=nn.Conv2d(1, 4, 3), fc=nn.Linear(144, CLASSES))


def with_dropout() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), Keeping(), nn.Dropout(0.5), nn.Linear(16, CLASSES)
    )


def in_a_dict() -> Net:
    def forward(net: Any, x: Tensor) -> dict[str, Tensor]:
        return {"logits": net.body(x)}

    return Net(forward, body=image_body(Keeping))


def mixing() -> Net:
    """Attention over the batch."""

    def forward(net: Any, x: Tensor) -> Any:
        hidden = net.lif(net.fc1(x.flatten(1)))
        return net.fc2((hidden @ hidden.T).softmax(-1) @ hidden)

    return Net(forward, fc1=nn.Linear(64, 16), fc2=nn.Linear(16, CLASSES), lif=Keeping())


def shared() -> Net:
    """One convolution used twice, and tied weights in another layer."""

    def forward(net: Any, x: Tensor) -> Any:
        x = net.lif1(net.first(x))
        x = net.lif2(net.conv(x))
        x = net.lif3(net.conv(x))
        return net.fc(net.lif4(net.tied(x)).flatten(1))

    conv, tied = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
    tied.weight = conv.weight
    return Net(
        forward, first=nn.Conv2d(1, 4, 3, padding=1), conv=conv, tied=tied,
        fc=nn.Linear(256, CLASSES), lif1=Keeping(), lif2=Keeping(), lif3=Keeping(), lif4=Keeping(),
    )  # fmt: skip


class LightningLike(nn.Module):
    """forward, training_step and configure_optimizers, with a reset_states of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.net = image_body(Keeping)

    def forward(self, x: Tensor) -> Tensor:
        for module in self.net:
            if isinstance(module, Keeping):
                module.reset()
        return torch.stack([self.net(x) for _ in range(T)])

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x).mean(0), y)


class NeedsT(nn.Module):
    """forward(x, timesteps)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = image_body(Keeping)

    def forward(self, x: Tensor, timesteps: int) -> Tensor:
        for module in self.net:
            if isinstance(module, Keeping):
                module.reset()
        return torch.stack([self.net(x) for _ in range(timesteps)]).mean(0)


class MayTakeT(NeedsT):
    """forward(x, timesteps=T)."""

    def forward(self, x: Tensor, timesteps: int = T) -> Tensor:
        return super().forward(x, timesteps)


def time_last() -> Net:
    """[B, C, H, W, T] (the first STBP code)."""

    def forward(net: Any, x: Tensor) -> Any:
        m, total = torch.zeros(()), torch.zeros(())
        for t in range(T):
            m = 0.5 * m + net.conv(x[..., t])
            s = fire(m)
            m = m - s
            total = total + net.fc(s.flatten(1))
        return total / T

    return Net(forward, conv=nn.Conv2d(2, 4, 3), fc=nn.Linear(144, CLASSES))


def cnn() -> nn.Module:
    return image_body(nn.ReLU)


def mlp() -> nn.Module:
    return flat_body(nn.ReLU)


class Ours(nn.Module):
    """[T, B, ...] with a method step() for one time step."""

    def __init__(self) -> None:
        super().__init__()
        self.body = flat_body(Keeping)

    def step(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.step(current) for current in x])
