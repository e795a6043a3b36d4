"""Epochs as CSV: base units, nothing where nothing was measured."""

from snnprof.render.epoch_table import COLUMNS, epoch_cells, epochs_csv
from snnprof.results.training import EpochRecord, TrainingHistory


def test_a_line_per_epoch_and_empty_cells() -> None:
    record = EpochRecord(1, 0.1, 2.5, None, None, 1_500_000.0, 800.0, 0.5)
    assert epochs_csv(TrainingHistory((record,))).splitlines() == [
        "epoch,learning_rate,train_loss,test_accuracy,firing_rate,synops,images_per_s,seconds",
        "1,0.1,2.5,,,1500000.0,800.0,0.5",
    ]
    cells = dict(zip(COLUMNS, epoch_cells(record), strict=True))
    assert cells["accuracy (%)"] == ""
    assert cells["  SOPs (M)"] == "1.500"


def test_the_best_is_the_first_of_the_highest() -> None:
    accuracies = (0.5, 0.75, None, 0.75, 0.25)
    records = tuple(
        EpochRecord(number, 0.1, 1.0, accuracy, None, None, 1.0, 1.0)
        for number, accuracy in enumerate(accuracies, start=1)
    )
    assert TrainingHistory(records).best is records[1]
    assert TrainingHistory(()).best is None
