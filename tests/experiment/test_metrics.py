"""Accuracy by every kind of label, and what has none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import snnprof
from snnprof.experiment.metrics import accuracy, find_metric

# Largest outputs: classes 0, 2, 1.
OUTPUTS = torch.tensor([[3.0, 1.0, 2.0], [0.0, 1.0, 5.0], [1.0, 2.0, 0.0]])


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([0, 2, 0]),  # the first two of three
        torch.tensor([[1, 0, 0], [0, 0, 1], [1, 0, 0]]),
        torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6], [0.6, 0.4, 0.0]]),
    ],
)
def test_two_of_three_are_right(labels: Tensor) -> None:
    assert accuracy(OUTPUTS, labels) == (2, 3)
    metric = find_metric(None, labels, labelled=True)
    assert metric is not None
    assert metric.score(OUTPUTS, labels) == (2, 3)


@pytest.mark.parametrize("shape", [(3, 1), (1,), (1, 3)])
def test_labels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    """[B, 1] was compared with [B] all against all: an accuracy of 200 %."""
    with pytest.raises(snnprof.SnnprofError, match="'accuracy': labels of shape"):
        accuracy(OUTPUTS, torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([[0], [2], [0]]),  # a column
        torch.tensor([[1, 1, 0], [0, 0, 1]]),  # several classes of one sample
        torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        torch.tensor([0.5, 2.0]),
        None,
    ],
)
def test_labels_that_are_no_classes_have_no_accuracy(labels: Tensor | None) -> None:
    assert find_metric(None, labels, labelled=True) is None
    with pytest.raises(snnprof.SnnprofError, match="needs classes, one-hot or soft labels"):
        find_metric("accuracy", labels, labelled=True)
