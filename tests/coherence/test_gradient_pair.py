"""Both gradients on live networks: the identity, and the figures against enumeration."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnprof.coherence.measure import coherence
from snnprof.models import create
from snnprof.spiking.hdlif import HDLIF, hdlif_step
from snnprof.training.adapters import adapt
from snnprof.training.batch_run import BatchRun
from snnprof.training.modes import MODES

from .networks import batch, spread_logits, vgg5

EXACT = ({}, {"four_bit": True}, {"literal": True}, {"parallel": True}, {"seca": True})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("variants", EXACT)
@pytest.mark.parametrize("training", [True, False])
def test_the_identity_holds_on_a_five_layer_network(
    variants: dict[str, bool], dtype: torch.dtype, training: bool
) -> None:
    network = vgg5(dtype, neuron="hdlif", **variants).train(training)
    result = coherence(network, *batch(dtype=dtype))
    assert len(result.rows) == 4  # three convolutions and a linear layer with neurons
    for row in result.rows:
        assert row.identity_claimed and row.reason is None
        assert row.identity_residual is not None
        assert row.identity_residual <= (1e-10 if dtype == torch.float64 else 1e-4)
        assert row.stbp_norm_membrane and row.stbp_norm_weight
        assert row.fired > 0.01


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_the_identity_holds_on_resnet18(dtype: torch.dtype, bound: float) -> None:
    torch.manual_seed(0)
    network = create("resnet18", neuron="hdlif", timesteps=3, image_size=8)
    spread_logits(network)
    result = coherence(network.to(dtype), *batch(3, count=4, dtype=dtype))
    assert len(result.rows) == 16  # two in each of eight blocks
    for row in result.rows:
        assert row.identity_residual is not None and row.identity_residual <= bound
        assert row.stbp_norm_membrane
    weights = [name for row in result.rows for name in row.weights]
    expected = [
        name
        for name, p in network.named_parameters()
        if p.dim() > 1 and not name.startswith(("classifier", "blocks.7.conv2"))
    ]
    assert sorted(weights) == sorted(expected)  # each once; no neuron follows the others


def test_integer_spikes_obey_it_where_the_gradient_passes() -> None:
    result = coherence(vgg5(neuron="ilif"), *batch())
    assert all(r.identity_claimed and r.identity_residual == 0 for r in result.rows)


@pytest.mark.parametrize(
    ("kind", "reason", "least"),
    [({"neuron": "lif"}, "surrogate", 0.1), ({"neuron": "hdlif", "mem_bn": True}, "norm", 1e-3)],
)
def test_where_it_is_not_claimed_it_fails_and_the_result_says_why(
    kind: dict[str, object], reason: str, least: float
) -> None:
    for row in coherence(vgg5(**kind), *batch()).rows:
        assert not row.identity_claimed
        assert row.reason is not None and reason in row.reason
        assert row.identity_residual is not None and row.identity_residual > least


def test_a_parallel_last_layer_is_online_already() -> None:
    result = coherence(vgg5(neuron="hdlif", parallel=True), *batch())
    last = result.rows[-1]
    assert last.neuron == "hdlif+parallel"
    assert last.relative_error == 0 and last.relative_error_weight == 0


class Two(nn.Module):
    """Two layers of HD-LIF neurons between linear layers; [T, B, 5] to [T, B, 3]."""

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 3)
        self.n1, self.n2 = HDLIF(timesteps), HDLIF(timesteps)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c(self.n2(self.b(self.n1(self.a(x)))))
        return out


def oracle(network: Two, x: Tensor, y: Tensor, cut: bool) -> dict[str, list[Tensor]]:
    """Every m_t and s_t as a node of its own, by the definition of a step."""
    kept: dict[str, list[Tensor]] = {"m1": [], "s1": [], "m2": [], "s2": []}
    left: dict[str, Tensor | None] = {"1": None, "2": None}

    def neuron(layer: str, module: HDLIF, current: Tensor, t: int) -> Tensor:
        last = left[layer]
        if cut and last is not None:
            last = last.detach()
        leak, height = module.leak_logit[t].sigmoid(), module.threshold_logit[t].sigmoid()
        m = current * 1 if last is None else leak * last + current
        spike, left[layer] = hdlif_step(None, m, leak, height)
        out = spike * 1  # what the layers above see; the reset keeps its own
        kept[f"m{layer}"].append(m)
        kept[f"s{layer}"].append(out)
        return out

    outputs = []
    for t, current in enumerate(x):
        spikes = neuron("1", network.n1, network.a(current), t)
        outputs.append(network.c(neuron("2", network.n2, network.b(spikes), t)))
    loss = F.cross_entropy(torch.stack(outputs).sum(0), y)
    nodes = [m for group in kept.values() for m in group]
    weights = [network.a.weight, network.b.weight]
    found = torch.autograd.grad(loss, [*nodes, *weights])
    steps = len(x)
    grads = {key: list(found[i * steps : (i + 1) * steps]) for i, key in enumerate(kept)}
    fired = {f"f{k}": [(s > 0).detach() for s in kept[f"s{k}"]] for k in "12"}
    return {**grads, **fired, "w": list(found[-2:])}


def norm(values: list[Tensor]) -> float:
    return sum(float((v**2).sum()) for v in values) ** 0.5


def dot(a: list[Tensor], b: list[Tensor]) -> float:
    return sum(float((u * v).sum()) for u, v in zip(a, b, strict=True))


@pytest.mark.parametrize("timesteps", [2, 5])
def test_every_figure_equals_enumeration(timesteps: int) -> None:
    torch.manual_seed(3)
    network = Two(timesteps).double()
    spread_logits(network)
    x = 2 * torch.randn(timesteps, 4, 5, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0])
    full, cut = oracle(network, x, y, False), oracle(network, x, y, True)
    result = coherence(network, x, y)
    assert (result.timesteps, result.batch, result.dtype) == (timesteps, 4, "float64")
    assert [row.name for row in result.rows] == ["n1", "n2"]
    for place, row in enumerate(result.rows):
        key = str(place + 1)
        m, online, delta, fired = full[f"m{key}"], cut[f"m{key}"], full[f"s{key}"], full[f"f{key}"]
        apart, target, sure, on = [], [], [], 0
        for t in range(timesteps):
            for index in torch.cartesian_prod(*(torch.arange(n) for n in m[t].shape)):
                at = tuple(index.tolist())
                later = [i for i in range(t, timesteps) if bool(fired[i][at])]
                if later and later[0] > t:
                    apart.append(delta[later[0]][at] - delta[t][at])
                    target.append(delta[later[0]][at])
                elif later:
                    sure.append(m[t][at])
                    on += 1
        expected = {
            "fired": on / sum(f.numel() for f in fired),
            "separability": norm(apart) / norm(target),
            "ratio_predicted": norm(sure) / norm(m),
            "ratio_measured": norm(online) / norm(m),
            "cosine_membrane": dot(m, online) / norm(m) / norm(online),
            "relative_error": norm([a - b for a, b in zip(m, online, strict=True)]) / norm(m),
            "stbp_norm_membrane": norm(m),
            "online_norm_membrane": norm(online),
            "stbp_norm_weight": norm([full["w"][place]]),
            "online_norm_weight": norm([cut["w"][place]]),
            "cosine_weight": dot([full["w"][place]], [cut["w"][place]])
            / norm([full["w"][place]])
            / norm([cut["w"][place]]),
        }
        for name, value in expected.items():
            assert getattr(row, name) == pytest.approx(value, rel=1e-9, abs=1e-12), name
    # The last layer's gradient from above is the same at every step: Definition 4.1 holds.
    assert result.rows[1].separability == pytest.approx(0, abs=1e-14)
    assert result.rows[1].ratio_residual == pytest.approx(0, abs=1e-14)
    assert result.rows[0].separability > 0.01  # type: ignore[operator]


class NoStep(torch.optim.SGD):
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        pass


@pytest.mark.parametrize("neuron", ["hdlif", "lif"])
def test_the_arms_are_what_the_training_modes_run(neuron: str) -> None:
    """With the loss per step the online arm is mode "online", to rounding (norms fixed)."""
    network = vgg5(neuron=neuron).eval()
    x, y = batch()
    grads = {}
    for mode in ("stbp", "online"):
        optimizer = NoStep(network.parameters(), lr=1.0)
        MODES[mode](BatchRun(adapt(network), x.expand(4, *x.shape), y, optimizer))
        grads[mode] = {
            n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None
        }
    result = coherence(network, x, y, online_loss="step")
    assert (result.loss, result.online_loss) == ("sum", "step")
    assert any("different losses" in remark for remark in result.remarks)
    for row in result.rows:
        (weight,) = row.weights
        a, b = grads["stbp"][weight], grads["online"][weight]
        assert row.stbp_norm_weight == pytest.approx(float(a.norm()), rel=1e-11)
        assert row.online_norm_weight == pytest.approx(float(b.norm()), rel=1e-11)
        cosine = float((a * b).sum() / a.norm() / b.norm())
        assert row.cosine_weight == pytest.approx(cosine, rel=1e-11)


def test_frozen_weights_have_no_figures_and_change_none_of_the_membranes() -> None:
    network, data = vgg5(neuron="hdlif"), batch()
    whole = coherence(network, *data)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    frozen = coherence(network, *data)
    for a, b in zip(frozen.rows, whole.rows, strict=True):
        assert a.cosine_weight is None and a.weights == ()
        assert (a.cosine_membrane, a.separability) == (b.cosine_membrane, b.separability)
