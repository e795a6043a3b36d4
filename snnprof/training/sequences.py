"""Batches as sequences [T, B, ...]: images are repeated, events turned the right way round."""

from __future__ import annotations

from torch import Tensor

from snnprof.core.errors import SnnprofError
from snnprof.training.layouts import LAYOUTS

# Where T stands in a batch, by the layout that was asked for: it decides where shapes do not.
_STATED = {name: layout.output_dim for name, layout in LAYOUTS.items()}
_READ = ("[T, B, ...]", "[B, T, ...]")


def samples_in(labels: object) -> int | None:
    """Samples of a batch by its labels; None where there are no labels."""
    if not isinstance(labels, Tensor):
        return None
    return len(labels) if labels.dim() else None


def time_dim(x: Tensor, labels: object, timesteps: int | None, layout: str) -> int | None:
    """Where T stands in a batch: 0 for [T, B, ...], 1 for [B, T, ...], None for images [B, ...].

    Images are [B, features] or [B, C, H, W]. Anything else whose second dimension is B holds
    time steps, [T, B, ...]; of five dimensions, or of three with T second, [B, T, ...]. A layout
    for images only makes images of all of them.

    Args:
        x: the inputs.
        labels: their samples are counted; without labels, x must be images or say T.
        timesteps: T; None if not known.
        layout: that was asked for: it decides where T and B are alike.

    Raises:
        SnnprofError: the shape fits none of these, or more than one.
    """
    shape = tuple(x.shape)
    batch = samples_in(labels)
    if batch is None:
        batch = _without_labels(shape, timesteps)
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


def _without_labels(shape: tuple[int, ...], timesteps: int | None) -> int:
    if len(shape) != 5:
        return shape[0]
    if shape[0] == timesteps != shape[1]:
        return shape[1]
    return shape[0]


def stating(dim: int | None, otherwise: str) -> str:
    """The layout whose batches have T there: with it, T = B in a later one is no question."""
    return otherwise if dim is None else ("time-first", "batch-first")[dim]


def as_sequence(
    x: Tensor, labels: object, timesteps: int | None, layout: str = "time-first"
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
            f"{tuple(x.shape)} are read as {_READ[dim]}; if these are no time steps, give [T, B, "
            "...] (images repeated, time put first)"
        )
    return sequence
