"""``[cluster]`` of a sweep's file: which executor runs the rows, and what it is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.experiment.sweep.keys import NUMBER, TEXT, TEXTS, WHOLE, Key, check_keys, values_of

LOCAL, SLURM = "local", "slurm"
EXECUTORS = (LOCAL, SLURM)
_SBATCH = "sbatch"
_MINUTES_A_DAY = 24 * 60
# Days-hours:minutes:seconds, as Slurm writes it; a number alone is minutes.
_WITH_DAYS = re.compile(r"(\d{1,6})-(\d{1,6})(?::(\d{1,6}))?(?::(\d{1,6}))?", re.ASCII)
_PLAIN = re.compile(r"(?:(\d{1,6}):)?(\d{1,6})(?::(\d{1,6}))?", re.ASCII)

KEYS: dict[str, Key] = {
    "executor": TEXT,
    "jobs": WHOLE,
    "time": Key((int, str), "minutes, or text as '2:00:00' or '1-12:00:00'"),
    "gpus": WHOLE,
    "cpus": WHOLE,
    "memory_gb": NUMBER,
    "partition": TEXT,
    "account": TEXT,
    "qos": TEXT,
    "constraint": TEXT,
    "exclude": TEXT,
    "nodelist": TEXT,
    "setup": TEXTS,
}
# What submitit calls them.
_OF_SLURM = {
    "gpus": "gpus_per_node",
    "cpus": "cpus_per_task",
    "memory_gb": "mem_gb",
    "partition": "slurm_partition",
    "account": "slurm_account",
    "qos": "slurm_qos",
    "constraint": "slurm_constraint",
    "exclude": "slurm_exclude",
    "nodelist": "slurm_nodelist",
    "setup": "slurm_setup",
    _SBATCH: "slurm_additional_parameters",
    "jobs": "slurm_array_parallelism",
}


@dataclass(frozen=True)
class Cluster:
    """What runs the rows.

    Attributes:
        executor: "local" for processes of this machine, "slurm".
        jobs: rows at a time; None for one here, and for as many as Slurm runs.
        minutes: that a row may take; None for as long as it takes, here.
        requests: of Slurm, by key of ``[cluster]``.
    """

    executor: str = LOCAL
    jobs: int | None = None
    minutes: int | None = None
    requests: Mapping[str, Any] = field(default_factory=dict)

    def with_options(self, executor: str | None, jobs: int | None) -> Cluster:
        """The same with what was asked for beside the file.

        Raises:
            SnnprofError: no such executor, no job at a time, or no time for Slurm.
        """
        chosen = replace(
            self,
            executor=self.executor if executor is None else executor,
            jobs=self.jobs if jobs is None else jobs,
        )
        if chosen.executor not in EXECUTORS:
            raise SnnprofError(
                f"unknown executor {chosen.executor!r}; known: {', '.join(EXECUTORS)}"
            )
        if chosen.jobs is not None and chosen.jobs < 1:
            raise SnnprofError(f"jobs={chosen.jobs}: must be at least 1")
        if chosen.executor == SLURM and chosen.minutes is None:
            raise SnnprofError(
                "Slurm has to know how long a row may take: give time under [cluster], as "
                "time = '2:00:00' or in minutes"
            )
        return chosen

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of a job of Slurm, as submitit names them."""
        asked = {**self.requests, "jobs": self.jobs}
        named = {_OF_SLURM[key]: value for key, value in asked.items() if value is not None}
        return {"timeout_min": self.minutes, "name": "snnprof", **named}


def read_cluster(where: str, table: Mapping[str, Any]) -> Cluster:
    """The table ``[cluster]``.

    Args:
        where: for messages.
        table: its keys; ``[cluster.sbatch]`` takes any other option of sbatch.

    Raises:
        SnnprofError: an unknown key, a value of another type or that cannot be.
    """
    check_keys(where, table, (*KEYS, _SBATCH))
    others = table.get(_SBATCH, {})
    if not isinstance(others, Mapping):
        raise SnnprofError(f"{where}: {_SBATCH} = {others!r}: must be a table, [cluster.{_SBATCH}]")
    found: dict[str, Any] = {_SBATCH: dict(others)} if others else {}
    for key, given in table.items():
        if key == _SBATCH:
            continue
        values = values_of(where, key, KEYS[key], given)
        if len(values) > 1 and not KEYS[key].several:
            raise SnnprofError(f"{where}: {key} = {given!r}: must be one value, it is no axis")
        found[key] = values if KEYS[key].several else values[0]
    for key in ("jobs", "gpus", "cpus", "memory_gb"):
        if key in found and found[key] < (least := 0 if key == "gpus" else 1):
            raise SnnprofError(f"{where}: {key} = {found[key]}: must be at least {least}")
    executor = found.pop("executor", LOCAL)
    if executor not in EXECUTORS:
        raise SnnprofError(f"{where}: unknown executor {executor!r}; known: {', '.join(EXECUTORS)}")
    time = found.pop("time", None)
    return Cluster(
        executor=executor,
        jobs=found.pop("jobs", None),
        minutes=None if time is None else _minutes(where, time),
        requests=found,
    )


def _minutes(where: str, given: int | str) -> int:
    """Whole minutes, rounded up: ``"1-02"`` is 1 day and 2 hours, ``"90:30"`` 91 minutes."""
    text = str(given).strip()
    if days := _WITH_DAYS.fullmatch(text):
        day, hours, minutes, seconds = (int(part or 0) for part in days.groups())
    elif plain := _PLAIN.fullmatch(text):
        day = 0
        first, second, third = plain.groups()
        hours, minutes, seconds = _clock(first, second, third)
    else:
        day = hours = minutes = seconds = 0
    total = day * _MINUTES_A_DAY + hours * 60 + minutes + -(-seconds // 60)
    if total < 1:
        raise SnnprofError(
            f"{where}: time = {given!r}: must be {KEYS['time'].what}, and more than none"
        )
    return total


def _clock(first: str | None, second: str, third: str | None) -> tuple[int, int, int]:
    """Hours, minutes and seconds of ``M``, ``M:S`` or ``H:M:S``."""
    if first is None:
        return 0, int(second), int(third or 0)
    if third is None:
        return 0, int(first), int(second)
    return int(first), int(second), int(third)
