"""Counting in one line, and models of one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.counting.counter import SopCounter
from snnprof.results import CountResult, LayerCount


def count(model: nn.Module, *calls: Tensor | tuple[Any, ...], **options: Any) -> CountResult:
    """The counts of calls of the model, each with one input or a tuple of several."""
    with SopCounter(model, **options) as counter:
        for inputs in calls:
            model(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    return counter.result()


def count_row(model: nn.Module, *calls: Tensor | tuple[Any, ...], **options: Any) -> LayerCount:
    """The one row of such counts."""
    (row,) = count(model, *calls, **options).rows
    return row


class Function(nn.Module):
    """A model that is one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


class Loop(nn.Module):
    """A layer that runs once per time step of a [T, ...] input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layer(step) for step in x])
