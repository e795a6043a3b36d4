"""Rows of a comparison, side by side."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from snnprof.results.base import Numbered
from snnprof.results.counts import CountResult
from snnprof.results.energy import EnergyResult, MeasuredEnergy
from snnprof.results.modules import ModuleRow
from snnprof.results.steps import InferenceProfile, StepProfile

# A cell of a user's own column; None is an empty one.
Cell = str | int | float | None


@dataclass(frozen=True)
class ReportRow:
    """One model trained in one mode, or only counted (``epochs`` 0), by us or somebody else.

    Attributes:
        model: its name, with options: ``"sew_resnet18+connect=iand"``.
        neuron, weights: as asked for, variants included; None where somebody else's
            builder decides it.
        mode: the training mode; None where it was not said.
        timesteps: T; None where it is not known.
        parameters: number of parameters, trainable or not.
        size_bytes: bytes of the weights packed, as they would be stored.
        paper_size_bytes: bytes of the weights as the HD-LIF paper accounts for them.
        accuracy: share of test samples classified correctly.
        counts: synaptic operations on the test samples.
        energies: the counts priced, one per convention.
        neuron_ops: neuron operations per sample.
        profile: time and memory of a training step.
        inference: time and memory of one batch's inference.
        measured: joules of a training step by the board's counter.
        not_measured: why there are none, where they were asked for.
        batch_size: samples per training step.
        epochs: epochs trained; None where that is not known.
        loss: mean training loss of the last epoch.
        checkpoint: file that the weights came from before any training.
        execution: settings of the step that are not the defaults: precision, compilation, memory
            format.
        layout: how the model takes its time steps; None where the user's own function does it.
        loss_name: the loss it was trained on.
        loading_s: seconds that a training batch took to be loaded, beside the step: the median.
        failure: why figures are missing, in one line, e.g. "out of memory"; None where all went
            well.
        more: columns of the user's own, by name; shown after ours.
        seed: of weights and batches; None where it is not known.
        data: name of the data; None likewise.
        baseline_of: the ``model`` of the rows that this one, of a dense network, is held
            against; None for any other row.
        environment: the machine and versions it was measured with, where the report joins
            rows of several.
        modules: of the model that was counted; empty where only its counts are known.
        optimizer: optimiser and schedule of its training, in words; None where it was not trained,
            or that is not known.
        image_size: pixels of the data's images, as the model was given them; None where they are
            no images, or that is not known.
        training_counts: of a training step, its gradients included; None where no energy of
            training was asked for.
        training_energies: these priced, one per convention: joules of training on a sample, which
            ``energies``, of inference, are never mixed with.
    """

    model: str
    neuron: str | None = None
    weights: str | None = None
    mode: str | None = None
    timesteps: int | None = None
    parameters: int | None = None
    size_bytes: float | None = None
    paper_size_bytes: float | None = None
    accuracy: float | None = None
    counts: CountResult | None = None
    energies: tuple[EnergyResult, ...] = ()
    neuron_ops: int | None = None
    profile: StepProfile | None = None
    inference: InferenceProfile | None = None
    measured: MeasuredEnergy | None = None
    not_measured: str | None = None
    batch_size: int | None = None
    epochs: int | None = 0
    loss: float | None = None
    checkpoint: str | None = None
    execution: str = ""
    layout: str | None = None
    loss_name: str | None = None
    loading_s: float | None = None
    failure: str | None = None
    more: dict[str, Cell] = field(default_factory=dict)
    seed: int | None = None
    data: str | None = None
    baseline_of: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    modules: tuple[ModuleRow, ...] = ()
    image_size: int | None = None
    optimizer: str | None = None
    training_counts: CountResult | None = None
    training_energies: tuple[EnergyResult, ...] = ()

    @property
    def name(self) -> str:
        """``"vgg5 lif fp32 stbp T4"``; what is not known is left out."""
        time = None if self.timesteps is None else f"T{self.timesteps}"
        parts = (self.model, self.neuron, self.weights, self.mode, time)
        return " ".join(part for part in parts if part)

    @property
    def prices(self) -> tuple[EnergyResult, ...]:
        """Energies of inference, then those of training."""
        return (*self.energies, *self.training_energies)

    @property
    def device(self) -> str | None:
        """Kind of device that the training step ran on; None where none was measured."""
        return None if self.profile is None else self.profile.device

    @property
    def samples_per_step(self) -> int | None:
        """Samples of the training step that was measured, or else of the training."""
        return self.batch_size if self.profile is None else self.profile.batch_size

    @property
    def conditions(self) -> tuple[object, ...]:
        """T, batch, device, environment: rows in which they are the same can be compared."""
        where = tuple(sorted(self.environment.items()))
        return self.timesteps, self.samples_per_step, self.device, where

    @property
    def step_s(self) -> tuple[float, ...]:
        """Seconds of every timed training step; empty where none was timed."""
        return () if self.profile is None else self.profile.step_s

    @property
    def step_median_s(self) -> float | None:
        """Their median; None where none was timed."""
        return statistics.median(self.step_s) if self.step_s else None

    @property
    def peak_bytes(self) -> int | None:
        """Peak allocator bytes of one training step."""
        return None if self.profile is None else self.profile.peak_bytes


@dataclass(frozen=True)
class Growth:
    """Growth of a quantity of one network, neuron and mode with T: a straight line.

    Attributes:
        neuron, mode: of the rows of the report.
        quantity: ``"peak_bytes"``, or ``"step_s"`` (the medians).
        timesteps: the T that the line is through.
        slope: per time step.
        intercept: at T = 0.
        r_squared: share of the variance that the line explains; None where there is none, or
            for two points.
        ratio: value at the largest T / at the smallest.
        spread: largest value / smallest.
        model, weights: of the rows, where the report has several.
        conditions: what else tells the rows from those of the others, in words.
    """

    neuron: str | None
    mode: str | None
    quantity: str
    timesteps: tuple[int, ...]
    slope: float
    intercept: float
    r_squared: float | None
    ratio: float
    spread: float
    model: str | None = None
    weights: str | None = None
    conditions: str | None = None


@dataclass(frozen=True)
class Report(Numbered):
    """Rows side by side, and notes on them.

    Attributes:
        rows: in the order asked for.
        environment: device, processor, versions.
        notes: assumptions, and what was left out or not measured.
        growth: of time and memory with T, where there was more than one T.
        interrupted: Ctrl-C ended the measuring before all was done.
    """

    rows: tuple[ReportRow, ...]
    environment: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    growth: tuple[Growth, ...] = ()
    interrupted: bool = False
