"""Counting of one evaluation, without anybody's trainer."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import snnprof
from snnprof.counting import all_reduce
from snnprof.integrations.evaluation import Evaluation
from snnprof.integrations.packages import imported

from .networks import ENERGY_J, FIRING_RATE, SYNOPS, hooks_on, images, network

FIGURES = {
    "synops": SYNOPS,
    "firing_rate": FIRING_RATE,
    "energy_j": pytest.approx(ENERGY_J, rel=1e-12, abs=0),
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
        assert evaluation.end(5) == FIGURES
        assert evaluation.counts is not None and evaluation.energy is not None
        assert evaluation.counts.samples == 5
        assert evaluation.counts.rows[0].name == ("0.1" if called is outer else "1")
        assert hooks_on(outer) == 0


def test_each_evaluation_stands_alone() -> None:
    model, evaluation = network(), Evaluation("operands", {})
    for _ in range(2):
        evaluation.begin([model])
        model(images(4))
        assert evaluation.end(4) == FIGURES
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
            assert evaluation.end(2) == {}
        assert evaluation.counts is None
        evaluation = Evaluation("operands", {})
    stepwise = Evaluation("operands", {"timesteps": 4})
    stepwise.begin([model])
    for _ in range(4):
        model(images(2))
    assert stepwise.end(2)["synops"] == 4 * SYNOPS


@pytest.mark.filterwarnings("error")
def test_a_network_that_was_not_called_is_a_warning_once() -> None:
    model, evaluation = network(), Evaluation("operands", {})
    evaluation.begin([model])
    with pytest.warns(RuntimeWarning, match="are not logged: the network was never called"):
        assert evaluation.end(None) == {}
    evaluation.begin([model])
    assert evaluation.end(None) == {}  # no second warning: they are errors here
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
        assert evaluation.end(2) == FIGURES


def test_mistakes_are_found_at_once() -> None:
    for energy, options, message in (
        ("joules", {}, "unknown energy convention 'joules'"),
        ("sata", {}, "an evaluation has no backward pass"),
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


def together(monkeypatch: pytest.MonkeyPatch, other: object) -> None:
    """Be one of two processes; the other hands in what it has."""
    monkeypatch.setattr(all_reduce, "gathered", lambda mine, group: [mine, other])


def test_processes_are_merged_and_the_kind_is_judged_of_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, evaluation = nn.Sequential(nn.Linear(4, 3)), Evaluation("operands", {})
    theirs = images(1)
    theirs[0, 0] = 0.3  # and a 1: REAL
    with snnprof.SopCounter(model) as sops:
        model(theirs)
    together(monkeypatch, sops.result())
    evaluation.begin([model])
    model(images(3))
    found = evaluation.end(3)
    assert evaluation.counts is not None and evaluation.counts.samples == 4
    # (3 + 1) images * 2 non-zeros * 3 outputs, of which each is a MAC of 4.6 pJ: ours too
    assert evaluation.counts.total("synops") == 24
    assert found == {"synops": 6.0, "energy_j": pytest.approx(6 * 4.6e-12, rel=1e-12, abs=0)}


def test_an_error_of_one_process_is_told_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model, evaluation = network(), Evaluation("operands", {})
    together(monkeypatch, "5 samples were counted, 4 were expected")
    evaluation.begin([model])
    model(images(3))
    with pytest.warns(RuntimeWarning, match="are not logged: rank 1: 5 samples were counted"):
        assert evaluation.end(3) == {}


def test_an_input_that_cannot_be_read_does_not_end_a_training() -> None:
    model, evaluation = network(), Evaluation("operands", {"batch_dim": 4})
    evaluation.begin([model])
    assert model(images(2)).shape == (2, 3)
    with pytest.warns(RuntimeWarning, match="batch_dim=4, but the model's input has shape"):
        assert evaluation.end(2) == {}
    abandoned = Evaluation("operands", {"batch_dim": 4})
    abandoned.begin([model])
    model(images(2))
    with pytest.warns(RuntimeWarning, match="batch_dim=4, but the model's input has shape"):
        abandoned.close()
    assert hooks_on(model) == 0


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
