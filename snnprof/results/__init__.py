"""Results: frozen dataclasses, base units, ``None`` for every figure that was not measured.

Everything a command prints or writes comes from these. They import nothing of ours but core; the
functions behind :meth:`CountResult.to_frame` and :meth:`CountResult.save` are handed in.
"""

from snnprof.results.coherence import CoherenceResult, CoherenceSweep, LayerCoherence
from snnprof.results.comparison import Compared, Comparison, compare
from snnprof.results.counts import (
    COUNT_COLUMNS,
    SOFTMAX_PRODUCT,
    CountResult,
    LayerCount,
    NeuronRate,
)
from snnprof.results.energy import EnergyResult, EnergyRow, MeasuredEnergy
from snnprof.results.gradients import GradientCount
from snnprof.results.joining import merge
from snnprof.results.modules import MacCheck, MacDifference, ModuleRow
from snnprof.results.report import Cell, Growth, Report, ReportRow
from snnprof.results.steps import InferenceProfile, StepProfile, quartiles
from snnprof.results.summary import Layers, ModelSummary

SCHEMA_VERSION = 3

Result = (
    CoherenceResult
    | CoherenceSweep
    | Comparison
    | CountResult
    | EnergyResult
    | InferenceProfile
    | ModelSummary
    | Report
    | StepProfile
)

__all__ = [
    "COUNT_COLUMNS",
    "SCHEMA_VERSION",
    "SOFTMAX_PRODUCT",
    "ReportRow",
    "Cell",
    "CoherenceResult",
    "CoherenceSweep",
    "Compared",
    "Comparison",
    "CountResult",
    "EnergyResult",
    "EnergyRow",
    "GradientCount",
    "Growth",
    "InferenceProfile",
    "LayerCoherence",
    "LayerCount",
    "Layers",
    "MacCheck",
    "MacDifference",
    "MeasuredEnergy",
    "ModelSummary",
    "ModuleRow",
    "NeuronRate",
    "Report",
    "Result",
    "StepProfile",
    "compare",
    "merge",
    "quartiles",
]
