"""``--baseline``: the dense network that a table of spiking networks is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from snnprof.core.errors import SnnprofError, known
from snnprof.core.registry import Registry
from snnprof.energy.conventions import of_inference
from snnprof.energy.dense_baseline import DENSE, dense_beside
from snnprof.experiment.model_source import ModelSource, find_builder
from snnprof.quantization.quantised_twin import activation_bits, quantised_twin
from snnprof.spiking.dense_twin import dense_twin
from snnprof.training.stepped_model import SteppedModel

TIMESTEPS = 1


@dataclass(frozen=True)
class Twin:
    """A dense network made from the spiking one.

    Attributes:
        make: from the spiking network and its T to the twin.
        neuron: what stands in the place of neurons, by T of the spiking network, for the table.
        weights: likewise.
        words: both in words.
        precision: at which alone its arithmetic has a price; None for any.
    """

    make: Callable[[nn.Module, int], nn.Module]
    neuron: Callable[[int], str]
    weights: str
    words: Callable[[int], str]
    precision: str | None = None


@dataclass(frozen=True)
class Baseline:
    """What makes the network of the dense row.

    Attributes:
        source: the function.
        twin: what it is of the spiking network; None for a network of the user's own.
    """

    source: ModelSource
    twin: Twin | None = None


BASELINES: Registry[Twin] = Registry("baseline")
BASELINES.register("dense")(
    Twin(
        lambda model, timesteps: dense_twin(model),
        lambda timesteps: "relu",
        "fp32",
        lambda timesteps: "ReLU in the place of its neurons, in full precision",
    )
)
BASELINES.register("quantised")(
    Twin(
        quantised_twin,
        lambda timesteps: f"relu+{activation_bits(timesteps)}bit",
        "8bit",
        lambda timesteps: (
            f"a ReLU of {activation_bits(timesteps)} bits, ceil(log2(T + 1)), in the place of its "
            "neurons, and 8-bit weights, their MACs priced as 8-bit ones"
        ),
        "int8",
    )
)


def find_baseline(
    given: str | Callable[..., Any] | None,
    source: ModelSource,
    variants: Mapping[str, Any],
    timesteps: Sequence[int],
    energy: Sequence[str],
) -> Baseline | None:
    """What makes the network of the dense row; None where none was asked for.

    Args:
        given: a name of :data:`BASELINES`, ``package.module:function``, or a function, as of
            :func:`~snnprof.experiment.model_source.find_builder`.
        source: makes the spiking network.
        variants: of the network.
        timesteps: every T that was asked for.
        energy: the conventions that were asked for.

    Raises:
        SnnprofError: an unknown baseline, a network that joins spikes by logic, several T or a
            precision that the baseline is not of.
    """
    if given is None:
        return None
    if not isinstance(given, str) or ":" in given:
        found = find_builder(given, "baseline")
        if found.name == source.name:
            raise SnnprofError(
                f"baseline {found.name!r} is the model itself: give the function that makes a "
                "dense network, or 'dense'"
            )
        return Baseline(found)
    twin = find_twin(given, timesteps, energy)
    if source.ours and variants.get("connect", "add") != "add":
        raise SnnprofError(
            f"baseline {given!r}: connect={variants['connect']} joins spikes of 0 and 1 by logic, "
            "which a dense network has none of: give package.module:function"
        )
    return Baseline(source.remade(_maker(given, twin, source, timesteps[0])), twin)


def find_twin(name: str, timesteps: Sequence[int], energy: Sequence[str]) -> Twin:
    """The twin of that name.

    Raises:
        SnnprofError: an unknown name, several T or a precision that the twin is not of.
    """
    if name not in BASELINES:
        error = known("baseline", name, BASELINES)
        raise SnnprofError(f"{error}; or a function of your own, package.module:function")
    twin = BASELINES[name]
    if twin.precision is not None:
        _check_precision(name, twin.precision, timesteps, energy)
    return twin


def _check_precision(
    name: str, precision: str, timesteps: Sequence[int], energy: Sequence[str]
) -> None:
    if len(timesteps) > 1:
        raise SnnprofError(f"baseline {name!r} has its bits by T: give one timesteps")
    if any(dense_beside(each) != f"{DENSE}+{precision}" for each in of_inference(energy)):
        raise SnnprofError(
            f"baseline {name!r} has a price at {precision} alone: price every row at it "
            f"(--precision {precision}, energy='operands+{precision}')"
        )


def _maker(
    name: str, twin: Twin, source: ModelSource, timesteps: int
) -> Callable[..., nn.Module | SteppedModel]:
    def make(**settings: Any) -> nn.Module:
        built = source(**settings)
        if isinstance(built, SteppedModel):
            raise SnnprofError(
                f"baseline {name!r}: the builder returns snnprof.stepwise(...), whose functions "
                "run the spiking network: give package.module:function"
            )
        try:
            return twin.make(built, timesteps)
        except SnnprofError as error:
            raise SnnprofError(f"baseline {name!r}: {error}") from error

    return make
