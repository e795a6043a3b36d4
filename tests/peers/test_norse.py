"""Models of Norse, with Norse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from . import checks
from .library import library

norse = library("norse.torch")


def linears(features: int, hidden: int) -> tuple[nn.Linear, nn.Linear]:
    """Weights that let neurons fire which take a tenth of what comes in."""
    torch.manual_seed(0)
    first, second = nn.Linear(features, hidden), nn.Linear(hidden, 2)
    nn.init.normal_(first.weight, std=3.0)
    return first, second


def cells(features: int = 5, hidden: int = 6) -> nn.Module:
    """One time step a call, [B, ...]."""
    first, second = linears(features, hidden)
    return norse.SequentialState(first, norse.LIFBoxCell(), second)


def lifted(features: int = 5, hidden: int = 6) -> nn.Module:
    """Time steps in a call, [T, B, ...]."""
    first, second = linears(features, hidden)
    return norse.SequentialState(norse.Lift(first), norse.LIF(), norse.Lift(second))


NETWORKS = pytest.mark.parametrize("network", [cells, lifted])


def detached(state: list) -> list:
    return [None if one is None else type(one)(*(v.detach() for v in one)) for one in state]


def plain(model: nn.Module, xs: Tensor, online: bool) -> Tensor:
    over_time = isinstance(model[0], norse.Lift)
    if over_time and not online:
        return model(xs)[0]
    state, outs = None, []
    for x in xs:
        if online and state is not None:
            state = detached(state)
        out, state = model(x.unsqueeze(0) if over_time else x, state)
        outs.append(out[0] if over_time else out)
    return torch.stack(outs)


@NETWORKS
def test_trains(network) -> None:
    checks.assert_trains_as_the_library_does(network(), plain)


@NETWORKS
def test_resets_and_detaches(network) -> None:
    checks.assert_resets_and_detaches(network())


def test_counts_cells() -> None:
    # v + (I - v) / 10, fires above 1, reset to 0. Sample 0: I = 12, v = 1.2 fires; then nothing.
    # Sample 1: I = 4, v = 0.4; then 0.4 + 0.36 = 0.76: never. 1 firing * 8.
    assert checks.synops(cells(3, 4), 4.0) == [20, 8]


def test_counts_lifted() -> None:
    # As above, of a current that keeps 0.8 of itself. Sample 0: fires; then I = 9.6, v = 0.96.
    # Sample 1: I = 4, v = 0.4; then I = 3.2 + 4, v = 0.4 + 0.68 = 1.08 fires. 2 firings * 8.
    assert checks.synops(lifted(3, 4), 4.0) == [20, 16]
