"""Results stand on core alone, and are handed the functions that show them."""

import ast
from pathlib import Path

import pytest

import snnprof
from snnprof.results import CountResult, base

RESULTS = Path(base.__file__).parent


def imported(path: Path) -> set[str]:
    """Modules that a file imports, those for type checkers and inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            found.add(str(node.module))
    return found


def test_results_import_nothing_of_ours_but_core() -> None:
    files = sorted(RESULTS.glob("*.py"))
    assert len(files) >= 9
    ours = {
        (file.name, module)
        for file in files
        for module in imported(file)
        if module.split(".")[0] == "snnprof"
    }
    assert ("base.py", "snnprof.core.errors") in ours  # the walk does find imports
    allowed = ("snnprof.core.", "snnprof.results")
    assert {pair for pair in ours if not pair[1].startswith(allowed)} == set()


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
