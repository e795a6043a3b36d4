"""``snnprof doctor``: what is installed here, and what of snnprof works with it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from importlib import metadata

import click
import torch

from snnprof.core.environment import choose_device, describe
from snnprof.counting.scan import is_extension_built

# Modules of the extras: the package and the extra that bring them, and what they are for.
_EXTRAS = {
    "matplotlib": ("matplotlib", "plots", "pictures, -o figure.svg"),
    "pyarrow": ("pyarrow", "parquet", "-o table.parquet"),
    "kornia": ("kornia", "data", "augmentation"),
    "PIL": ("pillow", "data", "ImageNet, pictures of batches"),
    "aedat": ("aedat", "dvs", "DVS-CIFAR10"),
    "tonic": ("tonic", "dvs", "fetching DVS-CIFAR10 and DVS128 Gesture"),
    "pynvml": ("nvidia-ml-py", "gpu", "--measure-energy on an NVIDIA GPU"),
    "lightning": ("lightning", "lightning", "the callback for Lightning"),
    "transformers": ("transformers", "transformers", "the callback for transformers"),
}
_LIBRARIES = {
    "spikingjelly": "SpikingJelly",
    "snntorch": "snnTorch",
    "norse": "Norse",
    "sinabs": "sinabs",
}


@click.command("doctor")
def doctor_command() -> None:
    """Say what is installed here, and what of snnprof works with it.

    For a question or a report of a bug: paste all of it.
    """
    for key, value in describe(choose_device("auto")).items():
        click.echo(f"{key}: {value}")
    click.echo(f"CUDA: {_cuda()}")
    click.echo(f"threads: {torch.get_num_threads()} (OMP_NUM_THREADS {_threads()})")
    built = is_extension_built()
    click.echo(
        "counting reads inputs by: "
        + ("the C extension" if built else "torch: the C extension was not built (no compiler)")
    )
    for line in _extras():
        click.echo(line)
    found = [
        f"{name} {_version(module)}" for module, name in _LIBRARIES.items() if _is_there(module)
    ]
    click.echo(f"libraries of spiking networks: {', '.join(found) or 'none'}")


def _cuda() -> str:
    if not torch.cuda.is_available():
        return f"none (torch was built for {torch.version.cuda or 'the CPU alone'})"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{torch.version.cuda}, {', '.join(names)}"


def _threads() -> str:
    return os.environ.get("OMP_NUM_THREADS", "not set")


def _extras() -> Iterator[str]:
    for module, (package, extra, purpose) in _EXTRAS.items():
        missing = f"missing: pip install 'snnprof[{extra}]'"
        yield f"{package} ({purpose}): {_version(package) if _is_there(module) else missing}"


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of an unknown version"
