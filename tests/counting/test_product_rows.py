"""Which row a product goes to, and which products are none of activations."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from snnprof.counting.counter import SopCounter

from ..support.counting import Function, count
from .pairs import Block, Pairs, Weighted, draw


def test_a_block_of_spiking_self_attention():
    model, x = Block(), draw("BINARY", (4, 2, 5, 8), 3)
    seen: list[tuple[Tensor, Tensor]] = []
    spied = copy.deepcopy(model)
    spied.attn.spikes = lambda x, plain=spied.attn.spikes: seen.append(plain(x)) or seen[-1]
    spied(x)
    result = count(model, (x,), batch_dim=1)
    rows = result.by_layer()
    assert list(rows)[3:5] == ["attn.matmul", "attn.matmul#2"]
    first, second = rows["attn.matmul"], rows["attn.matmul#2"]
    assert first.calls == second.calls == 4
    scores = values = unrolled = 0
    for q, k, v in zip(seen[::3], seen[1::3], seen[2::3], strict=True):
        scores += Pairs(q, k.mT, "bhik", "bhkj").synops
        pairs = Pairs(q @ k.mT, v, "bhij", "bhjd")
        values, unrolled = values + pairs.synops, unrolled + pairs.unrolled
    assert (first.synops, first.input_kind) == (scores, "BINARY")
    assert (second.synops, second.unrolled_synops) == (values, unrolled)
    assert (second.input_kind, second.weight_kind, second.operation) == ("INTEGER", "BINARY", "AC")
    assert first.nominal_macs == second.nominal_macs == 4 * 2 * 2 * 5 * 4 * 5
    assert result.not_counted == ()


def test_time_steps_of_a_product():
    x = torch.zeros(3, 2, 4, 5)
    x[1, 0] = 1  # 20 of step 1's 40 elements
    result = count(Function(lambda x: x @ x.mT), (x,), batch_dim=1)
    assert result.rows[0].input_density_by_step == (0.0, 0.5, 0.0)
    calls = [(step,) for step in x]
    result = count(Function(lambda x: x @ x.mT), *calls, timesteps=3)
    assert result.rows[0].input_density_by_step == (0.0, 0.5, 0.0)
    scalar = count(Function(lambda x: torch.einsum(",i", x.sum(), x[0, 0, 0])), (x,), batch_dim=1)
    assert scalar.rows[0].input_density_by_step is None
    square = torch.zeros(3, 3, 4, 5)  # T = B: a transposed operand could not be told
    turned = count(Function(lambda x: x.transpose(0, 1) @ x.mT), (square,), batch_dim=1)
    assert turned.rows[0].input_density_by_step is None
    looped = count(Function(lambda x: [step @ step.mT for step in x]), (x,), batch_dim=1)
    assert looped.rows[0].input_density_by_step == (0.0, 0.5, 0.0)


def helper(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


class Leaf(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b


def test_call_sites():
    def several(x: Tensor) -> None:
        for _ in range(3):
            x @ x.mT
        x @ x.mT, x @ x.mT  # two on one line
        helper(x, x.mT)
        helper(x, x.mT)

    result = count(Function(several), (torch.ones(2, 3),))
    names = ["Function.matmul", *(f"Function.matmul#{n}" for n in range(2, 6))]
    assert [row.name for row in result.rows] == names
    assert [row.calls for row in result.rows] == [3, 1, 1, 1, 1]


def test_a_product_in_a_leaf_goes_by_the_leaf():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qk, self.av = Leaf(), Leaf()

        def forward(self, x: Tensor) -> Tensor:
            return self.av(self.qk(x, x.mT), x)

    assert [row.name for row in count(Net(), (torch.ones(2, 3),)).rows] == [
        "qk.matmul",
        "av.matmul",
    ]


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x @ m.w,
        lambda m, x: torch.addmm(torch.zeros(3), x, m.w),
        lambda m, x: m.w.t() @ x.t(),
        lambda m, x: torch.einsum("io,bi->bo", m.w, x),
        lambda m, x: x.mm(m.w.view(2, 2, 3).flatten(0, 1)),
    ],
)
def test_a_product_with_a_parameter(function):
    x = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 1.0, 3.0, 0.0]])
    model = Weighted(function)
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            (row,) = count(model, (x,)).rows
        # Fan-outs of the features: 2, 1, 2, 1.
        assert row.name == "w"
        assert row.synops == 6  # 2 + 1, then 1 + 2
        assert row.unrolled_synops == 11  # 2 + 2*1, then 1 + 3*2
        assert (row.input_kind, row.weight_kind) == ("INTEGER", "TERNARY")
        assert row.nominal_macs == 24  # 2 * 4 * 3


def test_a_scaled_sign_per_channel_is_ternary():
    model = Weighted(lambda m, x: x @ (m.w))
    with torch.no_grad():
        model.w.mul_(torch.tensor([1.0, 0.3, 2.0]))
    (row,) = count(model, (draw("REAL", (5, 4), 0),)).rows
    assert (row.weight_kind, row.operation) == ("TERNARY", "AC")


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda m, x: torch.bmm(x, m.w3), "TERNARY"),  # an output per batch, with one scale
        (
            lambda m, x: torch.addbmm(torch.zeros(1), x, m.w3),
            "REAL",
        ),  # each output mixes two scales
        (lambda m, x: torch.linalg.vecdot(x[:, 0, 0, None], m.w3[:, 0], dim=0), "REAL"),
        (lambda m, x: torch.einsum("bij,bjk->ik", x, m.w3), "REAL"),
        (lambda m, x: torch.einsum("bij,bjk", x, m.w3), "REAL"),  # "->ik" is implied
        (lambda m, x: torch.einsum("...ij,...jk", x, m.w3), "TERNARY"),
        (lambda m, x: torch.tensordot(x, m.w3, ([0], [0])), "REAL"),
    ],
)
def test_output_channels_of_a_parameter_are_those_that_are_not_summed(function, kind: str):
    model = Weighted(function)
    scales = torch.tensor([1.0, math.pi])[:, None, None]
    model.w3 = nn.Parameter(torch.tensor([1.0, -1.0, 1.0]).expand(2, 4, 3) * scales)
    (row,) = count(model, (torch.ones(2, 5, 4),)).rows
    assert (row.name, row.weight_kind) == ("w3", kind)


def test_a_layer_that_multiplies_by_hand_is_not_said_to_be_unseen():
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return x @ (2 * self.weight).t()

    result = count(nn.Sequential(Doubled(4, 3)), (torch.ones(2, 4),))
    assert [row.name for row in result.rows] == ["0.matmul"]
    assert result.not_counted == ()


def test_a_layers_weight_used_by_hand_goes_by_the_layer():
    (row,) = count(Weighted(lambda m, x: x @ m.fc.weight.t()), (torch.ones(2, 4),)).rows
    assert (row.name, row.synops) == ("fc", 24)  # 2 * 4 * 3


def test_two_parameters_are_no_activations():
    result = count(Weighted(lambda m, x: m.w @ m.fc.weight), (torch.ones(2, 4),))
    assert result.rows == ()
    assert "w and fc are both parameters" in result.not_counted[0][1]


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, spectral_norm])
def test_what_makes_a_weight_is_listed(norm):
    model = nn.Sequential(norm(nn.Linear(4, 3)))
    result = count(model, (torch.ones(2, 4),))
    assert [(row.name, row.synops) for row in result.rows] == [("0", 2 * 4 * 3)]
    assert all("makes a weight" in reason for _, reason in result.not_counted)
    assert result.not_counted


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.ones(2, 3).to_sparse(), "sparse"),
        (torch.ones(2, 3, dtype=torch.complex64), "complex"),
        (torch.ones(0, 3), "empty"),
    ],
)
def test_operands_that_are_not_counted(x: Tensor, reason: str):
    result = count(Function(lambda _: x @ torch.ones(3, 2, dtype=x.dtype)), (torch.ones(1),))
    assert result.rows == ()
    assert reason in result.not_counted[0][1]


def test_an_invalid_product_is_torchs_to_refuse():
    with (
        pytest.raises(RuntimeError, match="cannot be multiplied"),
        SopCounter(Function(torch.matmul)) as counter,
    ):
        counter._model(torch.ones(2, 3), torch.ones(2, 3))
