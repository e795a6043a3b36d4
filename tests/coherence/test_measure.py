"""Coherence on live networks, against oracles that share no code with it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnprof
from snnprof.coherence.measure import coherence, coherence_sweep
from snnprof.models import create
from snnprof.results import CoherenceResult
from snnprof.spiking.hdlif import HDLIF, hdlif_step
from snnprof.spiking.lif import LIF
from snnprof.spiking.neuron import neurons_of
from snnprof.spiking.neuron_equations import NEURON_EQUATIONS, NeuronEquations, register_neuron
from snnprof.training.adapters import adapt
from snnprof.training.batch_run import BatchRun
from snnprof.training.losses import LOSSES
from snnprof.training.modes import MODES

EXACT = ({}, {"four_bit": True}, {"literal": True}, {"parallel": True}, {"seca": True})


def spread_logits(network: nn.Module) -> None:
    """Leaks and thresholds that differ from step to step and are no powers of 2."""
    for module in network.modules():
        if isinstance(module, HDLIF):
            for parameter in (module.threshold_logit, getattr(module, "leak_logit", None)):
                if parameter is not None:
                    with torch.no_grad():
                        parameter.normal_()


def vgg5(dtype: torch.dtype = torch.float64, timesteps: int = 4, **kind: object) -> nn.Module:
    torch.manual_seed(0)
    network = create("vgg5", timesteps=timesteps, in_channels=1, image_size=8, **kind)  # type: ignore[arg-type]
    spread_logits(network)
    network.to(dtype)
    with torch.no_grad():  # so that the network fires in evaluation mode, too
        for _ in range(30):
            network(batch(dtype=dtype)[0])
    return network


def batch(
    channels: int = 1, size: int = 8, count: int = 6, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, channels, size, size, dtype=dtype), torch.arange(count)


# --- the identity on live networks -----------------------------------------------------------


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


# --- figures against an oracle ---------------------------------------------------------------


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
    result = coherence(network, x, y, online_loss="per-step")
    assert (result.loss, result.online_loss) == ("sum", "per-step")
    assert any("different losses" in remark for remark in result.remarks)
    for row in result.rows:
        (weight,) = row.weights
        a, b = grads["stbp"][weight], grads["online"][weight]
        assert row.stbp_norm_weight == pytest.approx(float(a.norm()), rel=1e-11)
        assert row.online_norm_weight == pytest.approx(float(b.norm()), rel=1e-11)
        cosine = float((a * b).sum() / a.norm() / b.norm())
        assert row.cosine_weight == pytest.approx(cosine, rel=1e-11)


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


# --- nothing is disturbed --------------------------------------------------------------------


def everything(model: nn.Module) -> list[object]:
    """All that must stay: values, identities and versions."""
    seen: list[object] = [torch.get_rng_state().tolist()]
    for name, module in model.named_modules():
        plain = {k: id(v) for k, v in vars(module).items() if not k.startswith("_")}
        hooks = [len(vars(module)[k]) for k in sorted(vars(module)) if k.endswith("hooks")]
        seen.append((name, module.training, plain, hooks))
    for p in model.parameters():
        grad = None if p.grad is None else (id(p.grad), p.grad._version, p.grad.tolist())
        seen.append((id(p), p._version, p.tolist(), p.requires_grad, grad))
    seen += [(id(b), b._version, b.tolist()) for b in model.buffers()]
    for n in neurons_of(model):
        membrane = None if n.membrane is None else n.membrane.tolist()
        seen.append((id(n.membrane), membrane, n.steps_run, n.last_steps, n.neurons))
    return seen


def half_run(neuron: str) -> nn.Module:
    """A network in the middle of everything: gradients, statistics, a sequence under way."""
    network = vgg5(neuron=neuron)
    network.classifier[0].append(nn.Dropout(0.5))  # type: ignore[union-attr, operator]
    x, y = batch()
    F.cross_entropy(network(x).sum(0), y).backward()
    network(x.unsqueeze(0))
    return network


@pytest.mark.parametrize("neuron", ["hdlif", "lif", "ilif", "hdlif+mem_bn+seca"])
def test_the_model_is_left_bit_for_bit(neuron: str) -> None:
    network, data = half_run(neuron), batch()
    before = everything(network)
    result = coherence(network, *data)
    assert everything(network) == before
    assert not any("deterministic" in remark for remark in result.remarks)
    assert network.training and result.training


def broken(outputs: Tensor, y: Tensor) -> Tensor:
    raise KeyError("a user's bug")


@pytest.mark.parametrize(
    ("loss", "error"), [(broken, KeyError), (lambda o, y: o.detach().sum(), ValueError)]
)
def test_also_after_an_exception(
    loss: Callable[[Tensor, Tensor], Tensor], error: type[Exception]
) -> None:
    network, data = half_run("hdlif"), batch()
    before = everything(network)
    with pytest.raises(error):
        coherence(network, *data, loss=loss)
    assert everything(network) == before


def test_a_graph_of_the_users_survives() -> None:
    network = vgg5(neuron="hdlif").train()
    x, y = batch()
    pending = F.cross_entropy(network(x).sum(0), y)
    coherence(network, x, y)
    pending.backward()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_needs_no_gradient_mode(mode: Callable[[], torch.no_grad]) -> None:
    network, data = vgg5(neuron="hdlif"), batch()
    with mode():
        found = coherence(network, *data)
    assert found == coherence(network, *data)


def test_frozen_weights_have_no_figures_and_change_none_of_the_membranes() -> None:
    network, data = vgg5(neuron="hdlif"), batch()
    whole = coherence(network, *data)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    frozen = coherence(network, *data)
    for a, b in zip(frozen.rows, whole.rows, strict=True):
        assert a.cosine_weight is None and a.weights == ()
        assert (a.cosine_membrane, a.separability) == (b.cosine_membrane, b.separability)


# --- neurons of other libraries --------------------------------------------------------------


class Foreign(nn.Module):
    """Somebody's soft-reset LIF, called once per time step."""

    def forward(self, current: Tensor) -> Tensor:
        raise AssertionError("its own forward is not run")


