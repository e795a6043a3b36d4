"""The house: imports run down its floors, and nowhere in circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the top floor to the ground: a module imports from its own floor and from those below.
FLOORS = (
    "cli", "integrations", "extend", "experiment", "render", "coherence", "profiling", "training",
    "models", "counting", "energy", "quantization", "spiking", "results", "core",
)  # fmt: skip


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((root / "snnprof").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    for path in sorted((root / "models").glob("*.py")):
        found[f"snnprof.models.{path.stem}".removesuffix(".__init__")] = path
    return found


def imports(text: str, known: dict[str, Path]) -> Iterator[str]:
    """Modules of ours that a source text imports, inside functions and for types alone too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("snnprof"))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            source = node.module or ""
            for alias in node.names if source.split(".")[0] == "snnprof" else ():
                whole = f"{source}.{alias.name}"
                yield whole if whole in known else source


def floor(module: str) -> int:
    """Place of a module's floor; the package itself lies above all."""
    parts = module.split(".")
    return FLOORS.index(parts[1]) if len(parts) > 1 and parts[1] != "__main__" else -1


def arrows_up(found: dict[str, list[str]]) -> list[str]:
    return [
        f"{module} -> {target}"
        for module, targets in found.items()
        for target in targets
        if floor(target) < floor(module)
    ]


def circles(found: dict[str, list[str]]) -> list[str]:
    """Modules that reach themselves, by what they import."""
    reached: dict[str, set[str]] = {}

    def reach(module: str, path: tuple[str, ...]) -> Iterator[str]:
        for target in found.get(module, ()):
            if target in path:
                yield " -> ".join((*path[path.index(target) :], target))
            elif target not in reached:
                yield from reach(target, (*path, target))
        reached[module] = set(found.get(module, ()))

    return [
        circle for module in found if module not in reached for circle in reach(module, (module,))
    ]


@pytest.fixture(scope="module")
def house() -> dict[str, list[str]]:
    known = modules(ROOT)
    return {name: [*imports(path.read_text("utf-8"), known)] for name, path in known.items()}


def test_no_import_runs_up(house: dict[str, list[str]]) -> None:
    assert arrows_up(house) == []


def test_no_imports_run_in_circles(house: dict[str, list[str]]) -> None:
    assert circles(house) == []


def test_every_module_stands_on_a_floor(house: dict[str, list[str]]) -> None:
    assert len(house) > 90
    loose = {name for name in house if name.count(".") == 1 and name.split(".")[1] not in FLOORS}
    assert loose == {"snnprof.__main__"}


def test_an_arrow_up_and_a_circle_are_seen() -> None:
    """The readers above, on a house of three files that is wrong."""
    known = dict.fromkeys(("snnprof.core.a", "snnprof.core.b", "snnprof.cli.c"), Path())
    texts = {
        "snnprof.core.a": "def f():\n    from snnprof.cli import c",
        "snnprof.core.b": "from snnprof.core.a import x",
        "snnprof.cli.c": "import snnprof.core.b",
    }
    wrong = {name: [*imports(text, known)] for name, text in texts.items()}
    assert arrows_up(wrong) == ["snnprof.core.a -> snnprof.cli.c"]
    (circle,) = circles(wrong)
    assert circle == "snnprof.core.a -> snnprof.cli.c -> snnprof.core.b -> snnprof.core.a"
