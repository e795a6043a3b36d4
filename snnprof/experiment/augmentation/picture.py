"""A picture of a batch, to see what an augmentation does."""

from __future__ import annotations

import io
import math
from pathlib import Path

import torch
from torch import Tensor

from snnprof.core.atomic_files import write_whole
from snnprof.core.errors import SnnprofError
from snnprof.experiment.data import Normalization
from snnprof.experiment.data_sets.image_files import pillow

GAP = 2
LEAST_SIDE = 64  # smaller images are enlarged by a whole factor


def save_batch_picture(
    x: Tensor, file: str | Path, normalization: Normalization | None = None
) -> None:
    """Write the images of a batch side by side as PNG, in rows from the upper left.

    Event frames are summed over time: red is one polarity, blue the other, as bright as the most
    events on a pixel of that sample.

    Args:
        x: images [B, C, H, W], grey or RGB, or event frames [T, B, 2, H, W].
        file: with the suffix .png.
        normalization: of the images; None for pixels between 0 and 1.

    Raises:
        SnnprofError: inputs that are no such images, another suffix, Pillow is missing.
    """
    path = Path(file)
    if path.suffix.lower() != ".png":
        raise SnnprofError(f"picture {str(file)!r}: must end in .png")
    image = pillow()
    tiles = _pixels(x.detach().float().cpu(), normalization)
    samples, _, height, width = tiles.shape
    columns = math.ceil(math.sqrt(samples))
    rows = math.ceil(samples / columns)
    grid = torch.ones(3, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP)
    for number, tile in enumerate(tiles):
        top = GAP + number // columns * (height + GAP)
        left = GAP + number % columns * (width + GAP)
        grid[:, top : top + height, left : left + width] = tile
    content = io.BytesIO()
    bytes_of = (grid * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    image.fromarray(bytes_of.numpy()).save(content, "png")
    write_whole(path, content.getvalue())


def _pixels(x: Tensor, normalization: Normalization | None) -> Tensor:
    """RGB between 0 and 1, [B, 3, H, W], enlarged if small."""
    if x.dim() == 5 and x.shape[2] == 2:
        events = x.sum(0)
        brightest = events.amax((1, 2, 3), keepdim=True).clamp(min=1)
        shown = events / brightest
        shown = torch.stack([shown[:, 0], torch.zeros_like(shown[:, 0]), shown[:, 1]], 1)
    elif x.dim() == 4 and x.shape[1] in (1, 3):
        shown = x if normalization is None else normalization.undo(x)
        shown = shown.clamp(0, 1).expand(-1, 3, -1, -1)
    else:
        raise SnnprofError(
            f"picture of a batch of shape {tuple(x.shape)}: must be [B, 1 or 3, H, W], or event "
            "frames [T, B, 2, H, W]"
        )
    factor = max(1, LEAST_SIDE // max(shown.shape[-2:]))
    return shown.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
