"""Rows in the order of their calls, and sums that agree."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.counting import scan
from snnprof.counting.accumulator import _as_it_lies
from snnprof.counting.counter import SopCounter
from snnprof.counting.linear_call import LinearCall

from ..support.counting import Function, count
from .nets import MultiStep, spikes


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3, padding=1, groups=2)}) for _ in range(2)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block["conv"]((x > 0).float())
        return self.head((x > 0).float())


def test_rows_are_named_by_layer_in_the_order_of_their_calls():
    result = count(Deep(), torch.rand(2, 1, 4, 4))
    names = ["stem", "blocks.0.conv", "blocks.1.conv", "head.1"]
    assert [row.name for row in result.rows] == names
    assert list(result.by_layer()) == names
    assert [row.stem for row in result.rows] == [True, False, False, False]


def test_a_model_that_is_a_single_layer_goes_by_its_class():
    assert count(nn.Linear(3, 2), torch.ones(1, 3)).rows[0].name == "Linear"


def two_layers(between) -> nn.Sequential:
    """Weights are 1, but for the zeros of the first layer's first output."""
    model = nn.Sequential(
        nn.Linear(3, 4, bias=False), Function(between), nn.Linear(4, 2, bias=False)
    )
    nn.init.ones_(model[0].weight), nn.init.ones_(model[2].weight)
    with torch.no_grad():
        model[0].weight[0] = 0
    return model


@pytest.mark.parametrize(
    ("column", "total"),
    [
        ("synops", 5 * 2 * 3 + 5 * 3 * 2),  # samples * spikes * synapses of each
        ("dense_macs", 5 * 3 * 3 + 5 * 4 * 2),
        ("nominal_macs", 5 * 3 * 4 + 5 * 4 * 2),
        ("rate_synops", 60 * 2 / 3 + 40 * 3 / 4),
        ("nonzeros", 5 * 2 + 5 * 3),
        ("calls", 2),
    ],
)
def test_layers_sum_to_the_total(column: str, total: float):
    result = count(two_layers(lambda x: x), torch.tensor([[1.0, 1.0, 0.0]] * 5))
    assert result.total(column) == total
    assert result.per_sample(column) == total / 5


def test_unrolled_events_of_real_layers_are_absent_from_the_total():
    model = two_layers(lambda x: torch.tensor([[1.0, 2.0, 0.0, 3.0]]))
    x = torch.tensor([[0.5, 3.14159, 1.7]])
    result = count(model, x)
    assert [row.unrolled_synops for row in result.rows] == [None, 12]  # 6 levels * 2
    assert result.total("unrolled_synops") == 12
    real = count(nn.Linear(3, 2), x)
    assert real.total("unrolled_synops") is None
    assert real.per_sample("unrolled_synops") is None


def test_an_unknown_column_is_an_error():
    with pytest.raises(ValueError, match="sops"):
        count(nn.Linear(3, 2), torch.ones(1, 3)).total("sops")


def test_batches_add_up_to_the_whole():
    torch.manual_seed(0)
    model, x = Deep().eval(), torch.rand(12, 1, 4, 4)
    whole = count(model, x)
    parts = count(model, *x.split([1, 5, 6]))
    for column in ("synops", "nominal_macs", "dense_macs", "nonzeros", "inputs"):
        assert whole.total(column) == parts.total(column)
    assert whole.samples == parts.samples == 12


def test_steps_add_up_to_the_sequence():
    torch.manual_seed(0)
    model, x = MultiStep(), spikes(4, 3, 2, 5, 5)
    whole = count(model, x, batch_dim=1)
    # The same network, one time step at a time.
    steps = count(model, *x.unsqueeze(1), batch_dim=1, timesteps=4)
    for one, other in zip(whole.rows, steps.rows, strict=True):
        assert (one.synops, one.nominal_macs, one.inputs) == (
            other.synops,
            other.nominal_macs,
            other.inputs,
        )
        assert one.input_density_by_step == other.input_density_by_step


