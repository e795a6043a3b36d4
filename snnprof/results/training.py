"""What each epoch of a training came to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: from 1.
        learning_rate: at its first step; None where the optimiser has none.
        train_loss: mean over its training steps, augmentation and label smoothing included.
        test_accuracy: share of test samples classified correctly, after it; None without one.
        firing_rate: of the neurons on the test samples; None where none is known.
        synops: synaptic operations per test sample.
        images_per_s: training samples per second, loading included.
        seconds: of training, without test and saving.
    """

    epoch: int
    learning_rate: float | None
    train_loss: float | None
    test_accuracy: float | None
    firing_rate: float | None
    synops: float | None
    images_per_s: float
    seconds: float


@dataclass(frozen=True)
class TrainingHistory:
    """All epochs of a training, in order."""

    epochs: tuple[EpochRecord, ...]

    @property
    def best(self) -> EpochRecord | None:
        """The first epoch of the highest test accuracy; None where there is no accuracy."""
        measured = [record for record in self.epochs if record.test_accuracy is not None]
        return max(measured, key=lambda record: record.test_accuracy or 0.0, default=None)
