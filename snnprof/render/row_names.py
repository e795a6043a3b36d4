"""Short names of a report's rows: what they differ in."""

from __future__ import annotations

from collections.abc import Sequence

from snnprof.results import ReportRow


def differing_names(rows: Sequence[ReportRow]) -> list[str]:
    """A name for each row: of model, neuron, weights, mode, T and seed what is not alike in all.

    A single row's is its whole name.
    """
    if len(rows) == 1:
        return [rows[0].name]
    found = [
        (
            row.model,
            row.neuron,
            row.weights,
            row.mode,
            None if row.timesteps is None else f"T = {row.timesteps}",
            None if row.seed is None else f"seed {row.seed}",
        )
        for row in rows
    ]
    differ = [len(set(words)) > 1 for words in zip(*found, strict=True)]
    names = [
        ", ".join(word for word, shown in zip(words, differ, strict=True) if shown and word)
        for words in found
    ]
    return [name or row.name for name, row in zip(names, rows, strict=True)]
