"""Counts of several measurements as one: exactly what one measurement of all of it says."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.core.errors import SnnprofError
from snnprof.results import CountResult, LayerCount, NeuronRate
from snnprof.results.values import Values
from snnprof.spiking.lif import LIF

from ..support.counting import Function, count


def weighted(features: int = 4, out: int = 3) -> nn.Linear:
    """Synapses of real weights, two of them zero."""
    torch.manual_seed(0)
    layer = nn.Linear(features, out)
    with torch.no_grad():
        layer.weight[0, :2] = 0.0
    return layer


def draw(values: list[float], rows: int, seed: int = 0) -> Tensor:
    drawn = random.Random(seed).choices(values, k=rows * 4)
    return torch.tensor(drawn, dtype=torch.float32).reshape(rows, 4)


def apart(model: nn.Module, *inputs: Any, **options: Any) -> CountResult:
    """Every input in a counter of its own, then merged."""
    first, *others = [count(model, x, **options) for x in inputs]
    for other in others:
        first = first.merge(other)
    return first


# What two ranks see: the kind of both together is none of what either would say, or the widest.
DRAWS = {
    "1s and 2s, 1.5s": ([0.0, 1.0, 2.0], [0.0, 1.5], "INTEGER"),  # step 0.5
    "spikes and negative spikes": ([0.0, 1.0], [0.0, -1.0], "TERNARY"),
    "spikes of two heights": ([0.0, 1.0], [0.0, 2.0], "INTEGER"),
    "spikes of 0.3 and of 0.9": ([0.0, 0.3], [0.0, 0.9], "INTEGER"),
    "spikes and reals": ([0.0, 1.0], [0.0, 0.1234567, 1.7], "REAL"),
    "nothing and spikes": ([0.0], [0.0, 1.0], "BINARY"),
    "more than 64 levels": ([0.0, 1.0], [0.0, 100.0], "REAL"),
}


@pytest.mark.parametrize("name", sorted(DRAWS))
@pytest.mark.parametrize("swapped", [False, True])
def test_the_kind_is_judged_after_joining(name: str, swapped: bool) -> None:
    ours, theirs, kind = DRAWS[name]
    a, b = draw(ours, 7), draw(theirs, 5, seed=1)
    first, second = (b, a) if swapped else (a, b)
    merged = apart(weighted(), first, second)
    assert merged == count(weighted(), first, second)
    assert merged.rows[0].input_kind == kind


def test_unrolled_of_ones_twos_and_one_and_a_halfs_by_hand() -> None:
    layer = nn.Linear(4, 3)  # a fan-out of 3
    merged = apart(layer, torch.tensor([[1.0, 2, 0, 0]]), torch.tensor([[1.5, 0, 0, 0]]))
    (row,) = merged.rows
    # step 0.5: (2 + 4 + 3) levels * 3; of each alone, 3 * 3 at step 1 and 1 * 3
    assert (row.synops, row.unrolled_synops, row.input_kind) == (9, 27, "INTEGER")
    assert (merged.samples, row.calls, row.inputs, row.nonzeros) == (2, 2, 8, 3)
    assert row.input_density == 3 / 8 and row.operation == "AC"


def test_a_network_over_time() -> None:
    torch.manual_seed(0)
    net = snnprof.models.create("vgg5", timesteps=3, image_size=8).eval()
    batches = [torch.randn(3, n, 3, 8, 8) for n in (2, 1, 4)]
    whole = count(net, *batches)
    merged = apart(net, *batches)
    assert merged == whole
    assert merged.rows[0].stem and merged.neurons == whole.neurons
    assert merged.rows[1].input_density_by_step is not None


def test_a_product_of_two_activations() -> None:
    model = Function(lambda a, b: a @ b)
    spikes = draw([0.0, 1.0], 4)
    real = torch.rand(4, 4) + 0.5
    calls = [
        (spikes, real),
        (spikes * 2, spikes),
        (real, spikes),
        (spikes, real * spikes),
        (real, spikes * 2),
    ]
    for first in calls:
        for second in calls:
            merged = apart(model, first, second)
            assert merged == count(model, first, second)


class Sometimes(nn.Module):
    """Two layers, of which the second runs for large batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes, self.never = weighted(), weighted(), weighted()
        self.lif = LIF(1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.always(x)
        if len(x) > 2:
            out = out + self.sometimes(self.lif(x.unsqueeze(0))[0])
        return out


def test_layers_that_only_one_saw_are_kept() -> None:
    few, many = draw([0.0, 1.0], 2), draw([0.0, 1.0], 5)
    for batches in ((few, many), (many, few)):
        merged = apart(Sometimes(), *batches)
        assert merged == count(Sometimes(), *batches)
        assert [row.name for row in merged.rows] == ["always", "sometimes"]
        assert merged.not_counted == (("never", "never called"),)
        assert len(merged.neurons) == 1


def test_called_without_an_operation_in_one_and_counted_in_the_other() -> None:
    class Skipping(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if len(x) > 2 else x[:, :3]

    net = nn.Sequential(Skipping(4, 3))
    few, many = draw([0.0, 1.0], 2), draw([0.0, 1.0], 5)
    assert count(net, few).not_counted[0][0] == "0"
    assert apart(net, few, many).not_counted == apart(net, many, few).not_counted == ()
    assert apart(net, few, few).not_counted == count(net, few).not_counted


def test_with_itself_all_sums_double() -> None:
    one = count(weighted(), draw([0.0, 1.0], 3))
    two = one.merge(one)
    assert (two.samples, two.total("synops")) == (6, 2 * one.total("synops"))
    assert two.per_sample("synops") == one.per_sample("synops")


def test_no_other_layer_becomes_the_stem_where_the_first_could_not_be_counted() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.fc = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.stem(x).relu())

    torch.manual_seed(0)
    whole = count(Two(), torch.rand(2, 4))
    behind = dataclasses.replace(whole, rows=whole.rows[1:])  # a fault: REAL, and no stem
    assert [row.stem for row in whole.merge(behind).rows] == [True, False]
    assert [row.stem for row in behind.merge(behind).rows] == [False]
    nothing = dataclasses.replace(whole, rows=())
    assert [row.stem for row in nothing.merge(whole).rows] == [True, False]
    assert [row.stem for row in nothing.merge(behind).rows] == [False]


def test_what_read_the_operands_is_said_of_both() -> None:
    one = dataclasses.replace(count(weighted(), draw([0.0, 1.0], 2)), scan="torch")
    other = dataclasses.replace(one, scan="c")
    assert one.merge(other).scan == "c, torch"
    assert one.merge(dataclasses.replace(one, scan=None)).scan == "torch"


def test_an_empty_result_changes_nothing() -> None:
    one = count(weighted(), draw([0.0, 1.0], 3), timesteps=1)
    empty = CountResult((), 0)
    assert one.merge(empty) == empty.merge(one) == one
    assert empty.merge(empty) == empty


def test_another_T_is_refused() -> None:
    layer, x = weighted(), draw([0.0, 1.0], 4)
    one, two = count(layer, x, timesteps=1), count(layer, x, x, timesteps=2)
    with pytest.raises(SnnprofError, match="T=1 and of T=2 cannot be merged"):
        one.merge(two)


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(SnnprofError, match="merge takes a CountResult, not a list"):
        count(weighted(), draw([0.0, 1.0], 2)).merge([])  # type: ignore[arg-type]


def test_another_operation_is_refused() -> None:
    x = draw([0.0, 1.0], 4)
    one = count(nn.Sequential(nn.Linear(4, 1)), x)
    other = count(nn.Sequential(nn.Conv1d(1, 1, 3)), x.unsqueeze(1))
    with pytest.raises(SnnprofError, match="0 is linear in one result and conv1d in the other"):
        one.merge(other)


def test_counts_without_values_are_refused_unless_they_are_real() -> None:
    result = count(weighted(), draw([0.0, 1.0], 3))
    (row,) = result.rows
    bare = dataclasses.replace(result, rows=(dataclasses.replace(row, values=None),))
    with pytest.raises(SnnprofError, match="Linear: its counts do not say which values"):
        bare.merge(result)
    real = dataclasses.replace(row, values=None, input_kind="REAL", unrolled_synops=None, stem=True)
    merged = dataclasses.replace(result, rows=(real,)).merge(result)
    assert merged.rows[0].input_kind == "REAL" and merged.rows[0].stem


def test_nan_of_one_is_named_and_real() -> None:
    layer, x = weighted(), draw([0.0, 1.0], 3)
    with pytest.warns(RuntimeWarning, match="NaN"):
        broken = count(layer, x * float("nan"))
    merged = count(layer, x).merge(broken)
    assert merged.non_finite == ("Linear",)
    assert merged.rows[0].input_kind == "REAL" and merged.rows[0].unrolled_synops is None


def test_rates_per_time_step_come_back_exactly() -> None:
    """Numbers behind rates of which the sums are not representable."""
    draw_ = random.Random(0)
    for _ in range(200):
        steps = draw_.randint(1, 7)
        size = draw_.randint(1, 10**6) * steps
        ours = [draw_.randint(0, size // steps) for _ in range(steps)]
        theirs = [draw_.randint(0, size // steps) for _ in range(steps)]

        def row(counts: list[int], size: int = size, steps: int = steps) -> NeuronRate:
            rates = tuple(n * steps / size for n in counts)
            return NeuronRate("n", sum(counts) / size, rates, size, sum(counts), 1)

        both = row([a + b for a, b in zip(ours, theirs, strict=True)], 2 * size)
        assert row(ours).merge(row(theirs)) == dataclasses.replace(both, calls=2)


def test_merged_after_json(tmp_path: Path) -> None:
    a, b = count(weighted(), draw([0.0, 1, 2], 3)), count(weighted(), draw([0.0, 1.5], 3))
    silent = count(weighted(), torch.zeros(2, 4))
    for result in (a, silent):
        result.save(tmp_path / "a.json")
        loaded = snnprof.load(tmp_path / "a.json")
        assert "Infinity" not in (tmp_path / "a.json").read_text()  # which is no JSON
        assert loaded == result
        assert isinstance(loaded, CountResult) and loaded.merge(b) == result.merge(b)


def test_frames_and_dicts_are_without_what_counts_are_merged_by() -> None:
    result = count(weighted(), draw([0.0, 1.0], 3))
    fields = {field.name for field in dataclasses.fields(LayerCount)}
    hidden = {"values", "second_nonzeros", "second_inputs", "second_values", "gradient"}
    assert set(result.to_frame().columns) == fields - hidden
    assert isinstance(result.rows[0].values, Values)
