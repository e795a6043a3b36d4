"""coherence and coherence_sweep: choice of layers, remarks, mistakes, files."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnprof
from snnprof.coherence.measure import coherence, coherence_sweep
from snnprof.results import CoherenceResult
from snnprof.spiking.hdlif import HDLIF
from snnprof.spiking.lif import LIF
from snnprof.training.losses import LOSSES

from .networks import batch, vgg5


def test_one_layer_at_a_time_and_a_pattern_give_the_same_rows() -> None:
    network, data = vgg5(neuron="hdlif"), batch()
    whole = coherence(network, *data)
    assert coherence(network, *data, one_layer_at_a_time=True) == whole
    some = coherence(network, *data, layers="features.*")
    assert some.rows == whole.rows[:3]


def test_one_time_step_is_trivially_coherent() -> None:
    for neuron in ("hdlif", "lif"):
        result = coherence(vgg5(timesteps=1, neuron=neuron), *batch())
        assert any("trivially 1" in remark for remark in result.remarks)
        for row in result.rows:
            assert row.relative_error == 0 and row.relative_error_weight == 0
            assert row.cosine_membrane == pytest.approx(1, abs=1e-15)
            assert row.separability is None


def test_a_sweep_over_time() -> None:
    data = batch()
    results = coherence_sweep(lambda t: vgg5(timesteps=t, neuron="hdlif"), *data, timesteps=(1, 3))
    assert [result.timesteps for result in results] == [1, 3]
    assert results[1] == coherence(vgg5(timesteps=3, neuron="hdlif"), *data)
    for steps, message in (((), "none given"), ((0,), "timesteps=0")):
        with pytest.raises(snnprof.SnnprofError, match=message):
            coherence_sweep(lambda t: vgg5(timesteps=t), *data, timesteps=steps)


class Leaky(nn.Module):
    """Somebody's stateful layer that nobody has registered."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def forward(self, current: Tensor) -> Tensor:
        self.kept = current if self.kept is None else 0.5 * self.kept + current
        return self.kept


class Mixed(nn.Module):
    """A known neuron beside a state that is not, and a weight that is no layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.b = nn.Linear(5, 8), LIF(4), nn.Linear(8, 3)
        self.leaky, self.scale = Leaky(), nn.Parameter(torch.ones(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        steps = [self.leaky(self.n(self.a(current)[None])[0] @ self.scale) for current in x]
        return self.b(torch.stack(steps))


def test_what_is_not_looked_after_is_said() -> None:
    x, y = 2 * torch.randn(4, 6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    remarks = coherence(Mixed(), x, y).remarks
    assert any("Not cut between time steps: what leaky keeps" in remark for remark in remarks)
    assert any("No figures for scale" in remark for remark in remarks)


def test_a_layer_in_two_places_is_said() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.n, self.b = nn.Linear(5, 8), HDLIF(4), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.n(self.a(x))
            snnprof.reset(self)
            return self.b(self.n(spikes))

    x, y = 2 * torch.randn(4, 6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    assert any("n was called with 2 sequences" in r for r in coherence(Twice(), x, y).remarks)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": lambda o, y: o.detach().sum()}, "not computed from the network"),
        ({"loss": lambda o, y: torch.ones(1, requires_grad=True).sum()}, "not computed from"),
        ({"loss": lambda o, y: 1.0}, "the loss is float"),
        ({"loss": lambda o, y: o}, "one number"),
        ({"loss": lambda o, y: o.sum() * float("nan")}, "the loss is nan"),
        ({"loss": "hinge"}, "unknown loss 'hinge'; known: mse, ottt, step, sum, tet"),
        ({"layers": "block*"}, "matches no neuron layer; known: features.1"),
    ],
)
def test_a_mistake_is_one_sentence(given: dict[str, object], message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        coherence(vgg5(neuron="hdlif"), *batch(), **given)  # type: ignore[arg-type]


def test_a_loss_of_the_weights_alone_is_none() -> None:
    model = vgg5(neuron="hdlif")

    def decay(out: Tensor, y: Tensor) -> Tensor:
        return torch.stack([p.square().sum() for p in model.parameters()]).sum()

    with pytest.raises(snnprof.SnnprofError, match=r"no gradient reaches features\.1"):
        coherence(model, *batch(), loss=decay)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.arange(5), "6 class numbers"),
        (torch.full((6,), 10), "classes 0 to 9"),
        (torch.zeros(6, 9), "6 class numbers"),
    ],
)
def test_targets_that_do_not_fit(y: Tensor, message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        coherence(vgg5(neuron="hdlif"), batch()[0], y)


def test_a_network_without_neurons_is_told_how() -> None:
    with pytest.raises(snnprof.SnnprofError, match=r"@snnprof\.register_neuron"):
        coherence(nn.Linear(2, 2), torch.randn(2, 2), torch.arange(2))


def test_a_network_that_returns_no_sequence() -> None:
    network = nn.Sequential(HDLIF(2), nn.Flatten(0, 1))
    with pytest.raises(snnprof.SnnprofError, match=r"returned \(6, 4\)"):
        coherence(network, torch.randn(2, 3, 4), torch.arange(3))


class Beside(nn.Module):
    """A layer of neurons whose spikes nobody uses, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.lost, self.never = HDLIF(2), HDLIF(2), HDLIF(2)

    def forward(self, x: Tensor) -> Tensor:
        self.lost(x)
        out: Tensor = self.used(x)
        return out


