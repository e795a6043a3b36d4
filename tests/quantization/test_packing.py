"""Packed weights: bytes by hand, round trips, and what is refused."""

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

import snnprof
from snnprof.models import create
from snnprof.quantization.codecs import (
    CODECS,
    pack_bits,
    pack_trits,
    unpack_bits,
    unpack_trits,
)
from snnprof.quantization.packing import MAGIC, PackedWeights
from snnprof.quantization.quantized_layers import latent_weight
from snnprof.quantization.quantizers import SCHEMES, Channels

schemes = pytest.mark.parametrize("scheme", SCHEMES)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def small(scheme: str = "1bit", classes: int = 5) -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.Flatten(),
        nn.Linear(6 * 36, classes),
    )
    return snnprof.quantize(model, scheme, skip=["0"])


# --- bytes ----------------------------------------------------------------------------------


def test_bits_by_hand() -> None:
    # + - + +  - - - -  + : bits 1, 4, 8 = 13; then 1, padded with zeros
    signs = np.array([1, -1, 1, 1, -1, -1, -1, -1, 1], np.int8)
    assert pack_bits(signs).tolist() == [13, 1]


def test_trits_by_hand() -> None:
    # + 0 - - - : 1 + 0 * 3 + 2 * 9 + 2 * 27 + 2 * 81 = 235; then 0 + : 0 + 1 * 3
    signs = np.array([1, 0, -1, -1, -1, 0, 1], np.int8)
    assert pack_trits(signs).tolist() == [235, 3]
    assert pack_trits(np.full(5, -1, np.int8)).tolist() == [242]  # 3^5 - 1


@pytest.mark.parametrize("count", range(17))
def test_every_residue_of_the_length(count: int) -> None:
    rng = np.random.default_rng(count)
    bits = rng.choice(np.array([-1, 1], np.int8), count)
    trits = rng.choice(np.array([-1, 0, 1], np.int8), count)
    assert len(pack_bits(bits)) == math.ceil(count / 8)
    assert len(pack_trits(trits)) == math.ceil(count / 5)
    assert unpack_bits(pack_bits(bits), count).tolist() == bits.tolist()
    assert unpack_trits(pack_trits(trits), count).tolist() == trits.tolist()


def test_all_243_bytes_of_five_trits_are_different() -> None:
    every = np.stack(np.meshgrid(*[[-1, 0, 1]] * 5), -1).reshape(-1).astype(np.int8)
    code = pack_trits(every)
    assert sorted(code.tolist()) == list(range(243))
    assert unpack_trits(code, every.size).tolist() == every.tolist()


def test_the_payload_by_hand() -> None:
    linear = nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.5, -0.5, 0.5], [-2.0, -2.0, 2.0]]))
        linear.bias.copy_(torch.tensor([1.0, 0.25]))
    packed = snnprof.pack(snnprof.quantize(copy.deepcopy(linear), "1bit"))
    # + - + - - + : 1 + 4 + 32 = 37; scales 0.5 and 2; biases 1 and 0.25, as fp32
    words = b"\x00\x00\x00\x3f" + b"\x00\x00\x00\x40" + b"\x00\x00\x80\x3f" + b"\x00\x00\x80\x3e"
    by_name = {entry.names[0]: entry for entry in packed.contents}
    assert sorted(by_name) == ["bias", "weight"]
    first = packed.contents[0].names[0]
    code, biases = b"\x25" + words[:8], words[8:]
    assert packed.weights == (code + biases if first == "weight" else biases + code)
    packed = snnprof.pack(snnprof.quantize(linear, "1.5bit"))
    # mean 7.5 / 6, Delta 0.875: 0 0 0 - - + : 2 * 27 + 2 * 81 = 216, then 1; scale 2
    code = b"\xd8\x01" + words[4:8]
    assert packed.weights == (code + biases if first == "weight" else biases + code)


# --- round trips ----------------------------------------------------------------------------


