"""Operators and layers of traced training steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class OperatorTime:
    """An operator, or a range, over all recorded steps.

    Attributes:
        name: ``"aten::convolution_backward"``, or ``"conv1 t=2"``.
        calls: how often it ran.
        self_s: processor seconds in it, without what it called.
        total_s: processor seconds in it, with what it called; an operator that calls itself
            is counted again.
        self_bytes: main memory that it allocated and did not free, without what it called.
        device_self_s, device_total_s, device_self_bytes: likewise of the kernels it started
            on the GPU and of the GPU's memory; None where no GPU was traced.
    """

    name: str
    calls: int
    self_s: float
    total_s: float
    self_bytes: int
    device_self_s: float | None = None
    device_total_s: float | None = None
    device_self_bytes: int | None = None


@dataclass(frozen=True)
class TraceResult:
    """Times and memory by operator and by layer, and the files of the trace.

    Attributes:
        name: the run's name in TensorBoard.
        folder: the files of the trace lie there.
        trace: the gzipped file that Perfetto, the torch-tb-profiler plug-in and HTA read.
        steps: recorded steps.
        operators: torch's operators, the longest first.
        ranges: layers by time step (forward passes only), optimiser steps; longest first.
        not_marked: layers without a range: never called as a module, or compiled.
    """

    name: str
    folder: Path
    trace: Path
    steps: int
    operators: tuple[OperatorTime, ...]
    ranges: tuple[OperatorTime, ...]
    not_marked: tuple[str, ...]
