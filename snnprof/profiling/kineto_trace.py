"""Traces of training steps: for TensorBoard, for Perfetto, and as tables."""

from __future__ import annotations

import gzip
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import nn
from torch._C._autograd import DeviceType
from torch.autograd.profiler_util import FunctionEventAvg

from snnprof.core.errors import SnnprofError, reason_of
from snnprof.core.quiet_allocator import quiet_allocator
from snnprof.profiling.event_tree import events
from snnprof.profiling.layer_ranges import LayerRanges
from snnprof.profiling.trace_counters import with_counters
from snnprof.results import CountResult
from snnprof.results.base import TraceTables, views
from snnprof.results.trace import OperatorTime, TraceResult

_FASTEST = 1  # of gzip's levels: a fifteenth of the size, in half a second for 100 MB
# perfetto.json is of an earlier version, which wrote the trace twice.
_OURS = re.compile(
    r".*\.pt\.trace\.json(\.gz)?|perfetto\.json|(operators|ranges)\.(md|csv)"
    r"|events\.out\.tfevents\..*"
)


def check_trace_folder(folder: Path, name: str) -> Path:
    """The folder that a trace of that name goes to, ``folder / name``, if it can.

    Raises:
        SnnprofError: a name that is no file name, no directory to put it in, no permission,
            or files there that no trace has written.
    """
    if not name or name.startswith(".") or Path(name).name != name or len(name) > 150:
        raise SnnprofError(f"trace name {name!r}: must be a plain file name")
    shown = repr(str(folder))
    if folder.exists() and not folder.is_dir():
        raise SnnprofError(f"trace folder {shown} is a file: name a directory")
    holder = folder if folder.is_dir() else folder.parent
    if not holder.is_dir():
        raise SnnprofError(f"trace folder {shown}: there is no directory {str(holder)!r}")
    if not os.access(holder, os.W_OK):
        raise SnnprofError(f"trace folder {shown}: no permission to write there")
    target = folder / name
    if target.exists() and not target.is_dir():
        raise SnnprofError(f"trace folder {shown}: {name!r} in it is a file: name another folder")
    files = sorted(file.name for file in target.iterdir()) if target.is_dir() else ()
    foreign = next((file for file in files if not _OURS.fullmatch(file)), None)
    if foreign is not None:
        raise SnnprofError(
            f"trace folder {shown}: {name!r} in it holds {foreign!r}, which no trace wrote: "
            "name another folder"
        )
    return target


def trace_steps(
    step: Callable[[], object],
    folder: Path,
    *,
    name: str,
    model: nn.Module,
    timesteps: int,
    steps_per_call: int = 1,
    device: torch.device | str = "cpu",
    counts: CountResult | None = None,
    wait: int = 1,
    warmup: int = 1,
    active: int = 3,
    write_tables: TraceTables | None = None,
) -> TraceResult:
    """Run training steps under torch.profiler, and write what it saw to ``folder / name``.

    Shapes, memory and Python stacks are recorded; every call of a layer is a range named by
    layer and time step. The folder gets the trace, one gzipped file, for Perfetto
    (ui.perfetto.dev), TensorBoard (``tensorboard --logdir FOLDER``, with the torch-tb-profiler
    plug-in) and HTA, and ``operators`` and ``ranges`` as .md and .csv. It appears whole or not
    at all; an earlier trace of that name is replaced, with its scalars.

    The step computes what it computes without a profiler, but slower: never trace steps that
    are timed, and take no time from a trace for a table.

    Args:
        step: one training step; it is called wait + warmup + active times.
        folder: given to ``tensorboard --logdir``; made where its parent exists.
        name: of this run in TensorBoard, and of the folder in ``folder``.
        model: the model that the step calls.
        timesteps: T.
        steps_per_call: see :class:`~snnprof.profiling.layer_ranges.LayerRanges`.
        device: where the step runs; on CUDA the kernels are recorded too.
        counts: of the model, for counter tracks of SOPs and firing rate; None for none.
        wait: steps that run before the profiler starts.
        warmup: steps that it runs through without keeping them.
        active: steps that are recorded.
        write_tables: writes the tables ``operators`` and ``ranges`` into a folder; None for
            snnprof's own writer, .md and .csv.

    Raises:
        SnnprofError: before anything runs, see :func:`check_trace_folder` and
            :class:`~snnprof.profiling.layer_ranges.LayerRanges`, or a number of steps that cannot
            be; afterwards, where the system refuses to write.
    """
    _check_schedule(wait, warmup, active)
    write_tables = write_tables or views().trace_tables
    ranges = LayerRanges(model, timesteps, steps_per_call)
    with _staged(folder, name) as stage:
        profiler = _record(step, ranges, torch.device(device), (wait, warmup, active))
        operators, marked = _tables(profiler, torch.device(device).type == "cuda")
        with _refusals(folder):
            trace = _write(profiler, stage, counts)
            write_tables(stage, {"operators": operators, "ranges": marked})
    target = folder / name
    return TraceResult(
        name=name,
        folder=target,
        trace=target / trace.name,
        steps=active,
        operators=operators,
        ranges=marked,
        not_marked=ranges.not_marked(),
    )


