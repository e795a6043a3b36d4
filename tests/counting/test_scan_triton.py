"""The kernel in Triton finds what torch finds: in Triton's interpreter, or on a GPU.

TRITON_INTERPRET=1 has to stand in the environment before triton is imported: ``make test-peers``
runs these tests in a process of their own.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import random
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snnprof.counting import scan
from snnprof.counting.scan_rows import Rows, Weights
from snnprof.counting.scan_torch import DeviceReading
from snnprof.render.count_table import count_notes

from ..support.counting import count, count_row
from .test_scan import PERIOD, POOLS, draw
from .values import DTYPES, choose

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if os.environ.get("SNNPROF_PEERS") != "required" or sys.platform != "linux":
    if importlib.util.find_spec("triton") is None:
        pytest.skip("needs triton: make test-peers", allow_module_level=True)
    if not (INTERPRETED or torch.cuda.is_available()):
        pytest.skip("needs a GPU, or TRITON_INTERPRET=1: make test-peers", allow_module_level=True)

TritonReading = importlib.import_module("snnprof.counting.scan_triton").TritonReading
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
WHOLE = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64]
SUBNORMAL = 2.0**-149

Call = tuple[Rows, Weights | None, int]


def found(reading: Any, calls: list[Call]) -> Any:
    """All that a reading tells: non-zeros of each call, and the result."""
    nonzeros = [int(reading.read(*call)) for call in calls]
    events, values, by_step = reading.result()
    if values.real or values.silent:  # of those no more is kept
        values = values.settled()
    return nonzeros, events, by_step, values, str(values.kind())


def assert_as_torch_finds(calls: list[Call]) -> Any:
    ours, theirs = (
        found(reading, calls)
        for reading in (TritonReading(DEVICE, PERIOD), DeviceReading(DEVICE, PERIOD))
    )
    assert ours == theirs
    return ours


def only(*parts: Tensor) -> list[Call]:
    """Calls of one row each, that all count 1."""
    return [
        (Rows(part.to(DEVICE).contiguous(), 1, 1, part.numel()), None, number)
        for number, part in enumerate(parts)
    ]


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_finds_what_torch_finds(name: str, dtype: torch.dtype):
    choice = random.Random(f"{name} {dtype}")
    for width in choice.sample([1, 300, 3000], 2) if dtype == torch.float32 else [300]:
        outer, groups, rows = choice.choice([1, 2]), choice.choice([1, 2, 4]), choice.choice([1, 3])
        apart = choice.choice([1, outer * groups, 0])
        counts = torch.randint(0, choice.choice([3, 5000, 1 << 19]), (max(1, apart), width))
        weights = Weights(counts.to(DEVICE)) if apart else None
        per_step = choice.choice([1, groups])
        assert_as_torch_finds(
            [
                (Rows(x.to(DEVICE), outer, groups, width, per_step), weights, first)
                for first, pool in enumerate((name, "spikes", name))
                for x in [draw(pool, (outer, groups, rows, width), dtype)]
            ]
        )


RARE = [0.0, -0.0, 1.0, 1.5, -2.0, 64.0, 65.0, 0.3, 0.7, SUBNORMAL, math.inf, -math.inf, math.nan]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, -0.0, 1.0, -1.0, 3.0, 0.3, SUBNORMAL]),
            st.sampled_from(RARE),
            st.integers(1, 5000),
            st.integers(0, 4999),
            st.sampled_from([*DTYPES, *WHOLE, torch.bool]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_one_rare_value_anywhere(drawn: list[tuple[float, float, int, int, torch.dtype]]):
    parts = []
    for usual, rare, size, at, dtype in drawn:
        if not (dtype.is_floating_point or math.isfinite(rare)):
            rare = 2.0
        x = torch.full((size,), usual, dtype=torch.float64)
        x[at % size] = rare
        parts.append(x.to(dtype))
    assert_as_torch_finds(only(*parts))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-64, 64), min_size=1, max_size=20),
    st.sampled_from([1.0, 0.5, 0.3, 0.1, 2.0**-20, SUBNORMAL, 1e30]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(1, 5),
)
def test_levels_of_any_step_in_any_calls(
    levels: list[int], step: float, dtype: torch.dtype, size: int
):
    x = torch.tensor(levels, dtype=torch.float64).mul(step).to(dtype)
    _, events, _, values, _ = assert_as_torch_finds(only(*x.split(size)))
    assert events == sum(level != 0 for level in levels)
    divisor = math.gcd(*levels)
    if divisor and not values.real:
        assert values.levels == sum(map(abs, levels)) // divisor


@pytest.mark.parametrize("dtype", WHOLE)
def test_whole_numbers_of_every_type(dtype: torch.dtype):
    x = torch.tensor([0, 1, 2, 5], dtype=dtype)
    (nonzeros, events, _, values, _) = assert_as_torch_finds(only(x))
    assert (nonzeros, events, values.kind().step, values.levels) == ([3], 3, 1.0, 8)
    large = torch.tensor([0, 1, torch.iinfo(dtype).max, torch.iinfo(dtype).min], dtype=dtype)
    assert assert_as_torch_finds(only(large))[3].real


def test_types_that_the_kernel_does_not_know_are_read_as_floats():
    x = torch.tensor([0.0, 0.5, 1.5]).to(torch.float8_e5m2)
    reading = TritonReading(DEVICE, 1)
    assert int(reading.read(*only(x)[0])) == 2
    kind = reading.result()[1].kind()
    assert (kind.kind, kind.step, kind.levels) == ("INTEGER", 0.5, 4)


def test_a_value_that_is_negated_when_it_is_read_is_read_negated():
    x = torch.imag(torch.tensor([1j, 0j, 2j]).conj())
    assert x.is_neg()
    assert assert_as_torch_finds([(Rows(x.to(DEVICE), 1, 1, 3), None, 0)])[3].negative


def test_many_blocks_with_one_value_that_is_no_spike():
    """Each program reads up to 16 blocks of 2048 elements; the last is not full."""
    x = (torch.rand(2, 3, 20_001, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    x[1, 2, 20_000] = 3
    weights = Weights(torch.arange(1, 7 * 20_001 + 1)[-6 * 20_001 :].view(6, -1).to(DEVICE))
    (_, events, _, values, _) = assert_as_torch_finds(
        [(Rows(x.to(DEVICE), 2, 3, 20_001), weights, 0)]
    )
    assert events == int(((x != 0).view(6, -1) * weights.counts.cpu()).sum())
    assert values.levels == events + 2 * int(weights.counts[5, 20_000])


def test_the_programs_of_a_large_input_read_several_blocks(monkeypatch: pytest.MonkeyPatch):
    from snnprof.counting import scan_triton

    monkeypatch.setattr(scan_triton, "_PROGRAMS", 4)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 3, (2, 30_011), generator=generator).float()
    assert assert_as_torch_finds(only(x))[1] == int(x.count_nonzero())


def test_nothing_is_read_of_nothing():
    assert_as_torch_finds(only(torch.zeros(1)))
    reading = TritonReading(DEVICE, 1)
    assert int(reading.read(Rows(torch.zeros(0, 4, device=DEVICE), 1, 1, 4), None, 0)) == 0


# --- in the counter -----------------------------------------------------------------------------


@pytest.fixture
def in_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "on_host", lambda x: False)
    monkeypatch.setattr(scan, "_on_device", lambda device: TritonReading)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("values", [[0.0, 1.0], [0.0, 0.5, 2.0], [0.0, 0.3, 0.7]])
def test_the_counter_counts_the_same(
    in_counter: None, layout: torch.memory_format, values: list[float], monkeypatch
):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, stride=2), nn.Flatten(), nn.Linear(36, 5))
    with torch.no_grad():
        net[0].weight[:, 1, 0] = 0
    x = choose(values, (4, 3, 6, 5)).to(memory_format=layout)
    by_triton = count(net.to(DEVICE), x.to(DEVICE))
    monkeypatch.undo()
    assert by_triton.scan == "triton"
    assert by_triton.rows == count(net.cpu(), x).rows
    assert "Inputs were read by Triton's kernel." in [*count_notes(by_triton)]


@pytest.mark.usefixtures("in_counter")
def test_both_operands_of_a_product():
    class Product(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a @ b

    a, b = choose([0.0, 1.0], (2, 3, 4)), choose([0.0, 2.0, 3.0], (2, 4, 5), 1)
    row = count_row(Product(), (a.to(DEVICE), b.to(DEVICE)))
    pairs = torch.einsum("bik,bkj->", (a != 0).double(), (b != 0).double())
    assert (row.input_kind, row.weight_kind, row.synops) == ("BINARY", "INTEGER", int(pairs))
    assert row.nnz_synops == int(a.count_nonzero()) * 5


# --- the compiler -------------------------------------------------------------------------------

COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from snnprof.counting.scan_triton import _scan

pointers = dict(weights="*i64", denominators="*i64", record="*i64", found="*i64")
of = ((75, 1, "fp32"), (90, 0, "bf16"), (80, 1, "fp64"), (80, 0, "u8"))
for capability, weighted, type in of:
    constants = dict(weighted=bool(weighted), narrow=type != "fp64", block=2048)
    signature = dict.fromkeys(_scan.arg_names, "i32") | pointers | {"x": "*" + type}
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(_scan, signature, constants)
    assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
"""


def test_it_compiles_for_gpus_from_turing_to_hopper(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    compiled = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, env=environment
    )
    assert compiled.returncode == 0, compiled.stderr


def test_the_kernel_is_imported_where_it_is_needed_only():
    code = "import snnprof, sys; assert 'snnprof.counting.scan_triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