@schemes
def test_a_fresh_network_computes_the_same_to_the_last_bit(scheme: str, tmp_path: Path) -> None:
    model = small(scheme)
    model(torch.randn(5, 2, 4, 4))  # running statistics of the normalisation
    packed = snnprof.pack(model.eval())
    packed.save(tmp_path / "weights.bin")
    x = torch.randn(3, 2, 4, 4)
    for source in (packed, tmp_path / "weights.bin", str(tmp_path / "weights.bin")):
        fresh = small(scheme).eval()
        assert not torch.equal(fresh(x), model(x))
        snnprof.unpack(source, fresh)
        assert torch.equal(fresh(x), model(x))
        for one, other in zip(fresh.modules(), model.modules(), strict=True):
            if parametrize.is_parametrized(one):
                assert torch.equal(one.weight, other.weight)
                assert torch.equal(latent_weight(one), other.weight)
        assert snnprof.pack(fresh) == packed


@schemes
def test_a_spiking_network(scheme: str) -> None:
    def build() -> nn.Module:
        network = create("vgg5", neuron="hdlif", timesteps=2, in_channels=1, image_size=8)
        return snnprof.quantize(network, scheme).eval()

    model, fresh, x = build(), build(), torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("logit"):
                parameter.add_(torch.randn_like(parameter))
    packed = snnprof.pack(model)
    snnprof.unpack(packed, fresh)
    assert torch.equal(fresh(x), model(x))
    assert len(packed.weights) == snnprof.size_bytes(model)
    kept_apart = [entry.names[0] for entry in packed.rest_contents]
    neurons = [name for name, _ in model.named_parameters() if name.endswith("logit")]
    assert neurons and set(neurons) <= set(kept_apart)
    assert any(name.endswith("running_mean") for name in kept_apart)


dimensions = st.lists(st.integers(1, 5), min_size=2, max_size=2)


@schemes
@settings(deadline=None, max_examples=50)
@given(
    widths=dimensions,
    kernel=st.integers(1, 3),
    groups=st.integers(1, 3),
    transposed=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_random_convolutions(
    scheme: str,
    widths: list[int],
    kernel: int,
    groups: int,
    transposed: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    kind = nn.ConvTranspose1d if transposed else nn.Conv1d

    def build() -> nn.Module:
        layer = kind(widths[0] * groups, widths[1] * groups, kernel, groups=groups).to(dtype)
        nn.init.normal_(layer.weight, std=10 ** torch.empty(()).uniform_(-6, 2).item())
        return snnprof.quantize(layer, scheme)

    torch.manual_seed(seed)
    model, fresh = build(), build()
    packed = snnprof.pack(model)
    snnprof.unpack(packed, fresh)
    assert torch.equal(fresh.weight, model.weight)
    assert fresh.weight.dtype == dtype
    assert len(packed.weights) == snnprof.size_bytes(model)


@schemes
def test_layers_of_zeros(scheme: str) -> None:
    model = snnprof.quantize(nn.Linear(3, 2), scheme)
    nn.init.zeros_(latent_weight(model))
    fresh = snnprof.quantize(nn.Linear(3, 2), scheme)
    snnprof.unpack(snnprof.pack(model), fresh)
    assert fresh.weight.tolist() == [[0.0] * 3] * 2
    assert not torch.signbit(fresh.weight).any()
    assert not torch.signbit(latent_weight(fresh)).any()


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64],
)
def test_what_is_not_quantised_is_kept_as_it_is(dtype: torch.dtype, tmp_path: Path) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", (torch.randn(2, 3) * 9).to(dtype))
            self.register_buffer("scalar", torch.ones((), dtype=dtype))
            self.register_buffer("empty", torch.ones((0, 3), dtype=dtype))

    model, fresh = Holder(), Holder()
    fresh.scalar.zero_()
    packed = snnprof.pack(model)
    assert (packed.contents, packed.weights) == ((), b"")
    assert len(packed.rest) == 7 * dtype.itemsize
    packed.save(tmp_path / "file")
    snnprof.unpack(tmp_path / "file", fresh)
    for name, tensor in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor)


@schemes
def test_shared_weights_are_stored_once(scheme: str) -> None:
    def build(tie: bool = True) -> nn.Module:
        layer = nn.Linear(4, 4)
        model = nn.Sequential(layer, nn.Linear(4, 4), layer)
        if tie:
            model[1].weight = layer.weight
        return snnprof.quantize(model, scheme)

    model, fresh = build(), build()
    packed = snnprof.pack(model)
    shared = {"1bit": 2 + 4 * 4, "1.5bit": 4 + 4}[scheme]  # 16 weights, scales
    assert len(packed.weights) == snnprof.size_bytes(model) == shared + 2 * 4 * 4  # two biases
    snnprof.unpack(packed, fresh)
    x = torch.randn(2, 4)
    assert torch.equal(fresh(x), model(x))
    with pytest.raises(snnprof.SnnprofError, match=r"'0.weight' is packed with names|'1.weight'"):
        snnprof.unpack(packed, build(tie=False))


