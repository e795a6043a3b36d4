"""Losses by hand, and targets of every kind."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import snnprof
from snnprof.training.losses import (
    LOSSES,
    Loss,
    check_classes,
    cross_entropy,
    find_loss,
    of_the_sum_by,
    output_dims,
)

# T = 2, B = 1, 2 classes: odds of 3 to 1, then of 1 to 1.
OUTPUTS = torch.tensor([[[math.log(3.0), 0.0]], [[0.0, 0.0]]], dtype=torch.float64)
FIRST = torch.tensor([0])


def test_sum_step_and_tet_by_hand() -> None:
    # The outputs' sum has odds of 3 to 1 as well: p = 3/4.
    assert LOSSES["sum"](OUTPUTS, FIRST).item() == pytest.approx(-math.log(3 / 4))
    per_step = (-math.log(3 / 4) - math.log(1 / 2)) / 2
    assert LOSSES["step"](OUTPUTS, FIRST).item() == pytest.approx(per_step)
    # Square distances from 1: (log 3 - 1)^2, and three times (0 - 1)^2, of four numbers.
    distance = ((math.log(3) - 1) ** 2 + 3) / 4
    expected = 0.999 * per_step + 0.001 * distance
    assert LOSSES["tet"](OUTPUTS, FIRST).item() == pytest.approx(expected)


def test_the_published_loss_of_ottt_by_hand() -> None:
    # (0.95 CE + 0.05 MSE) / T, summed over time. CE: -log(3/4), then log 2. MSE to (1, 0): of
    # (log 3, 0), then of (0, 0): (log 3 - 1)^2 / 2 and 1 / 2.
    steps = [
        0.95 * -math.log(3 / 4) + 0.05 * (math.log(3) - 1) ** 2 / 2,
        0.95 * math.log(2) + 0.05 / 2,
    ]
    loss = find_loss("ottt")
    assert loss(OUTPUTS, FIRST).item() == pytest.approx(sum(steps) / 2, rel=1e-12)
    assert [loss.at_step(x, FIRST).item() for x in OUTPUTS] == pytest.approx(steps, rel=1e-12)
    # Soft labels (0.8, 0.2), of smoothing or Mixup, on (0, 0): log 2 whatever they are, and
    # MSE (0.64 + 0.04) / 2. Whole one-hot labels are classes.
    soft = loss.at_step(OUTPUTS[1], torch.tensor([[0.8, 0.2]]))
    assert soft.item() == pytest.approx(0.95 * math.log(2) + 0.05 * 0.34, rel=1e-7)
    one_hot = loss(OUTPUTS, torch.tensor([[1, 0]]))
    assert one_hot.item() == pytest.approx(sum(steps) / 2, rel=1e-12)
    dense = loss(OUTPUTS.view(2, 1, 2, 1, 1), torch.tensor([[[0]]]))  # [B, H, W]
    assert dense.item() == pytest.approx(sum(steps) / 2, rel=1e-12)


def test_mse_by_hand() -> None:
    # Averages log(3)/2 and 0, against 1 and 0.
    expected = (math.log(3) / 2 - 1) ** 2 / 2
    assert LOSSES["mse"](OUTPUTS, FIRST).item() == pytest.approx(expected)
    assert LOSSES["mse"](OUTPUTS, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(expected)
    one_value = torch.tensor([[[2.0]], [[4.0]]])  # regression: [T, B, 1] against [B]
    assert LOSSES["mse"](one_value, torch.tensor([1.0])).item() == 4.0  # (3 - 1)^2
    with pytest.raises(snnprof.SnnprofError, match=r"targets of shape \(3,\) for .*\(1, 2\)"):
        LOSSES["mse"](OUTPUTS, torch.zeros(3))


@pytest.mark.parametrize("name", LOSSES)
def test_one_time_step_is_a_sequence_of_one(name: str) -> None:
    loss = find_loss(name)
    logits = torch.randn(4, 3, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 1])
    assert loss.at_step(logits, y).item() == pytest.approx(loss(logits.unsqueeze(0), y).item())


def test_labels_of_every_kind() -> None:
    logits = torch.randn(2, 3, dtype=torch.float64)
    classes = torch.tensor([2, 0])
    one_hot = F.one_hot(classes, 3)
    assert cross_entropy(logits, classes) == cross_entropy(logits, one_hot)  # whole numbers
    assert cross_entropy(logits, classes) == cross_entropy(logits, one_hot.double())
    soft = 0.7 * one_hot + 0.3 * one_hot.flip(0)  # mixup
    by_hand = 0.7 * cross_entropy(logits, classes) + 0.3 * cross_entropy(logits, classes.flip(0))
    torch.testing.assert_close(cross_entropy(logits, soft), by_hand)
    dense = torch.randn(2, 3, 4, 5)
    labels = torch.randint(0, 3, (2, 4, 5))
    assert cross_entropy(dense, labels) == F.cross_entropy(dense, labels)
    steps = torch.randn(2, 2, 3, 4, 5)
    mean = (F.cross_entropy(steps[0], labels) + F.cross_entropy(steps[1], labels)) / 2
    torch.testing.assert_close(LOSSES["step"](steps, labels), mean)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 2]), "y goes from 0 to 2: the network has classes 0 to 1"),
        (torch.tensor([0, -1]), "y goes from -1 to 0"),
        (torch.tensor([0, 1, 1]), r"y of shape \(3,\).*2 class numbers"),
        (torch.tensor([0.0, 1.0]), r"y of shape \(2,\) \(torch.float32\)"),
    ],
)
def test_classes_that_the_network_does_not_have(y: Tensor, message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        check_classes(torch.zeros(4, 2, 2), y)


def test_a_function_of_ones_own() -> None:
    def hinge(outputs: Tensor, y: Tensor) -> Tensor:
        return (1 - outputs.gather(1, y[:, None])).clamp(min=0).mean()

    loss = find_loss(hinge)
    assert loss.own
    assert loss.name.endswith("hinge")
    summed = OUTPUTS.sum(0)
    assert loss(OUTPUTS, FIRST) == hinge(summed, FIRST)
    assert loss.at_step(OUTPUTS[0], FIRST) == hinge(OUTPUTS[0], FIRST)
    whole = Loss("last", lambda outputs, y: outputs[-1].sum())
    assert find_loss(whole) is whole
    assert whole(OUTPUTS, FIRST) == 0
    assert whole.at_step(OUTPUTS[0], FIRST).item() == pytest.approx(math.log(3))


def test_what_is_no_loss() -> None:
    with pytest.raises(snnprof.SnnprofError, match="; known: mse, ottt, step, sum, tet"):
        find_loss("hinge")
    with pytest.raises(snnprof.SnnprofError, match="loss=3: give a name"):
        find_loss(3)  # type: ignore[arg-type]


def test_a_module_is_named_by_its_class() -> None:
    assert of_the_sum_by(torch.nn.CrossEntropyLoss()).name.endswith(":CrossEntropyLoss")


@pytest.mark.parametrize(
    ("target", "dims"),
    [
        (torch.tensor([0, 2]), (1,)),
        (torch.tensor([[0, 1, 0], [1, 0, 0]]), (1,)),  # one-hot
        (torch.tensor([[0.2, 0.8], [1.0, 0.0]]), (1,)),
        (torch.tensor([[0, 2, 1], [1, 0, 0]]), (1, 2)),  # classes of three positions
        (torch.tensor([[0, 1, 1], [1, 0, 0]]), (1, 2)),  # several classes of a sample
        (torch.zeros(2, 8, 8, dtype=torch.long), (3,)),
        (torch.zeros(2, 3, 8, 8), (3,)),
    ],
)
def test_labels_tell_the_dimensions_of_outputs(target: Tensor, dims: tuple[int, ...]) -> None:
    assert output_dims(target) == dims
