"""The one read: three implementations, one answer, and that of plain Python."""

from __future__ import annotations

import itertools
import math
import random
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from snnprof.counting import scan
from snnprof.counting.counter import SopCounter
from snnprof.counting.scan import HostReading, Reading
from snnprof.counting.scan_rows import Rows, Weights
from snnprof.counting.scan_torch import DeviceReading
from snnprof.energy.pricing import price
from snnprof.results.values import Values

from ..support.counting import count_row
from .values import DTYPES, choose

PERIOD = 3
POOLS: dict[str, list[float] | None] = {
    "spikes": [0.0, 1.0],
    "spikes of a height": [0.0, 0.7],
    "signs": [-0.3, 0.0, 0.3],
    "whole": [0.0, 1.0, 2.0, 3.0],
    "halves": [0.0, -0.5, 1.5],
    "unseen divisor": [2.0, 3.0, 0.0],
    "odd step": [0.3, 0.6, 0.9, 0.0],
    "odd and unseen": [0.0, 0.6, 0.9],
    "64 levels": [0.0, 64.0, 1.0],
    "65 levels": [0.0, 1.0, 65.0],
    "near": [1.0, 0.99991],
    "not a number": [math.nan, 1.0, 0.0],
    "infinite": [0.0, -math.inf],
    "silent": [0.0, -0.0],
    "reals": None,
}


