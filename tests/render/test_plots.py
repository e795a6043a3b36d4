"""Pictures of coherence."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import snnprof
from snnprof.render.plots import coherence_plot
from snnprof.results import CoherenceResult, LayerCoherence


def result(timesteps: int) -> CoherenceResult:
    rows = tuple(
        LayerCoherence(
            name=f"layer.{n}",
            neuron="hdlif",
            identity_claimed=True,
            reason=None,
            fired=0.25,
            cosine_membrane=None if n == 2 else 0.9 - 0.1 * n / timesteps,
            cosine_weight=0.95,
            ratio_predicted=0.99,
        )
        for n in range(4)
    )
    return CoherenceResult(rows, timesteps, 2, "sum", "sum", "float32", "cpu", True)


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_a_picture_by_suffix(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'plots'")
    path = tmp_path / f"picture{suffix}"
    coherence_plot([result(4), result(8)], path)
    heads = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}
    assert path.read_bytes().startswith(heads[suffix])


def test_the_svg_has_its_labels_and_is_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'plots'")
    for name in ("a.svg", "b.svg"):
        coherence_plot([result(4), replace(result(8), label="epoch 3")], tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    for label in ("layer.3", "time steps T", "T = 4", "epoch 3", "weight"):
        assert re.search(re.escape(label), text), label
    coherence_plot(result(4), tmp_path / "one.svg")  # a single T: against depth only
    assert "time steps T" not in (tmp_path / "one.svg").read_text()


def test_mistakes(tmp_path: Path) -> None:
    for path, message in (("x.gif", "unknown suffix"), ("no/x.svg", "directory that exists")):
        with pytest.raises(snnprof.SnnprofError, match=message):
            coherence_plot(result(4), tmp_path / path)
    empty = replace(result(4), rows=())
    with pytest.raises(snnprof.SnnprofError, match="no cosine to draw"):
        coherence_plot(empty, tmp_path / "x.svg")


def test_without_matplotlib_it_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(snnprof.SnnprofError, match=r"snnprof\[plots\]"):
        coherence_plot(result(4), tmp_path / "x.svg")
