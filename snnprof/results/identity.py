"""What a row is, beside what was measured of it: rows that are alike, and what tells others apart.

One definition for all who ask it: lines of a table (alike but for the seed), points over T (but
for T and the seed), the dense row beside another, rows of two reports.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from snnprof.results.report import ReportRow

SEED, TIMESTEPS, OPTIMIZER = "seed", "timesteps", "optimizer"
_OF_SEED = re.compile(r"(?<![a-z])(seed[ _=-]?)\d+", re.IGNORECASE)

_IN_NAMES = ("model", "neuron", "weights", "mode", TIMESTEPS, SEED)

Likeness = frozenset[tuple[str, str]]


def identity(row: ReportRow) -> dict[str, str]:
    """What a row is, in words, by name; what is not known is left out.

    Of columns of the user's own, words say what a row is; numbers are figures. Machine and
    versions are ``"environment <name>"``, columns ``"own <name>"``.
    """
    numbers = {
        TIMESTEPS: (row.timesteps, "T = {}"),
        SEED: (row.seed, "seed {}"),
        "image_size": (row.image_size, "{} pixels"),
        "batch": (row.samples_per_step, "batch {}"),
        "epochs": (row.epochs, "epochs {}"),
    }
    said = {name: None if n is None else words.format(n) for name, (n, words) in numbers.items()}
    words = {
        "model": row.model,
        "neuron": row.neuron,
        "weights": row.weights,
        "mode": row.mode,
        TIMESTEPS: said[TIMESTEPS],
        SEED: said[SEED],
        "data": row.data,
        "image_size": said["image_size"],
        "loss": row.loss_name and f"loss {row.loss_name}",
        "layout": row.layout,
        "batch": said["batch"],
        "epochs": said["epochs"],
        OPTIMIZER: row.optimizer,
        "execution": row.execution,
        "checkpoint": row.checkpoint and f"from {row.checkpoint}",
        "baseline_of": row.baseline_of and f"beside {row.baseline_of}",
        "device": row.device,
        **{f"environment {name}": f"{name} {value}" for name, value in row.environment.items()},
        **{f"own {k}": f"{k} {value}" for k, value in row.more.items() if isinstance(value, str)},
    }
    return {name: text for name, text in words.items() if text}


def likeness(row: ReportRow, *but: str) -> Likeness:
    """What a row is, but for these names: rows of which it is equal are alike.

    ``"environment"`` and ``"own"`` are all of theirs. But for the seed, files that are named by it
    are alike as well: ``"w-seed0.pt"`` and ``"w-seed1.pt"``.
    """
    said = _left(row, but)
    if SEED in but and "checkpoint" in said:
        said["checkpoint"] = without_seed(said["checkpoint"])
    return frozenset(said.items())


def told_apart(rows: Sequence[ReportRow], *but: str) -> list[str]:
    """Of each row what it is and not all are, in words, but for these names; empty for nothing.

    Model, neuron, weights, mode, T and seed come first, the rest only where these are the same:
    that modes have losses of their own need not be said.
    """
    names = _differing(rows, [name for name in _IN_NAMES if name not in but])
    return [
        ", ".join(word for word in (*words, conditions) if word)
        for words, conditions in zip(names, conditions_apart(rows, *but), strict=True)
    ]


def conditions_apart(rows: Sequence[ReportRow], *but: str) -> list[str]:
    """Of each row what tells it from those of the same model, neuron, weights, mode, T and seed."""
    names = dict.fromkeys(name for row in rows for name in _left(row, (*but, *_IN_NAMES)))
    alike: dict[Likeness, list[int]] = {}
    for place, row in enumerate(rows):
        said = _left(row, but)
        named = frozenset((name, said[name]) for name in _IN_NAMES if name in said)
        alike.setdefault(named, []).append(place)
    found = [""] * len(rows)
    for places in alike.values():
        words = _differing([rows[place] for place in places], [*names])
        for place, of_row in zip(places, words, strict=True):
            found[place] = ", ".join(of_row)
    return found


def _differing(rows: Sequence[ReportRow], names: Sequence[str]) -> list[list[str]]:
    """Of each row the words of those names in which the rows differ."""
    said = [identity(row) for row in rows]
    trained = differing_parts([each.get(OPTIMIZER, "") for each in said])
    for each, parts in zip(said, trained, strict=True):
        if OPTIMIZER in each:
            each[OPTIMIZER] = parts
    differ = [name for name in names if len({each.get(name) for each in said}) > 1]
    return [[each[name] for name in differ if name in each] for each in said]


def unique_names(rows: Sequence[ReportRow]) -> list[str]:
    """Names of rows; where several have one, what tells these apart too: ``"net T4 (seed 0)"``."""
    of_name: dict[str, list[ReportRow]] = {}
    for row in rows:
        of_name.setdefault(row.name, []).append(row)
    apart = {name: iter(told_apart(alike)) for name, alike in of_name.items()}
    words = [next(apart[row.name]) for row in rows]
    return [f"{row.name} ({w})" if w else row.name for row, w in zip(rows, words, strict=True)]


def differing_parts(texts: Sequence[str]) -> list[str]:
    """Of each text what is not in all of them, between commas and brackets.

    ``"SGD (learning rate 0.1, momentum 0.9)"`` beside another learning rate: ``"learning rate
    0.1"``.
    """
    parts = [[part.strip() for part in re.split(r"[(),]", text)] for text in texts]
    shared = set.intersection(*map(set, parts)) if parts else set()
    return [", ".join(part for part in each if part and part not in shared) for each in parts]


def may_be_of_one_data(one: ReportRow, other: ReportRow) -> bool:
    """False for rows of other data, or of images of another size; what is not said may be alike."""
    pairs = ((one.data, other.data), (one.image_size, other.image_size))
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def without_seed(text: str) -> str:
    """The text with the number of every seed taken out."""
    return _OF_SEED.sub(r"\1*", text)


def _left(row: ReportRow, but: Collection[str]) -> dict[str, str]:
    return {k: text for k, text in identity(row).items() if k.partition(" ")[0] not in but}
