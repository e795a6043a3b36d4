"""Counting of one evaluation, without anybody's trainer."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import nn

import snnprof
from snnprof.integrations.evaluation import Evaluation, over_processes
from snnprof.integrations.packages import imported

from .networks import ENERGY_J, FIRING_RATE, SYNOPS, hooks_on, images, network

CPU = torch.device("cpu")
FIGURES = {
    "synops": SYNOPS,
    "firing_rate": FIRING_RATE,
    "energy_j": pytest.approx(ENERGY_J, rel=1e-12),
}


def test_the_first_module_that_is_called_is_counted() -> None:
    inner = network()
    outer = nn.Sequential(inner)
    for called in (outer, inner):
        evaluation = Evaluation("operands", {})
        evaluation.begin([outer, inner])
        for count in (3, 2):
            called(images(count))
            evaluation.choose()
        assert evaluation.end(5, CPU) == FIGURES
        assert evaluation.counts is not None and evaluation.energy is not None
        assert evaluation.counts.samples == 5
        assert evaluation.counts.rows[0].name == ("0.1" if called is outer else "1")
        assert hooks_on(outer) == 0


def test_each_evaluation_stands_alone() -> None:
    model, evaluation = network(), Evaluation("operands", {})
    for _ in range(2):
        evaluation.begin([model])
        model(images(4))
        assert evaluation.end(4, CPU) == FIGURES
    evaluation.begin([model])
    assert evaluation.counts is None
    evaluation.close()
    assert hooks_on(model) == 0


def test_what_was_counted_is_compared_with_what_was_evaluated() -> None:
    model, evaluation = network(), Evaluation("operands", {})
    for _ in range(2):
        evaluation.begin([model])
        for _ in range(4):  # T = 4, and nobody said so
            model(images(2))
        with pytest.warns(RuntimeWarning, match="8 samples were counted, 2 were expected"):
            assert evaluation.end(2, CPU) == {}
        assert evaluation.counts is None
        evaluation = Evaluation("operands", {})
    stepwise = Evaluation("operands", {"timesteps": 4})
    stepwise.begin([model])
    for _ in range(4):
        model(images(2))
    assert stepwise.end(2, CPU)["synops"] == 4 * SYNOPS


@pytest.mark.filterwarnings("error")
def test_a_network_that_was_not_called_is_a_warning_once() -> None:
    model, evaluation = network(), Evaluation("operands", {})
    evaluation.begin([model])
    with pytest.warns(RuntimeWarning, match="are not logged: the network was never called"):
        assert evaluation.end(None, CPU) == {}
    evaluation.begin([model])
    assert evaluation.end(None, CPU) == {}  # no second warning: they are errors here
    assert hooks_on(model) == 0


def test_what_was_not_counted_is_said_once() -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.idle = network(), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x)

    model, evaluation = Partly(), Evaluation("operands", {})
    evaluation.begin([model])
    model(images(2))
    with pytest.warns(RuntimeWarning, match="without what was not counted: idle"):
        assert evaluation.end(2, CPU) == FIGURES


def test_mistakes_are_found_at_once() -> None:
    for energy, options, message in (
        ("joules", {}, "unknown energy convention 'joules'"),
        ("operands", {"batch_dim": -1}, "batch_dim=-1"),
        ("operands", {"layer": "conv"}, r"'layer'.*: give arguments of snnprof\.SopCounter"),
    ):
        with pytest.raises(snnprof.SnnprofError, match=message):
            Evaluation(energy, options)


def test_a_missing_package_is_one_line_that_names_the_extra() -> None:
    with pytest.raises(snnprof.SnnprofError) as error:
        imported(("no_such_package.part", "nor_this"), "lightning")
    assert str(error.value) == (
        "this callback needs no_such_package: pip install 'snnprof[lightning]'"
    )


def test_every_package_that_is_there_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("first_package", "second_package"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "broken_package.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    found = imported(("first_package", "no_such_package", "second_package"), "lightning")
    assert [module.__name__ for module in found] == ["first_package", "second_package"]
    with pytest.raises(snnprof.SnnprofError, match="cannot import broken_package: No module"):
        imported(("first_package", "broken_package"), "lightning")


def test_alone_the_figures_are_as_they_are() -> None:
    assert over_processes({"a": 2.0}, 3, CPU) == {"a": 2.0}


def test_processes_are_weighted_by_their_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_the_other(sums: torch.Tensor) -> None:
        assert sums.tolist()[:2] == [3, 6]
        sums += torch.tensor([1.0, 8.0, math.nan, 0.0], dtype=sums.dtype)  # of its one sample

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", with_the_other)
    found = over_processes({"a": 2.0, "b": 1.0, "c": 4.0}, 3, CPU)
    # (2 * 3 + 8 * 1) / 4, (4 * 3 + 0) / 4; what one process has not measured, all have not
    assert (found["a"], found["c"]) == (3.5, 3.0)
    assert math.isnan(found["b"])
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda sums: None)
    assert math.isnan(over_processes({"a": math.nan}, 0, CPU)["a"])


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("lightning", "lightning", "lightning"), ("huggingface", "transformers", "transformers")],
)
def test_a_callback_without_its_package_says_what_to_install(
    module: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in _PACKAGES]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"snnprof.integrations.{module}", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(snnprof.SnnprofError) as error:
        importlib.import_module(f"snnprof.integrations.{module}")
    assert str(error.value) == f"this callback needs {package}: pip install 'snnprof[{extra}]'"


_PACKAGES = {"lightning", "pytorch_lightning", "transformers"}
