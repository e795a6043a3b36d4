"""SOPs, firing rate and energy in the metrics of transformers.Trainer."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from snnprof.integrations.evaluation import Evaluation, named
from snnprof.integrations.packages import imported
from snnprof.results import CountResult, EnergyResult

(_transformers,) = imported(("transformers",), "transformers")
_Base: Any = _transformers.TrainerCallback


class SopCallback(_Base):  # type: ignore[misc]
    """Counts every evaluation and prediction of a Trainer: ``eval_synops`` and so on.

    ``synops``, ``firing_rate`` and ``energy_j``, per sample, of all processes together, join the
    metrics before they are logged: they are in the logs, in every reporter, in what
    ``evaluate()`` returns, and may choose the best model. Hooks are on the network during an
    evaluation only.

    Args:
        model: the network, or its name in the Trainer's model. None: the Trainer's model.
        trainer: needed where the callback is added to a Trainer that is made already:
            ``trainer.add_callback(SopCallback(trainer=trainer))``. In
            ``Trainer(callbacks=[...])`` it finds its Trainer itself.
        energy: convention to price under.
        **options: of :class:`~snnprof.SopCounter`: ``layout="time-first"``.

    Attributes:
        counts, energy: :class:`~snnprof.CountResult` and :class:`~snnprof.EnergyResult` of the
            last evaluation, of all processes; None before it, or where counting failed.

    Raises:
        SnnprofError: an unknown convention or option; in the first evaluation, no such module,
            or an input whose samples cannot be read.

    Warns:
        RuntimeWarning: nothing was logged, and why; what was not counted.
    """

    def __init__(
        self,
        model: nn.Module | str | None = None,
        *,
        trainer: Any = None,
        energy: str = "operands",
        **options: Any,
    ) -> None:
        super().__init__()
        self._model = model
        self._evaluation = Evaluation(energy, options)
        self._followed: weakref.WeakSet[Any] = weakref.WeakSet()
        self._follow(trainer)

    @property
    def counts(self) -> CountResult | None:
        return self._evaluation.counts

    @property
    def energy(self) -> EnergyResult | None:
        return self._evaluation.energy

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._follow(_calling_trainer())

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._follow(_calling_trainer())

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self._followed:
            warnings.warn(
                "SOPs of this evaluation were not counted: a callback that is added to a Trainer "
                "which is made already is given it, "
                "add_callback(SopCallback(trainer=trainer))",
                RuntimeWarning,
                stacklevel=2,
            )

    def _follow(self, trainer: Any) -> None:
        """Count around the evaluation loop of this Trainer, from now on."""
        if trainer is not None and trainer not in self._followed:
            self._followed.add(trainer)
            trainer.evaluation_loop = partial(self._evaluate, trainer, trainer.evaluation_loop)

    def _evaluate(self, trainer: Any, loop: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run the loop that evaluates and predicts, and add our metrics to its own."""
        self._evaluation.begin([named(self._model, trainer.model) or trainer.model])
        try:
            output = loop(*args, **kwargs)
        except BaseException:
            self._evaluation.close()
            raise
        # With several processes the number is that of all.
        samples = output.num_samples if trainer.args.world_size == 1 else None
        figures = self._evaluation.end(samples)
        prefix = kwargs.get("metric_key_prefix", "eval")
        output.metrics.update({f"{prefix}_{name}": value for name, value in figures.items()})
        return output


def _calling_trainer() -> Any:
    """The Trainer that calls its callbacks: it hands them everything but itself."""
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, _transformers.Trainer):
            return caller
        frame = frame.f_back  # type: ignore[assignment]
    return None
