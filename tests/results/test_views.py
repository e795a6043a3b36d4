"""Results are handed the functions that show them."""

from pathlib import Path

import pytest

import snnprof
from snnprof.results import CountResult, base


def test_without_a_writer_there_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counts = CountResult((), samples=1)
    counts.save(tmp_path / "a.json")
    assert counts.to_frame().empty
    monkeypatch.setattr(base, "_bound", None)
    for show in (counts.to_frame, lambda: counts.save(tmp_path / "b.json")):
        with pytest.raises(snnprof.SnnprofError, match=r"import snnprof\.render"):
            show()
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
