"""Results as tables, files and pictures: one module per format, one per type of result.

Importing any module of this package makes every format and every table known, and hands the
results the functions behind their ``to_frame`` and ``save``.
"""

# The order in which messages and help list the formats.
from snnprof.render import markdown, csv, latex, json, parquet, figures  # isort: skip
from snnprof.render import (
    coherence_figure,
    coherence_table,
    comparison_table,
    count_table,
    energy_table,
    report_table,
    scaling_figure,
    step_table,
)
from snnprof.render.figures_by_name import as_dict
from snnprof.render.operator_table import write_tables
from snnprof.render.output_files import save
from snnprof.render.printed import html, text
from snnprof.render.table import frame
from snnprof.results.base import Views, bind_views

bind_views(
    Views(frame=frame, save=save, trace_tables=write_tables, as_dict=as_dict, text=text, html=html)
)

__all__ = [
    "as_dict",
    "coherence_figure",
    "coherence_table",
    "comparison_table",
    "count_table",
    "csv",
    "energy_table",
    "figures",
    "frame",
    "json",
    "latex",
    "parquet",
    "markdown",
    "report_table",
    "save",
    "scaling_figure",
    "step_table",
    "write_tables",
]
