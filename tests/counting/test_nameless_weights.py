"""Weights that are no parameters: the row of a call is its place, as that of a product is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..support.counting import Function, count

IMAGE = torch.tensor([[0.5, 0.25, 0.7], [0.1, 0.9, 0.3]])
SPIKES = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
REAL = torch.tensor([[0.3, 1.7, -0.2], [0.45, 0.11, 2.0], [1.1, 0.0, 0.71]])  # 8 synapses


class Packed(nn.Module):
    """A linear layer as it is deployed: its weight is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", REAL.clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Deployed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = Packed(), Packed()

    def forward(self, x: Tensor) -> Tensor:
        return self.body((self.stem(x) > 0.5).float())


def test_layers_whose_weight_is_a_buffer_are_rows_of_their_own():
    stem, body = count(Deployed(), IMAGE).rows
    assert (stem.name, stem.input_kind, stem.operation) == ("stem", "REAL", "MAC")
    assert (body.name, body.input_kind, body.operation) == ("body", "BINARY", "AC")
    assert stem.synops == 2 * 8  # all of two images
    spikes = (IMAGE @ REAL.T > 0.5).float()
    assert body.synops == int(spikes.sum(0) @ torch.tensor([3.0, 2.0, 3.0]))  # weights by column


def test_computed_weights_of_one_shape_are_told_apart_by_their_place():
    def both(image: Tensor, spikes: Tensor) -> Tensor:
        mask = torch.ones(3, 3)
        for _ in range(2):  # a loop passes the same place
            out = F.linear(spikes, REAL * mask)
        return F.linear(image, REAL * mask) + out

    spikes, image = count(Function(both), (IMAGE, SPIKES), (IMAGE, SPIKES)).rows
    assert (spikes.name, spikes.input_kind, spikes.calls) == ("Function", "BINARY", 4)
    assert spikes.synops == 4 * (3 + 3 + 2)  # columns 0, 2 and 1 of the weight
    assert (image.name, image.input_kind, image.calls) == ("Function#2", "REAL", 2)
    assert image.synops == 2 * 16


def test_one_computed_weight_in_two_places_is_two_rows_in_every_call():
    def shared(image: Tensor, spikes: Tensor) -> Tensor:
        weight = REAL * 1
        return F.linear(image, weight) + F.linear(spikes, weight)

    image, spikes = count(Function(shared), *[(IMAGE, SPIKES)] * 3).rows
    assert (image.calls, image.synops, image.input_kind) == (3, 3 * 16, "REAL")
    assert (spikes.calls, spikes.synops, spikes.input_kind) == (3, 3 * 8, "BINARY")


def test_a_parameter_is_one_row_wherever_it_is_used():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(REAL.clone())

        def forward(self, image: Tensor, spikes: Tensor) -> Tensor:
            return F.linear(image, self.w) + F.linear(spikes, self.w)

    (row,) = count(Tied(), (IMAGE, SPIKES)).rows
    assert (row.name, row.calls, row.synops, row.input_kind) == ("w", 2, 24, "REAL")