class Looped(nn.Module):
    """A network that is one loop over time."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.a, self.n, self.b = nn.Linear(5, 8), make(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for current in x:
            held = self.a(current)
            own = isinstance(self.n, LIF | HDLIF)
            out.append(self.b(self.n(held[None])[0] if own else self.n(held)))
        return torch.stack(out)


def hdlif_equations(module: nn.Module) -> NeuronEquations:
    half = torch.tensor(0.5)

    def step(membrane: Tensor | None, current: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        charged = current if membrane is None else half * membrane + current
        spike, left = hdlif_step(None, charged, half, half)
        return charged, spike, left

    return NeuronEquations(step, threshold=0.5, leak=0.5, multi_step=False, identity=True)


def test_another_librarys_neuron(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = 2 * torch.randn(4, 6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    with pytest.raises(snnprof.SnnprofError, match="register_neuron"):
        coherence(Looped(Foreign), x, y)
    monkeypatch.setitem(NEURON_EQUATIONS, Foreign, hdlif_equations)
    with pytest.raises(ValueError, match="already registered"):
        register_neuron(Foreign)(hdlif_equations)
    (row,) = coherence(Looped(Foreign), x, y).rows
    (own,) = coherence(Looped(lambda: HDLIF(4)), x, y).rows
    assert (row.neuron, own.neuron) == ("Foreign", "hdlif")
    assert row.identity_claimed and row.weights == own.weights == ("a.weight",)
    for name in ("fired", "separability", "cosine_membrane", "cosine_weight", "relative_error"):
        assert getattr(row, name) == pytest.approx(getattr(own, name), rel=1e-5)


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


def test_neurons_of_more_than_one_tensor_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Given(Looped):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.b(self.n(self.a(current), current)) for current in x])

    monkeypatch.setitem(NEURON_EQUATIONS, Foreign, hdlif_equations)
    x, y = torch.randn(4, 6, 5), torch.arange(6) % 3
    with pytest.raises(snnprof.SnnprofError, match=r"called with \(Tensor, Tensor\)"):
        coherence(Given(Foreign), x, y)


@pytest.mark.parametrize(
    ("equations", "message"),
    [
        (lambda module: None, "returned NoneType, not snnprof.NeuronEquations"),
        (
            lambda module: NeuronEquations(lambda m, i, t: (i, i), leak=0.5, multi_step=False),
            "three tensors",
        ),
        (
            lambda module: NeuronEquations(lambda m, i, t: i, leak=0.5, multi_step=False),
            "three tensors",
        ),
    ],
)
def test_equations_that_are_none(
    equations: Callable[[nn.Module], NeuronEquations],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(NEURON_EQUATIONS, Foreign, equations)
    with pytest.raises(snnprof.SnnprofError, match=message):
        coherence(Looped(Foreign), torch.randn(4, 6, 5), torch.arange(6) % 3)


# --- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": lambda o, y: o.detach().sum()}, "not computed from the network"),
        ({"loss": lambda o, y: torch.ones(1, requires_grad=True).sum()}, "not computed from"),
        ({"loss": lambda o, y: 1.0}, "the loss is float"),
        ({"loss": lambda o, y: o}, "one number"),
        ({"loss": lambda o, y: o.sum() * float("nan")}, "the loss is nan"),
        ({"loss": "mse"}, "unknown loss 'mse'; known: per-step, sum"),
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
        (torch.zeros(6, 10), "6 class numbers"),
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
    assert LOSSES["per-step"](outputs, y) == pytest.approx(float(one + two) / 2, rel=1e-6)
    summed = F.cross_entropy(torch.tensor([[3.0, 8.0]]), y)
    assert LOSSES["sum"](outputs, y) == pytest.approx(float(summed), rel=1e-6)


# --- there and back --------------------------------------------------------------------------


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


def test_a_learnt_leak_is_one_number() -> None:
    class Leaky(nn.Module):
        def __init__(self, leak: Tensor) -> None:
            super().__init__()
            self.decay = nn.Parameter(leak)

        def forward(self, currents: Tensor) -> Tensor:
            raise AssertionError("it is replayed by its equations")

    @register_neuron(Leaky)
    def equations(neuron: Leaky) -> NeuronEquations:
        half = torch.tensor(0.5, dtype=torch.float64)

        def step(membrane: Tensor | None, current: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
            charged = current if membrane is None else neuron.decay * membrane + current
            spike, left = hdlif_step(None, charged, half, half)
            return charged, spike, left

        return NeuronEquations(step, threshold=0.5, leak=neuron.decay, identity=True)

    try:
        torch.manual_seed(0)
        x, y = torch.randn(4, 3, 6).double(), torch.arange(3)
        net = nn.Sequential(nn.Linear(6, 8), Leaky(torch.tensor(0.7)), nn.Linear(8, 4)).double()
        (row,) = coherence(net, x, y).rows
        assert row.identity_residual is not None
        assert row.identity_residual < 1e-12
        wide = nn.Sequential(nn.Linear(6, 8), Leaky(torch.full((8,), 0.7)), nn.Linear(8, 4))
        with pytest.raises(snnprof.SnnprofError, match="one number for the whole layer"):
            coherence(wide.double(), x, y)
    finally:
        del NEURON_EQUATIONS[Leaky]


def test_containers_and_plain_tensors_are_put_back() -> None:
    class Diary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pages: list[object] = [{"first": 1}]
            self.pages.append(self.pages)
            self.pair: tuple[list[int], int] = ([], 0)
            self.last: dict[str, Tensor] = {}
            self.count = torch.zeros(1)

        def forward(self, x: Tensor) -> Tensor:
            self.pages.append(x)
            self.pair[0].append(1)
            self.pages[0]["again"] = 2  # type: ignore[index]
            self.last["x"] = x
            self.count.add_(1)
            return x

    diary = Diary()
    coherence(nn.Sequential(diary, vgg5()), *batch_of_sequences())
    assert diary.pages[0] == {"first": 1}
    assert diary.pages[1] is diary.pages
    assert len(diary.pages) == 2
    assert diary.pair == ([], 0)
    assert diary.last == {}
    assert diary.count.item() == 0


def batch_of_sequences() -> tuple[Tensor, Tensor]:
    x, y = batch()
    return x.expand(4, *x.shape), y
