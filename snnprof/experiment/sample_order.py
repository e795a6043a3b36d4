"""The order of an epoch's samples, and a seed for what is drawn while they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch
from torch import Tensor
from torch.utils.data import Dataset as MapStyle
from torch.utils.data import Sampler

_SEEDS = 2**62


class DrawnSamples(MapStyle[tuple[Tensor, int]]):
    """A map-style data set whose training samples are drawn anew in every epoch.

    It is asked for ``data[index, seed]``, with one seed per epoch, and draws from that seed and the
    index alone: so a sample is the same whichever process reads it. ``data[index]`` draws nothing.
    """


class SampleOrder(Sampler[int | tuple[int, int]]):
    """All samples of a map-style data set, in an order that is drawn anew in every epoch.

    All that an epoch needs is drawn at its beginning: torch's RandomSampler draws once more at its
    end, which a loader's workers may reach before the batches that come first are used.

    Args:
        data: the data set, of a known length.
        generator: of the orders, and of the seeds for :class:`DrawnSamples`.
    """

    def __init__(self, data: Sized, generator: torch.Generator) -> None:
        self.generator = generator
        self._data = data
        self._seeded = isinstance(data, DrawnSamples)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[int | tuple[int, int]]:
        order = torch.randperm(len(self), generator=self.generator).tolist()
        if not self._seeded:
            return iter(order)
        seed = int(torch.randint(_SEEDS, (), generator=self.generator))
        return ((index, seed) for index in order)
