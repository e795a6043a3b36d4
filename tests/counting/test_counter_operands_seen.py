"""The operands are those that the operation really received; what is not counted is said."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from snnprof.core.errors import SnnprofError
from snnprof.counting.counter import SopCounter

from .oracle import enumerated, reference


def measure(model: nn.Module, *inputs: Tensor, **options):
    with SopCounter(model, **options) as counter:
        for x in inputs:
            model(x)
    return counter.result()


def only_row(model: nn.Module, *inputs: Tensor, **options):
    (row,) = measure(model, *inputs, **options).rows
    return row


def spikes(*shape: int, seed: int = 0, share: float = 0.4) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share).float()


def ternarise(weight: Tensor) -> Tensor:
    """1.5 bit: -alpha, 0, alpha."""
    return weight.sign() * (weight.abs() > 0.1) * weight.abs().mean()


def twin_of(weight: Tensor, **settings) -> nn.Conv2d:
    """A plain convolution with this weight, for the oracle."""
    out_channels, in_channels, *kernel = weight.shape
    twin = nn.Conv2d(in_channels, out_channels, tuple(kernel), **settings)
    twin.weight = nn.Parameter(weight.detach().clone())
    return twin


# --- weights made in the layer's own forward --------------------------------------------------


class QuantisedConv(nn.Conv2d):
    def forward(self, x):
        weight = ternarise(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class QuantisedByConvForward(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, ternarise(self.weight), self.bias)


class PlainModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, 3, 3, 3))

    def forward(self, x):
        return F.conv2d(x, ternarise(self.weight), padding=1)


class ByKeyword(PlainModule):
    def forward(self, x):
        return F.conv2d(weight=ternarise(self.weight), padding=(1, 1), input=x, groups=1)


class Ternary(nn.Module):
    def forward(self, weight):
        return ternarise(weight)


def parametrised():
    layer = nn.Conv2d(3, 4, 3, padding=1)
    parametrize.register_parametrization(layer, "weight", Ternary())
    return layer


QUANTISED = {
    "conv subclass": lambda: QuantisedConv(3, 4, 3, padding=1),
    "conv subclass using _conv_forward": lambda: QuantisedByConvForward(3, 4, 3, padding=1),
    "plain module": PlainModule,
    "all by keyword": ByKeyword,
    "parametrize": parametrised,
}


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("training", [True, False])
def test_a_weight_quantised_in_the_forward_is_counted_as_quantised(name: str, training: bool):
    torch.manual_seed(0)
    layer = QUANTISED[name]().train(training)
    latent = layer.parametrizations.weight.original if name == "parametrize" else layer.weight
    nn.init.normal_(latent, std=0.2)
    x = spikes(2, 3, 5, 5)
    row = only_row(nn.Sequential(layer), x, x)
    quantised = ternarise(latent)
    assert 0 < int((quantised == 0).sum()) < quantised.numel()
    expected = enumerated(twin_of(quantised, padding=1), x)
    assert row.synops == 2 * expected.synops
    assert row.dense_macs == 2 * expected.dense
    assert (row.weight_kind, row.calls) == ("TERNARY", 2)
    assert (row.name, row.op) == ("0", "conv2d")


def test_a_quantised_weight_in_a_circular_convolution():
    torch.manual_seed(0)
    layer = QuantisedByConvForward(3, 4, 3, padding=1, padding_mode="circular")
    x = spikes(2, 3, 5, 5)
    row = only_row(layer, x)
    expected = reference(twin_of(ternarise(layer.weight), padding=1, padding_mode="circular"), x)
    assert (row.synops, row.dense_macs) == (expected.synops, expected.dense)
    assert row.inputs == x.numel()


def test_a_circular_convolution_called_by_keyword_counts_its_own_input():
    layer = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
    x = spikes(1, 1, 4, 4)
    with SopCounter(layer) as counter:
        layer(input=x)
    (row,) = counter.result().rows
    assert (row.inputs, row.nonzeros) == (16, int(x.sum()))
    assert row.nominal_macs == 288  # 2 channels * 16 positions * 9 taps


def test_the_input_is_counted_as_the_operation_received_it():
    class Binarising(nn.Linear):
        def forward(self, x):
            return super().forward((x > 0.5).float())

    x = torch.tensor([[0.2, 0.9, 0.6]])
    row = only_row(Binarising(3, 4), x)
    assert (row.input_kind, row.synops) == ("BINARY", 8)  # 2 values over 0.5 * 4


def test_a_pruned_layer_is_counted_with_its_mask():
    layer = nn.Conv2d(3, 4, 3, padding=1)
    prune.random_unstructured(layer, "weight", amount=0.5)
    x = spikes(2, 3, 5, 5)
    expected = reference(twin_of(layer.weight, padding=1), x)
    assert only_row(layer, x).synops == expected.synops


def test_weight_norm_is_counted():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    assert only_row(layer, torch.ones(2, 4)).synops == 24  # 2 * 4 * 3


def test_lazy_layers_are_counted():
    model = nn.Sequential(nn.LazyConv2d(2, 3), nn.Flatten(), nn.LazyLinear(5))
    conv, linear = measure(model, torch.ones(1, 1, 4, 4)).rows
    assert conv.synops == 72  # 2 channels * 2*2 positions * 9 taps
    assert (conv.name, linear.name) == ("0", "2")


# --- functional calls -------------------------------------------------------------------------


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(2, 1, 3))
        self.body = nn.Module()
        self.body.weight = nn.Parameter(torch.ones(4, 10))

    def forward(self, x):
        x = torch.conv1d(x, self.kernel, padding=1)
        return torch.nn.functional.linear((x > 1).float().flatten(1), self.body.weight)


def test_functional_calls_are_counted_under_the_name_of_their_parameter():
    conv, linear = measure(Functional(), torch.ones(1, 1, 5)).rows
    assert (conv.name, linear.name) == ("kernel", "body")
    assert conv.synops == 26  # fan-out 2 3 3 3 2 = 13, * 2 channels
    assert linear.synops == 40  # every sum is over 1: 10 spikes * 4


def test_a_functional_call_with_a_nameless_weight_goes_by_its_module():
    class Block(nn.Module):
        def forward(self, x):
            return F.linear(x, torch.ones(3, 4))

    model = nn.Sequential(nn.Identity(), nn.Sequential(Block()))
    row = only_row(model, torch.ones(2, 4))
    assert row.synops == 24
    assert row.name in ("1", "1.0")


def test_several_nameless_weights_in_one_module_lose_no_event():
    class Block(nn.Module):
        def forward(self, x):
            return F.linear(F.linear(x, torch.ones(3, 4)), torch.eye(3)) + F.linear(
                x, torch.ones(3, 4) * 2
            )

    result = measure(Block(), torch.ones(2, 4))
    # 2 rows: 4*3 + 3 (the identity's 3 synapses) + 4*3
    assert result.total("synops") == 54
    assert len(result.by_layer()) == len(result.rows)


def test_a_weight_vector_is_counted():
    class Readout(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0, 0.0, 2.0]))

        def forward(self, x):
            return F.linear(x, self.weight)

    model, x = Readout(), torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    expected = model(x)
    with SopCounter(model) as counter:
        out = model(x)
    assert torch.equal(out, expected)
    assert counter.result().total("synops") == 2  # row 0: the first; row 1: the third


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8])
def test_whole_number_tensors_run_as_without_the_counter(dtype):
    class IntegerOnly(nn.Module):
        def forward(self, x):
            return F.linear(x, torch.tensor([[1, 0, -2]], dtype=dtype))

    model, x = IntegerOnly(), torch.tensor([[1, 1, 0], [0, 0, 3]], dtype=dtype)
    expected = model(x)
    with SopCounter(model) as counter:
        out = model(x)
    assert torch.equal(out, expected)
    assert counter.result().total("synops") == 2


@pytest.mark.parametrize(
    ("prepare", "dtype"),
    [(lambda x: x.to(torch.complex64), torch.complex64), (Tensor.to_sparse, torch.float32)],
    ids=["complex", "sparse"],
)
def test_operands_that_cannot_be_counted_run_as_without_the_counter(prepare, dtype):
    class Odd(nn.Module):
        def forward(self, x):
            return F.linear(prepare(x), torch.ones(2, 3, dtype=dtype))

    model, x = Odd(), torch.eye(3)
    expected = model(x)
    with SopCounter(model) as counter:
        out = model(x)
    assert torch.equal(out, expected)
    result = counter.result()
    assert result.total("synops") == 6 or result.not_counted


def test_one_weight_used_with_two_settings_is_counted_with_each():
    class Trident(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 1, 3))

        def forward(self, x):
            return F.conv1d(x, self.weight) + F.conv1d(x, self.weight, dilation=2, padding=1)

    # Length 5. Plain: 1 2 3 2 1 = 9. Dilated: outputs read {1,3}, {0,2,4}, {1,3}: 7.
    assert measure(Trident(), *[torch.ones(1, 1, 5)] * 2).total("synops") == 32


# --- weights that change between calls ----------------------------------------------------------


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
    assert only_row(conv, *inputs).synops == first * 4 + 2 * 7  # 2+2, 2+3+2


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


# --- shared, repeated, silent -----------------------------------------------------------------


def test_a_shared_module_is_counted_each_time_under_one_name():
    fc = nn.Linear(3, 3)
    model = nn.Sequential(fc, nn.Identity(), fc)
    nn.init.ones_(fc.weight), nn.init.ones_(fc.bias)
    row = only_row(model, torch.ones(2, 3))
    assert (row.name, row.calls, row.synops) == ("0", 2, 36)  # 2 * (2 rows * 3 * 3)


def test_a_shared_weight_is_counted_in_each_of_its_layers():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    nn.init.ones_(model[0].weight)
    rows = measure(model, torch.ones(1, 3)).rows
    assert [(row.name, row.synops) for row in rows] == [("0", 9), ("1", 9)]


def test_a_layer_called_in_a_loop_is_counted_every_time():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return torch.stack([self.fc(step) for step in x])

    row = only_row(Loop(), torch.ones(5, 4, 3), batch_dim=1)
    assert (row.calls, row.synops) == (5, 120)  # 5 * 4 * 3 * 2


def test_a_model_that_calls_itself_is_one_call():
    class Recursive(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return torch.stack([self(step) for step in x]) if x.dim() == 3 else self.fc(x)

    result = measure(Recursive(), torch.ones(5, 4, 3), batch_dim=1)
    assert result.total("synops") == 120
    assert result.samples == 4


def test_one_layer_on_inputs_of_different_sizes_is_one_row():
    conv = nn.Conv2d(1, 1, 3, padding=1)
    row = only_row(conv, torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3))
    assert row.synops == 16 + 49  # (2+2)^2, (2+3+2)^2


def test_layers_that_are_never_called_are_listed():
    model = nn.Sequential(nn.Linear(3, 2), nn.ModuleDict({"spare": nn.Conv1d(1, 1, 1)}))
    model.forward = lambda x: model[0](x)
    result = measure(model, torch.ones(1, 3))
    assert result.not_counted == (("1.spare", "never called"),)
    assert [row.name for row in result.rows] == ["0"]


def test_a_fully_counted_model_lists_nothing():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    assert measure(model, torch.ones(2, 1, 4, 4)).not_counted == ()


class Attention(nn.Module):
    def __init__(self, product):
        super().__init__()
        self.product = product

    def forward(self, x):
        return self.product(x, x.transpose(-2, -1))


def test_a_product_of_three_is_listed_under_its_module():
    chains = [
        lambda a, b: torch.linalg.multi_dot([a[0], b[0], a[0]]),
        lambda a, b: torch.einsum("bij,bjk,bkl->bil", a, b, a),
    ]
    for name, product in zip(("multi_dot", "einsum"), chains, strict=True):
        model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Attention(product)))
        result = measure(model, torch.ones(2, 3, 4))
        assert [row.name for row in result.rows] == ["0"]
        ((module, reason),) = result.not_counted
        assert module == "1.0" or (module, name) == ("1", "multi_dot")
        assert name in reason


@pytest.mark.parametrize(
    "product",
    [
        lambda a: torch.linalg.vecdot(a, a),
        lambda a: torch.outer(a[0, 0], a[0, 1]),
        lambda a: torch.conv_tbc(a, torch.ones(1, 4, 2), torch.zeros(2)),
        lambda a: torch.convolution(a, torch.ones(2, 3, 1), None, (1,), (0,), (1,), False, (0,), 1),
    ],
    ids=["vecdot", "outer", "conv_tbc", "convolution"],
)
def test_rarer_products_do_not_go_unsaid(product):
    model = nn.Sequential(nn.Linear(4, 4), Attention(lambda a, _: product(a)))
    result = measure(model, torch.ones(2, 3, 4))
    assert len(result.rows) + len(result.not_counted) == 2


def test_a_product_is_listed_once_however_often_it_runs():
    model = nn.Sequential(nn.Linear(4, 4), Attention(torch.matmul))
    x = torch.ones(2, 3, 4)
    (listed,) = measure(model, x, x, x, layers=("conv", "linear")).not_counted
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
    "LSTM": (lambda: nn.LSTM(4, 5), lambda inner, x: inner(x)[0]),
    "GRU": (lambda: nn.GRU(4, 5), lambda inner, x: inner(x)[0]),
    "RNN": (lambda: nn.RNN(4, 5), lambda inner, x: inner(x)[0]),
    "LSTMCell": (lambda: nn.LSTMCell(4, 5), lambda inner, x: inner(x[0])[0]),
    "GRUCell": (lambda: nn.GRUCell(4, 5), lambda inner, x: inner(x[0])),
    "RNNCell": (lambda: nn.RNNCell(4, 5), lambda inner, x: inner(x[0])),
    "Bilinear": (lambda: nn.Bilinear(4, 4, 2), lambda inner, x: inner(x, x)),
}


@pytest.mark.parametrize("name", BLACK_BOXES)
@pytest.mark.parametrize("grad", [True, False], ids=["train", "eval no_grad"])
def test_a_module_that_multiplies_out_of_sight_is_listed(name: str, grad: bool):
    make, call = BLACK_BOXES[name]
    model = WithModule(make(), call).train(grad)
    with torch.set_grad_enabled(grad):
        result = measure(model, torch.ones(2, 3, 4))
    assert [row.name for row in result.rows][:1] == ["fc"]
    assert any(module.split(".")[0] == "inner" for module, _ in result.not_counted)


@pytest.mark.parametrize("grad", [True, False], ids=["train", "eval no_grad"])
def test_the_linear_layers_of_a_transformer_are_counted_and_so_is_its_attention(grad: bool):
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0).train(grad)
    with torch.set_grad_enabled(grad):
        result = measure(layer, torch.ones(2, 3, 4))
    rows = result.by_layer()
    assert rows["linear1"].nominal_macs == rows["linear2"].nominal_macs == 192  # 2*3 * 4*8
    assert rows["self_attn.sdpa.qk"].nominal_macs == 72  # 2 samples * 3 * 3 * 4 features
    assert rows["self_attn.sdpa.av"].nominal_macs == 72
    assert rows["self_attn.in_proj_weight"].nominal_macs == 288  # 2*3 * 4*12
    assert rows["self_attn.out_proj"].nominal_macs == 96  # 2*3 * 4*4


def test_torchscript_is_listed():
    scripted = torch.jit.trace(nn.Linear(4, 4), torch.ones(1, 4))
    result = measure(nn.Sequential(scripted, nn.Linear(4, 2)), torch.ones(1, 4))
    assert [row.name for row in result.rows] == ["1"]
    assert any(name == "0" for name, _ in result.not_counted)


# --- choosing layers ----------------------------------------------------------------------------


def small_net():
    return nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten(), nn.Linear(3, 2))


def test_only_convolutions():
    result = measure(small_net(), torch.ones(1, 1, 3), layers=("conv",))
    assert [row.op for row in result.rows] == ["conv1d"]
    assert [name for name, _ in result.not_counted] == ["2"]


def test_only_linear_layers():
    result = measure(small_net(), torch.ones(1, 1, 3), layers=["linear"])
    assert [row.op for row in result.rows] == ["linear"]
    assert [name for name, _ in result.not_counted] == ["0"]


def test_no_layers():
    result = measure(small_net(), torch.ones(1, 1, 3), layers=())
    assert result.rows == ()
    assert [name for name, _ in result.not_counted] == ["0", "2"]


def test_an_unknown_layer_type_is_an_error_that_lists_the_known():
    with pytest.raises(SnnprofError, match=r"pooling.*attention, conv, linear"):
        SopCounter(small_net(), layers=("conv", "pooling"))
