"""SOPs, firing rate and energy in the logs of Lightning."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.integrations.evaluation import Evaluation, named
from snnprof.integrations.packages import imported
from snnprof.results import CountResult, EnergyResult

# The same framework under two names, installed together: each trainer wants its own kind.
_PACKAGES = imported(("lightning.pytorch", "pytorch_lightning"), "lightning")
_BASES: Any = tuple(package.Callback for package in _PACKAGES)


def samples_in(batch: Any) -> int | None:
    """Samples of a batch (x, y), by its labels; None where they tell nothing."""
    labels = batch[-1] if isinstance(batch, list | tuple) and len(batch) > 1 else None
    return len(labels) if isinstance(labels, Tensor) and labels.dim() else None


class SopCallback(*_BASES):  # type: ignore[misc]
    """Counts in validation and test, and logs ``synops``, ``firing_rate`` and ``energy_j``.

    Per sample, once per epoch, of all devices together. The sanity check is counted to find
    mistakes before the training, and not logged. Hooks are on the network during an evaluation
    only.

    Args:
        model: the network, or its name in the LightningModule. None: the LightningModule, if
            its ``forward`` is called; else its only child with parameters.
        energy: convention to price under.
        step: also log the training step's time, ``step_s`` (median of the epoch, without
            loading), and on a GPU its ``peak_bytes``.
        prefix: of the names in the log: ``"snn/"``.
        samples: from a batch to its number of samples, to be compared with what was counted;
            None is a result too, for not known.
        clock: seconds.
        **options: of :class:`~snnprof.SopCounter`: ``layout="time-first"``.

    Attributes:
        counts, energy: :class:`~snnprof.CountResult` and :class:`~snnprof.EnergyResult` of the
            last evaluation, of all processes; None before it, or where counting failed.

    Raises:
        SnnprofError: an unknown convention or option; at the start, no such module; in the
            first evaluation, an input whose samples cannot be read.

    Warns:
        RuntimeWarning: nothing was logged, and why; what was not counted.
    """

    def __init__(
        self,
        model: nn.Module | str | None = None,
        *,
        energy: str = "operands",
        step: bool = False,
        prefix: str = "",
        samples: Callable[[Any], int | None] = samples_in,
        clock: Callable[[], float] = time.perf_counter,
        **options: Any,
    ) -> None:
        super().__init__()
        self._model = model
        self._evaluation = Evaluation(energy, options)
        self._step = step
        self._prefix = prefix
        self._samples_of = samples
        self._clock = clock
        self._seen: int | None = 0
        self._begun = 0.0
        self._times: list[float] = []

    @property
    def counts(self) -> CountResult | None:
        return self._evaluation.counts

    @property
    def energy(self) -> EnergyResult | None:
        return self._evaluation.energy

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._networks(pl_module)  # a name that is not there is found before anything runs
        if self._step and stage == "fit" and trainer.strategy.root_device.type != "cuda":
            warnings.warn(
                "peak_bytes is not logged: this callback measures it on a GPU only; "
                "snnprof.profile_step measures it on the CPU too",
                RuntimeWarning,
                stacklevel=2,
            )

    def _networks(self, pl_module: nn.Module) -> Sequence[nn.Module]:
        """The modules of which the first that is called is counted."""
        given = named(self._model, pl_module)
        if given is not None:
            return [given]
        networks = [m for m in pl_module.children() if next(m.parameters(), None) is not None]
        return [pl_module, *networks] if len(networks) == 1 else [pl_module]

    def _begin(self, trainer: Any, pl_module: Any) -> None:
        self._seen = 0
        self._evaluation.begin(self._networks(pl_module))

    def _batch_end(self, batch: Any) -> None:
        self._evaluation.choose()
        samples = self._samples_of(batch)
        known = samples is not None and self._seen is not None
        self._seen = self._seen + samples if known else None  # type: ignore[operator]

    def _end(self, trainer: Any, pl_module: Any) -> None:
        figures = self._evaluation.end(self._seen)
        if trainer.sanity_checking:  # counted so that mistakes are found before the training
            self._evaluation.forget()
            return
        for name, value in figures.items():
            pl_module.log(self._prefix + name, value, sync_dist=True)

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin(trainer, pl_module)

    def on_test_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin(trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *places: int, **named: int
    ) -> None:
        self._batch_end(batch)

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *places: int, **named: int
    ) -> None:
        self._batch_end(batch)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._end(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._end(trainer, pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._evaluation.close()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._evaluation.close()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._times = []
        if self._step and trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(trainer.strategy.root_device)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
        if self._step:
            self._begun = self._now(trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
        if self._step:
            self._times.append(self._now(trainer) - self._begun)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self._times:
            median = statistics.median(self._times)
            pl_module.log(f"{self._prefix}step_s", median, sync_dist=True)
            device = trainer.strategy.root_device
            if device.type == "cuda":
                peak = float(torch.cuda.max_memory_allocated(device))
                pl_module.log(f"{self._prefix}peak_bytes", peak, sync_dist=True, reduce_fx="max")

    def _now(self, trainer: Any) -> float:
        """Seconds, when the GPU has done what it was told."""
        device = trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return self._clock()
