"""Attention: torch's own functions and modules; harmless, on any device, priced."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from snnprof.counting.counter import SopCounter
from snnprof.energy.pricing import price
from snnprof.results import CountResult

from ..support.counting import Function, count
from .nets import as_on_another_device
from .pairs import VALUES, Block, Pairs, Weighted, assert_counts, draw, one_row

# --- scaled_dot_product_attention ---------------------------------------------------------------


def softmax_pairs(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[int, int]:
    """Non-zero weights, and pairs with v, of an explicit float64 softmax. [B, H, L, E]."""
    scores = (q.double() @ k.double().mT) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores + (mask.double().log() if mask.dtype == torch.bool else mask.double())
    attention = scores.softmax(-1).nan_to_num(0.0)
    found = Pairs(attention, v, "bhij", "bhjd")
    return sum(value != 0 for value in attention.flatten().tolist()), found.synops


def causal(rows: int, columns: int) -> Tensor:
    return torch.tensor([[j <= i for j in range(columns)] for i in range(rows)])


MASKS = {
    "none": lambda: None,
    "bool": lambda: draw("BINARY", (3, 5), 9).bool(),
    "per head": lambda: draw("BINARY", (1, 2, 3, 5), 9).bool(),
    "keys": lambda: torch.tensor([True, False, True, True, False]).expand(2, 1, 1, 5),
    "float": lambda: draw("BINARY", (3, 5), 8).log() + 0.5,
}


@pytest.mark.parametrize("name", MASKS)
def test_sdpa_with_masks(name: str):
    q, k, v = (draw("BINARY", (2, 2, n, 4), n) for n in (3, 5, 5))
    v = v * draw("REAL", v.shape, 1)
    mask = MASKS[name]()
    result = count(
        Function(lambda *x: F.scaled_dot_product_attention(*x, attn_mask=mask)), (q, k, v)
    )
    scores, weighted = result.rows
    assert (scores.name, weighted.name) == ("Function.sdpa.qk", "Function.sdpa.av")
    assert_counts(scores, q, k.mT, "bhik", "bhkj")
    nonzeros, pairs = softmax_pairs(q, k, v, mask)
    assert (weighted.nonzeros, weighted.synops) == (nonzeros, pairs)
    assert weighted.inputs == 60  # 2 * 2 * 3 * 5
    assert weighted.nnz_synops == nonzeros * 4
    assert (weighted.input_kind, weighted.unrolled_synops) == ("REAL", None)
    ((listed, reason),) = result.not_counted
    assert listed == "Function.sdpa.av" and "dropout" in reason


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_sdpa_causal(shape: tuple[int, int]):
    q, k, v = (draw("INTEGER", (2, 2, n, 4), n) for n in (shape[0], shape[1], shape[1]))
    row = count(
        Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, None, 0.0, True)),
        (q, k, v),
    ).rows[1]
    assert (row.nonzeros, row.synops) == softmax_pairs(q, k, v, causal(*shape))
    assert row.weight_kind == "INTEGER"


def test_sdpa_by_hand():
    v = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    row = count(
        Function(lambda v: F.scaled_dot_product_attention(v, v, v, is_causal=True)), (v,)
    ).rows[1]
    assert row.synops == 8  # row 0 of v (2 non-zeros) is met 3 times, row 1 (1) twice
    assert row.nnz_synops == 12  # 6 allowed weights * 2 columns
    assert row.nominal_macs == 18  # 3 * 3 * 2


def test_sdpa_of_grouped_queries():
    q, k, v = (draw("BINARY", (2, h, n, 4), n) for h, n in ((4, 3), (2, 5), (2, 5)))
    mask = draw("BINARY", (2, 4, 3, 5), 7).bool()
    scores, weighted = count(
        Function(lambda *x: F.scaled_dot_product_attention(*x, attn_mask=mask, enable_gqa=True)),
        (q, k, v),
    ).rows
    k, v = (x.repeat_interleave(2, 1) for x in (k, v))
    assert scores.synops == Pairs(q, k.mT, "bhik", "bhkj").synops
    assert scores.nominal_macs == 480  # 2 * 4 * 3 * 5 * 4
    assert (weighted.nonzeros, weighted.synops) == softmax_pairs(q, k, v, mask)


# --- nn.MultiheadAttention ----------------------------------------------------------------------


def heads_of(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_multihead_attention(need_weights, batch_first, cross, masked, train):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(8, 2, batch_first=batch_first).train(train)

        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            mask = ~causal(q.shape[axis], k.shape[axis]) if masked else None
            return self.attn(q, k, k, need_weights=need_weights, attn_mask=mask)[0]

    axis = 1 if batch_first else 0
    net = Net()
    q = draw("REAL", (3, 5, 8), 0).requires_grad_()
    k = draw("REAL", (3, 5, 8), 1) if cross else q
    with torch.no_grad():  # zero weights make zeros in q, k and v
        net.attn.in_proj_weight[2::3] = 0

    def outcome(run) -> list[Tensor]:
        torch.manual_seed(3)
        out = run()
        net.zero_grad()
        q.grad = None
        out.square().sum().backward()
        return [out.detach(), q.grad.clone(), *(p.grad.clone() for p in net.parameters())]

    plain = outcome(lambda: net(q, k))
    with SopCounter(net) as counter:
        counted = outcome(lambda: net(q, k))
    assert all(torch.equal(a, b) for a, b in zip(plain, counted, strict=True))
    rows = counter.result().by_layer()
    first = ("baddbmm" if masked else "bmm") if need_weights else "sdpa.qk"
    second = {"sdpa.qk": "sdpa.av", "bmm": "bmm#2", "baddbmm": "bmm"}[first]
    assert list(rows) == [
        "attn.in_proj_weight",
        *(["attn.in_proj_weight#2"] if cross else []),
        f"attn.{first}",
        f"attn.{second}",
        "attn.out_proj",
    ]
    # The projections, done by hand.
    batches = q.shape[1 - axis]
    xs = [x if batch_first else x.transpose(0, 1) for x in (q.detach(), k.detach(), k.detach())]
    parts = zip(xs, net.attn.in_proj_weight.detach().chunk(3), strict=True)
    hq, hk, hv = (heads_of(x @ w.mT, 2) for x, w in parts)
    scores, weighted = rows[f"attn.{first}"], rows[f"attn.{second}"]
    assert scores.synops == Pairs(hq, hk.mT, "bhik", "bhkj").synops
    mask = causal(hq.shape[2], hk.shape[2]) if masked else None
    assert weighted.synops == softmax_pairs(hq, hk, hv, mask)[1]
    assert batches * 2 * hq.shape[2] * hk.shape[2] * 4 == weighted.nominal_macs
    dense = sum(row.dense_macs for name, row in rows.items() if "in_proj" in name)
    assert dense == sum(
        x.numel() // 8 * int((w != 0).sum())
        for x, w in zip(xs, net.attn.in_proj_weight.chunk(3), strict=True)
    )


def test_multihead_attention_with_other_sizes_of_keys_and_values():
    attn = nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_zero_attn=True, bias=False)
    inputs = (torch.rand(3, 8), torch.rand(5, 4), torch.rand(5, 6))
    plain = attn(*inputs)
    with SopCounter(attn) as counter:
        counted = attn(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(plain, counted, strict=True))
    assert [row.name for row in counter.result().rows] == [
        *(f"{part}_proj_weight" for part in "qkv"),
        "MultiheadAttention.bmm",
        "MultiheadAttention.bmm#2",
        "out_proj",
    ]


@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention_with_padded_keys(need_weights: bool):
    attn = nn.MultiheadAttention(4, 2, batch_first=True, bias=False)
    x = torch.rand(2, 3, 4) + 1
    padded = torch.tensor([[False, False, True], [False, True, True]])
    run = lambda x: attn(x, x, x, padded, need_weights)[0]  # noqa: E731
    result = count(Function(run), (x,))
    # 3 queries * (2 + 1 keys left) * 4 features (2 heads of 2)
    assert [row.synops for row in result.rows if row.nnz_synops][1] == 36


def test_without_attention_the_projections_are_counted_and_the_products_listed():
    attn = nn.MultiheadAttention(8, 2)
    x = torch.rand(3, 2, 8)
    result = count(attn, (x, x, x), layers=("linear",))
    assert [row.name for row in result.rows] == ["in_proj_weight", "out_proj"]
    assert result.not_counted == (("MultiheadAttention", "bmm: left out by layers="),)


def test_dropout_draws_as_without_the_counter():
    attn = nn.MultiheadAttention(8, 2, dropout=0.5)
    x = torch.rand(3, 2, 8)
    torch.manual_seed(1)
    plain = attn(x, x, x)[0], torch.rand(2)
    torch.manual_seed(1)
    with SopCounter(attn):
        counted = attn(x, x, x)[0], torch.rand(2)
    assert all(torch.equal(a, b) for a, b in zip(plain, counted, strict=True))


# --- harmless, on any device, priced ------------------------------------------------------------


def test_training_is_bit_identical_and_backward_adds_nothing():
    def train(recompute: bool) -> list[Tensor]:
        x = draw("REAL", (4, 2, 5, 8), 3).requires_grad_()
        function = Function(lambda x: (x @ x.mT).softmax(-1) @ x)
        with SopCounter(function) if recompute is not None else torch.enable_grad() as counter:
            out = checkpoint(function, x, use_reentrant=False) if recompute else function(x)
            out.sum().backward()
        counts.append(None if recompute is None else counter.result())
        return [out.detach(), x.grad]

    counts: list = []
    plain, counted, again = train(None), train(False), train(True)
    for other in (counted, again):
        assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))
    assert [row.calls for row in counts[1].rows] == [1, 1]
    totals = [result.total("synops") for result in counts[1:]]
    assert totals[0] == totals[1]


def test_nested_counters_agree():
    model, x = Block(), draw("BINARY", (4, 2, 5, 8), 3)
    alone = count(model, (x,))
    with SopCounter(model) as outer, SopCounter(model) as inner:
        model(x)
    assert outer.result() == inner.result() == alone
    attn, y = nn.MultiheadAttention(8, 2), torch.rand(3, 2, 8)
    with SopCounter(attn) as outer, SopCounter(attn) as inner:
        attn(y, y, y)
    assert outer.result() == inner.result() == count(attn, (y, y, y))


@pytest.mark.parametrize("kind", VALUES)
def test_the_path_of_other_devices_agrees(kind: str, monkeypatch: pytest.MonkeyPatch):
    def counts() -> CountResult:
        model = nn.Sequential(Function(lambda x: (x @ x.mT) @ x), Weighted(lambda m, x: x @ m.w))
        return count(model, *((draw(kind, (2, 30, 4), seed),) for seed in range(3)))

    here = counts()
    as_on_another_device(monkeypatch)
    assert counts() == here
    assert len(here.rows) == 3


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_host_never_waits_for_the_device_before_the_result(elsewhere, monkeypatch):
    if elsewhere:
        as_on_another_device(monkeypatch)
    # The counter's own arithmetic is hidden from other tools: here it is what is looked at.
    for place in ("operation_mode", "counter"):
        monkeypatch.setattr(f"snnprof.counting.{place}.unseen_by_others", nullcontext)
    names: list[str] = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(str(func).split(".")[1])
            return func(*args, **(kwargs or {}))

    model = Function(lambda x: F.scaled_dot_product_attention(x @ x.mT, x, x, is_causal=True))
    waiting = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique"}
    with SopCounter(nn.Sequential(model), batch_dim=1) as counter, Recorder():
        for seed in range(3):
            counter._model(draw("INTEGER", (2, 3, 4, 4), seed))
        assert len(names) > 50
        assert not waiting.intersection(names)
        counter.result()
    assert waiting.intersection(names)  # the recorder does see them


def test_autocast_does_not_change_the_count():
    a, b = draw("INTEGER", (4000, 64), 0), draw("BINARY", (64, 4), 1)
    plain = one_row(lambda a, b: a @ b, a, b)
    with torch.autocast("cpu", torch.bfloat16):
        assert one_row(lambda a, b: a @ b, a, b) == plain


def test_not_finite_operands_are_named():
    wrong, right = torch.tensor([[1.0, math.nan]]), torch.ones(1, 2)
    for a, b in ((wrong, right), (right, wrong)):
        with pytest.warns(RuntimeWarning, match=r"Function\.matmul"):
            result = count(Function(lambda a, b: a @ b.mT), (a, b))
        assert result.non_finite == ("Function.matmul",)
        assert result.rows[0].synops == 2


def test_no_warning_comes_of_counting_attention():
    x = torch.rand(2, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count(Function(lambda x: F.scaled_dot_product_attention(x, x, x)), (x,))


def test_attention_priced():
    model, x = Block(), draw("BINARY", (4, 2, 5, 8), 3)
    result = count(model, (x,), batch_dim=1)
    row = result.by_layer()["attn.matmul#2"]
    bills = {bill.name: bill for bill in price(result, "spikformer").rows}
    assert bills[row.name].energy_j == pytest.approx(row.rate_synops / 2 * 0.9e-12, rel=1e-12)
    bills = {bill.name: bill for bill in price(result, "operands").rows}
    assert bills[row.name].energy_j == pytest.approx(row.synops / 2 * 0.9e-12, rel=1e-12)
    assert row.name in price(result, "hd-lif").not_billed
