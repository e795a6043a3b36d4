"""The pictures of results. Importing this makes all of them known."""

from snnprof.render import coherence_plot, sweep_plot
from snnprof.render.pictures import SUFFIXES, check_matplotlib, picture

__all__ = ["SUFFIXES", "check_matplotlib", "coherence_plot", "picture", "sweep_plot"]
