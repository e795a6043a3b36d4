"""Products of two activations against plain enumeration, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ..support.counting import Function, count
from .pairs import VALUES, assert_counts, draw, one_row

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
    result = count(Function(lambda x: torch.einsum("ij->ji", x)), (torch.ones(2, 3),))
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
    assert row.input_density == 0.5  # 3 of 6
    assert row.rate_synops == 6.0
    assert (row.input_kind, row.weight_kind, row.operation) == ("BINARY", "BINARY", "AC")


def test_integer_spikes_by_hand():
    a = torch.tensor([[3.0, 0.0, 2.0]])
    b = torch.tensor([[0.5, math.pi], [1.0, 1.0], [0.0, 0.7]])
    row = one_row(lambda a, b: a @ b, a, b)
    assert row.synops == 3  # 1*2 + 1*1
    assert row.unrolled_synops == 8  # 3*2 + 2*1
    assert (row.input_kind, row.weight_kind, row.operation) == ("INTEGER", "REAL", "AC")


@pytest.mark.parametrize("step", [0.3, 1 / 3])
def test_many_events_of_an_odd_step_are_counted_to_the_last(step: float):
    levels = torch.randint(0, 8, (64, 256, 32))
    other = (torch.rand(64, 32, 256) < 0.5).float()
    row = one_row(torch.bmm, levels.float() * step, other)
    assert row.input_kind == "INTEGER"
    assert row.unrolled_synops == int((levels.sum(1) * other.long().sum(2)).sum())


def test_the_least_level_may_come_in_a_later_call():
    model = Function(torch.bmm)
    result = count(
        model,
        (torch.tensor([[[0.6, 0.9]]]), torch.ones(1, 2, 1)),
        (torch.tensor([[[0.3, 0.3]]]), torch.ones(1, 2, 1)),
    )
    (row,) = result.rows
    assert (row.input_kind, row.unrolled_synops) == ("INTEGER", 2 + 3 + 1 + 1)


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
    (row,) = count(Function(lambda a: a @ a.mT), (ones,), (twos,)).rows
    assert (row.input_kind, row.weight_kind) == ("INTEGER", "INTEGER")
    assert row.synops == 24  # 2 calls * 2 * 3 * 2
    assert row.unrolled_synops == 36  # 12 + 2 * 12


def test_calls_of_other_shapes_add_up():
    """As in decoding with a cache: the keys grow. Here rate and nnz differ."""
    calls = [(torch.ones(1, 2), torch.ones(2, 3)), (torch.zeros(1, 2), torch.ones(2, 9))]
    (row,) = count(Function(torch.matmul), *calls).rows
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
