"""Data sets, as they are handed to the training."""

import pytest
import torch

import snnprof
from snnprof.experiment.data_sets import load


def test_digits_are_split_the_same_way_whatever_the_seed() -> None:
    data, other = load("digits", seed=1), load("digits", seed=2)
    assert (len(data.train_labels), len(data.test_labels)) == (1437, 360)  # 1,797 in all
    assert torch.equal(data.test_images, other.test_images)
    counts = torch.bincount(data.test_labels)
    assert counts.min() >= 34  # stratified: about a tenth of 360 each
    assert data.train_images.shape[1:] == (1, 8, 8)
    assert data.train_images.mean().abs() < 1e-5
    assert data.train_images.std() == pytest.approx(1, abs=1e-5)


def test_images_are_resized() -> None:
    assert load("digits", image_size=32).test_images.shape == (360, 1, 32, 32)
    assert load("random", image_size=16).train_images.shape[1:] == (3, 16, 16)


def test_random_images_follow_the_seed_and_have_no_accuracy() -> None:
    assert torch.equal(load("random", seed=3).train_images, load("random", seed=3).train_images)
    assert not torch.equal(load("random", seed=3).train_images, load("random").train_images)
    assert not load("random").labelled


def test_what_is_refused() -> None:
    with pytest.raises(snnprof.SnnprofError, match="known: cifar10, cifar100, digits, dvs"):
        load("mnist")
    with pytest.raises(snnprof.SnnprofError, match="image_size=0"):
        load("digits", image_size=0)
