"""Warm-up, cosine and label smoothing against numbers derived by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

import snnprof
from snnprof.experiment.label_smoothing import check_smoothing, smooth_labels
from snnprof.experiment.learning_rate import warmed_up_cosine
from snnprof.experiment.trainer import Recipe


def test_a_warm_up_of_four_steps_and_a_cosine_over_six() -> None:
    found = [warmed_up_cosine(step, warmup=4, steps=10) for step in range(11)]
    root = math.sqrt(3) / 2  # cos 30 degrees; then 60, 90, 120, 150, 180
    expected = [1 / 4, 2 / 4, 3 / 4, 1, 1, (1 + root) / 2, 3 / 4, 1 / 2, 1 / 4, (1 - root) / 2, 0]
    assert found == pytest.approx(expected, abs=1e-15)


def test_without_a_warm_up_it_is_torchs_cosine() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    ours, theirs = (torch.optim.SGD([parameter], lr=0.1) for _ in range(2))
    schedule = Recipe(2, 8, 0.1).schedule(ours, 20)
    other = CosineAnnealingLR(theirs, 20)
    for _ in range(20):
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
        for optimizer, scheduler in ((ours, schedule), (theirs, other)):
            optimizer.step()
            scheduler.step()


def test_the_warm_up_is_a_share_of_the_steps() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = Recipe(10, 8, 0.1, warmup_epochs=2).schedule(optimizer, 50)  # 5 steps an epoch
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:10] == pytest.approx([0.1 * step / 10 for step in range(1, 11)])
    assert rates[10] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"warmup_epochs": 2}, "fewer than the 2 epochs"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"momentum": 0.0}, "nesterov=False"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        Recipe(2, 8, 0.1, **wrong)


def test_smoothed_classes() -> None:
    found = smooth_labels(torch.tensor([2, 0]), 0.1, 4)
    # 0.1 / 4 = 0.025 everywhere, and 0.9 more on the class
    expected = [[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_smoothing_is_torchs_and_commutes_with_mixing() -> None:
    torch.manual_seed(0)
    outputs, labels = torch.randn(6, 5), torch.randint(0, 5, (6,))
    ours = F.cross_entropy(outputs, smooth_labels(labels, 0.2, 5))
    torch.testing.assert_close(ours, F.cross_entropy(outputs, labels, label_smoothing=0.2))
    one_hot = F.one_hot(labels, 5).float()
    mixed = 0.3 * one_hot + 0.7 * one_hot.flip(0)
    smooth = smooth_labels(labels, 0.2, 5)
    torch.testing.assert_close(smooth_labels(mixed, 0.2, 5), 0.3 * smooth + 0.7 * smooth.flip(0))


def test_labels_that_are_no_classes_are_refused() -> None:
    with pytest.raises(snnprof.SnnprofError, match="must be 0 or more, and below 1"):
        check_smoothing(1.0)
    with pytest.raises(snnprof.SnnprofError, match=r"labels are \(3, 2\); it needs classes"):
        smooth_labels(torch.zeros(3, 2), 0.1, 10)
