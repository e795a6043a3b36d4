"""Several models, weights and seeds in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import snnprof
from snnprof.cli.main import cli
from snnprof.core.errors import SnnprofError
from snnprof.experiment.settings import Progress
from snnprof.results import Report

QUICK: dict[str, Any] = {
    "data": "random",
    "image_size": 8,
    "timesteps": 1,
    "epochs": 0,
    "modes": "stbp",
    "batch_size": 2,
    "device": "cpu",
}


def quick(**given: Any) -> Report:
    return snnprof.run(**{**QUICK, **given})


def test_every_model_weights_and_seed_is_a_row() -> None:
    report = quick(model=["vgg5", "vgg11"], image_size=32, weights=["fp32", "1bit"], seed=[3, 1])
    expected = [(m, w, s) for m in ("vgg5", "vgg11") for w in ("fp32", "1bit") for s in (3, 1)]
    assert [(row.model, row.weights, row.seed) for row in report.rows] == expected
    assert {row.data for row in report.rows} == {"random"}
    assert report.notes[-1].startswith("Models, weights and seeds ran one after another")


def test_each_seed_is_what_it_is_alone() -> None:
    both = quick(seed=[0, 5])
    for row, seed in zip(both.rows, (0, 5), strict=True):
        (alone,) = quick(seed=seed).rows
        assert row.counts == alone.counts
    assert both.rows[0].counts != both.rows[1].counts


def test_all_are_checked_before_the_first_is_run() -> None:
    begun: list[int] = []
    progress = Progress(start=begun.append)
    with pytest.raises(SnnprofError, match="unknown model 'nope'"):
        quick(model=["vgg5", "nope"], progress=progress)
    with pytest.raises(SnnprofError, match="seed=-1: must be a whole number from 0"):
        quick(seed=[0, -1], progress=progress)
    with pytest.raises(SnnprofError, match="trace: several models, weights or seeds"):
        quick(seed=[0, 1], trace="folder", progress=progress)
    assert begun == []


def test_a_folder_with_one_of_the_seeds_is_refused_before_any_training(tmp_path: Path) -> None:
    quick(seed=1, save=tmp_path)
    begun: list[int] = []
    with pytest.raises(SnnprofError, match=r"seed1\.safetensors' is of another run"):
        quick(seed=[0, 1], save=tmp_path, progress=Progress(start=begun.append))
    assert begun == []
    assert [file.name for file in tmp_path.iterdir()] == ["vgg5-lif-fp32-stbp-T1-seed1.safetensors"]


def test_on_the_command_line(tmp_path: Path) -> None:
    quickly = ["--data=random", "--image-size=8", "--epochs=0", "--mode=stbp", "--batch-size=2"]
    file = tmp_path / "r.json"
    done = CliRunner().invoke(
        cli,
        ["run", *quickly, "--seed=0,1", "--seed=2", "--timesteps=1", "--timesteps=2", f"-o{file}"],
    )
    assert done.exit_code == 0, done.output
    assert "Mean ± standard deviation over seeds 0, 1, 2" in done.output
    report = snnprof.load(file)
    assert isinstance(report, Report)
    found = [(row.seed, row.timesteps) for row in report.rows]
    assert found == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.mark.parametrize("option", ["--batch-size", "--data", "--epochs", "--device"])
def test_an_option_that_takes_one_value_refuses_a_second(option: str) -> None:
    done = CliRunner().invoke(cli, ["run", option, "1", option, "2"])
    assert done.exit_code == 2
    assert f"{option} was given 2 times: it takes one value" in done.stderr
