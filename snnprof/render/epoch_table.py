"""A training's epochs as CSV, and as lines while it runs."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, fields

from snnprof.render.number_format import number, percent, scaled
from snnprof.results.training import EpochRecord, TrainingHistory

MEGA = 1e6
COLUMNS = (
    " epoch", "learning rate", "      loss", "accuracy (%)", "firing rate (%)", "  SOPs (M)",
    "  images/s", "         s",
)  # fmt: skip


def epochs_csv(history: TrainingHistory) -> str:
    """A line per epoch, in base units; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(EpochRecord)])
    writer.writerows(astuple(record) for record in history.epochs)
    return text.getvalue()


def epoch_cells(record: EpochRecord) -> tuple[str, ...]:
    """The cells of one epoch, under :data:`COLUMNS`."""
    return (
        str(record.epoch),
        number(record.learning_rate),
        number(record.train_loss),
        percent(record.test_accuracy),
        percent(record.firing_rate),
        scaled(record.synops, MEGA),
        number(record.images_per_s),
        number(record.seconds),
    )