# --- what is refused ------------------------------------------------------------------------


def reshaped() -> nn.Module:
    return small(classes=6)


def without_bias() -> nn.Module:
    model = small()
    model[6].bias = None
    return model


def with_one_more() -> nn.Module:
    model = small()
    model.append(nn.Linear(1, 1))
    return model


def other_layout() -> nn.Module:
    return snnprof.quantize(nn.Sequential(nn.ConvTranspose1d(3, 3, 1)), "1bit")


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "shape": (reshaped, r"'6.bias' is packed with shape \(5,\), and the model has \(6,\)"),
    "scheme": (lambda: small("1.5bit"), "'1.weight' is packed with coding 1bit, and .* 1.5bit"),
    "missing": (without_bias, "'6.bias' is in the packed weights only"),
    "more": (with_one_more, "'7.weight' is in the model only"),
    "type": (lambda: small().half(), "'0.weight' is packed with dtype float32, and .* float16"),
}


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_another_architecture_is_refused_and_left_alone(case: str) -> None:
    build, message = ARCHITECTURES[case]
    packed, model = snnprof.pack(small()), build()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(snnprof.SnnprofError, match=f"another architecture: {message}") as error:
        snnprof.unpack(packed, model)
    assert "\n" not in str(error.value)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_not_quantised_and_transposed_are_other_architectures() -> None:
    packed = snnprof.pack(snnprof.quantize(nn.Sequential(nn.Conv1d(3, 3, 1)), "1bit"))
    with pytest.raises(snnprof.SnnprofError, match="coding 1bit, and the model has plain"):
        snnprof.unpack(packed, nn.Sequential(nn.Conv1d(3, 3, 1)))
    with pytest.raises(snnprof.SnnprofError, match=r"'0\.weight' is packed with channels"):
        snnprof.unpack(packed, other_layout())


@schemes
def test_every_truncation_of_a_file_is_refused(scheme: str, tmp_path: Path) -> None:
    build = lambda: snnprof.quantize(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), scheme)  # noqa: E731
    path = tmp_path / "weights.bin"
    snnprof.pack(build()).save(path)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(
            snnprof.SnnprofError, match=r"truncated|no file of packed weights"
        ) as error:
            PackedWeights.load(path)
        assert "\n" not in str(error.value)
    path.write_bytes(whole + b"\0")
    with pytest.raises(snnprof.SnnprofError, match="1 bytes too many"):
        snnprof.unpack(path, build())


def test_a_truncated_payload_names_the_tensor() -> None:
    packed = snnprof.pack(small())
    last = packed.contents[-1].names[0]
    short = dataclasses.replace(packed, weights=packed.weights[:-1])
    with pytest.raises(snnprof.SnnprofError, match=f"truncated: '{last}' ends at byte"):
        snnprof.unpack(short, small())


def test_damaged_codes_and_scales_name_the_tensor() -> None:
    def build() -> nn.Module:
        return snnprof.quantize(nn.Linear(5, 1, bias=False), "1.5bit")

    packed = snnprof.pack(build())
    code, scale = packed.weights[:1], packed.weights[1:]
    assert len(scale) == 4
    with pytest.raises(snnprof.SnnprofError, match="'weight' has a byte of value 243"):
        snnprof.unpack(dataclasses.replace(packed, weights=b"\xf3" + scale), build())
    for bad in (float("nan"), float("inf"), -1.0):
        broken = code + np.array([bad], "<f4").tobytes()
        with pytest.raises(snnprof.SnnprofError, match="'weight' has a scale that is negative or"):
            snnprof.unpack(dataclasses.replace(packed, weights=broken), build())


