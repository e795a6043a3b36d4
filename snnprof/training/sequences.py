"""Batches as sequences [T, B, ...]: images are repeated, events turned the right way round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from snnprof.core.errors import SnnprofError
from snnprof.core.processes import Processes
from snnprof.training.layouts import LAYOUTS

# Where T stands in a batch, by the layout that was asked for: it decides where shapes do not.
_STATED = {name: layout.output_dim for name, layout in LAYOUTS.items()}
_READ = ("[T, B, ...]", "[B, T, ...]")


def as_pair(batch: object, what: str, way_out: str) -> tuple[Tensor, Any]:
    """Inputs and labels of a batch; arrays and lists of numbers become tensors.

    Args:
        batch: a pair.
        what: it is, for messages.
        way_out: what to do where it is none.

    Raises:
        SnnprofError: no pair, or inputs that are no tensor.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        found = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
        raise SnnprofError(f"{what} is no pair (x, y) but {found}: {way_out}")
    x, y = (torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in batch)
    if not isinstance(x, Tensor):
        raise SnnprofError(f"x of {what} is a {type(x).__name__}, not a tensor: {way_out}")
    if isinstance(y, list) and y and isinstance(y[0], int | float):
        y = torch.tensor(y)
    return x, y


@dataclass(frozen=True)
class Batches:
    """How all batches are laid out, as the first of them told.

    A later one may have as many samples as time steps, and would not tell.

    Attributes:
        time_dim: where T stands: 0, 1, or None for images.
    """

    time_dim: int | None


def samples_in(labels: object) -> int | None:
    """Samples of a batch by its labels; None where there are no labels."""
    if not isinstance(labels, Tensor):
        return None
    return len(labels) if labels.dim() else None


def samples_of(x: Tensor, labels: object, timesteps: int | None) -> int:
    """Samples of a batch: of its labels, or of inputs without labels, as far as T tells."""
    counted = samples_in(labels)
    if counted is not None:
        return counted
    time_first = x.dim() == 5 and x.shape[0] == timesteps != x.shape[1]
    return x.shape[1] if time_first else len(x)


def time_dim(x: Tensor, labels: object, timesteps: int | None, layout: str | Batches) -> int | None:
    """Where T stands in a batch: 0 for [T, B, ...], 1 for [B, T, ...], None for images [B, ...].

    Images are [B, features] or [B, C, H, W]. Anything else whose second dimension is B holds
    time steps, [T, B, ...]; of five dimensions, or of three with T second, [B, T, ...]. Other
    [B, N, features] are images. A layout for images only makes images of all of them.

    Args:
        x: the inputs.
        labels: their samples are counted; without labels, x must be images or say T.
        timesteps: T; None if not known.
        layout: that was asked for: it decides where T and B are alike. :class:`Batches` where
            it is known already.

    Raises:
        SnnprofError: the shape fits none of these, or more than one.
    """
    shape = tuple(x.shape)
    if isinstance(layout, Batches):
        return _as_before(shape, samples_in(labels), layout.time_dim)
    batch = samples_of(x, labels, timesteps)
    if len(shape) == 3 and shape[0] == timesteps != shape[1] and _are_of_time(labels, shape[:2]):
        raise SnnprofError(
            f"inputs of shape {shape} with labels of shape {tuple(labels.shape)}: labels begin "
            f"with B, and these seem to begin with T = {timesteps}: give them as [B, T, ...], or "
            "another batch size where B = T"
        )
    first, second = shape[0] == batch, len(shape) > 2 and shape[1] == batch
    images_only = layout in LAYOUTS and LAYOUTS[layout].images_only
    if first and (len(shape) in (2, 4) or images_only):
        return None
    if first and second and timesteps in (None, batch):  # T = B
        stated = _STATED.get(layout)
        if stated is None:
            raise SnnprofError(
                f"inputs of shape {shape} with {batch} labels: T and B are alike, so give another "
                "batch size, or layout= (--layout) 'time-first' or 'batch-first'"
            )
        return stated
    if second and not first:
        return 0
    if first and (len(shape) == 5 or (len(shape) == 3 and shape[1] == timesteps)):
        return 1
    if first and len(shape) == 3:
        return None
    raise SnnprofError(
        f"inputs of shape {shape} with {batch} labels: [B, C, H, W], [T, B, ...] or [B, T, ...] is "
        "needed"
    )


