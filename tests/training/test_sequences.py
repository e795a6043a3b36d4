"""Where T stands in a batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import snnprof
from snnprof.training.sequences import as_sequence


def labels(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.long)


@pytest.mark.parametrize(
    ("shape", "batch", "timesteps", "expected"),
    [
        ((4, 9), 4, 3, (3, 4, 9)),
        ((4, 1, 8, 8), 4, 3, (3, 4, 1, 8, 8)),
        ((4, 7, 9), 4, 3, (3, 4, 7, 9)),  # tokens: the second dimension is not T
        ((4, 3, 9), 4, 3, (3, 4, 9)),  # [B, T, features]
        ((3, 4, 9), 4, 3, (3, 4, 9)),
        ((3, 4, 2, 8, 8), 4, None, (3, 4, 2, 8, 8)),
        ((4, 3, 2, 8, 8), 4, None, (3, 4, 2, 8, 8)),
        ((2, 2, 16), 2, 3, (3, 2, 2, 16)),  # as many channels as samples: T is another number
    ],
)
def test_by_the_labels(
    shape: tuple[int, ...], batch: int, timesteps: int | None, expected: tuple[int, ...]
) -> None:
    assert as_sequence(torch.zeros(shape), labels(batch), timesteps).shape == expected


def test_the_values_follow() -> None:
    events = torch.arange(2 * 3 * 1 * 1 * 1).reshape(2, 3, 1, 1, 1)  # B = 2, T = 3
    sequence = as_sequence(events, labels(2), None)
    assert sequence.flatten(1).tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    ("layout", "first_step"), [("time-first", [0, 1]), ("batch-first", [0, 2])]
)
def test_t_equal_to_b_needs_a_layout(layout: str, first_step: list[int]) -> None:
    events = torch.arange(4).reshape(2, 2, 1, 1, 1)
    with pytest.raises(snnprof.SnnprofError, match=r"T and B are alike.*another batch size"):
        as_sequence(events, labels(2), 2, "auto")
    assert as_sequence(events, labels(2), 2, layout)[0].flatten().tolist() == first_step


def test_a_layout_of_images_makes_images_of_volumes() -> None:
    assert as_sequence(torch.zeros(4, 5, 2, 8, 8), labels(4), 3, "inside").shape[:2] == (3, 4)


def test_without_labels() -> None:
    assert as_sequence(torch.zeros(5, 2, 8, 8), None, 3).shape == (3, 5, 2, 8, 8)
    assert as_sequence(torch.zeros(3, 5, 2, 8, 8), None, 3).shape == (3, 5, 2, 8, 8)
    assert as_sequence(torch.zeros(5, 3, 2, 8, 8), None, 3).shape == (3, 5, 2, 8, 8)


@pytest.mark.parametrize(
    ("x", "batch", "timesteps", "message"),
    [
        (torch.zeros(4, 9), 4, None, "give timesteps=T"),
        (torch.zeros(5, 4, 9), 4, 3, "timesteps=3, but the sequence has 5"),
        (
            torch.zeros(4, 5, 2, 8, 8),
            4,
            3,
            r"has 5: inputs of shape \(4, 5, 2, 8, 8\) are read as \[B, T.*images repeated",
        ),
        (torch.zeros(5, 9), 4, 3, r"shape \(5, 9\) with 4 labels"),
        (torch.zeros(0, 9), 0, 3, "an empty batch"),
        ([1, 2], 2, 3, "inputs are a list"),
    ],
)
def test_what_does_not_fit(x: Tensor, batch: int, timesteps: int | None, message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        as_sequence(x, labels(batch), timesteps)


def test_labels_that_begin_with_time() -> None:
    """T was taken for B: sequences became T images of B rows."""
    x, y = torch.zeros(10, 6, 9), torch.zeros(10, 6, 2)
    with pytest.raises(snnprof.SnnprofError, match="labels begin with B, and these seem to begin"):
        as_sequence(x, y, 10)
    assert as_sequence(x.transpose(0, 1), y.transpose(0, 1), 10).shape == (10, 6, 9)
    assert as_sequence(x, y, 4).shape == (4, 10, 6, 9)  # images of rows, with as many labels
