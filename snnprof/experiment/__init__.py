"""An experiment: from what was asked for to a report, one training run per row."""
