"""A slice of benchmarks/soak.py: faults of the counter's own, threads, and many measurements."""

from __future__ import annotations

import gc
import importlib
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnprof.counting import accumulator, row_order
from snnprof.counting.counter import SopCounter
from snnprof.counting.layer_tally import LayerTally
from snnprof.counting.neuron_rates import NeuronTally
from snnprof.counting.operation_mode import OperationMode
from snnprof.results import CountResult
from snnprof.spiking.lif import LIF

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.filterwarnings("ignore:.*it looks like:RuntimeWarning")


@pytest.fixture(scope="module")
def soak() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("soak")


def test_no_fault_of_ours_reaches_the_model_and_each_is_said(soak: Any) -> None:
    tried = soak.throw(40, seed=3)
    assert tried.wrong == []
    assert len(tried) == tried.listed + tried.refused == 40
    assert len(tried.by_place) >= 7


def test_a_fault_that_is_not_caught_would_be_noticed(
    soak: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SopCounter, "_note_failure", lambda *_: None)  # silent
    assert any("not listed" in line for line in soak.throw(8, seed=3).wrong)


def test_threads_count_side_by_side(soak: Any) -> None:
    assert soak.side_by_side(threads=8, rounds=2) == []


def test_many_measurements_leave_nothing(soak: Any) -> None:
    endured = soak.endure(seconds=4)
    assert endured.wrong == []
    assert endured.measurements >= 10
    assert endured.last.tensors - endured.first.tensors < 1 << 20
    assert endured.last.python - endured.first.python < 1 << 20


# --- faults that were found so ------------------------------------------------------------------


def failing(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int, model: nn.Module, x: Tensor
) -> CountResult:
    """Counts of two calls, where one call of a function fails."""
    real, calls = vars(owner)[name], [0]

    def fail(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise KeyError("ours")
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, fail)
    with SopCounter(model, layout="time-first") as counter:
        for _ in range(2):
            model(x)
    return counter.result()


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


X = torch.rand(2, 5, 3)


@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [(LayerTally, "add", 1), (LayerTally, "read", 1), (accumulator, "read_weight", 1)],
    ids=["the first call", "its counts", "its weight"],
)
def test_no_other_layer_becomes_the_stem_where_the_first_is_not_counted(
    owner: Any, name: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = failing(monkeypatch, owner, name, at, small(), X)
    assert "failed (KeyError: 'ours')" in dict(result.not_counted)["0"]
    assert [row.name for row in result.rows if row.stem] in ([], ["0"])


def test_a_fault_in_following_the_rows_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Exchanging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.transpose(0, 1)).transpose(0, 1)

    result = failing(monkeypatch, row_order.RowOrder, "follow", 1, Exchanging(), X)
    reason = "torch.Tensor.transpose: counting it failed (KeyError: 'ours')"
    assert result.not_counted == (("Exchanging", reason),)
    # 2 calls * 2 steps * 5 samples * 3 inputs * 2 outputs: all others are counted
    assert result.total("synops") == 120


def test_a_fault_at_the_end_of_a_call_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(mode: OperationMode, *exc: object) -> None:
        leave(mode, *exc)
        raise KeyError("ours")

    leave = OperationMode.__exit__
    monkeypatch.setattr(OperationMode, "__exit__", fail)
    model = small()
    with SopCounter(model, layout="time-first") as counter:
        assert torch.equal(model(X), model(X))
    result = counter.result()
    assert dict(result.not_counted)["Sequential"] == "counting it failed (KeyError: 'ours')"
    assert result.rows[0].synops == 2 * 10 * 3 * 4  # calls, rows, inputs, outputs


def test_a_fault_keeps_no_activation_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.seen = nn.Linear(3, 2), list[weakref.ref[Tensor]]()

        def forward(self, x: Tensor) -> Tensor:
            x = x + 1
            self.seen.append(weakref.ref(x))
            return self.fc(x)

    model = Watched()
    gc.disable()
    try:
        with torch.no_grad():
            failing(monkeypatch, LayerTally, "add", 2, model, X)
        assert [ref() for ref in model.seen] == [None, None]
    finally:
        gc.enable()


def test_a_rate_that_cannot_be_read_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(3, 4), LIF(2))
    result = failing(monkeypatch, NeuronTally, "read", 1, model, X[:2])
    assert result.neurons == ()
    assert dict(result.not_counted)["1"] == "firing rate: reading it failed (KeyError: 'ours')"
