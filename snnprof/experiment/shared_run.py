"""A run that several processes share: what it refuses, and what is said of it.

Every process makes the same models and trains on its part of each joined batch; test batches are
dealt out in turn, each whole to one process.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from snnprof.core.errors import SnnprofError
from snnprof.experiment.settings import Settings
from snnprof.training.sequences import uneven


def check_shared(settings: Settings) -> None:
    """Raise SnnprofError for what several processes cannot share, before anything is trained."""
    processes, data = settings.processes, settings.data
    if not processes.several:
        for name, given, way_out in (
            ("sync_bn", settings.sync_bn, "leave it out"),
            ("fsdp", settings.fsdp, "leave it out (--no-fsdp of a training that began with it)"),
        ):
            if given:
                raise SnnprofError(
                    f"{name} is for several processes, and there is one: {way_out}, or start with "
                    "torchrun --nproc-per-node N -m snnprof"
                )
        return
    _check_gpu(settings)
    for what, images in (("training", data.images), ("test", data.test_samples)):
        if images is not None and images < processes.count:
            raise SnnprofError(
                f"{images} {what} images are fewer than the {processes.count} processes: start "
                f"fewer (torchrun --nproc-per-node {images})"
            )
    for name, given in (
        ("batch_size='auto'", settings.automatic_batch),
        ("measure_energy", settings.joules_s is not None),
        ("trace", settings.trace is not None),
    ):
        if given:
            raise SnnprofError(f"{name} is of one process: leave it out, or start without torchrun")
    if not settings.recipe.epochs and settings.repeats is None:
        return
    if settings.batch_size < processes.count:  # data that do not count their images, too
        raise SnnprofError(
            f"batches of {settings.batch_size} have fewer samples than the {processes.count} "
            f"processes: start fewer (torchrun --nproc-per-node {settings.batch_size}), or give "
            "larger batches"
        )
    each, left = divmod(settings.batch_size, processes.count)
    if left:
        raise uneven(settings.batch_size, processes)
    if each == 1 and settings.source.ours and not settings.sync_bn:
        raise SnnprofError(
            f"a joined batch of {settings.batch_size} is 1 sample for each process, and batch norm "
            "needs at least 2: give a larger batch size, or sync_bn=True (--sync-bn)"
        )


def _check_gpu(settings: Settings) -> None:
    """Raise SnnprofError for a process without a GPU of its own."""
    local, there = settings.processes.local_rank, torch.cuda.device_count()
    if settings.device.type == "cuda" and local >= there:
        raise SnnprofError(
            f"process {local} of this machine has no GPU, {there} are there: start "
            f"torchrun --nproc-per-node {there}, or use device 'cpu'"
        )


def notes_on_processes(settings: Settings) -> Iterator[str]:
    """How the work was shared."""
    processes = settings.processes
    if not processes.several:
        return
    yield f"{processes.count} processes shared the work, joined by {joined_by(settings.device)}."
    if settings.recipe.epochs or settings.repeats is not None:
        norms = (
            "batch norms took mean and variance over all"
            if settings.sync_bn
            else "batch norms saw the samples of their own process, and those of the first were "
            "tested (--sync-bn joins them)"
        )
        averaged = (
            "at the end of every backward pass"
            if settings.fsdp
            else "once before every step of the optimiser"
        )
        yield (
            f"Batch {settings.batch_size} is the joined one, "
            f"{settings.batch_size // processes.count} samples for each; gradients were averaged "
            f"{averaged}; {norms}."
        )
        if settings.fsdp:
            yield (
                "Parameters, gradients and optimiser states were divided among the processes "
                "(FSDP): memory is of one process's part, and size and parameters are of the whole "
                "network."
            )
        yield "Step time is of the slowest process, memory of the one with the largest peak."
    yield "Test batches were dealt out in turn; counts and accuracy are of all of them."


def of_processes(settings: Settings) -> dict[str, str]:
    """How many there are, for the environment of a report; nothing of one alone."""
    processes = settings.processes
    if not processes.several:
        return {}
    divided = ", parameters divided among them (FSDP)" if settings.fsdp else ""
    return {"processes": f"{processes.count}, joined by {joined_by(settings.device)}{divided}"}


def joined_by(device: torch.device) -> str:
    """The backend that joins processes on such a device."""
    return "NCCL" if device.type == "cuda" else "gloo"
