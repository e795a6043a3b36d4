"""One evaluation of somebody else's trainer: counted, priced, and put together over processes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
import torch.distributed
from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.core.forward_hooks import Hooks
from snnprof.counting.counter import SopCounter
from snnprof.energy.conventions import find_convention
from snnprof.energy.pricing import price
from snnprof.results import CountResult, EnergyResult

FIGURES = ("synops", "firing_rate", "energy_j")


class Evaluation:
    """Counts the evaluations of a trainer, one after another.

    A mistake that is found at the end of an evaluation is a warning, and nothing is logged: it
    must not end a training.

    Args:
        energy: convention to price under.
        options: of :class:`~snnprof.SopCounter`.

    Attributes:
        counts, energy: of the last evaluation, of this process alone; None before it.

    Raises:
        SnnprofError: an unknown convention or option.
    """

    def __init__(self, energy: str, options: Mapping[str, Any]) -> None:
        find_convention(energy)
        try:
            SopCounter(nn.Identity(), **options)
        except TypeError as error:
            raise SnnprofError(f"{error}: give arguments of snnprof.SopCounter") from error
        self.counts: CountResult | None = None
        self.energy: EnergyResult | None = None
        self._table = energy
        self._options = dict(options)
        self._counters: dict[nn.Module, tuple[SopCounter, ExitStack]] = {}
        self._called: set[nn.Module] = set()
        self._chosen: SopCounter | None = None
        self._told: set[str] = set()

    def begin(self, models: Sequence[nn.Module]) -> None:
        """Begin to count: the first of these models that is called."""
        self.close()
        self.forget()
        for model in models:
            with ExitStack() as stack:
                hooks = Hooks()
                stack.callback(hooks.remove)
                hooks.before(model, self._note_call)
                counter = stack.enter_context(SopCounter(model, **self._options))
                self._counters[model] = counter, stack.pop_all()

    def forget(self) -> None:
        """Drop the last evaluation."""
        self.counts = self.energy = None

    def _note_call(self, model: nn.Module, args: object, kwargs: object) -> None:
        self._called.add(model)

    def choose(self) -> None:
        """Keep the counter of the first model that was called, if any was."""
        called = next((model for model in self._counters if model in self._called), None)
        if called is not None and self._chosen is None:
            self._chosen = self._counters[called][0]
            for model in [model for model in self._counters if model is not called]:
                self._counters.pop(model)[1].close()

    def close(self) -> None:
        """Stop counting, and leave nothing on the models."""
        for _, stack in self._counters.values():
            stack.close()
        self._counters, self._called, self._chosen = {}, set(), None

    def end(self, samples: int | None, device: torch.device) -> dict[str, float]:
        """Stop counting; SOPs, firing rate and energy per sample, of all processes together.

        Args:
            samples: that were evaluated in this process; None where that is not known.
            device: where processes exchange numbers.

        Returns:
            What was measured of :data:`FIGURES`; nothing where counting failed in any process.
        """
        self.choose()
        try:
            self._read(samples)
        except SnnprofError as error:
            self._tell(f"SOPs of this evaluation are not logged: {error}")
        finally:
            self.close()
        counts = self.counts
        values = dict.fromkeys(FIGURES, math.nan)
        if counts is not None and self.energy is not None:
            values["synops"] = _known(counts.per_sample("synops"))
            values["firing_rate"] = _known(counts.firing_rate)
            values["energy_j"] = self.energy.total_j
        together = over_processes(values, 0 if counts is None else counts.samples, device)
        return {name: value for name, value in together.items() if math.isfinite(value)}

    def _read(self, samples: int | None) -> None:
        if self._chosen is None:
            raise SnnprofError("the network was never called")
        counts = self._chosen.result(samples)
        energy = price(counts, self._table)
        self.counts, self.energy = counts, energy
        if counts.not_counted:
            names = ", ".join(dict.fromkeys(name for name, _ in counts.not_counted))
            self._tell(f"SOPs are logged without what was not counted: {names}")

    def _tell(self, what: str) -> None:
        """Warn, once of each thing."""
        if what not in self._told:
            self._told.add(what)
            warnings.warn(what, RuntimeWarning, stacklevel=2)


def named(model: nn.Module | str | None, root: nn.Module) -> nn.Module | None:
    """The module of a name in ``root``; what is no name is returned as it is.

    Raises:
        SnnprofError: there is none of that name.
    """
    if not isinstance(model, str):
        return model
    try:
        return root.get_submodule(model)
    except AttributeError as error:
        names = ", ".join(name for name, _ in root.named_children())
        raise SnnprofError(
            f"model={model!r}: {type(root).__name__} has no module of that name; it has {names}"
        ) from error


def over_processes(
    values: Mapping[str, float], samples: int, device: torch.device
) -> dict[str, float]:
    """Figures per sample of all processes together, weighted by their samples.

    Every process must call it; NaN in any of them is NaN in all.
    """
    distributed = torch.distributed
    alone = not (distributed.is_available() and distributed.is_initialized())
    if alone or distributed.get_world_size() == 1:
        return dict(values)
    sums = [samples, *(value * samples for value in values.values())]
    whole = torch.tensor(sums, dtype=torch.float64, device=device)
    distributed.all_reduce(whole)
    total, *figures = whole.tolist()
    return {
        name: figure / total if total else math.nan
        for name, figure in zip(values, figures, strict=True)
    }


def _known(value: float | None) -> float:
    return math.nan if value is None else value