def _check_schedule(wait: int, warmup: int, active: int) -> None:
    for name, value, least in (("wait", wait, 0), ("warmup", warmup, 1), ("active", active, 1)):
        if value < least:
            raise SnnprofError(f"{name}={value}: a trace needs at least {least} such steps")


def _record(
    step: Callable[[], object],
    ranges: LayerRanges,
    device: torch.device,
    schedule: tuple[int, int, int],
) -> torch.profiler.profile:
    """The profiler, after the steps have run."""
    # The profiler's C++ side logs messages for its developers to standard error.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    cuda = device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU]
    if cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    wait, warmup, active = schedule
    profiler = torch.profiler.profile(
        activities=activities,
        schedule=torch.profiler.schedule(wait=wait, warmup=warmup, active=active, repeat=1),
        record_shapes=True,
        profile_memory=True,
        with_stack=True,
        # Without it the plug-in's stack view stays empty.
        experimental_config=torch._C._profiler._ExperimentalConfig(verbose=True),
    )
    with quiet_allocator(), ranges, profiler:
        for _ in range(wait + warmup + active):
            step()
            if cuda:
                torch.cuda.synchronize(device)  # the step's kernels end inside the step
            ranges.next_step()
            profiler.step()
    return profiler


def _write(profiler: torch.profiler.profile, stage: Path, counts: CountResult | None) -> Path:
    """Write the trace, under the name that the plug-in looks for."""
    torch.profiler.tensorboard_trace_handler(str(stage))(profiler)
    plain = next(stage.glob("*.pt.trace.json"), None)
    if plain is None or not plain.stat().st_size:
        raise OSError("the profiler could not write its trace")
    trace = plain.with_name(f"{plain.name}.gz")
    content = with_counters(plain.read_text("utf-8", "replace"), counts)
    with gzip.open(trace, "wb", _FASTEST) as file:
        file.write(content.encode())
    plain.unlink()
    return trace


def _tables(
    profiler: torch.profiler.profile, cuda: bool
) -> tuple[tuple[OperatorTime, ...], tuple[OperatorTime, ...]]:
    """Operators and ranges. Python functions and GPU kernels have rows of their own: not here."""
    names = _operator_names(profiler)
    rows = [
        event
        for event in profiler.key_averages()
        if event.device_type == DeviceType.CPU
        and event.key in names
        and not event.key.startswith("ProfilerStep")
    ]
    operators = [_row(event, cuda) for event in rows if not event.is_user_annotation]
    ranges = [_row(event, cuda) for event in rows if event.is_user_annotation]
    operators.sort(key=lambda row: row.device_self_s or row.self_s, reverse=True)
    ranges.sort(key=lambda row: row.device_total_s or row.total_s, reverse=True)
    return tuple(operators), tuple(ranges)


def _operator_names(profiler: torch.profiler.profile) -> set[str]:
    """Names of torch's operators and of ranges; Python's functions are of another type."""
    return {
        event.name
        for event in events(profiler)
        if event.tag == torch._C._profiler._EventType.TorchOp
    }


def _row(event: FunctionEventAvg, cuda: bool) -> OperatorTime:
    """Microseconds to seconds."""
    return OperatorTime(
        name=str(event.key),
        calls=event.count,
        self_s=event.self_cpu_time_total * 1e-6,
        total_s=event.cpu_time_total * 1e-6,
        self_bytes=event.self_cpu_memory_usage,
        device_self_s=event.self_device_time_total * 1e-6 if cuda else None,
        device_total_s=event.device_time_total * 1e-6 if cuda else None,
        device_self_bytes=event.self_device_memory_usage if cuda else None,
    )


@contextmanager
def _refusals(folder: Path) -> Iterator[None]:
    """The system's refusal to write, as the one error for what a user can mend."""
    try:
        yield
    except OSError as error:
        raise SnnprofError(f"trace folder {str(folder)!r}: {reason_of(error)}") from error


@contextmanager
def _staged(folder: Path, name: str) -> Iterator[Path]:
    """A folder under a temporary name; it takes its place when the block ends well."""
    target = check_trace_folder(folder, name)
    made = not folder.exists()
    stage = folder / f".{name}.{secrets.token_hex(4)}"
    try:
        with _refusals(folder):
            folder.mkdir(exist_ok=True)
            stage.mkdir()
        yield stage
        with _refusals(folder):
            _swap(stage, target)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _swap(stage: Path, target: Path) -> None:
    """Put the staged folder in the place of the target."""
    if not target.exists():
        stage.rename(target)
        return
    old = stage.with_suffix(".old")
    target.rename(old)
    try:
        stage.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
