"""The pictures of results. Importing this makes all of them known."""

from snnprof.render import coherence_figure, scaling_figure
from snnprof.render.figures import SUFFIXES, check_matplotlib, picture

__all__ = ["SUFFIXES", "check_matplotlib", "coherence_figure", "picture", "scaling_figure"]
