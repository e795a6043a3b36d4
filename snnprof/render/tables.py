"""Each kind of result as a table. Importing this makes all of them known."""

from snnprof.render import coherence_table, count_table, energy_table, report_table, step_table
from snnprof.render.table import View, frame, records, view

__all__ = [
    "View",
    "coherence_table",
    "count_table",
    "energy_table",
    "frame",
    "records",
    "report_table",
    "step_table",
    "view",
]
