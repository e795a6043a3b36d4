"""Models from anywhere, weights from files, and what is refused."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

import snnprof
from snnprof.experiment.checkpoint import load_checkpoint
from snnprof.experiment.model_source import find_builder
from snnprof.models import create


def vgg5(**settings: object) -> nn.Module:
    return create("vgg5", in_channels=1, image_size=8, **settings)  # type: ignore[arg-type]


def test_a_name_is_one_of_our_networks() -> None:
    network = find_builder("vgg5")(timesteps=2, image_size=8)
    assert isinstance(network, snnprof.models.SpikingNetwork)
    assert network.timesteps == 2


def test_anyones_function_gets_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_models.py").write_text(
        "import torch\n"
        "def build(num_classes):\n    return torch.nn.Linear(3, num_classes)\n"
        "def everything(**settings):\n    return torch.nn.Linear(settings['timesteps'], 1)\n"
        "def nothing():\n    return 'no module'\n"
    )
    (tmp_path / "their_broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    built = find_builder("their_models:build")(num_classes=7, timesteps=2)
    assert isinstance(built, nn.Linear)
    assert built.out_features == 7
    assert find_builder("their_models:everything")(num_classes=7, timesteps=2).in_features == 2
    with pytest.raises(snnprof.SnnprofError, match="returned a str"):
        find_builder("their_models:nothing")(num_classes=7)
    with pytest.raises(snnprof.SnnprofError, match="no function 'absent'"):
        find_builder("their_models:absent")
    with pytest.raises(snnprof.SnnprofError, match="cannot import 'their_nowhere'"):
        find_builder("their_nowhere:build")
    with pytest.raises(snnprof.SnnprofError, match="ZeroDivisionError"):
        find_builder("their_broken:build")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": torch.ones(1)}])
def test_a_checkpoint_brings_its_weights(tmp_path: Path, wrap: object) -> None:
    saved, fresh = vgg5(), vgg5()
    state = {f"module.{key}": value for key, value in saved.state_dict().items()}
    torch.save(wrap(state), tmp_path / "w.pt")  # type: ignore[operator]
    load_checkpoint(fresh, tmp_path / "w.pt")
    for a, b in zip(saved.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("pwned").write_text, ("x",))


def refused(model: nn.Module, path: Path, message: str) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(snnprof.SnnprofError, match=message) as caught:
        load_checkpoint(model, path)
    assert len(str(caught.value).splitlines()) == 1
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model, path = vgg5(), tmp_path / "w.pt"
    refused(model, path, "No such file")
    refused(model, tmp_path, "directory")
    torch.save(vgg5(neuron="hdlif").state_dict(), path)
    refused(model, path, "another network; unexpected: features.1.leak_logit")
    torch.save(vgg5(num_classes=7).state_dict(), path)
    refused(model, path, r"of another shape: classifier.3.0.weight \(7, 128\) instead of \(10, 128")
    torch.save(vgg5().state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])
    refused(model, path, "damaged")
    path.write_bytes(b"")
    refused(model, path, "damaged")
    path.write_bytes(b"GIF89a, surely no weights")
    refused(model, path, "damaged")
    with path.open("wb") as file:
        pickle.dump(Hostile(), file)
    refused(model, path, "run code")
    torch.save({"weights": Hostile()}, path)
    refused(model, path, "run code")
    assert not (tmp_path / "pwned").exists()
    torch.save({"epoch": 3}, path)
    refused(model, path, "holds no state dict")
    torch.save(torch.zeros(3), path)
    refused(model, path, "holds no state dict")


def test_a_checkpoint_of_a_model_with_a_part_called_module(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    saved, fresh = Wrapped(), Wrapped()
    torch.save(saved.state_dict(), tmp_path / "w.pt")
    load_checkpoint(fresh, tmp_path / "w.pt")
    assert torch.equal(saved.module.weight, fresh.module.weight)


def test_full_precision_weights_become_latent_ones(tmp_path: Path) -> None:
    saved = vgg5()
    torch.save(saved.state_dict(), tmp_path / "w.pt")
    fresh = vgg5(weights="1bit")
    load_checkpoint(fresh, tmp_path / "w.pt")
    expected = snnprof.quantize(saved, "1bit")
    assert torch.equal(expected.features[3][0].weight, fresh.features[3][0].weight)  # type: ignore[index, union-attr]


def test_tensors_of_another_kind_are_refused(tmp_path: Path) -> None:
    model, path = nn.Linear(3, 3), tmp_path / "w.pt"
    state = model.state_dict()
    torch.save({**state, "weight": state["weight"].to_sparse()}, path)
    refused(model, path, "of another kind: weight is torch.float32, torch.sparse_coo")
    torch.save({**state, "bias": state["bias"] + 0j}, path)
    refused(model, path, "of another kind: bias is torch.complex64")
