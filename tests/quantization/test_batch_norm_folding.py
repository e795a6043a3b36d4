"""Batch norms folded: outputs and what is left, against the model itself."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.core.errors import SnnprofError
from snnprof.quantization.batch_norm_folding import fold_batch_norm

from ..support.counting import count
from ..support.guides import assert_examples_run


def lived_in(model: nn.Module) -> nn.Module:
    """The model with statistics and affine parameters that have an effect."""
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None:
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2.0, generator=generator)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 2.0, generator=generator)
                nn.init.normal_(norm.bias, generator=generator)
    return model


def silently(model: nn.Module) -> nn.Module:
    """Folded, with nothing left to be said."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return fold_batch_norm(model)


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def assert_same(folded: nn.Module, model: nn.Module, x: Tensor) -> None:
    """Float32 rounding of sums of at most 100 products of size 10."""
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(x)
        torch.testing.assert_close(folded(x), expected, rtol=1e-5, atol=1e-5)
        assert (expected - expected.mean()).abs().max() > 0.1  # something to compare


def test_one_channel_by_hand() -> None:
    net = nn.Sequential(nn.Conv1d(1, 1, 1), nn.BatchNorm1d(1, eps=0.0))
    for tensor, value in (
        (net[0].weight, 3.0), (net[0].bias, 5.0), (net[1].weight, 7.0), (net[1].bias, 11.0),
        (net[1].running_mean, 1.0), (net[1].running_var, 4.0),
    ):  # fmt: skip
        nn.init.constant_(tensor, value)
    folded = silently(net)
    assert folded[0].weight.item() == 3 * 7 / 2  # sqrt(4) = 2
    assert folded[0].bias.item() == (5 - 1) * 7 / 2 + 11
    assert isinstance(folded[1], nn.Identity)


PAIRS: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "conv1d": (nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4), (2, 3, 7)),
    "conv2d": (nn.Conv2d(4, 6, 3, bias=False, groups=2), nn.BatchNorm2d(6), (2, 4, 6, 6)),
    "padding": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4), (2, 3, 6, 6)),  # noqa: E501
    "conv3d": (nn.Conv3d(2, 4, 2, dilation=2), nn.BatchNorm3d(4), (1, 2, 4, 4, 4)),
    "transposed": (nn.ConvTranspose2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), (2, 3, 4, 4)),
    "linear": (nn.Linear(4, 6), nn.BatchNorm1d(6), (5, 4)),
    "not affine": (nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6, affine=False), (5, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PAIRS))
