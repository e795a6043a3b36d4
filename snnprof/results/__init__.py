"""What was measured: frozen dataclasses, base units, ``None`` for what was not measured.

Everything a command prints or writes comes from these. They import nothing of ours; the
views (:meth:`CountResult.to_frame`, :meth:`CountResult.save`) are fetched when asked for.
"""

from snnprof.results.coherence import CoherenceResult, CoherenceSweep, LayerCoherence
from snnprof.results.counts import COUNT_COLUMNS, SOFTMAX_PRODUCT, CountResult, LayerCount
from snnprof.results.energy import EnergyResult, EnergyRow, MeasuredEnergy
from snnprof.results.report import Growth, Report, ReportRow
from snnprof.results.steps import StepProfile, quartiles

SCHEMA_VERSION = 2

Result = CoherenceResult | CoherenceSweep | CountResult | EnergyResult | Report | StepProfile

__all__ = [
    "COUNT_COLUMNS",
    "SCHEMA_VERSION",
    "SOFTMAX_PRODUCT",
    "ReportRow",
    "CoherenceResult",
    "CoherenceSweep",
    "CountResult",
    "EnergyResult",
    "EnergyRow",
    "Growth",
    "LayerCoherence",
    "LayerCount",
    "MeasuredEnergy",
    "Report",
    "Result",
    "StepProfile",
    "quartiles",
]