def _as_before(shape: tuple[int, ...], batch: int | None, dim: int | None) -> int | None:
    """Where T stands, as in the batches before."""
    held = shape[1 if dim == 0 else 0] if len(shape) > 1 else None
    if held is None or batch not in (None, held):
        order = {0: "[T, B, ...]", 1: "[B, T, ...]", None: "[B, ...]"}[dim]
        raise SnnprofError(
            f"inputs of shape {shape} with {batch} labels: batches before were {order}"
        )
    return dim


def _are_of_time(labels: object, shape: tuple[int, ...]) -> TypeGuard[Tensor]:
    return isinstance(labels, Tensor) and labels.dim() > 1 and labels.shape[:2] == shape


def as_sequence(
    x: Tensor, labels: object, timesteps: int | None, layout: str | Batches = "time-first"
) -> Tensor:
    """The inputs as [T, B, ...].

    Args:
        x: images, which are repeated T times without taking memory, or a sequence: see
            :func:`time_dim`.
        labels: of any kind, B in the first dimension; None for none.
        timesteps: T; None for that of the sequence.
        layout: as :func:`time_dim`.

    Raises:
        SnnprofError: the shapes do not fit each other or T, or T is not known.
    """
    if not isinstance(x, Tensor):
        raise SnnprofError(f"inputs are a {type(x).__name__}, not a torch.Tensor")
    if not x.numel() or not x.dim():
        raise SnnprofError(f"inputs of shape {tuple(x.shape)}: an empty batch")
    dim = time_dim(x, labels, timesteps, layout)
    if dim is None:
        if timesteps is None:
            raise SnnprofError("an image batch has no time steps: give timesteps=T")
        return x.expand(timesteps, *x.shape)
    sequence = x.transpose(0, dim)
    if timesteps is not None and len(sequence) != timesteps:
        raise SnnprofError(
            f"timesteps={timesteps}, but the sequence has {len(sequence)}: inputs of shape "
            f"{tuple(x.shape)} are read as {_READ[dim]}; give timesteps={len(sequence)} "
            f"(--timesteps {len(sequence)}), or, if these are no time steps, [T, B, ...] (images "
            "repeated, time put first)"
        )
    return sequence


def batches_like(
    x: Tensor, labels: object, timesteps: int | None, layout: str | Batches
) -> Batches:
    """How batches are laid out, by the first of them.

    Args and errors: as :func:`as_sequence`.
    """
    as_sequence(x, labels, timesteps, layout)
    return Batches(time_dim(x, labels, timesteps, layout))


def share_of(
    x: Tensor, labels: Any, timesteps: int | None, layout: str | Batches, processes: Processes
) -> tuple[Tensor, Any]:
    """The samples of a joined batch that one of several processes trains on: views of it.

    Args and errors: as :func:`as_sequence`; labels without samples in their first dimension are
        left as they are.

    Raises:
        SnnprofError: the samples cannot be split evenly: a mean over shares is that of the batch
            only if they are alike.
    """
    dim = 1 if time_dim(x, labels, timesteps, layout) == 0 else 0
    samples = x.shape[dim]
    if samples % processes.count:
        raise uneven(samples, processes)
    each = samples // processes.count
    start = processes.rank * each

    def of_share(value: Any) -> Any:
        batched = isinstance(value, Tensor) and value.dim() and len(value) == samples
        return value[start : start + each] if batched else value

    return x.narrow(dim, start, each), tree_map(of_share, labels)


def uneven(samples: int, processes: Processes) -> SnnprofError:
    """The error for a joined batch that cannot be split evenly."""
    return SnnprofError(
        f"a joined batch of {samples} cannot be split evenly among {processes.count} processes: "
        f"give a batch size that is a multiple of {processes.count}"
    )
