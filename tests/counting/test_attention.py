"""Products of two activations against plain enumeration of the pairs that meet."""

from __future__ import annotations

import copy
import itertools
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from snnprof.counting import spectrum, weights
from snnprof.counting.counter import SopCounter
from snnprof.energy.pricing import price
from snnprof.results import CountResult, LayerCount


class Run(nn.Module):
    """A model that is one function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def measure(model: nn.Module, *calls: tuple, **options) -> CountResult:
    with SopCounter(model, **options) as counter:
        for inputs in calls:
            model(*inputs)
    return counter.result()


def one_row(function, *inputs: Tensor) -> LayerCount:
    one_sample = torch.ones(1)  # an operand may have no dimension to read samples off
    result = measure(Run(lambda _, *x: function(*x)), (one_sample, *inputs))
    assert result.not_counted == ()
    (row,) = result.rows
    return row


# --- the oracle: every index tuple, one by one --------------------------------------------------


class Pairs:
    """Walks every tuple of indices of an einsum of two operands."""

    def __init__(self, a: Tensor, b: Tensor, left: str, right: str) -> None:
        letters = sorted({*left, *right})
        sizes = dict.fromkeys(letters, 1)
        for letter, size in (*zip(left, a.shape, strict=True), *zip(right, b.shape, strict=True)):
            sizes[letter] = max(sizes[letter], size)
        self.synops = self.unrolled = self.nnz = self.dense = 0
        for at in itertools.product(*(range(sizes[letter]) for letter in letters)):
            place = dict(zip(letters, at, strict=True))
            x, y = _element(a, left, place), _element(b, right, place)
            self.dense += 1
            self.nnz += x != 0
            self.synops += x != 0 and y != 0
            self.unrolled += abs(x) if y != 0 else 0


def _element(x: Tensor, letters: str, place: dict[str, int]) -> float:
    at = (place[n] if size > 1 else 0 for n, size in zip(letters, x.shape, strict=True))
    return float(x[tuple(at)])


def assert_counts(row: LayerCount, a: Tensor, b: Tensor, left: str, right: str) -> None:
    expected = Pairs(a, b, left, right)
    assert row.synops == expected.synops
    assert row.nnz_synops == expected.nnz
    assert row.nominal_macs == row.dense_macs == expected.dense
    if len(set(left)) == len(left):
        nonzeros = sum(value != 0 for value in a.flatten().tolist())
        assert (row.nonzeros, row.inputs) == (nonzeros, a.numel())
        assert row.firing_rate == nonzeros / a.numel()
        assert row.rate_synops == pytest.approx(row.firing_rate * expected.dense, rel=1e-12)
    if row.input_kind == "INTEGER":
        assert row.unrolled_synops == expected.unrolled
    elif row.input_kind == "REAL":
        assert row.unrolled_synops is None
    else:
        assert row.unrolled_synops == row.synops


VALUES = {
    "BINARY": [0.0, 1.0],
    "TERNARY": [-1.0, 0.0, 1.0],
    "INTEGER": [0.0, 1.0, 2.0, 3.0],
    "REAL": None,
}


def draw(kind: str, shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator)
    levels = VALUES[kind]
    if levels is None:
        return ((x - 0.3).clamp(min=0) * math.pi).to(dtype)
    return torch.tensor(levels)[(x * len(levels)).long()].to(dtype)


KINDS = st.sampled_from(sorted(VALUES))
SEEDS = st.integers(0, 1 << 16)
SIZE = st.integers(1, 4)


@settings(max_examples=80, deadline=None)
@given(st.data(), KINDS, KINDS, SEEDS)
def test_matmul_of_any_ranks_with_broadcasting(data, kind_a: str, kind_b: str, seed: int):
    m, k, n = (data.draw(SIZE) for _ in range(3))
    batch = [data.draw(SIZE) for _ in range(2)]

    def shape(*last: int) -> tuple[tuple[int, ...], str]:
        if len(last) == 1:
            return last, "k"
        dims = data.draw(st.integers(0, 2))
        ahead = [size if data.draw(st.booleans()) else 1 for size in batch[2 - dims :]]
        return (*ahead, *last), "xy"[2 - dims :]

    left_shape, left = shape(*((m, k) if data.draw(st.booleans()) else (k,)))
    right_shape, right = shape(*((k, n) if data.draw(st.booleans()) else (k,)))
    left += "mk" if len(left_shape) > 1 else ""
    right += "kn" if len(right_shape) > 1 else ""
    a, b = draw(kind_a, left_shape, seed), draw(kind_b, right_shape, seed + 1)
    row = one_row(torch.matmul, a, b)
    assert row.op == "matmul"
    assert_counts(row, a, b, left, right)


@settings(max_examples=120, deadline=None)
@given(st.data(), KINDS, KINDS, SEEDS)
def test_einsum_of_any_two_operands(data, kind_a: str, kind_b: str, seed: int):
    """Transposed, batched, contracted, summed out, diagonal and broadcast indices."""
    letters = st.lists(st.sampled_from("abcde"), min_size=0, max_size=4)
    left, right = "".join(data.draw(letters)), "".join(data.draw(letters))
    output = "".join(c for c in sorted({*left, *right}) if data.draw(st.booleans()))
    sizes = {letter: data.draw(st.integers(1, 3)) for letter in {*left, *right}}

    def operand(kind: str, term: str, at: int) -> Tensor:
        repeated = {letter for letter in term if term.count(letter) > 1}
        return draw(
            kind,
            tuple(
                1 if c not in repeated and data.draw(st.integers(0, 5)) == 0 else sizes[c]
                for c in term
            ),
            at,
        )

    a, b = operand(kind_a, left, seed), operand(kind_b, right, seed + 1)
    row = one_row(lambda x, y: torch.einsum(f"{left},{right}->{output}", x, y), a, b)
    assert row.op == "einsum"
    assert_counts(row, a, b, left, right)


@pytest.mark.parametrize(
    ("equation", "a", "b", "left", "right"),
    [
        ("...ij,...jk", (2, 3, 4), (2, 4, 2), "xij", "xjk"),
        ("...ij, ...jk -> ...ik", (2, 3, 4), (5, 2, 4, 2), "xij", "yxjk"),
        ("b...d,d", (2, 3, 4), (4,), "bxd", "d"),
        ("ij,kj", (3, 4), (2, 4), "ij", "kj"),
    ],
)
def test_einsum_with_an_ellipsis(equation, a, b, left, right):
    x, y = draw("BINARY", a, 0), draw("INTEGER", b, 1)
    assert_counts(one_row(lambda x, y: torch.einsum(equation, x, y), x, y), x, y, left, right)
    spelt = one_row(lambda x, y: torch.einsum(equation, [x, y]), x, y)
    assert_counts(spelt, x, y, left, right)


def test_einsum_by_lists_of_indices():
    a, b = draw("BINARY", (2, 3), 0), draw("BINARY", (3, 4), 1)
    row = one_row(lambda a, b: torch.einsum(a, [0, 1], b, [1, 2], [2, 0]), a, b)
    assert_counts(row, a, b, "ij", "jk")


def test_einsum_of_one_operand_multiplies_nothing():
    result = measure(Run(lambda x: torch.einsum("ij->ji", x)), (torch.ones(2, 3),))
    assert (result.rows, result.not_counted) == ((), ())


ZERO = torch.zeros(1)
FORMS = {
    "operator": (lambda a, b: a @ b, "bij", "bjk"),
    "method": (lambda a, b: a.matmul(other=b), "bij", "bjk"),
    "by name, turned": (lambda a, b: torch.matmul(other=b, input=a), "bij", "bjk"),
    "rmatmul": (lambda a, b: b.__rmatmul__(a), "bij", "bjk"),
    "linalg": (lambda a, b: torch.linalg.matmul(a, b), "bij", "bjk"),
    "out": (lambda a, b: torch.matmul(a, b, out=torch.empty(2, 3, 5)), "bij", "bjk"),
    "bmm": (torch.bmm, "bij", "bjk"),
    "bmm by name": (lambda a, b: a.bmm(mat2=b), "bij", "bjk"),
    "baddbmm": (lambda a, b: torch.baddbmm(ZERO, a, b), "bij", "bjk"),
    "baddbmm by name": (
        lambda a, b: torch.baddbmm(batch2=b, batch1=a, input=ZERO, beta=2),
        "bij",
        "bjk",
    ),
    "baddbmm_": (lambda a, b: torch.zeros(2, 3, 5).baddbmm_(a, b), "bij", "bjk"),
    "addbmm": (lambda a, b: torch.addbmm(ZERO, a, b), "bij", "bjk"),
    "tensordot": (lambda a, b: torch.tensordot(a, b, dims=([2], [1])), "bij", "cjk"),
    "tensordot of two": (lambda a, b: torch.tensordot(a, b.mT, ([-1, 0], [2, 0])), "bij", "bjk"),
    "inner": (lambda a, b: torch.inner(a, b.mT), "bij", "cjk"),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_way_to_write_a_product_of_batches(name: str):
    function, left, right = FORMS[name]
    a, b = draw("INTEGER", (2, 3, 4), 0), draw("BINARY", (2, 4, 5), 1)
    assert_counts(one_row(function, a, b), a, b, left, right)


SMALL = {
    "mm": (lambda a, b: a.mm(b), "ij", "jk"),
    "addmm": (lambda a, b: torch.addmm(ZERO, a, b, alpha=2), "ij", "jk"),
    "addmm_": (lambda a, b: torch.zeros(3, 5).addmm_(a, mat2=b), "ij", "jk"),
    "tensordot": (lambda a, b: torch.tensordot(a, b, dims=1), "ij", "jk"),
    "tensordot, nothing summed": (lambda a, b: torch.tensordot(a, b, 0), "ij", "kl"),
    "mv": (lambda a, b: torch.mv(a, b[:, 0]), "ij", "j"),
    "addmv": (lambda a, b: torch.addmv(ZERO, a, b[:, 0]), "ij", "j"),
    "dot": (lambda a, b: torch.dot(a[0], b[:, 0]), "j", "j"),
    "vdot": (lambda a, b: a[0].vdot(b[:, 0]), "j", "j"),
    "outer": (lambda a, b: a[0].outer(b[0]), "i", "k"),
    "ger": (lambda a, b: torch.ger(a[0], b[0]), "i", "k"),
    "addr": (lambda a, b: torch.addr(ZERO, a[0], b[0]), "i", "k"),
    "vecdot": (lambda a, b: torch.linalg.vecdot(a, b[:, 0]), "ij", "j"),
    "vecdot of columns": (lambda a, b: torch.linalg.vecdot(a, b[:3, :4], dim=0), "ij", "ij"),
}


@pytest.mark.parametrize("name", SMALL)
def test_every_way_to_write_a_product_of_matrices_and_vectors(name: str):
    function, left, right = SMALL[name]
    a, b = draw("TERNARY", (3, 4), 0), draw("INTEGER", (4, 5), 1)
    used_a = a if len(left) == 2 else a[0]
    used_b = b[:, 0] if right == "j" else b
    used_b = b[0] if right == "k" else used_b
    used_b = b[:3, :4] if right == "ij" else used_b
    assert_counts(one_row(function, a, b), used_a, used_b, left, right)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_other_types_and_layouts(dtype: torch.dtype):
    a, b = draw("INTEGER", (2, 3, 4), 0, dtype), draw("BINARY", (2, 5, 4), 1, dtype)
    assert_counts(one_row(lambda a, b: a @ b.mT, a, b), a, b.mT, "bij", "bjk")
    wide = a[:, :1].expand(2, 3, 4)
    assert_counts(one_row(lambda a, b: a @ b.mT, wide, b), wide, b.mT, "bij", "bjk")
    both = (a[:1].expand(2, 3, 4), b[:1].expand(2, 5, 4))
    assert_counts(one_row(lambda a, b: a @ b.mT, *both), both[0], both[1].mT, "bij", "bjk")
    row = one_row(lambda a, b: a * 0 + torch.einsum("bij,bij->bij", a, a), a, b)
    assert_counts(row, a, a, "bij", "bij")


# --- by hand ------------------------------------------------------------------------------------


def test_a_product_by_hand():
    q = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    k = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    row = one_row(lambda q, k: q @ k, q, k)
    # nnz of q's columns: 1, 0, 2; of k's rows: 2, 2, 1: 1*2 + 0*2 + 2*1
    assert row.synops == 4
    assert row.nnz_synops == 6  # 3 non-zeros * 2 columns
    assert row.nominal_macs == row.dense_macs == 12  # 2 * 3 * 2
    assert row.firing_rate == 0.5  # 3 of 6
    assert row.rate_synops == 6.0
    assert (row.input_kind, row.weight_kind, row.operation) == ("BINARY", "BINARY", "AC")


def test_integer_spikes_by_hand():
    a = torch.tensor([[3.0, 0.0, 2.0]])
    b = torch.tensor([[0.5, math.pi], [1.0, 1.0], [0.0, 0.7]])
    row = one_row(lambda a, b: a @ b, a, b)
    assert row.synops == 3  # 1*2 + 1*1
    assert row.unrolled_synops == 8  # 3*2 + 2*1
    assert (row.input_kind, row.weight_kind, row.operation) == ("INTEGER", "REAL", "AC")


@pytest.mark.parametrize(
    ("kind_a", "kind_b", "event"),
    [
        ("BINARY", "REAL", "AC"),
        ("REAL", "TERNARY", "AC"),
        ("INTEGER", "REAL", "AC"),
        ("REAL", "REAL", "MAC"),
        ("REAL", "INTEGER", "MAC"),
    ],
)
def test_what_an_event_is(kind_a: str, kind_b: str, event: str):
    row = one_row(torch.matmul, draw(kind_a, (8, 16), 0), draw(kind_b, (16, 8), 1))
    assert (row.input_kind, row.weight_kind, row.operation) == (kind_a, kind_b, event)


def test_kinds_are_judged_over_the_whole_measurement():
    ones, twos = torch.ones(2, 3), 2 * torch.ones(2, 3)
    (row,) = measure(Run(lambda a: a @ a.mT), (ones,), (twos,)).rows
    assert (row.input_kind, row.weight_kind) == ("INTEGER", "INTEGER")
    assert row.synops == 24  # 2 calls * 2 * 3 * 2
    assert row.unrolled_synops == 36  # 12 + 2 * 12


def test_calls_of_other_shapes_add_up():
    """As in decoding with a cache: the keys grow. Here rate and nnz differ."""
    calls = [(torch.ones(1, 2), torch.ones(2, 3)), (torch.zeros(1, 2), torch.ones(2, 9))]
    (row,) = measure(Run(torch.matmul), *calls).rows
    assert row.synops == row.nnz_synops == 6  # 1 * 2 * 3, then nothing
    assert row.nominal_macs == 24  # 6 + 18
    assert row.rate_synops == 12.0  # half of the inputs are active


def test_sums_beyond_float32():
    # 2^13 rows * 2^12 features * 4 columns = 2^27 pairs; 2^25 summands in one float32 sum.
    a = torch.ones(1 << 13, 1 << 12)
    b = torch.ones(1 << 12, 4)
    row = one_row(lambda a, b: torch.einsum("ij,jk->", a, b), a, b)
    assert row.synops == row.nnz_synops == row.unrolled_synops == 1 << 27
    tall = torch.ones((1 << 24) + 1, 1)
    assert one_row(lambda a, b: a.mT @ b, tall, tall).synops == (1 << 24) + 1
    assert one_row(lambda a, b: a @ b, tall, torch.ones(1, 1)).synops == (1 << 24) + 1


# --- rows ---------------------------------------------------------------------------------------


class SelfAttention(nn.Module):
    """Spiking self-attention without softmax, T steps in a loop."""

    def __init__(self, dim: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.proj = nn.Linear(dim, dim)

    def spikes(self, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype).unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def step(self, x: Tensor) -> Tensor:
        q, k, v = (self.spikes(layer(x)) for layer in (self.q, self.k, self.v))
        scores = q @ k.transpose(-2, -1)
        out = scores @ v
        return self.proj((out.transpose(-3, -2).flatten(-2) > 1).to(x.dtype))

    def forward(self, x: Tensor) -> Tensor:  # [T, B, N, D]
        return torch.stack([self.step(step) for step in x])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = SelfAttention()

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x)


def test_a_block_of_spiking_self_attention():
    model, x = Block(), draw("BINARY", (4, 2, 5, 8), 3)
    seen: list[tuple[Tensor, Tensor]] = []
    spied = copy.deepcopy(model)
    spied.attn.spikes = lambda x, plain=spied.attn.spikes: seen.append(plain(x)) or seen[-1]
    spied(x)
    result = measure(model, (x,), batch_dim=1)
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
    result = measure(Run(lambda x: x @ x.mT), (x,), batch_dim=1)
    assert result.rows[0].firing_rate_by_step == (0.0, 0.5, 0.0)
    calls = [(step,) for step in x]
    result = measure(Run(lambda x: x @ x.mT), *calls, timesteps=3)
    assert result.rows[0].firing_rate_by_step == (0.0, 0.5, 0.0)
    scalar = measure(Run(lambda x: torch.einsum(",i", x.sum(), x[0, 0, 0])), (x,), batch_dim=1)
    assert scalar.rows[0].firing_rate_by_step is None
    looped = measure(Run(lambda x: [step @ step.mT for step in x]), (x,), batch_dim=1)
    assert looped.rows[0].firing_rate_by_step is None


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

    result = measure(Run(several), (torch.ones(2, 3),))
    names = ["Run.matmul", *(f"Run.matmul#{n}" for n in range(2, 6))]
    assert [row.name for row in result.rows] == names
    assert [row.calls for row in result.rows] == [3, 1, 1, 1, 1]


def test_a_product_in_a_leaf_goes_by_the_leaf():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qk, self.av = Leaf(), Leaf()

        def forward(self, x: Tensor) -> Tensor:
            return self.av(self.qk(x, x.mT), x)

    assert [row.name for row in measure(Net(), (torch.ones(2, 3),)).rows] == [
        "qk.matmul",
        "av.matmul",
    ]


class Weighted(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.w = nn.Parameter(torch.tensor([[0.5, -0.5, 0.0], [0.5, 0.0, 0.0]] * 2))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


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
            (row,) = measure(model, (x,)).rows
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
    (row,) = measure(model, (draw("REAL", (5, 4), 0),)).rows
    assert (row.weight_kind, row.operation) == ("TERNARY", "AC")


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda m, x: torch.bmm(x, m.w3), "TERNARY"),  # an output per batch, with one scale
        (lambda m, x: torch.addbmm(ZERO, x, m.w3), "REAL"),  # each output mixes two scales
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
    (row,) = measure(model, (torch.ones(2, 5, 4),)).rows
    assert (row.name, row.weight_kind) == ("w3", kind)


def test_a_layer_that_multiplies_by_hand_is_not_said_to_be_unseen():
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return x @ (2 * self.weight).t()

    result = measure(nn.Sequential(Doubled(4, 3)), (torch.ones(2, 4),))
    assert [row.name for row in result.rows] == ["0.matmul"]
    assert result.not_counted == ()


def test_a_layers_weight_used_by_hand_goes_by_the_layer():
    (row,) = measure(Weighted(lambda m, x: x @ m.fc.weight.t()), (torch.ones(2, 4),)).rows
    assert (row.name, row.synops) == ("fc", 24)  # 2 * 4 * 3


def test_two_parameters_are_no_activations():
    result = measure(Weighted(lambda m, x: m.w @ m.fc.weight), (torch.ones(2, 4),))
    assert result.rows == ()
    assert "w and fc are both parameters" in result.not_counted[0][1]


def test_what_makes_a_weight_is_listed():
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)))
    result = measure(model, (torch.ones(2, 4),))
    assert [row.name for row in result.rows] == ["0"]
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
    result = measure(Run(lambda _: x @ torch.ones(3, 2, dtype=x.dtype)), (torch.ones(1),))
    assert result.rows == ()
    assert reason in result.not_counted[0][1]


def test_an_invalid_product_is_torchs_to_refuse():
    with (
        pytest.raises(RuntimeError, match="cannot be multiplied"),
        SopCounter(Run(torch.matmul)) as counter,
    ):
        counter._model(torch.ones(2, 3), torch.ones(2, 3))


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
    result = measure(Run(lambda *x: F.scaled_dot_product_attention(*x, attn_mask=mask)), (q, k, v))
    scores, weighted = result.rows
    assert (scores.name, weighted.name) == ("Run.sdpa.qk", "Run.sdpa.av")
    assert_counts(scores, q, k.mT, "bhik", "bhkj")
    nonzeros, pairs = softmax_pairs(q, k, v, mask)
    assert (weighted.nonzeros, weighted.synops) == (nonzeros, pairs)
    assert weighted.inputs == 60  # 2 * 2 * 3 * 5
    assert weighted.nnz_synops == nonzeros * 4
    assert (weighted.input_kind, weighted.unrolled_synops) == ("REAL", None)
    ((listed, reason),) = result.not_counted
    assert listed == "Run.sdpa.av" and "dropout" in reason


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_sdpa_causal(shape: tuple[int, int]):
    q, k, v = (draw("INTEGER", (2, 2, n, 4), n) for n in (shape[0], shape[1], shape[1]))
    row = measure(
        Run(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, None, 0.0, True)), (q, k, v)
    ).rows[1]
    assert (row.nonzeros, row.synops) == softmax_pairs(q, k, v, causal(*shape))
    assert row.weight_kind == "INTEGER"


def test_sdpa_by_hand():
    v = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    row = measure(
        Run(lambda v: F.scaled_dot_product_attention(v, v, v, is_causal=True)), (v,)
    ).rows[1]
    assert row.synops == 8  # row 0 of v (2 non-zeros) is met 3 times, row 1 (1) twice
    assert row.nnz_synops == 12  # 6 allowed weights * 2 columns
    assert row.nominal_macs == 18  # 3 * 3 * 2


def test_sdpa_of_grouped_queries():
    q, k, v = (draw("BINARY", (2, h, n, 4), n) for h, n in ((4, 3), (2, 5), (2, 5)))
    mask = draw("BINARY", (2, 4, 3, 5), 7).bool()
    scores, weighted = measure(
        Run(lambda *x: F.scaled_dot_product_attention(*x, attn_mask=mask, enable_gqa=True)),
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
    result = measure(Run(run), (x,))
    # 3 queries * (2 + 1 keys left) * 4 features (2 heads of 2)
    assert [row.synops for row in result.rows if row.nnz_synops][1] == 36


def test_without_attention_the_projections_are_counted_and_the_products_listed():
    attn = nn.MultiheadAttention(8, 2)
    x = torch.rand(3, 2, 8)
    result = measure(attn, (x, x, x), layers=("linear",))
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
        function = Run(lambda x: (x @ x.mT).softmax(-1) @ x)
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
    alone = measure(model, (x,))
    with SopCounter(model) as outer, SopCounter(model) as inner:
        model(x)
    assert outer.result() == inner.result() == alone
    attn, y = nn.MultiheadAttention(8, 2), torch.rand(3, 2, 8)
    with SopCounter(attn) as outer, SopCounter(attn) as inner:
        attn(y, y, y)
    assert outer.result() == inner.result() == measure(attn, (y, y, y))


@pytest.mark.parametrize("kind", VALUES)
def test_the_path_of_other_devices_agrees(kind: str, monkeypatch: pytest.MonkeyPatch):
    def counts() -> CountResult:
        model = nn.Sequential(Run(lambda x: (x @ x.mT) @ x), Weighted(lambda m, x: x @ m.w))
        return measure(model, *((draw(kind, (2, 30, 4), seed),) for seed in range(3)))

    here = counts()
    for module in (spectrum, weights):
        monkeypatch.setattr(module, "on_host", lambda x: False)
    assert counts() == here
    assert len(here.rows) == 3


def test_the_host_never_waits_for_the_device_before_the_result():
    names: list[str] = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(str(func).split(".")[1])
            return func(*args, **(kwargs or {}))

    model = Run(lambda x: F.scaled_dot_product_attention(x @ x.mT, x, x, is_causal=True))
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
        with pytest.warns(RuntimeWarning, match=r"Run\.matmul"):
            result = measure(Run(lambda a, b: a @ b.mT), (a, b))
        assert result.non_finite == ("Run.matmul",)
        assert result.rows[0].synops == 2


def test_no_warning_comes_of_counting_attention():
    x = torch.rand(2, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(Run(lambda x: F.scaled_dot_product_attention(x, x, x)), (x,))


def test_attention_priced():
    model, x = Block(), draw("BINARY", (4, 2, 5, 8), 3)
    result = measure(model, (x,), batch_dim=1)
    row = result.by_layer()["attn.matmul#2"]
    bills = {bill.name: bill for bill in price(result, "spikformer").rows}
    assert bills[row.name].energy_j == pytest.approx(row.rate_synops / 2 * 0.9e-12, rel=1e-12)
    bills = {bill.name: bill for bill in price(result, "operands").rows}
    assert bills[row.name].energy_j == pytest.approx(row.synops / 2 * 0.9e-12, rel=1e-12)
    assert row.name in price(result, "hd-lif").not_billed
