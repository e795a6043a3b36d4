"""Figures of merit on the test samples: accuracy, or a function of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from snnprof.core.error_line import of_the_users
from snnprof.core.errors import SnnprofError, known
from snnprof.experiment.own_function import find_function, name_of
from snnprof.render.report_table import our_columns
from snnprof.training.losses import is_indicator, is_one_hot

_IGNORED = -100  # a label that torch's cross-entropy leaves out
ACCURACY, NONE = "accuracy", "none"
# (outputs summed over time [B, ...], labels) -> sum over what is counted, and how many those are
Score = Callable[[Tensor, Any], tuple[float, int]]


@dataclass(frozen=True)
class Metric:
    """A figure of merit.

    Attributes:
        name: its column.
        score: of one batch.
        note: what has to be said of it.
    """

    name: str
    score: Score
    note: str | None = None


def find_metric(
    given: str | Callable[..., Any] | None, labels: Any, labelled: bool
) -> Metric | None:
    """The metric that was asked for; None for none.

    Args:
        given: "accuracy", "none", ``package.module:function``, or a function of the outputs
            summed over time, [B, ...], and labels, to their mean over the batch; None for
            accuracy where the labels are classes.
        labels: of the first batch.
        labelled: whether they mean anything.

    Raises:
        SnnprofError: an unknown name; accuracy of what are no classes.
    """
    given = named_metric(given)
    if given == NONE or (given in (None, ACCURACY) and not labelled):
        return None
    if given is None or given == ACCURACY:
        note = _kind_of_classes(labels)
        if note is None and given == ACCURACY:
            raise SnnprofError(
                "metric 'accuracy' needs classes, one-hot or soft labels: give metric='none' or a "
                "function of outputs and labels (--metric package.module:function)"
            )
        return None if note is None else Metric(ACCURACY, accuracy, note or None)
    assert callable(given), "every other name is refused"
    name = name_of(given)
    return Metric(name, _mean_by(given, name), f"{name}: its mean over the test samples")


def named_metric(given: str | Callable[..., Any] | None) -> str | Callable[..., Any] | None:
    """The function that ``package.module:function`` names; "accuracy" and "none" as they are.

    Raises:
        SnnprofError: an unknown name, no function, or one that has the name of a column of ours.
    """
    if given in (None, ACCURACY, NONE):
        return given
    if isinstance(given, str):
        if ":" not in given:
            raise known("metric", given, (ACCURACY, NONE, "package.module:function"))
        given = find_function("metric", given)
    if not callable(given):
        raise SnnprofError(f"metric={given!r}: give 'accuracy', 'none' or a function")
    if (name := name_of(given)) in our_columns():
        raise SnnprofError(f"metric {name!r} has the name of a column of ours: rename the function")
    return given


def _kind_of_classes(labels: Any) -> str | None:
    """What is said of an accuracy by these labels, maybe nothing; None: they are no classes."""
    if not isinstance(labels, Tensor):
        return None
    whole = not labels.is_floating_point()
    if whole and labels.dim() == 2 and not is_one_hot(labels):
        several = labels.shape[1] > 1 and not is_indicator(labels)
        return "Accuracy: share of positions, by dense labels" if several else None
    if whole and labels.dim() != 2:
        return "Accuracy: share of pixels, by dense labels" if labels.dim() > 2 else ""
    shares = labels.dim() == 2 and labels.shape[1] > 1 and bool((labels >= 0).all())
    # Several classes of one sample, [1, 1, 0], are no shares: none of them is the right one.
    if not shares or not bool(((labels.sum(1) - 1).abs() < 1e-3).all()):
        return None
    return "" if whole else "Accuracy: by the largest of each sample's soft labels"


def accuracy(outputs: Tensor, labels: Tensor) -> tuple[float, int]:
    """Labels whose class has the largest output, and how many labels there are.

    Args:
        outputs: summed over time, [B, classes] or [B, classes, H, W].
        labels: classes [B] or [B, H, W], or shares [B, classes].

    Raises:
        SnnprofError: labels of another shape.
    """
    if labels.shape == outputs.shape:
        labels = labels.argmax(1)
    largest = outputs.argmax(1)
    if labels.shape != largest.shape:  # torch would compare every sample with every label
        raise SnnprofError(
            f"metric 'accuracy': labels of shape {tuple(labels.shape)} for outputs of shape "
            f"{tuple(outputs.shape)}: give one class per sample, or metric='none'"
        )
    counted = labels != _IGNORED
    classes, known = outputs.shape[1], labels[counted]
    if known.numel() and not 0 <= int(known.min()) <= int(known.max()) < classes:
        raise SnnprofError(
            f"test labels go from {int(known.min())} to {int(known.max())}: the network has "
            f"classes 0 to {classes - 1}"
        )
    return int((largest == labels)[counted].sum()), known.numel()


def _mean_by(function: Callable[..., Any], name: str) -> Score:
    def score(outputs: Tensor, labels: Any) -> tuple[float, int]:
        found = of_the_users(f"metric {name!r} failed", partial(function, outputs, labels))
        if isinstance(found, Tensor) and found.numel() == 1:
            found = found.item()
        if not isinstance(found, int | float):
            raise SnnprofError(
                f"metric {name!r} returned a {type(found).__name__}: a number is needed, the mean "
                "over the batch"
            )
        return found * len(outputs), len(outputs)

    return score
