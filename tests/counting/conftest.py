"""Tests of counting run small operations: on one thread, so that busy cores do not stall them.

Weights are drawn with a fixed seed: a weight that happens to be 0 would be no synapse.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

pytest.register_assert_rewrite("tests.counting.nets", "tests.counting.pairs")


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
