"""A grid of rows, each run in a process of its own here or by Slurm, and saved for itself."""

from snnprof.experiment.sweep.grid import Grid, read_grid
from snnprof.experiment.sweep.rows import joined
from snnprof.experiment.sweep.sweep import State, states, sweep

__all__ = ["Grid", "State", "joined", "read_grid", "states", "sweep"]
