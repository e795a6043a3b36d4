"""Energy: priced, and measured."""

from __future__ import annotations

from dataclasses import dataclass

from snnprof.results.base import Numbered

EVIDENCE = "measured, board-wide"
TRAINING = "training"


@dataclass(frozen=True)
class EnergyRow:
    """Energy of one layer, per sample.

    Attributes:
        name: the layer.
        operation: what was billed: AC, MAC, a synaptic event or a neuron's update, of training with
            the part of the step; or the words of a convention of one's own.
        events: how many of them per sample.
        energy_j: joules per sample.
    """

    name: str
    operation: str
    events: float
    energy_j: float


@dataclass(frozen=True)
class EnergyResult(Numbered):
    """Counts priced under one named convention.

    Attributes:
        table: the convention's name.
        rows: one per billed layer; several of one whose events have several prices.
        total_j: joules per sample; None where the convention bills no layer of the network.
        description: the convention in one line.
        source: where its constants and its formula come from.
        leaves_out: costs that it does not bill.
        not_billed: names of counted layers that the convention leaves out.
        not_counted: as in the counts: operations that no energy is given for.
        phase: "training" where it is of training on a sample, backward pass and all; None: of
            inference.
    """

    table: str
    rows: tuple[EnergyRow, ...]
    total_j: float | None
    description: str
    source: str
    leaves_out: str
    not_billed: tuple[str, ...] = ()
    not_counted: tuple[tuple[str, str], ...] = ()
    phase: str | None = None

    def by_layer(self) -> dict[str, float]:
        """Joules per sample of each billed layer, all its rows together."""
        found: dict[str, float] = {}
        for row in self.rows:
            found[row.name] = found.get(row.name, 0.0) + row.energy_j
        return found

    @property
    def key(self) -> str:
        """``"energy_operands"``, ``"training_energy_sata"``: its name in tables and files."""
        return "_".join((*self._kind, self.table))

    @property
    def heading(self) -> str:
        """``"energy, operands"``, ``"training energy, sata"``: the same for people."""
        return f"{' '.join(self._kind)}, {self.table}"

    @property
    def _kind(self) -> tuple[str, ...]:
        return ("energy",) if self.phase is None else (self.phase, "energy")


@dataclass(frozen=True)
class MeasuredEnergy:
    """Energy of training steps as the board's counter saw it.

    The whole board: memory, fans, conversion losses, and whatever else runs on it.

    Attributes:
        net_j: joules per step, idle power subtracted.
        gross_j: joules per step, idle power included.
        resolution_j: joules per step by which ``net_j`` can be off because the counter moves
            only every 20 to 100 ms; the noise of the board comes on top.
        idle_w: watts of the board with nothing running.
        steps: steps measured.
        window_s: seconds measured, all windows together.
        idle_s: seconds of idling measured.
        device: the board's name.
        uuid: unique to the board.
        evidence: the kind of evidence behind the figure.
    """

    net_j: float
    gross_j: float
    resolution_j: float
    idle_w: float
    steps: int
    window_s: float
    idle_s: float
    device: str
    uuid: str
    evidence: str = EVIDENCE
