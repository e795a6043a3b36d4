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
    CountResult,
    EnergyResult,
    EnergyRow,
    LayerCoherence,
    LayerCount,
    Report,
)
from snnprof.spiking.neurons import neuron_ops, reset
from snnprof.spiking.size import size_bytes
from snnprof.training.coherence import coherence, coherence_sweep
from snnprof.training.foreign_neurons import NeuronEquations, register_membrane

__all__ = [
    "ArmResult",
    "CoherenceResult",
    "CountResult",
    "EnergyResult",
    "EnergyRow",
    "LayerCoherence",
    "LayerCount",
    "NeuronEquations",
    "Report",
    "SnnprofError",
    "SopCounter",
    "coherence",
    "coherence_sweep",
    "load",
    "models",
    "neuron_ops",
    "price",
    "register_membrane",
    "reset",
    "run",
    "save",
    "size_bytes",
]
