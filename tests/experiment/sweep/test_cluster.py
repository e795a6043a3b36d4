"""What is asked of Slurm. There is none here: it is what submitit is handed that is looked at."""

from __future__ import annotations

from typing import Any

import pytest

import snnprof
from snnprof.experiment.sweep.cluster import Cluster, read_cluster


def test_requests_by_the_names_of_submitit() -> None:
    table = {
        "executor": "slurm",
        "jobs": 8,
        "time": "1-12:00:00",
        "gpus": 1,
        "cpus": 6,
        "memory_gb": 32,
        "partition": "gpu",
        "account": "lab",
        "qos": "long",
        "constraint": "a100",
        "exclude": "node7",
        "nodelist": "node[1-4]",
        "setup": ["module load cuda"],
        "sbatch": {"mail-user": "me@lab.org"},
    }
    assert read_cluster("c", table).with_options(None, None).parameters == {
        "name": "snnprof",
        "timeout_min": 36 * 60,
        "slurm_array_parallelism": 8,
        "gpus_per_node": 1,
        "cpus_per_task": 6,
        "mem_gb": 32.0,
        "slurm_partition": "gpu",
        "slurm_account": "lab",
        "slurm_qos": "long",
        "slurm_constraint": "a100",
        "slurm_exclude": "node7",
        "slurm_nodelist": "node[1-4]",
        "slurm_setup": ["module load cuda"],
        "slurm_additional_parameters": {"mail-user": "me@lab.org"},
    }


def test_submitit_knows_every_parameter() -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: extra cluster")
    from submitit import AutoExecutor, SlurmExecutor

    table = {"time": 1, "jobs": 1, "gpus": 1, "cpus": 1, "memory_gb": 1, "sbatch": {"a": "b"}}
    texts = ("partition", "account", "qos", "constraint", "exclude", "nodelist", "setup")
    asked = read_cluster("c", table | dict.fromkeys(texts, "x")).parameters
    known = {f"slurm_{name}" for name in SlurmExecutor._valid_parameters()}
    assert set(asked) <= known | AutoExecutor._valid_parameters()


@pytest.mark.parametrize(
    ("given", "minutes"),
    [
        (90, 90),
        ("90", 90),
        ("90:30", 91),  # minutes and seconds, rounded up
        ("2:00:00", 120),
        ("0:00:01", 1),
        ("1-2", 1440 + 120),
        ("1-2:03", 1440 + 123),
        ("1-2:03:04", 1440 + 124),
    ],
)
def test_time_as_slurm_writes_it(given: int | str, minutes: int) -> None:
    assert read_cluster("c", {"time": given}).minutes == minutes


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"partitions": "a"}, "unknown key 'partitions'; did you mean 'partition'?"),
    "executor": ({"executor": "pbs"}, "unknown executor 'pbs'; known: local, slurm"),
    "no axis": ({"gpus": [1, 2]}, "gpus = [1, 2]: must be one value, it is no axis"),
    "none": ({"jobs": 0}, "jobs = 0: must be at least 1"),
    "negative": ({"gpus": -1}, "gpus = -1: must be at least 0"),
    "no time": ({"time": 0}, "time = 0: must be minutes, or text as"),
    "no clock": ({"time": "1:x"}, "time = '1:x': must be minutes, or text as"),
    "type": ({"partition": 3}, "partition = 3: must be text"),
    "sbatch": ({"sbatch": "--x"}, "sbatch = '--x': must be a table, [cluster.sbatch]"),
}


@pytest.mark.parametrize(("table", "message"), WRONG.values(), ids=[*WRONG])
def test_what_is_wrong_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(snnprof.SnnprofError) as error:
        read_cluster("c", table)
    assert str(error.value).startswith(f"c: {message}")


def test_options_beside_the_file() -> None:
    assert Cluster(jobs=2).with_options(None, None).jobs == 2
    assert Cluster(jobs=2).with_options("local", 3) == Cluster(jobs=3)
    with pytest.raises(snnprof.SnnprofError, match="give time under \\[cluster\\]"):
        Cluster().with_options("slurm", None)
    with pytest.raises(snnprof.SnnprofError, match="jobs=0: must be at least 1"):
        Cluster().with_options(None, 0)
    with pytest.raises(snnprof.SnnprofError, match="unknown executor 'pbs'; known: local, slurm"):
        Cluster().with_options("pbs", None)
