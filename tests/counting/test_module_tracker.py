"""The running module is known, also after interrupts."""

from __future__ import annotations

from contextlib import suppress

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnprof.counting.counter import SopCounter


class Interrupted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.fc(x)
        raise KeyboardInterrupt


class Catching(nn.Module):
    """Torch runs no hooks of a module that an interrupt leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.child = Interrupted()

    def forward(self, x: Tensor) -> Tensor:
        with suppress(KeyboardInterrupt):
            self.child(x)
        return x


class Root(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.catching = Catching()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.catching(x), torch.ones(2, 3))


def test_a_module_that_was_interrupted_ends_with_the_one_that_caught_it():
    model = Root()
    with SopCounter(model) as counter:
        for _ in range(2):
            model(torch.ones(1, 3))
            assert torch._C._len_torch_function_stack() == 0
    result = counter.result()
    # The functional call is the root's, not the interrupted child's.
    assert [(row.name, row.calls) for row in result.rows] == [("catching.child.fc", 2), ("Root", 2)]
    assert result.samples == 2
