"""How many classes there are."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from snnprof.experiment.class_labels import number_of_classes

FIRST = torch.tensor([0, 1])  # the labels of the first batch


def test_all_labels_tell_it_where_they_lie_in_memory() -> None:
    # torchvision's data sets have a list; 5 is in no first batch: classes 0 to 5 are six
    for targets in ([0, 1, 5], torch.tensor([0, 1, 5])):
        assert number_of_classes(SimpleNamespace(targets=targets), FIRST) == (6, False)
    assert number_of_classes([(None, FIRST)], FIRST) == (2, False)
    assert number_of_classes([(None, FIRST), (None, FIRST + 3)], FIRST) == (5, False)


def test_the_data_sets_own_word_comes_first() -> None:
    assert number_of_classes(SimpleNamespace(classes=["a", "b", "c"]), FIRST) == (3, False)


def test_the_first_batch_alone_is_a_guess() -> None:
    assert number_of_classes(object(), FIRST) == (2, True)


def test_shares_have_a_column_for_each() -> None:
    assert number_of_classes(object(), torch.rand(4, 7)) == (7, False)
    assert number_of_classes(object(), torch.rand(4)) == (1, False)
    assert number_of_classes(object(), None) == (None, False)
