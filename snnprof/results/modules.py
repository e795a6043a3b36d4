"""The modules of a model, and its MACs held against another count of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModuleRow:
    """A module of a model.

    Attributes:
        name: in the model, wrappers' prefixes stripped; the model's own is its class.
        kind: its class.
        depth: modules around it; 0 of the model itself.
        parameters: of it and of all modules in it, each once.
        output_shape: of its first call: B is the batch, T the time steps where the leading
            sizes are theirs, as ``"[T*B, 64, 8, 8]"``; None where it was not called, or gave
            no tensor.
    """

    name: str
    kind: str
    depth: int
    parameters: int
    output_shape: str | None = None


@dataclass(frozen=True)
class MacDifference:
    """A module of which fvcore counts other MACs.

    Attributes:
        name: of the module.
        macs, fvcore_macs: nominal ones per sample, of the module itself.
        reason: in words; None where it is not known.
    """

    name: str
    macs: float
    fvcore_macs: float
    reason: str | None = None


@dataclass(frozen=True)
class MacCheck:
    """Nominal MACs held against fvcore's count of the same network.

    Attributes:
        macs, fvcore_macs: per sample, of the whole network.
        modules: how many have MACs by either count.
        differing: those in which the counts differ.
        failure: why fvcore could not count, in one line; None where it did.
    """

    macs: float
    fvcore_macs: float | None = None
    modules: int = 0
    differing: tuple[MacDifference, ...] = ()
    failure: str | None = None
