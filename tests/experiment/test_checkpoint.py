"""Weights from anybody's file: which entry is taken, what is refused, what is said."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import snnprof
from snnprof.experiment.checkpoint import load_checkpoint, saved_configuration
from snnprof.experiment.safetensors_file import from_bytes, to_bytes


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def trained(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    model = network()
    model(torch.randn(8, 3))  # the batch norm has seen data
    return model


def prefixed(prefix: str, model: nn.Module) -> dict[str, Any]:
    return {prefix + key: value for key, value in model.state_dict().items()}


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


GOOD, RAW = trained(1), trained(2)
AVERAGED = torch.optim.swa_utils.AveragedModel(GOOD)
OPTIMIZER = torch.optim.SGD(RAW.parameters(), lr=0.1, momentum=0.9)
RAW(torch.randn(8, 3)).sum().backward()
OPTIMIZER.step()
TIMM = "'state_dict_ema' were loaded; there were also 'state_dict'."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (GOOD.state_dict(), []),
        (prefixed("module.", GOOD), []),
        (prefixed("_orig_mod.", GOOD), []),
        (prefixed("module._orig_mod.", GOOD), []),
        ({"model": GOOD.state_dict(), "epoch": 3, "best": torch.tensor(0.5)}, []),
        ({"net": prefixed("module.", GOOD), "optimizer": OPTIMIZER.state_dict()}, []),
        ({"args": argparse.Namespace(lr=0.1), "model": GOOD.state_dict()}, []),
        ({"max_test_acc": np.float64(0.9), "state_dict": GOOD.state_dict()}, []),
        (AVERAGED.state_dict(), []),
        (
            {"model": RAW.state_dict(), "model_ema": AVERAGED.state_dict()},
            ["'model_ema' were loaded; there were also 'model'."],
        ),
        ({"state_dict": RAW.state_dict(), "state_dict_ema": GOOD.state_dict()}, [TIMM]),
        ({"model": {"state_dict": GOOD.state_dict()}}, []),
        ({"state_dict": prefixed("model.", GOOD), "loops": {}}, []),
        (
            {"state_dict": {**prefixed("net.", GOOD), "criterion.weight": torch.ones(2)}},
            ["what stands under 'state_dict/net' was loaded; left out: criterion.weight."],
        ),
        (
            {"state_dict": {**prefixed("model.", RAW), **prefixed("ema_model.", GOOD)}},
            [
                "'state_dict/ema_model' were loaded; there were also 'state_dict/model'.",
                "left out: model.0.weight, model.0.bias, model.1.weight and 6 more.",
            ],
        ),
    ],
)
def test_trainers_files_are_understood(content: object, said: list[str], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    model = trained(3)
    notes = load_checkpoint(model, tmp_path / "x.pt")
    assert same(GOOD, model)
    assert len(notes) == len(said)
    for note, end in zip(notes, said, strict=True):
        assert note.endswith(end)
        assert str(tmp_path / "x.pt") in note


def test_full_precision_weights_become_latent_ones(tmp_path: Path) -> None:
    torch.save(prefixed("model.", GOOD), tmp_path / "x.pt")
    model = snnprof.quantize(trained(3), "1bit", skip=["2"])
    load_checkpoint(model, tmp_path / "x.pt")
    assert torch.equal(model[0].parametrizations.weight.original, GOOD[0].weight)
    assert torch.equal(model[2].weight, GOOD[2].weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": nn.Linear(3, 4).state_dict()}, "another network; missing: 0.weight, 0.bias"),
        ({**GOOD.state_dict(), "3.weight": torch.ones(1)}, "unexpected: 3.weight"),
        (
            {**GOOD.state_dict(), "0.weight": torch.ones(4, 2)},
            r"of another shape: 0.weight \(4, 2\) instead of \(4, 3\)",
        ),
        ({**GOOD.state_dict(), "0.bias": torch.ones(4).to_sparse()}, "of another kind: 0.bias is"),
        (
            {**GOOD.state_dict(), "0.bias": torch.ones(4, device="meta")},
            "of another kind: 0.bias is torch.float32, torch.strided, on meta",
        ),
        (
            {**GOOD.state_dict(), "0.bias": torch.nested.nested_tensor([torch.ones(4)])},
            "of another kind: 0.bias is",
        ),
        ({"epoch": 3}, "holds no state dict"),
        ([torch.ones(2)], "holds no state dict"),
        ({"model": GOOD, "x": 1}, "holds more than tensors"),
    ],
)
def test_what_does_not_fit_is_named(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    model = trained(3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(snnprof.SnnprofError, match=message):
        load_checkpoint(model, tmp_path / "x.pt")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("path", ["a\0b", "absent.pt", "."])
def test_a_path_that_cannot_be_read(path: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match="checkpoint"):
        load_checkpoint(network(), path)


# --- the safetensors format ------------------------------------------------------------------


def test_every_dtype_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    kinds = (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.int64,
        torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )  # fmt: skip
    torch.manual_seed(0)
    tensors = {str(kind): (torch.randn(3, 5) * 4).to(kind) for kind in kinds}
    tensors |= {
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "turned": torch.randn(4, 3).T,
    }
    tensors["nan"] = torch.tensor([float("nan"), float("-inf"), -0.0])
    back, metadata = from_bytes(to_bytes(tensors, {"note": "\u00e4"}))
    assert metadata == {"note": "\u00e4"}
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (back[name].dtype, back[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(bits(back[name]), bits(tensor))


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def test_a_file_by_hand() -> None:
    """Length of the header, the header, and 1.0 as IEEE 754: 00 00 80 3f."""
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    tensors, _ = from_bytes(len(header).to_bytes(8, "little") + header + b"\x00\x00\x80\x3f")
    assert tensors["a"].tolist() == [1.0]


def test_the_numbers_are_aligned() -> None:
    for name in ("a", "ab", "abc", "abcdefgh"):
        content = to_bytes({name: torch.ones(1)}, {})
        assert int.from_bytes(content[:8], "little") % 8 == 0


def entry(**changes: object) -> Callable[[], bytes]:
    return lambda: file(
        {"0.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}
    )


def file(header: object, body: bytes = b"1234") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: to_bytes(GOOD.state_dict(), {})[:-1], "it is cut off"),
        (lambda: (2**60).to_bytes(8, "little") + b"{}", "it is cut off"),
        (lambda: file(b"{" + b"[" * 100_000), "is damaged"),
        (lambda: file(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "is damaged"),
        (lambda: file(b'{"a": ' + b"9" * 5000 + b"}"), "is damaged"),
        (lambda: file({"__metadata__": {"a": 1}}), "its metadata is no text"),
        (lambda: file({"0.weight": 3}), "is of no known dtype"),
        (entry(dtype="F4"), "is of no known dtype"),
        (entry(dtype=["F32"]), "is of no known dtype"),
        (entry(shape=[-1]), "has no shape or place"),
        (entry(shape=[float("inf")]), "Infinity is no number of JSON"),
        (entry(data_offsets=[2, 6]), "it is cut off"),
        (lambda: file({}), "4 bytes that belong to no tensor"),
        (entry(shape=[0], data_offsets=[4, 4]), "overlap, or leave gaps"),
        (entry(shape=[0, 2**62, 2**62], data_offsets=[0, 0]), "has a shape that no tensor has"),
        (
            lambda: to_bytes(GOOD.state_dict(), {})[:-1] + b"\x7f",
            "its checksum is of other numbers",
        ),
        (entry(shape=[2]), "another size than its shape says"),
        (entry(shape=[2**40, 2**40]), "another size than its shape says"),
        (entry(shape=[2**70]), "has no shape or place"),
        (entry(data_offsets=[0]), "has no shape or place"),
        (entry(data_offsets=[0, 8]), "it is cut off"),
        (entry(data_offsets=[4, 0]), "another size than its shape says"),
        (entry(shape=[0] * 100_000, data_offsets=[0, 0]), "has no shape or place"),
    ],
)
def test_a_damaged_file_is_one_line(
    content: Callable[[], bytes], message: str, tmp_path: Path
) -> None:
    (tmp_path / "x.safetensors").write_bytes(content())
    with pytest.raises(snnprof.SnnprofError, match=message):
        load_checkpoint(network(), tmp_path / "x.safetensors")


def test_what_no_file_can_hold_is_named() -> None:
    with pytest.raises(snnprof.SnnprofError, match=r"w is torch\.float32, torch\.sparse_coo"):
        to_bytes({"w": torch.eye(2).to_sparse()}, {})


def test_a_configuration_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(to_bytes(GOOD.state_dict(), {"snnprof": "{"}))
    with pytest.raises(snnprof.SnnprofError, match="its configuration is damaged"):
        saved_configuration(path)
    path.write_bytes(to_bytes(GOOD.state_dict(), {"snnprof": "[1]"}))
    assert saved_configuration(path) is None
    torch.save(GOOD.state_dict(), path)
    assert saved_configuration(path) is None


# --- files that other programs wrote ---------------------------------------------------------


def test_the_formats_own_writer(tmp_path: Path) -> None:
    theirs = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    theirs.save_file(GOOD.state_dict(), tmp_path / "x.safetensors")
    model = trained(3)
    assert load_checkpoint(model, tmp_path / "x.safetensors") == ()
    assert same(GOOD, model)


def test_timms_own_saver(tmp_path: Path) -> None:
    utils = pytest.importorskip("timm.utils", reason="needs timm, which no make target installs")
    average = utils.ModelEmaV3(GOOD, decay=0.5)
    saver = utils.CheckpointSaver(
        RAW, OPTIMIZER, argparse.Namespace(model="x"), average, checkpoint_dir=str(tmp_path)
    )
    saver.save_checkpoint(0, metric=0.5)
    model = trained(3)
    (note,) = load_checkpoint(model, tmp_path / "last.pth.tar")
    assert note.endswith(TIMM)
    assert same(GOOD, model)


def test_lightnings_own_checkpoint(tmp_path: Path) -> None:
    lightning: Any = pytest.importorskip("lightning", reason="needs lightning")

    class Task(lightning.LightningModule):  # type: ignore[name-defined]
        def __init__(self, width: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model = trained(1)
            self.criterion = nn.CrossEntropyLoss(weight=torch.ones(2))

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return self.criterion(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    task = Task()
    data = [(torch.randn(8, 3), torch.randint(2, (8,)))] * 2
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, torch.utils.data.DataLoader(data, batch_size=None))
    (path,) = tmp_path.rglob("*.ckpt")
    model = trained(3)
    (note,) = load_checkpoint(model, path)
    assert "what stands under 'state_dict/model' was loaded; left out: criterion.weight." in note
    assert same(task.model, model)
