"""snnprof: SOPs, energy, training time and memory of spiking neural networks in PyTorch."""

from snnprof import models
from snnprof.coherence.measure import coherence, coherence_sweep
from snnprof.coherence.neuron_equations import NeuronEquations, register_membrane
from snnprof.core.errors import SnnprofError
from snnprof.counting.counter import SopCounter
from snnprof.energy.pricing import price
from snnprof.experiment.run import run
from snnprof.profiling.profile import profile_step, profile_steps
from snnprof.quantization.packing import pack, unpack
from snnprof.quantization.quantized_layers import quantize
from snnprof.quantization.size import size_bytes
from snnprof.render.output_files import load, save
from snnprof.results import (
    CoherenceResult,
    CoherenceSweep,
    CountResult,
    EnergyResult,
    EnergyRow,
    LayerCoherence,
    LayerCount,
    Report,
    ReportRow,
    StepProfile,
)
from snnprof.spiking.neurons import neuron_ops, register_neuron_ops, reset
from snnprof.training.adapters import stepwise
from snnprof.training.step_runner import StepSetup

__all__ = [
    "ReportRow",
    "CoherenceResult",
    "CoherenceSweep",
    "CountResult",
    "EnergyResult",
    "EnergyRow",
    "LayerCoherence",
    "LayerCount",
    "NeuronEquations",
    "Report",
    "SnnprofError",
    "SopCounter",
    "StepSetup",
    "StepProfile",
    "coherence",
    "coherence_sweep",
    "load",
    "models",
    "neuron_ops",
    "pack",
    "price",
    "profile_steps",
    "profile_step",
    "quantize",
    "register_membrane",
    "register_neuron_ops",
    "reset",
    "run",
    "save",
    "size_bytes",
    "stepwise",
    "unpack",
]
