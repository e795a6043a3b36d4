"""snnprof: SOPs, energy, training time and memory of spiking neural networks in PyTorch."""

from snnprof import extend, models
from snnprof.coherence.measure import coherence, coherence_sweep
from snnprof.core.environment import version
from snnprof.core.errors import SnnprofError
from snnprof.counting.counter import SopCounter
from snnprof.energy.dense_baseline import break_even_rate
from snnprof.energy.pricing import price
from snnprof.experiment.augmentation import Augmentation, augmented, save_batch_picture
from snnprof.experiment.data_sets import load as load_data
from snnprof.experiment.own_table import report, row
from snnprof.experiment.run import run
from snnprof.experiment.summary import summary
from snnprof.experiment.sweep import sweep
from snnprof.experiment.training import train
from snnprof.profiling.inference import profile_inference
from snnprof.profiling.profile import profile_step, profile_steps
from snnprof.profiling.step_profiler import profile
from snnprof.quantization.batch_norm_folding import fold_batch_norm
from snnprof.quantization.packing import pack, unpack
from snnprof.quantization.quantized_layers import quantize
from snnprof.quantization.size import size_bytes
from snnprof.render.output_files import load, save
from snnprof.results import (
    CoherenceResult,
    CoherenceSweep,
    Comparison,
    CountResult,
    EnergyResult,
    EnergyRow,
    GradientCount,
    InferenceProfile,
    LayerCoherence,
    LayerCount,
    Layers,
    MacCheck,
    ModelSummary,
    ModuleRow,
    NeuronRate,
    Report,
    ReportRow,
    StepProfile,
    compare,
    merge,
)
from snnprof.results.limits import assert_energy_below, assert_peak_below, assert_sops_below
from snnprof.spiking.dense_twin import dense_twin
from snnprof.spiking.neuron import reset
from snnprof.spiking.neuron_equations import NeuronEquations, neuron_ops, register_neuron
from snnprof.spiking.neuron_operations import NeuronOperations
from snnprof.training.step_runner import StepSetup
from snnprof.training.stepped_model import stepwise

__version__ = version()

__all__ = [
    "Augmentation",
    "CoherenceResult",
    "CoherenceSweep",
    "Comparison",
    "CountResult",
    "EnergyResult",
    "EnergyRow",
    "GradientCount",
    "InferenceProfile",
    "LayerCoherence",
    "LayerCount",
    "Layers",
    "MacCheck",
    "ModelSummary",
    "ModuleRow",
    "NeuronEquations",
    "NeuronOperations",
    "NeuronRate",
    "Report",
    "ReportRow",
    "SnnprofError",
    "SopCounter",
    "StepProfile",
    "StepSetup",
    "assert_energy_below",
    "assert_peak_below",
    "assert_sops_below",
    "augmented",
    "break_even_rate",
    "coherence",
    "coherence_sweep",
    "compare",
    "dense_twin",
    "extend",
    "fold_batch_norm",
    "load",
    "load_data",
    "merge",
    "models",
    "neuron_ops",
    "pack",
    "price",
    "profile",
    "profile_inference",
    "profile_step",
    "profile_steps",
    "quantize",
    "register_neuron",
    "report",
    "reset",
    "row",
    "run",
    "save",
    "save_batch_picture",
    "size_bytes",
    "stepwise",
    "summary",
    "train",
    "sweep",
    "unpack",
]
