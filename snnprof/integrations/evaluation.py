"""One evaluation of somebody else's trainer: counted, priced, and put together over processes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.core.forward_hooks import Hooks
from snnprof.counting.all_reduce import of_all_processes
from snnprof.counting.counter import SopCounter
from snnprof.energy.conventions import check_of_inference
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
        counts, energy: of the last evaluation, of all processes; None before it.

    Raises:
        SnnprofError: an unknown convention or option, or a convention of training.
    """

    def __init__(self, energy: str, options: Mapping[str, Any]) -> None:
        check_of_inference([energy], "an evaluation")
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
            try:
                stack.close()
            except SnnprofError as error:  # of an evaluation that nobody ended
                self._tell(f"SOPs of this evaluation are not logged: {error}")
        self._counters, self._called, self._chosen = {}, set(), None

    def end(self, samples: int | None) -> dict[str, float]:
        """Stop counting; SOPs, firing rate and energy per sample, of all processes together.

        Every process must call it.

        Args:
            samples: that were evaluated in this process; None where that is not known.

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
        counts, energy = self.counts, self.energy
        if counts is None or energy is None:
            return {}
        values = (counts.per_sample("synops"), counts.firing_rate, energy.total_j)
        figures = zip(FIGURES, values, strict=True)
        return {name: value for name, value in figures if value is not None}

    def _read(self, samples: int | None) -> None:
        chosen = self._chosen

        def read() -> CountResult:
            if chosen is None:
                raise SnnprofError("the network was never called")
            return chosen.result(samples)

        counts = of_all_processes(read, chosen is not None or bool(samples), group=None)
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