@pytest.mark.parametrize("training", [False, True])
def test_neighbours_in_a_sequential(name: str, training: bool) -> None:
    torch.manual_seed(0)
    layer, norm, shape = PAIRS[name]
    model = lived_in(copy.deepcopy(nn.Sequential(layer, norm, nn.ReLU()))).train(training)
    before = copy.deepcopy(model.state_dict())
    folded = silently(model)
    assert norms(folded) == 0 and norms(model) == 1
    assert_same(folded, model, torch.randn(shape))
    assert model.training is training and not any(m.training for m in folded.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class Block(nn.Module):
    """Pairs that only the forward shows; an argument with a default; a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(4) for _ in range(3))
        self.conv1, self.conv2, self.short = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor, scale: float | None = None) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.bn3(self.short(x))
        return out if scale is None else out * scale


def test_pairs_in_a_graph() -> None:
    torch.manual_seed(0)
    model = lived_in(nn.Sequential(Block(), Block()))
    folded = silently(model)
    assert norms(folded) == 0
    assert_same(folded, model, torch.randn(2, 4, 5, 5))


class LoopOverTime(nn.Module):
    """[T, B, features]: the pair runs once per time step."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.bn(self.fc(x[t])) for t in range(2)])


def test_a_pair_that_is_called_several_times() -> None:
    model = lived_in(LoopOverTime())
    folded = silently(model)
    assert norms(folded) == 0
    assert_same(folded, model, torch.randn(2, 3, 4))


def test_one_pair_under_two_names() -> None:
    pair = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model = lived_in(nn.Sequential(pair, nn.ReLU(), pair))
    folded = silently(model)
    assert norms(folded) == 0 and folded[0] is folded[2]
    assert_same(folded, model, torch.randn(5, 4))


class Twice(Block):
    """The output of conv1 is used without the norm too."""

    def forward(self, x: Tensor, scale: float | None = None) -> Tensor:
        out = self.conv1(x)
        return out + self.bn2(self.conv2(self.bn1(out))) + self.bn3(self.bn2(self.conv2(x)))


class Direct(Block):
    """A forward that uses a weight itself."""

    def forward(self, x: Tensor, scale: float | None = None) -> Tensor:
        out = self.bn1(self.conv1(x)) * self.conv1.weight.mean()
        return self.bn2(self.conv2(out)) + self.bn3(self.short(x))


class Shaped(Block):
    """Control flow on the input's values."""

    def forward(self, x: Tensor, scale: float | None = None) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class Between(Block):
    """By default something stands between the layer and its norm."""

    def forward(self, x: Tensor, scale: float | None = None) -> Tensor:
        out = self.conv1(x)
        out = self.bn1(torch.relu(out)) if scale is None else self.bn1(out)
        return self.bn2(self.conv2(out)) + self.bn3(self.short(x))


class Sign(nn.Conv2d):
    """Quantises its weight: a scale would be lost."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.sign(), self.bias)


def _hooked() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    net[0].register_forward_hook(lambda module, args, out: None)
    return net


LEFT: dict[str, tuple[Any, str, int]] = {
    "used elsewhere": (Twice, r"bn1 \(the output of conv1 is used elsewhere too", 2),
    "used directly": (Direct, r"bn1 \(conv1: its parameters are used directly", 1),
    "by default": (Between, r"bn1 \(it does not stand right behind", 1),
    "untraceable": (Shaped, r"bn1, bn2, bn3 \(torch.fx cannot trace the forward of Shaped \(TraceError\)", 3),  # noqa: E501
    "norm first": (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)), r"0 \(it does not stand right behind", 1),  # noqa: E501
    "quantised": (lambda: nn.Sequential(Sign(4, 4, 3), nn.BatchNorm2d(4)), r"1 \(0 is a Sign, whose weight", 1),  # noqa: E501
    "parametrised": (lambda: snnprof.quantize(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)), "1bit"), r"1 \(0 is a ParametrizedConv2d", 1),  # noqa: E501
    "hooks": (_hooked, r"1 \(0: it has hooks", 1),
    "batch statistics": (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), r"1 \(it keeps no running statistics", 1),  # noqa: E501
    "transposed groups": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 3, groups=4), nn.BatchNorm2d(4)), r"1 \(0 is transposed and has groups", 1),  # noqa: E501
    "instance": (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm2d(4)), r"1 \(its channels are not the features of 0", 1),  # noqa: E501
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(LEFT))
def test_what_is_not_folded_is_said_and_runs_as_before(name: str) -> None:
    torch.manual_seed(0)
    make, message, left = LEFT[name]
    model = lived_in(make())
    with pytest.warns(UserWarning, match=f"batch norms that are not folded: .*{message}"):
        folded = fold_batch_norm(model)
    assert norms(folded) == left
    assert_same(folded, model, torch.randn(2, 4, 5, 5))


def test_a_network_of_ours_counts_folded() -> None:
    torch.manual_seed(0)
    model = lived_in(snnprof.models.create("vgg5", timesteps=2, image_size=8)).eval()
    folded = silently(model)
    assert norms(folded) == 0
    x = torch.randn(2, 3, 8, 8)
    mine, theirs = count(folded, x), count(model, x)
    assert [row.name for row in mine.rows] == [row.name for row in theirs.rows]
    assert mine.rows[0].synops == theirs.rows[0].synops
    assert mine.firing_rate is not None and mine.firing_rate > 0


def test_no_batch_norm_is_said() -> None:
    with pytest.warns(UserWarning, match=r"^Linear has no batch norm: the copy counts what"):
        fold_batch_norm(nn.Linear(2, 2))


def test_the_advice_where_a_forward_cannot_be_traced_works() -> None:
    class Loop(nn.Module):
        def __init__(self, *layers: nn.Module) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layers)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x) if bool(x.sum() > 0) else layer(-x)
            return x

    pair = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    with pytest.warns(UserWarning, match="put layer and norm into an nn.Sequential"):
        fold_batch_norm(Loop(*pair))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folded = fold_batch_norm(Loop(nn.Sequential(*pair)))
    assert [type(m) for m in folded.modules()][-1] is nn.Identity


def test_what_cannot_be_copied_is_refused_in_one_line() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net.state = net[0](torch.ones(1, 2))
    with pytest.raises(SnnprofError, match=r"Sequential cannot be copied .* reset the state"):
        fold_batch_norm(net)
    with pytest.raises(SnnprofError, match=r"not a torch\.nn\.Module"):
        fold_batch_norm("net")  # type: ignore[arg-type]


def test_tracing_draws_no_random_number_and_keeps_other_dtypes() -> None:
    class Noisy(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            torch.rand(3)
            return super().forward(x)

    model = lived_in(Noisy(nn.Linear(4, 6), nn.BatchNorm1d(6))).double()
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    folded = silently(model)
    assert torch.equal(torch.rand(2), expected)
    assert folded[0].weight.dtype == torch.float64
    x = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(folded(x), copy.deepcopy(model).eval()(x), rtol=1e-13, atol=1e-13)


def test_the_example_of_the_guide_runs(tmp_path: Path) -> None:
    assert_examples_run("weights.md", tmp_path, "Folded batch norms")
