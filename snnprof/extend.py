"""Every registry that you can add to, under one import.

Each name is a decorator, or a function that returns one; a name that is taken raises ValueError.
What is registered takes effect at once, in every counter, run and report that starts afterwards.
A module that ``--model package.module:function`` names is imported first, so that the command
knows what it registers. docs/extending.md has a working example of each.
"""

from snnprof.counting.linear_ops import Argument, linear_operation
from snnprof.counting.products import Product, product
from snnprof.energy.conventions import energy_convention
from snnprof.experiment.augmentation.step import STEPS
from snnprof.experiment.augmentation.step import Step as AugmentationStep
from snnprof.experiment.data_sets import DATA_SETS, Dataset
from snnprof.experiment.own_data import Loading
from snnprof.quantization.codecs import (
    CODECS,
    Codec,
    pack_bits,
    pack_trits,
    unpack_bits,
    unpack_trits,
)
from snnprof.quantization.quantizers import SCHEMES, Scheme
from snnprof.quantization.size import ACCOUNTINGS
from snnprof.render.output_formats import output_format
from snnprof.spiking.neuron import Neuron
from snnprof.spiking.neuron_equations import (
    NeuronCall,
    NeuronEquations,
    equations_of_class,
    register_neuron,
)
from snnprof.spiking.neuron_registry import NEURONS
from snnprof.spiking.surrogates import SURROGATES
from snnprof.training.adapters import ADAPTERS
from snnprof.training.batch_run import BatchRun
from snnprof.training.losses import LOSSES
from snnprof.training.modes import FAMILIES, MODES
from snnprof.training.stepped_model import SteppedModel

adapter = ADAPTERS.register
augmentation_step = STEPS.register
data_set = DATA_SETS.register
loss = LOSSES.register
mode_family = FAMILIES.register
neuron = NEURONS.register
neuron_equations = register_neuron
neuron_equations_by_name = equations_of_class
size_accounting = ACCOUNTINGS.register
surrogate = SURROGATES.register
training_mode = MODES.register
weight_codec = CODECS.register
weight_scheme = SCHEMES.register

__all__ = [
    "Argument",
    "AugmentationStep",
    "BatchRun",
    "Codec",
    "Dataset",
    "Loading",
    "Neuron",
    "NeuronCall",
    "NeuronEquations",
    "Product",
    "Scheme",
    "SteppedModel",
    "adapter",
    "augmentation_step",
    "data_set",
    "energy_convention",
    "linear_operation",
    "loss",
    "mode_family",
    "neuron",
    "neuron_equations",
    "neuron_equations_by_name",
    "output_format",
    "pack_bits",
    "pack_trits",
    "product",
    "size_accounting",
    "surrogate",
    "training_mode",
    "unpack_bits",
    "unpack_trits",
    "weight_codec",
    "weight_scheme",
]
