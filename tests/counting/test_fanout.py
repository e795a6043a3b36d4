"""Fan-outs follow the weight: what is written to it between calls is seen."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snnprof.counting.counter import SopCounter

from ..support.counting import count_row


def test_zeros_written_in_place_between_calls_are_seen():
    layer = nn.Linear(4, 3)
    with SopCounter(layer) as counter, torch.no_grad():
        layer(torch.ones(1, 4))
        layer.weight[0] = 0
        layer(torch.ones(1, 4))
        layer(torch.ones(1, 4))
    row = counter.result().rows[0]
    assert row.synops == row.dense_macs == 28  # 4*3, then twice 4*2
    assert row.nominal_macs == 36


@pytest.mark.parametrize("before", [1, 2, 3, 40])
def test_earlier_calls_keep_the_fan_out_that_they_had(before: int):
    layer = nn.Linear(4, 3)
    with SopCounter(layer) as counter, torch.no_grad():
        for _ in range(before):
            layer(torch.ones(1, 4))
        layer.weight[0] = 0
        for _ in range(2):
            layer(torch.ones(1, 4))
    assert counter.result().rows[0].synops == before * 12 + 2 * 8


@pytest.mark.parametrize("first", [1, 2, 3, 40])
def test_earlier_calls_keep_the_size_that_they_had(first: int):
    conv = nn.Conv1d(1, 1, 3, padding=1)
    inputs = [torch.ones(1, 1, 2)] * first + [torch.ones(1, 1, 3)] * 2
    assert count_row(conv, *inputs).synops == first * 4 + 2 * 7  # 2+2, 2+3+2


def test_a_replaced_parameter_is_seen():
    layer = nn.Linear(4, 3)
    with SopCounter(layer) as counter:
        layer(torch.ones(1, 4))
        layer.weight = nn.Parameter(torch.eye(3, 4))
        layer(torch.ones(1, 4))
    assert counter.result().rows[0].synops == 15  # 12 + 3


def test_state_dicts_loaded_between_calls_are_seen():
    layer = nn.Linear(4, 3, bias=False)
    with SopCounter(layer) as counter:
        layer(torch.ones(1, 4))
        layer.load_state_dict({"weight": torch.eye(3, 4)})
        layer(torch.ones(1, 4))
    assert counter.result().rows[0].synops == 15


def test_optimiser_steps_between_calls_are_seen():
    layer = nn.Linear(4, 1, bias=False)
    nn.init.ones_(layer.weight)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    x = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    with SopCounter(layer) as counter:
        layer(x).sum().backward()  # the gradient is x: two weights become 0
        optimiser.step()
        layer(torch.ones(1, 4))
    assert counter.result().rows[0].synops == 4  # 2 + 2


def test_zeros_written_through_data_are_reported():
    model = nn.Sequential(nn.Linear(4, 3))
    with SopCounter(model) as counter:
        model(torch.ones(1, 4))
        model[0].weight.data[0] = 0
        model(torch.ones(1, 4))
    ((name, reason),) = counter.result().not_counted
    assert name == "0"
    assert ".data" in reason


@pytest.mark.parametrize("by_name", [False, True])
def test_a_list_of_settings_that_is_written_to_is_read_anew(by_name: bool):
    stride, weight = [1, 1], torch.ones(1, 1, 1, 1)

    class Strided(nn.Module):
        def forward(self, x):
            given = {"stride": stride} if by_name else {}
            return F.conv2d(x, weight, None, *([] if by_name else [stride]), **given)

    model, x = Strided(), torch.ones(1, 1, 4, 4)
    with SopCounter(model) as counter:
        model(x)
        stride[:] = [2, 2]
        model(x)
    assert counter.result().total("synops") == 16 + 4


def test_a_model_without_values_is_listed():
    model = nn.Sequential(nn.Linear(4, 3, device="meta"))
    with SopCounter(model) as counter:
        model(torch.ones(2, 4, device="meta"))
    ((name, reason),) = counter.result().not_counted
    assert (name, "meta" in reason) == ("0", True)


def test_zeros_that_come_and_go_are_followed():
    layer = nn.Linear(3, 2, bias=False)
    with SopCounter(layer) as counter, torch.no_grad():
        for weight in ([[0, 0, 1], [0, 0, 0]], [[1, 1, 1], [1, 1, 1]], [[0, 0, 0], [0, 1, 0]]):
            layer.weight.copy_(torch.tensor(weight))
            layer(torch.ones(1, 3))
    assert counter.result().total("synops") == 1 + 6 + 1


@pytest.mark.parametrize("first", [True, False])
def test_a_call_that_only_looks_like_the_last_is_looked_at(first: bool):
    layer, x = nn.Linear(4, 3), torch.ones(2, 4)
    with SopCounter(nn.Sequential(layer)) as counter, torch.no_grad():
        model = counter._model
        if first:
            model(x)
        torch.func.vmap(model)(torch.ones(5, 2, 4))
        model(x)
    result = counter.result()
    assert result.total("synops") == (1 + first) * 24
    assert result.not_counted == (("0", "linear: inside a transform of torch.func"),)


def test_a_new_dtype_between_calls_is_no_matter():
    layer = nn.Linear(4, 3)
    with SopCounter(layer) as counter, torch.no_grad():
        layer(torch.ones(1, 4))
        layer.double()
        layer(torch.ones(1, 4, dtype=torch.float64))
        layer.bfloat16()
        layer(torch.ones(1, 4, dtype=torch.bfloat16))
    assert counter.result().rows[0].synops == 36
    assert counter.result().rows[0].input_kind == "BINARY"