def draw(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    pool = POOLS[name]
    if pool is None:
        return torch.rand(shape).to(dtype)
    return torch.tensor(pool, dtype=dtype)[torch.randint(len(pool), shape)]


def readings() -> list[Reading]:
    return [
        HostReading(PERIOD),
        HostReading(PERIOD, use_c=False),
        DeviceReading(torch.device("cpu"), PERIOD),
    ]


def in_python(calls: list[tuple[Rows, Weights | None, int]]) -> tuple[int, list[int]]:
    """Events and non-zeros per time step, element by element."""
    events, by_step = 0, [0] * PERIOD
    for rows, weights, first in calls:
        x = rows.x.reshape(rows.outer, rows.groups, -1, rows.width)
        for o, group, row, p in (x != 0).nonzero().tolist():
            by_step[(first + group // rows.per_step) % PERIOD] += 1
            if weights is None:
                events += 1
                continue
            counts = weights.counts
            events += int(counts[o * rows.groups + group if len(counts) > 1 else 0, p])
            assert row >= 0
    return events, by_step


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_implementations_and_plain_python_agree(name: str, dtype: torch.dtype):
    choice = random.Random(name)
    for width in (1, 5, 300):
        outer, groups, rows = choice.choice([1, 2]), choice.choice([1, 2, 4]), choice.choice([1, 3])
        apart = choice.choice([1, outer * groups, 0])
        most = choice.choice([3, 5000, 1 << 19])
        weights = Weights(torch.randint(0, most, (apart, width))) if apart else None
        per_step = choice.choice([1, groups])
        calls = []
        for first, pool in enumerate((name, "spikes", name)):
            x = draw(pool, (outer, groups, rows, width), dtype)
            calls.append((Rows(x, outer, groups, width, per_step), weights, first))
        found = []
        for reading in readings():
            for call in calls:
                reading.read(*call)
            events, values, by_step = reading.result()
            assert (events, by_step) == in_python(calls)
            found.append((values.kind(), values.negative and not values.real))
        assert str(found[0]) == str(found[1]) == str(found[2])


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_whole_numbers_of_every_type(dtype: torch.dtype):
    x = torch.tensor([[0, 1, 2, 5]], dtype=dtype)
    for reading in readings():
        assert reading.read(Rows(x, 1, 1, 4), None, 0) == 3
        _, values, _ = reading.result()
        assert (values.kind().kind, values.kind().step, values.levels) == ("INTEGER", 1.0, 8)
    large = torch.tensor([[0, 1, torch.iinfo(dtype).max]], dtype=dtype)
    for reading in readings():
        reading.read(Rows(large, 1, 1, 3), None, 0)
        assert reading.result()[1].kind().kind == "REAL"


def test_booleans_are_spikes():
    for reading in readings():
        assert reading.read(Rows(torch.tensor([[True, False, True]]), 1, 1, 3), None, 0) == 2
        assert reading.result()[1].kind().kind == "BINARY"


def test_a_large_input_is_shared_by_threads(monkeypatch: pytest.MonkeyPatch):
    """Every thread's part once: 3 segments of 700,001 elements, a fan-out of 7."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    x = (torch.rand(3, 100_003, 7) < 0.3).float()
    x[2, 100_002, 6] = 3
    weights = Weights(torch.arange(1, 8).unsqueeze(0))
    found = [
        reading for reading in readings()[:2] if not reading.read(Rows(x, 1, 3, 7), weights, 0) < 0
    ]
    assert found[0].result() == found[1].result()
    assert found[0].result()[0] == int(((x != 0).sum((0, 1)) * torch.arange(1, 8)).sum())


@pytest.mark.parametrize("name", POOLS)
def test_the_same_verdict_whatever_the_order_and_the_size_of_the_calls(name: str):
    x = draw(name, (6, 1, 7), torch.float32)
    verdicts = set()
    for seed in range(20):
        order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        for size in (1, 2, 6):
            for reading in readings():
                for part in x[order].split(size):
                    reading.read(Rows(part.contiguous(), 1, 1, 7), None, 0)
                verdicts.add(str(reading.result()[1].kind()))
    assert len(verdicts) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_two_whole_numbers_are_whole_numbers_whichever_comes_first(dtype: torch.dtype):
    """1 / 49 * 49 is not 1 in floating point."""
    for pair in [(7, 29), (29, 7), (1, 49), (49, 1), *itertools.product((58, 61, 64, 3), repeat=2)]:
        for reading in readings():
            for number in pair:
                x = torch.full((1, 1), float(number), dtype=dtype)
                reading.read(Rows(x, 1, 1, 1), None, 0)
            found = reading.result()[1].kind()
            same = pair[0] == pair[1]
            step, levels = (pair[0], 2) if same else (1, sum(pair))
            assert (found.step, found.levels) == (step, levels), (pair, reading.implementation)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_no_numbers_join_others(value: float):
    x = torch.tensor([[0.0, 1.0, value]])
    for reading in readings():
        reading.read(Rows(x, 1, 1, 3), None, 0)
        values = reading.result()[1]
        for joined in (values.join(values), values.join(Values.of(1.0, 0.0))):
            assert (joined.kind().kind, joined.finite) == ("REAL", False)


def test_on_a_device_triton_reads_where_its_kernel_starts(monkeypatch: pytest.MonkeyPatch):
    class Kernel(DeviceReading):
        """Triton's, as far as it can be asked for without a GPU."""

        def __init__(self, device: torch.device, period: int) -> None:
            super().__init__(torch.device("cpu"), period)

    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *sizes, device: ones(*sizes))
    monkeypatch.setattr(torch.version, "hip", None)
    chosen = scan._on_device.__wrapped__
    module = "snnprof.counting.scan_triton"
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(TritonReading=Kernel))
    assert chosen(torch.device("cuda")) is Kernel
    assert chosen(torch.device("mps")) is DeviceReading
    monkeypatch.setattr(Kernel, "read", lambda *given: 1 / 0)
    assert chosen(torch.device("cuda")) is DeviceReading
    monkeypatch.setitem(sys.modules, module, None)  # Triton is not installed
    assert chosen(torch.device("cuda")) is DeviceReading


# --- what was misread ---------------------------------------------------------------------------


@pytest.fixture(params=["c", "torch", "device"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(scan, "_scan", None)
    if request.param == "device":
        monkeypatch.setattr(scan, "on_host", lambda x: False)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("seed", range(6))
def test_halves_that_stand_at_one_position_only_are_halves(seed: int):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 5, (40, 128), generator=g).float()
    x[0], x[1] = 1, 4
    x[torch.randperm(38, generator=g)[:6] + 2, 0] = 1.5
    row = count_row(nn.Linear(128, 10), x)
    assert (row.input_kind, row.unrolled_synops) == ("INTEGER", int((x / 0.5).sum()) * 10)


@pytest.mark.usefixtures("implementation")
def test_spikes_and_then_a_constant_that_is_no_multiple_are_real():
    spikes = torch.tensor([[1.0, 2.0], [2.0, 1.0]]).repeat(20_000, 1)
    with SopCounter(model := nn.Linear(2, 2)) as counter, torch.no_grad():
        model(spikes)
        model(torch.full((40_000, 2), 1.7))
    (row,) = counter.result().rows
    assert (row.input_kind, row.operation) == ("REAL", "MAC")
    # 2 inputs * 2 outputs = 4 events at 4.6 pJ
    assert price(counter.result(), "operands").total_j == pytest.approx(18.4e-12, rel=1e-12)


@pytest.mark.usefixtures("implementation")
def test_ones_and_one_that_is_nearly_one_are_real():
    x = torch.ones(32, 128)
    x[17, 5] = 0.99991
    assert count_row(nn.Linear(128, 2), x).input_kind == "REAL"


@pytest.mark.parametrize("layout", ["channels last", "transposed", "sliced", "expanded"])
@pytest.mark.usefixtures("implementation")
def test_an_input_is_read_as_it_lies_in_memory(layout: str):
    conv = nn.Conv2d(3, 4, 3, padding=1)
    with torch.no_grad():
        conv.weight[:, 1, 0] = 0
    x = choose([0.0, 1.0, 2.0], (2, 3, 5, 6))
    laid = {
        "channels last": x.to(memory_format=torch.channels_last),
        "transposed": x.mT.contiguous().mT,
        "sliced": torch.cat((x, x), 1)[:, :3],
        "expanded": x[:1].expand(2, -1, -1, -1),
    }[layout]
    assert count_row(conv, laid) == count_row(
        conv, laid.clone(memory_format=torch.contiguous_format)
    )
