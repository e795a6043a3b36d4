"""Energy: priced, and measured."""

from __future__ import annotations

from dataclasses import dataclass

from snnprof.results.base import Numbered

EVIDENCE = "measured, board-wide"


@dataclass(frozen=True)
class EnergyRow:
    """Energy of one layer, per sample.

    Attributes:
        name: the layer.
        operation: what was billed: AC, MAC, a synaptic event or a neuron's update; or the words
            of a convention of one's own.
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
        rows: one per billed layer.
        total_j: joules per sample; None where the convention bills no layer of the network.
        description: the convention in one line.
        source: where its constants and its formula come from.
        leaves_out: costs that it does not bill.
        not_billed: names of counted layers that the convention leaves out.
        not_counted: as in the counts: operations that no energy is given for.
    """

    table: str
    rows: tuple[EnergyRow, ...]
    total_j: float | None
    description: str
    source: str
    leaves_out: str
    not_billed: tuple[str, ...] = ()
    not_counted: tuple[tuple[str, str], ...] = ()


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