GOOD = {"names": ["weight"], "coding": "plain", "dtype": "float32", "shape": [1, 1]}
CHANNELS = {"transposed": False, "groups": 1}
TABLES: dict[str, object] = {
    "no table": 3,
    "one table": [[]],
    "no channels": [[GOOD], []],
    "coding": [[GOOD | {"coding": "7bit", "channels": CHANNELS}], []],
    "type": [[GOOD | {"dtype": "quint8", "channels": CHANNELS}], []],
    "negative shape": [[GOOD | {"shape": [-1, -1], "channels": CHANNELS}], []],
    "shape in letters": [[GOOD | {"shape": "ab", "channels": CHANNELS}], []],
    "no name": [[GOOD | {"names": [], "channels": CHANNELS}], []],
    "scalar of bits": [[GOOD | {"coding": "1bit", "shape": [], "channels": CHANNELS}], []],
    "half a group": [
        [GOOD | {"coding": "1bit", "channels": {"transposed": True, "groups": 0.5}}],
        [],
    ],
    "foreign keyword": [[GOOD | {"channels": CHANNELS | {"x": 1}}], []],
    "nested without end": None,
}


@pytest.mark.parametrize("case", TABLES)
def test_a_hostile_table_of_contents_is_refused(case: str, tmp_path: Path) -> None:
    header = json.dumps(TABLES[case]).encode() if TABLES[case] is not None else b"[" * 100_000
    path = tmp_path / "weights.bin"
    path.write_bytes(MAGIC + len(header).to_bytes(4, "little") + header + bytes(4))
    with pytest.raises(snnprof.SnnprofError, match="table of contents is truncated or damaged"):
        PackedWeights.load(path)


def test_a_table_that_promises_too_much_is_refused_before_it_is_believed(tmp_path: Path) -> None:
    entry = GOOD | {"shape": [1 << 40, 1 << 40], "channels": CHANNELS}
    header = json.dumps([[entry], []]).encode()
    path = tmp_path / "weights.bin"
    path.write_bytes(MAGIC + len(header).to_bytes(4, "little") + header + bytes(4))
    with pytest.raises(snnprof.SnnprofError, match="truncated: 'weight' ends at byte"):
        snnprof.unpack(path, nn.Linear(1, 1))


def test_foreign_and_absent_files_are_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "other.pt")
    with pytest.raises(snnprof.SnnprofError, match=r"other.pt is no file of packed weights"):
        snnprof.unpack(tmp_path / "other.pt", small())
    with pytest.raises(snnprof.SnnprofError, match=r"none.bin: No such file"):
        snnprof.unpack(tmp_path / "none.bin", small())


@schemes
def test_what_cannot_be_packed(scheme: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=r"'weight' is of type float64.*model.float\(\)"):
        snnprof.pack(snnprof.quantize(nn.Linear(2, 2).double(), scheme))
    model = snnprof.quantize(nn.Sequential(nn.Linear(2, 2)), scheme)
    with torch.no_grad():
        latent_weight(model[0])[0, 0] = float("nan")
    with pytest.raises(snnprof.SnnprofError, match=r"'0\.weight' is NaN or infinite"):
        snnprof.pack(model)

    class WithExtra(nn.Linear):
        def get_extra_state(self) -> object:
            return "state"

    with pytest.raises(snnprof.SnnprofError, match="'_extra_state' is of type str"):
        snnprof.pack(WithExtra(2, 2))


def test_every_scheme_has_a_codec() -> None:
    assert CODECS.keys() == SCHEMES.keys()
    assert Channels().count(torch.Size((3, 2))) == 3


def test_a_file_is_written_whole_or_refused(tmp_path: Path) -> None:
    packed = snnprof.pack(snnprof.quantize(nn.Linear(4, 4), "1bit"))
    with pytest.raises(snnprof.SnnprofError, match="there is no directory"):
        packed.save(tmp_path / "nowhere" / "w.bin")
    packed.save(tmp_path / "w.bin")
    assert [file.name for file in tmp_path.iterdir()] == ["w.bin"]


def test_weights_that_were_not_clipped_are_not_clipped_silently() -> None:
    free, clips = nn.Linear(8, 8), nn.Linear(8, 8)
    with torch.no_grad():
        free.weight.mul_(20)
    snnprof.quantize(free, "1.5bit")
    snnprof.quantize(clips, "1.5bit", clip=True)
    before = clips.weight.clone()
    with pytest.raises(snnprof.SnnprofError, match=r"'weight' is packed with weights beyond 1"):
        snnprof.unpack(snnprof.pack(free), clips)
    assert torch.equal(clips.weight, before)
    again = snnprof.quantize(nn.Linear(8, 8), "1.5bit", clip=True)
    snnprof.unpack(snnprof.pack(clips), again)
    assert torch.equal(again.weight, clips.weight)