def test_layers_without_a_gradient_are_named() -> None:
    result = coherence(Beside(), torch.randn(2, 3, 4), torch.arange(3))
    rows = result.by_layer()
    assert set(rows) == {"lost", "used"}
    assert rows["lost"].identity_residual is None and rows["lost"].cosine_membrane is None
    assert rows["used"].identity_residual is not None
    assert "Never called: never." in result.remarks
    assert "No gradient of the loss reaches lost." in result.remarks
    with pytest.raises(snnprof.SnnprofError, match="none ran"):
        coherence(Beside(), torch.randn(2, 3, 4), torch.arange(3), layers="never")


def test_losses_by_hand() -> None:
    outputs = torch.tensor([[[1.0, 3.0]], [[2.0, 5.0]]])  # [T = 2, B = 1, 2 classes]
    y = torch.tensor([1])
    one, two = (F.cross_entropy(o, y) for o in outputs)
    assert LOSSES["step"](outputs, y) == pytest.approx(float(one + two) / 2, rel=1e-6)
    summed = F.cross_entropy(torch.tensor([[3.0, 8.0]]), y)
    assert LOSSES["sum"](outputs, y) == pytest.approx(float(summed), rel=1e-6)


def test_files(tmp_path: Path) -> None:
    result = coherence(vgg5(neuron="lif"), *batch(), label="epoch 3")
    for suffix in (".json", ".md", ".csv", ".tex"):
        result.save(tmp_path / f"result{suffix}")
    assert snnprof.load(tmp_path / "result.json") == result
    assert isinstance(snnprof.load(tmp_path / "result.json"), CoherenceResult)
    document = json.loads((tmp_path / "result.json").read_text())
    fixed = "name fired identity_residual separability cosine_membrane cosine_weight relative_error"
    assert set(fixed.split()) <= set(document["result"]["rows"][0])
    text = (tmp_path / "result.md").read_text()
    assert "surrogate" in text and "epoch 3" in text
    assert result.to_frame()["name"].tolist() == [row.name for row in result.rows]


def test_what_is_no_input_is_one_sentence() -> None:
    network = vgg5()
    x, y = batch()
    for given, message in (
        ((network, x, [1, 2]), "y is a list"),
        ((network, x[:0], y[:0]), r"x of shape \(0, .* is empty"),
        ((network, torch.zeros(0, *x.shape), y), "is empty"),
    ):
        with pytest.raises(snnprof.SnnprofError, match=message):
            coherence(*given)  # type: ignore[arg-type]
    with pytest.raises(snnprof.SnnprofError, match="give a pattern"):
        coherence(network, x, y, layers=["a"])  # type: ignore[arg-type]