def test_events_of_kept_weights_and_of_zeroed_weights_add_up_to_all():
    torch.manual_seed(0)
    x, weight = spikes(3, 2, 5, 5), torch.randn(4, 2, 3, 3)
    kept = torch.rand_like(weight) < 0.5
    counts = []
    for mask in (torch.ones_like(kept), kept, ~kept):
        layer = nn.Conv2d(2, 4, 3, padding=1)
        layer.weight = nn.Parameter(weight * mask)
        counts.append(count(layer, x).total("synops"))
    assert counts[0] == counts[1] + counts[2]


def test_complementary_inputs_add_up_to_the_dense_count():
    layer = nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1)
    x = spikes(3, 2, 7)
    assert count(layer, x).total("synops") + count(layer, 1 - x).total("synops") == count(
        layer, x
    ).total("dense_macs")


def test_functional_and_module_layers_sum_up_alike():
    class ByHand(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.weight, self.bias = layer.weight, layer.bias

        def forward(self, x):
            return F.conv2d(x, self.weight, self.bias, padding=1)

    layer, x = nn.Conv2d(2, 3, 3, padding=1), spikes(2, 2, 5, 5)
    assert count(ByHand(layer), x).total("synops") == count(layer, x).total("synops")


def test_layers_called_outside_the_model_are_listed():
    model = nn.Sequential(nn.Linear(4, 3))
    with SopCounter(model) as counter:
        model(torch.ones(1, 4))
        model[0](torch.ones(1, 4))
    result = counter.result()
    assert result.total("synops") == 12
    assert ("0", "called outside a call of the model") in result.not_counted


def test_what_is_no_module_is_refused():
    with pytest.raises(SnnprofError, match=r"not a torch\.nn\.Module"):
        SopCounter(lambda x: x)
    with pytest.raises(SnnprofError, match="whole number"):
        SopCounter(nn.Linear(1, 1), timesteps=2.5)


def test_a_count_that_passes_64_bits_is_an_error_and_no_wrap(monkeypatch: pytest.MonkeyPatch):
    # A row of so many MACs is made up: no weight of that size fits into memory.
    monkeypatch.setattr(LinearCall, "nominal_macs", lambda *_: 2**62 - 1)
    model = nn.Linear(2, 3)
    (row,) = count(model, torch.ones(2, 2)).rows
    assert row.nominal_macs == 2**63 - 2  # 2 rows * (2^62 - 1)
    # 3 rows * (2^62 - 1) = 13 835 058 055 282 163 709 > 2^63 - 1
    with pytest.raises(SnnprofError, match="nominal_macs is 13835058055282163709, more than 64"):
        count(model, torch.ones(3, 2))


@pytest.mark.parametrize("read_by_c", [True, False])
@pytest.mark.parametrize("timesteps_first", [True, False])
def test_tokens_that_lie_channels_first_are_read_as_they_lie(
    timesteps_first: bool, read_by_c: bool, monkeypatch: pytest.MonkeyPatch
):
    if not read_by_c:
        monkeypatch.setattr(scan, "_scan", None)
    weight = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])  # fan-outs 2, 0, 1
    x = torch.zeros(2, 2, 3, 4)  # [T, B, C, N] or [B, T, C, N]
    x[0, 1, 0, 1:] = 1  # 3 events of 2 synapses
    x[1, 0, 1] = 1  # 4 of none
    x[1, 1, 2, 3] = 1  # 1 of 1
    assert _as_it_lies(x.transpose(-1, -2), 1, 4)[0].data_ptr() == x.data_ptr()  # no copy
    model = Function(lambda x: F.linear(x.transpose(-1, -2), weight))
    layout = "time-first" if timesteps_first else "batch-first"
    with SopCounter(model, layout=layout, audit=False) as counter:
        model(x)
    row = counter.result().rows[0]
    assert row.synops == 7  # 3 * 2 + 4 * 0 + 1 * 1
    assert row.dense_macs == 48  # 3 synapses of 4 tokens, 2 samples and 2 time steps
    # 24 inputs in each step: 3 and 5 in the first dimension; 4 and 3 + 1 in the second.
    by_step = (3 / 24, 5 / 24) if timesteps_first else (4 / 24, 4 / 24)
    assert row.input_density_by_step == by_step
