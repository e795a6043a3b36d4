"""Shared and repeated layers are counted each time; what is not counted is listed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snnprof.core.errors import SnnprofError
from snnprof.counting.counter import SopCounter

from ..support.counting import Loop, count, count_row


def test_a_shared_module_is_counted_each_time_under_one_name():
    fc = nn.Linear(3, 3)
    model = nn.Sequential(fc, nn.Identity(), fc)
    nn.init.ones_(fc.weight), nn.init.ones_(fc.bias)
    row = count_row(model, torch.ones(2, 3))
    assert (row.name, row.calls, row.synops) == ("0", 2, 36)  # 2 * (2 rows * 3 * 3)


def test_a_shared_weight_is_counted_in_each_of_its_layers():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    nn.init.ones_(model[0].weight)
    rows = count(model, torch.ones(1, 3)).rows
    assert [(row.name, row.synops) for row in rows] == [("0", 9), ("1", 9)]


def test_a_layer_called_in_a_loop_is_counted_every_time():
    row = count_row(Loop(nn.Linear(3, 2)), torch.ones(5, 4, 3), batch_dim=1)
    assert (row.calls, row.synops) == (5, 120)  # 5 * 4 * 3 * 2


def test_a_model_that_calls_itself_is_one_call():
    class Recursive(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return torch.stack([self(step) for step in x]) if x.dim() == 3 else self.fc(x)

    result = count(Recursive(), torch.ones(5, 4, 3), batch_dim=1)
    assert result.total("synops") == 120
    assert result.samples == 4


def test_one_layer_on_inputs_of_different_sizes_is_one_row():
    conv = nn.Conv2d(1, 1, 3, padding=1)
    row = count_row(conv, torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3))
    assert row.synops == 16 + 49  # (2+2)^2, (2+3+2)^2


def test_layers_that_are_never_called_are_listed():
    model = nn.Sequential(nn.Linear(3, 2), nn.ModuleDict({"spare": nn.Conv1d(1, 1, 1)}))
    model.forward = lambda x: model[0](x)
    result = count(model, torch.ones(1, 3))
    assert result.not_counted == (("1.spare", "never called"),)
    assert [row.name for row in result.rows] == ["0"]


def test_a_fully_counted_model_lists_nothing():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    assert count(model, torch.ones(2, 1, 4, 4)).not_counted == ()


class Attention(nn.Module):
    def __init__(self, product):
        super().__init__()
        self.product = product

    def forward(self, x):
        return self.product(x, x.transpose(-2, -1))


def test_a_product_of_three_is_listed_under_its_module():
    def listed(product):
        model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Attention(product)))
        result = count(model, torch.ones(2, 3, 4))
        assert [row.name for row in result.rows] == ["0"]
        return result.not_counted

    # An operation goes by the innermost module with a hook, a product by the one that runs.
    multi_dot = listed(lambda a, b: torch.linalg.multi_dot([a[0], b[0], a[0]]))
    assert multi_dot == (("1", "multi_dot: not counted yet"),)
    einsum = listed(lambda a, b: torch.einsum("bij,bjk,bkl->bil", a, b, a))
    assert einsum == (("1.0", "einsum: 3 operands: write it as products of two"),)


RARER = {
    "conv_tbc": lambda a, _: torch.conv_tbc(a, torch.ones(1, 4, 2), torch.zeros(2)),
    "convolution": lambda a, _: torch.convolution(
        a, torch.ones(2, 3, 1), None, (1,), (0,), (1,), False, (0,), 1
    ),
}


@pytest.mark.parametrize("name", RARER)
def test_operations_that_are_not_counted_are_listed(name: str):
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Attention(RARER[name])))
    result = count(model, torch.ones(2, 3, 4))
    assert [row.name for row in result.rows] == ["0"]
    assert result.not_counted == (("1", f"{name}: not counted yet"),)


@pytest.mark.parametrize(
    ("name", "product", "synops"),
    [
        ("vecdot", lambda a, _: torch.linalg.vecdot(a, a), 24),  # 2 * 3 vectors of 4
        ("outer", lambda a, _: torch.outer(a[0, 0], a[0, 1]), 16),  # 4 * 4
    ],
)
def test_rarer_products_are_counted(name: str, product, synops: int):
    model = nn.Sequential(nn.Identity(), Attention(product))
    row = count_row(model, torch.ones(2, 3, 4))
    assert (row.name, row.synops) == (f"1.{name}", synops)


def test_a_product_is_listed_once_however_often_it_runs():
    model = nn.Sequential(nn.Linear(4, 4), Attention(torch.matmul))
    x = torch.ones(2, 3, 4)
    (listed,) = count(model, x, x, x, layers=("conv", "linear")).not_counted
    assert listed[1] == "matmul: left out by layers="


class WithModule(nn.Module):
    def __init__(self, inner, call):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.inner = inner
        self.call = call

    def forward(self, x):
        return self.call(self.inner, self.fc(x))


BLACK_BOXES = {
    "lstm": (lambda: nn.LSTM(4, 5), lambda inner, x: inner(x)[0]),
    "gru": (lambda: nn.GRU(4, 5), lambda inner, x: inner(x)[0]),
    "rnn_tanh": (lambda: nn.RNN(4, 5), lambda inner, x: inner(x)[0]),
    "lstm_cell": (lambda: nn.LSTMCell(4, 5), lambda inner, x: inner(x[0])[0]),
    "gru_cell": (lambda: nn.GRUCell(4, 5), lambda inner, x: inner(x[0])),
    "rnn_tanh_cell": (lambda: nn.RNNCell(4, 5), lambda inner, x: inner(x[0])),
    "bilinear": (lambda: nn.Bilinear(4, 4, 2), lambda inner, x: inner(x, x)),
}


@pytest.mark.parametrize("name", BLACK_BOXES)
@pytest.mark.parametrize("grad", [True, False], ids=["train", "eval no_grad"])
def test_a_module_that_multiplies_out_of_sight_is_listed(name: str, grad: bool):
    make, call = BLACK_BOXES[name]
    model = WithModule(make(), call).train(grad)
    with torch.set_grad_enabled(grad):
        result = count(model, torch.ones(2, 3, 4))
    assert [row.name for row in result.rows] == ["fc"]
    assert result.not_counted == (("inner", f"{name}: not counted yet"),)


@pytest.mark.parametrize("grad", [True, False], ids=["train", "eval no_grad"])
def test_the_linear_layers_of_a_transformer_are_counted_and_so_is_its_attention(grad: bool):
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0).train(grad)
    with torch.set_grad_enabled(grad):
        result = count(layer, torch.ones(2, 3, 4))
    rows = result.by_layer()
    assert rows["linear1"].nominal_macs == rows["linear2"].nominal_macs == 192  # 2*3 * 4*8
    assert rows["self_attn.sdpa.qk"].nominal_macs == 72  # 2 samples * 3 * 3 * 4 features
    assert rows["self_attn.sdpa.av"].nominal_macs == 72
    assert rows["self_attn.in_proj_weight"].nominal_macs == 288  # 2*3 * 4*12
    assert rows["self_attn.out_proj"].nominal_macs == 96  # 2*3 * 4*4


def test_torchscript_is_listed():
    scripted = torch.jit.trace(nn.Linear(4, 4), torch.ones(1, 4))
    result = count(nn.Sequential(scripted, nn.Linear(4, 2)), torch.ones(1, 4))
    assert [row.name for row in result.rows] == ["1"]
    below, script = result.not_counted
    assert script == ("0", "TorchScript: runs outside Python, no hook sees it")
    # 1 sample * 4 * 4, by a route that the functions of torch do not see
    assert below[1].startswith("addmm of (4,) x (1, 4) x (4, 4), 16 MACs: ran below")


def small_net():
    return nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten(), nn.Linear(3, 2))


def test_only_convolutions():
    result = count(small_net(), torch.ones(1, 1, 3), layers=("conv",))
    assert [row.op for row in result.rows] == ["conv1d"]
    assert [name for name, _ in result.not_counted] == ["2"]


def test_only_linear_layers():
    result = count(small_net(), torch.ones(1, 1, 3), layers=["linear"])
    assert [row.op for row in result.rows] == ["linear"]
    assert [name for name, _ in result.not_counted] == ["0"]


def test_no_layers():
    result = count(small_net(), torch.ones(1, 1, 3), layers=())
    assert result.rows == ()
    assert [name for name, _ in result.not_counted] == ["0", "2"]


def test_an_unknown_layer_type_is_an_error_that_lists_the_known():
    with pytest.raises(SnnprofError, match=r"pooling.*attention, conv, linear"):
        SopCounter(small_net(), layers=("conv", "pooling"))


@pytest.mark.parametrize("layers", ["conv", None, 3])
def test_layer_types_come_in_a_list(layers):
    with pytest.raises(SnnprofError, match="give a list of conv, linear, attention") as error:
        SopCounter(small_net(), layers=layers)
    assert str(error.value).startswith(f"layers={layers!r}")


@pytest.mark.parametrize("timesteps", [True, 2.0, "2", 0, -1])
def test_time_steps_are_a_whole_number(timesteps):
    with pytest.raises(SnnprofError) as error:
        SopCounter(small_net(), timesteps=timesteps)
    assert str(error.value) == f"timesteps={timesteps!r}: must be a whole number, at least 1"


@pytest.mark.parametrize(
    "model", [nn.Linear, 3, None, lambda x: x], ids=["class", "number", "None", "function"]
)
def test_what_is_no_module_is_refused(model):
    with pytest.raises(SnnprofError, match=r"^model is a \w+, not a torch.nn.Module$"):
        SopCounter(model)


def test_empty_batches_are_one_line_alone_and_nothing_beside_others():
    model = nn.Sequential(nn.Linear(3, 2))
    with SopCounter(model) as counter:
        assert model(torch.ones(0, 3)).shape == (0, 2)
        with pytest.raises(SnnprofError, match="only called with empty batches"):
            counter.result()
        model(torch.ones(4, 3))
    result = counter.result()
    assert (result.samples, result.total("synops")) == (4, 24)  # 4 * 3 * 2


def test_nan_and_infinity_are_named_by_layer():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight[0] = float("inf")
    with SopCounter(model) as counter:
        model(torch.ones(4, 3))
    with pytest.warns(RuntimeWarning, match="NaN or infinity in the input of 1: counted as events"):
        result = counter.result()
    assert result.non_finite == ("1",)
