"""snnprof: SOPs, energy, training time and memory of spiking neural networks in PyTorch."""

from snnprof import models
from snnprof.counting.counter import SopCounter
from snnprof.energy.pricing import price
from snnprof.errors import SnnprofError
from snnprof.experiment import run
from snnprof.render.files import load, save
from snnprof.results import (
    ArmResult,
    CoherenceResult,
    CoherenceSweep,
    CountResult,
    EnergyResult,
    EnergyRow,
    LayerCoherence,
    LayerCount,
    Report,
    StepProfile,
)
from snnprof.spiking.neurons import neuron_ops, register_neuron_ops, reset
from snnprof.spiking.packing import pack, unpack
from snnprof.spiking.size import size_bytes
from snnprof.spiking.weights import quantize
from snnprof.training.adapters import stepwise
from snnprof.training.coherence import coherence, coherence_sweep
from snnprof.training.foreign_neurons import NeuronEquations, register_membrane
from snnprof.training.step import StepArm, profile_arms, profile_step

__all__ = [
    "ArmResult",
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
    "StepArm",
    "StepProfile",
    "coherence",
    "coherence_sweep",
    "load",
    "models",
    "neuron_ops",
    "pack",
    "price",
    "profile_arms",
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
