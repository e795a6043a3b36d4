"""Each kind of result as a table. Importing this makes all of them known."""

from snnprof.render import coherence_views, counts, energy, report, steps
from snnprof.render.table import View, frame, records, view

__all__ = [
    "View",
    "coherence_views",
    "counts",
    "energy",
    "frame",
    "records",
    "report",
    "steps",
    "view",
]
