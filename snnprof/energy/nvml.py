"""The energy counter of an NVIDIA board, through ``nvidia-ml-py`` (extra ``gpu``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch


class EnergyReader(Protocol):
    """A counter of the energy that a board has used.

    Attributes:
        device: the board's name.
        uuid: unique to the board.
    """

    device: str
    uuid: str

    def millijoules(self) -> int:
        """Energy used so far; only differences mean something."""
        ...


class NoCounter(Exception):  # noqa: N818  # not an error: a reason
    """Why there is no energy counter."""


class _NvmlReader:
    def __init__(self, nvml: Any, uuid: str) -> None:
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        self.device = str(nvml.nvmlDeviceGetName(self._handle))
        self.uuid = uuid
        self.millijoules()  # a board without a counter says so now

    def millijoules(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))


@contextmanager
def nvml_reader(device: torch.device) -> Iterator[EnergyReader]:
    """The counter of the board that torch calls ``device``: nvmlDeviceGetTotalEnergyConsumption.

    The boards are matched by UUID, since CUDA_VISIBLE_DEVICES renumbers torch's only.

    Raises:
        NoCounter: no NVIDIA GPU, no nvidia-ml-py, or a board without a counter (NVML has it
            from Volta on).
    """
    if device.type != "cuda" or torch.version.hip is not None:
        raise NoCounter(f"only NVIDIA GPUs have an energy counter, not device {str(device)!r}")
    if not torch.cuda.is_available():
        raise NoCounter("torch finds no GPU here")
    try:
        import pynvml
    except ImportError:
        raise NoCounter("nvidia-ml-py is not installed: pip install 'snnprof[gpu]'") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoCounter(f"NVML does not start: {error}") from None
    try:
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        try:
            reader = _NvmlReader(pynvml, uuid if "-" in uuid[:4] else f"GPU-{uuid}")
        except pynvml.NVMLError as error:
            raise NoCounter(f"NVML gives no energy of GPU {uuid}: {error}") from None
        yield reader
    finally:
        pynvml.nvmlShutdown()
