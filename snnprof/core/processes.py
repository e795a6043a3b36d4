"""Processes that share one run: which of them this is, what they tell each other, how they end.

``torchrun`` starts them, and says in the environment which is which. They share work only inside
:func:`joined_processes`: a script that has a process group of its own is left alone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed

from snnprof.core.errors import SnnprofError

Kept = TypeVar("Kept")

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
# What joins processes, and what it says of one that is gone: a user's own pipe may break too.
_BY = ("gloo", "nccl", "tcpstore", "c10d", "torch.distributed")
_LOST = ("connection closed by peer", "connection reset by peer", "broken pipe", "timed out")
_A_MOMENT_S = 2.0


class ProcessError(SnnprofError):
    """An error of one process of several, which ends them all; the message names its rank."""


class SaidElsewhereError(ProcessError):
    """An error that another process says: this one ends without a word."""


@dataclass(frozen=True)
class Processes:
    """This process among those that share a run.

    Attributes:
        rank: its number, from 0; the first writes and prints.
        count: how many there are.
        local_rank: its number on its own machine: that of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def several(self) -> bool:
        """True if there are others."""
        return self.count > 1

    @property
    def first(self) -> bool:
        """True for the one that writes and prints."""
        return self.rank == 0

    def gather(self, value: Kept) -> list[Kept]:
        """This object of every process, in the order of ranks; every one of them must call it."""
        return gathered(value) if self.several else [value]


ALONE = Processes()
_current = ALONE


def current_processes() -> Processes:
    """Those of the :func:`joined_processes` block that runs; :data:`ALONE` outside of one."""
    return _current


def announced(environment: Mapping[str, str] = os.environ) -> Processes:
    """What torchrun says in the environment; :data:`ALONE` without it.

    Raises:
        SnnprofError: a variable of it is missing or is no number.
    """
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return ALONE
    try:
        rank, count, local = (int(environment[name]) for name in _VARIABLES)
    except (KeyError, ValueError):
        found = ", ".join(f"{name}={environment.get(name)!r}" for name in _VARIABLES)
        raise SnnprofError(f"the environment says {found}: start with torchrun") from None
    return Processes(rank, count, local)


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the processes that torchrun started, and part from them at the end.

    NCCL joins GPUs, gloo processors; each process takes the GPU of its local rank. One that
    torchrun ends, since another has ended, says so in one line.

    Raises:
        ProcessError: another process was lost.
        SnnprofError: see :func:`announced`.
    """
    global _current
    processes = announced()
    if not processes.several:
        yield processes
        return
    if processes.local_rank < torch.cuda.device_count():
        torch.cuda.set_device(processes.local_rank)
    _say_when_ended(processes)
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend)
        _current = processes
        yield processes
        _forget_signals()  # whoever waits here has nothing to say
        torch.distributed.barrier()  # none leaves while another still needs it
        torch.distributed.destroy_process_group()
    except RuntimeError as error:  # no group is destroyed: the process is about to end
        if not is_lost(str(error)):
            raise
        raise lost_process(processes) from error
    finally:
        _current = ALONE


def is_lost(message: str) -> bool:
    """True if the message of an error says that another process cannot be reached."""
    found = message.lower()
    return any(by in found for by in _BY) and any(sign in found for sign in _LOST)


def lost_process(processes: Processes) -> ProcessError:
    """The error of a process that waits for one that is gone."""
    return ProcessError(
        f"rank {processes.rank}: another process of the run was killed or has failed, so this one "
        "ends too; files that it has written are whole"
    )


def _say_when_ended(processes: Processes) -> None:
    """Print a line at SIGTERM, by which torchrun ends the others when one has ended.

    A handler of Python's would wait for as long as torch waits for the process that is gone.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_forget_signals)  # a loader's worker has none of this

    def wait() -> None:
        while os.read(reading, 1) != bytes([signal.SIGTERM]):
            continue
        os.write(2, f"Error: {lost_process(processes)}\n".encode())
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _forget_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def leave(status: int) -> NoReturn:
    """End a process of several: gloo's threads at times abort Python's own end, after all is done.

    The first leaves at once, the others a moment later: torchrun ends all as soon as one leaves
    with an error, and the first may still be saying which.
    """
    _forget_signals()
    sys.stdout.flush()
    sys.stderr.flush()
    if status and not announced().first:
        time.sleep(_A_MOMENT_S)
    os._exit(status)


def together(action: Callable[[], Kept], processes: Processes) -> Kept:
    """What each process's action gives; an error of one is everybody's, and one of them says it.

    Raises:
        SnnprofError: it failed in this process; in those before it, it did not.
        SaidElsewhereError: it failed in another one.
    """
    if not processes.several:
        return action()
    done: list[Kept] = []
    mine = None
    try:
        done.append(action())
    except SnnprofError as error:
        mine = str(error)
    failures = processes.gather(mine)
    first = next((rank for rank, failure in enumerate(failures) if failure is not None), None)
    if first is None:
        return done[0]
    if first != processes.rank or mine is None:
        raise SaidElsewhereError(str(failures[first]))
    if set(failures) == {mine}:
        raise SnnprofError(mine)
    raise ProcessError(f"rank {first}: {mine}")


def gathered(value: Kept, group: Any = None) -> list[Kept]:
    """This object of every process, in the order of ranks; only its own without any.

    Every process of the group must call it.

    Args:
        value: an object that can be pickled.
        group: of torch.distributed; None: all processes.

    Raises:
        SnnprofError: this process is not in the group.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    size = distributed.get_world_size(group)
    if size < 1:
        raise SnnprofError("this process is not in the group: call it in the group's processes")
    found: list[Any] = [None] * size
    distributed.all_gather_object(found, value, group=group)
    return found
