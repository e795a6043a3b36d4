"""The scripts that are submitted, run by a sbatch of our own: no Slurm is at hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import snnprof

pytest.importorskip("submitit", reason="submitit is not installed: extra cluster")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="scripts of bash")

# Starts every job of the array as Slurm does, and keeps the script.
SBATCH = """#!{python}
import os, re, shutil, subprocess, sys
script = sys.argv[1]
shutil.copy(script, {folder!r} + "/submitted.sh")
with open({folder!r} + "/calls", "a") as calls:
    calls.write("sbatch\\n")
first, last = re.search(r"--array=(\\d+)-(\\d+)", open(script).read()).groups()
for number in range(int(first), int(last) + 1):
    ids = dict(SLURM_JOB_ID=str(100 + number), SLURM_ARRAY_JOB_ID="7", SLURM_NTASKS="1",
               SLURM_ARRAY_TASK_ID=str(number), SLURM_JOB_NUM_NODES="1", SLURM_NODEID="0",
               SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_JOB_NODELIST="here")
    subprocess.Popen(["bash", script], env=os.environ | ids, start_new_session=True,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("Submitted batch job 7")
"""
SRUN = """#!{python}
import os, sys
command = sys.argv[sys.argv.index({python!r}):]
os.execv(command[0], command)
"""
# One of the jobs ends without a row.
SACCT = """#!{python}
import os
print("JobID|State|NodeList")
print("7_0|RUNNING|here")
print("7_1|" + ("OUT_OF_MEMORY" if os.path.exists({folder!r} + "/lost") else "PENDING") + "|here")
"""
THEIRS = """
import os, signal
import torch

def data(seed):
    if seed == 1:
        open("lost", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    batches = [(torch.rand(8, 3, 8, 8), torch.arange(8))]
    return batches, batches
"""


def test_an_array_of_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        file = binaries / name
        file.write_text(text.format(python=sys.executable, folder=str(tmp_path)))
        file.chmod(0o755)
    (tmp_path / "theirs.py").write_text(THEIRS)
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("snnprof.experiment.sweep.jobs._SEEN_S", 0.5)
    monkeypatch.setattr("snnprof.experiment.sweep.jobs._POLL_SLURM_S", 0.2)
    grid = {
        "data": "theirs:data",
        "mode": "stbp",
        "epochs": 0,
        "timesteps": 1,
        "device": "cpu",
        "seed": [0, 1],
        "cluster": {
            "executor": "slurm",
            "time": "0:30:00",
            "partition": "gpu",
            "gpus": 1,
            "cpus": 3,
            "memory_gb": 4,
            "jobs": 1,
            "setup": ["export FROM_SETUP=1"],
            "sbatch": {"mail-user": "me@lab.org"},
        },
    }
    done, lost = snnprof.sweep(grid, folder="rows").rows
    assert done.counts is not None
    assert lost.failure == "Slurm ended its job 7_1: OUT_OF_MEMORY"
    script = (tmp_path / "submitted.sh").read_text().splitlines()
    for line in (
        "#SBATCH --array=0-1%1",
        "#SBATCH --time=30",
        "#SBATCH --partition=gpu",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --cpus-per-task=3",
        "#SBATCH --mem=4GB",
        "#SBATCH --mail-user=me@lab.org",
        "#SBATCH --job-name=snnprof",
        "export FROM_SETUP=1",
    ):
        assert line in script
    snnprof.sweep(grid, folder="rows")  # all is saved
    assert (tmp_path / "calls").read_text() == "sbatch\n"
