"""The code path of a GPU, run on the CPU: the same counts without reading a number early."""

import pytest
import torch
from torch import nn

from snnprof.counting.counter import SopCounter
from snnprof.results import CountResult

from .nets import as_on_another_device

VALUES = {
    "binary": [0.0, 1.0],
    "scaled": [0.0, 0.3],
    "ternary": [-1.25, 0.0, 1.25],
    "integer": [0.0, 1.0, 2.0, 5.0],
    "odd step": [0.0, 0.3, 0.6, 0.9],
    "real": None,
}


def counts(values: list[float] | None, rows: int) -> CountResult:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(rows, 3, 6, 6, generator=generator)
    if values is not None:
        x = torch.tensor(values)[(x * len(values)).long()]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(144, 5))
    with SopCounter(net) as counter, torch.no_grad():
        for part in x.split(rows // 2):
            net(part)
    return counter.result()


@pytest.mark.parametrize("rows", [4, 2000])
@pytest.mark.parametrize("kind", VALUES)
def test_both_paths_agree(kind: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    here = counts(VALUES[kind], rows)
    as_on_another_device(monkeypatch)
    assert counts(VALUES[kind], rows) == here


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_does_not_change_the_kind(dtype: torch.dtype) -> None:
    x = torch.randint(0, 4, (4000, 64)).float()
    layer = nn.Linear(64, 4)
    with SopCounter(layer) as counter, torch.no_grad(), torch.autocast("cpu", dtype):
        layer(x)
    (row,) = counter.result().rows
    assert row.input_kind == "INTEGER"
    assert row.unrolled_synops == int(x.sum()) * 4


def test_the_kind_does_not_depend_on_how_long_one_measures() -> None:
    for rows in (16, 1024, 20_000):
        row = counts([0.0, 0.3, 0.6], rows).rows[0]
        assert row.input_kind == "INTEGER"


def test_a_weight_that_was_once_real_stays_real() -> None:
    layer = nn.Linear(6, 3)
    signs = torch.sign(torch.randn(3, 6)) * 100
    with SopCounter(layer) as counter, torch.no_grad():
        for weight in (signs, torch.randn(3, 6), signs):
            layer.weight.copy_(weight)
            layer(torch.rand(2, 6))
    assert counter.result().rows[0].weight_kind == "REAL"
