"""The machine that the measurements ran on."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import torch

from snnprof.core.errors import SnnprofError, known

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """The torch device of ``--device``: "auto" is CUDA where there is one.

    Raises:
        SnnprofError: unknown name, or CUDA asked for where there is none.
    """
    if name not in DEVICES:
        raise known("device", name, DEVICES)
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise SnnprofError("device 'cuda' was asked for, but torch finds none here: use 'cpu'")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def describe(device: torch.device) -> dict[str, str]:
    """Device, processor and versions, for the report."""
    if device.type == "cuda":
        where = f"CUDA, {torch.cuda.get_device_name(device)}"
    else:
        where = f"CPU, {_processor()}, {torch.get_num_threads()} threads"
    return {
        "device": where,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "snnprof": version(),
    }


def version() -> str:
    """The version of snnprof that is installed."""
    try:
        return metadata.version("snnprof")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "not installed"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
