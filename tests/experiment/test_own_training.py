"""Networks, data, losses, metrics and optimisers of one's own, through ``run``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnprof
from snnprof.results import Report

from ..support import networks
from ..support.networks import LoopInside, Net, RepeatInside, Spikes, Step, TimeFirst

GENERATOR = torch.Generator().manual_seed(0)
X = 4 * torch.rand(64, 6, generator=GENERATOR)
Y = X[:, :3].argmax(1)
Batches = list[tuple[Tensor, Any]]


def batches(y: Any = Y, size: int = 16, x: Tensor = X) -> Batches:
    return [(x[i : i + size], None if y is None else y[i : i + size]) for i in range(0, 64, size)]


def quick(model: Callable[..., Any], y: Any = Y, size: int = 16, **settings: Any) -> Report:
    given = {"modes": "stbp", "epochs": 1, "device": "cpu", **settings}
    data = given.pop("data", (batches(y, size), batches(y, size)))
    return snnprof.run(model, data=data, **given)


def time_first() -> nn.Module:
    return TimeFirst()


def refused(model: Callable[..., Any], **settings: Any) -> str:
    with pytest.raises(snnprof.SnnprofError) as caught:
        quick(model, **settings)
    return str(caught.value)


EVERY_LAYOUT: dict[str, Callable[..., nn.Module]] = {
    "step": lambda: Step(),
    "time-first": time_first,
    "batch-first": lambda: networks.BatchFirst(),
    "time-first, averaged": lambda: networks.AveragingTimeFirst(),
    "batch-first, averaged": lambda: networks.AveragingBatchFirst(),
    "inside": lambda timesteps: RepeatInside(timesteps),
    "inside, several outputs": lambda timesteps: LoopInside(timesteps),
}


def test_one_network_in_every_layout_has_the_same_counts() -> None:
    """The first layer sees 6 inputs, none of them 0, with 16 synapses each, in 4 steps = 384."""
    counted = {}
    for name, make in EVERY_LAYOUT.items():
        (row,) = quick(make, epochs=0, layout=name.partition(",")[0]).rows
        assert row.layout == name.partition(",")[0]
        assert row.counts is not None
        assert row.counts.samples == 64
        first, second = row.counts.rows
        assert first.synops == 64 * 384
        counted[name] = [(r.synops, r.nominal_macs, r.input_kind) for r in (first, second)]
        # 16 hidden neurons, 3 synapses out of each, in 4 steps = 192 at the most.
        assert 0 < second.synops < 64 * 192
    assert len({str(value) for value in counted.values()}) == 1, counted


@pytest.mark.parametrize("size", [8, 64])
def test_the_count_does_not_depend_on_the_batch_size(size: int) -> None:
    """Case 5: with ``step=lambda x: m(x.unsqueeze(0))`` a batch was counted as one sample."""

    def build() -> Any:
        model = TimeFirst()
        model.neurons = networks.Keeping()
        return snnprof.stepwise(
            model,
            reset=model.neurons.reset,
            detach=lambda: None,
            step=lambda x: model(x.unsqueeze(0))[0],
        )

    (row,) = quick(build, size=size, epochs=0).rows
    assert row.counts is not None
    assert row.counts.samples == 64
    assert row.counts.per_sample("synops") == quick(time_first, epochs=0).rows[0].counts.per_sample(
        "synops"
    )  # type: ignore[union-attr]


def test_a_network_with_too_few_outputs_is_one_line_before_training() -> None:
    """Case 7: the first batch may hold no label that is too large."""
    late = torch.cat([torch.zeros(48, dtype=torch.long), torch.full((16,), 8)])
    message = refused(time_first, y=late)
    assert "it has 3 outputs, and the data 9 classes: give its builder" in message


@pytest.mark.parametrize("mode", ["online", "sltt-2", "random-bp", "online-step"])
def test_a_mode_that_must_step_says_so_for_inside(mode: str) -> None:
    message = refused(lambda timesteps: RepeatInside(timesteps), modes=mode)
    assert "runs all its time steps inside its forward" in message
    assert "use mode 'stbp', or let forward run one time step" in message


# -- labels and losses


def soft_cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    return -(y * F.log_softmax(outputs, 1)).sum(1).mean()


def tet(outputs: Tensor, y: Tensor) -> Tensor:
    losses = [F.cross_entropy(outputs[t], y) for t in range(len(outputs))]
    return torch.stack(losses).mean()


def test_labels_of_every_kind_train() -> None:
    one_hot = F.one_hot(Y, 3)
    soft = 0.9 * one_hot + 0.1 / 3
    by_class = quick(lambda: Step(), epochs=2).rows[0]
    by_one_hot = quick(lambda: Step(), y=one_hot, epochs=2).rows[0]
    assert by_one_hot.loss == pytest.approx(by_class.loss, rel=1e-6)
    for y in (soft, one_hot.float()):
        (row,) = quick(lambda: Step(), y=y, modes="online", epochs=2).rows
        assert row.accuracy is not None
        assert row.loss is not None
    regression = X[:, :3].sum(1)
    (row,) = quick(lambda: Step(classes=1), y=regression, loss="mse").rows
    assert row.accuracy is None
    assert row.loss_name == "mse"


def test_a_soft_label_loss_of_ones_own_is_the_built_in_one() -> None:
    soft = torch.softmax(X[:, :3], 1)
    own = quick(lambda: Step(), y=soft, loss=soft_cross_entropy).rows[0]
    ours = quick(lambda: Step(), y=soft).rows[0]
    assert own.loss == pytest.approx(ours.loss, rel=1e-5)
    assert own.loss_name is not None
    assert own.loss_name.endswith(":soft_cross_entropy")


@pytest.mark.parametrize("make", [Step, time_first])
def test_a_loss_of_all_time_steps_is_found_by_trying(make: Callable[[], nn.Module]) -> None:
    own = quick(lambda: make(), loss=tet).rows[0]
    built_in = quick(lambda: make(), loss="step").rows[0]
    assert own.loss == pytest.approx(built_in.loss, rel=1e-6)


def test_a_loss_that_broadcasts_is_not_taken_for_one_of_the_sum() -> None:
    """Of [B, classes] the mean over time is one over the samples, and no error shows it."""

    def of_rates(outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs.mean(0) - y).square().mean()

    y = F.one_hot(Y, 3).float()
    own = quick(lambda: TimeFirst(), y, loss=of_rates).rows[0]
    built_in = quick(lambda: TimeFirst(), y, loss="mse").rows[0]
    assert own.loss == pytest.approx(built_in.loss, rel=1e-6)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_a_last_test_batch_of_t_samples_is_read_as_the_others(
    dim: int, shape: tuple[int, ...]
) -> None:
    """T = B = 4: the row failed after its training, or took sequences for images."""

    class Flat(TimeFirst):
        def forward(self, x: Tensor) -> Tensor:
            return self.body(x.flatten(2))

    if dim == 1 and len(shape) == 2:
        pytest.skip("[B, T, C, L] are images [B, C, H, W]")
    sizes = (16, 16, 4)
    generator = torch.Generator().manual_seed(0)
    events = [4 * torch.rand(4, size, *shape, generator=generator) for size in sizes]
    data = [(x.transpose(0, dim), Y[: x.shape[1]]) for x in events]
    (row,) = quick(lambda: Flat(), data=(data[:2], data), epochs=0).rows
    assert row.failure is None
    assert row.counts is not None
    assert row.counts.samples == sum(sizes)
    first, _ = row.counts.rows
    assert first.synops == sum(sizes) * 4 * 6 * 16


def test_test_samples_of_other_sequences_are_refused_before_training() -> None:
    train = [(torch.rand(16, 4, 6), Y[:16])]
    test = [(torch.rand(16, 8, 6), Y[:16])]
    message = refused(lambda: networks.BatchFirst(), data=(train, test))
    assert "timesteps=4, but the sequence has 8" in message


def test_a_builder_that_gives_the_same_network_again_is_refused() -> None:
    """Its rows would have trained one network together."""
    net = Step()
    message = refused(lambda: net, modes=["stbp", "online"])
    assert "gives the same weights again" in message
    frozen = nn.Linear(6, 6).requires_grad_(False)
    quick(lambda: nn.Sequential(frozen, Step()), epochs=0)  # not trained, and may be shared


def test_segmentation() -> None:
    class Segmenting(nn.Module):
        """[T, B, 1, 8, 8] to [T, B, 3, 8, 8]."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 1)
            self.neurons = Spikes()

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.neurons(self.first(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
            out: Tensor = self.second(hidden.flatten(0, 1)).unflatten(0, x.shape[:2])
            return out

    x = torch.rand(64, 1, 8, 8)
    y = (3 * x[:, 0]).long()
    data = (batches(y, x=x), batches(y, x=x))
    report = quick(Segmenting, data=data)
    (row,) = report.rows
    assert row.accuracy is not None
    assert any("share of pixels" in note for note in report.notes)
    assert row.counts is not None
    # 1 * 4 taps... first layer: per inner pixel 9 taps * 4 outputs; padded taps are no synapses.
    assert row.counts.rows[0].nominal_macs == 64 * 4 * 64 * 9 * 4


def test_no_labels_at_all() -> None:
    def reconstruct(outputs: Tensor, y: object) -> Tensor:
        assert y is None
        return outputs.square().mean()

    (row,) = quick(lambda: Step(), y=None, loss=reconstruct).rows
    assert row.accuracy is None
    assert "needs labels, and there are none" in refused(lambda: Step(), y=None)


def test_a_pair_of_labels_as_mixup_has_them() -> None:
    def mixed(outputs: Tensor, y: tuple[Tensor, Tensor, float]) -> Tensor:
        first, second, share = y
        return share * F.cross_entropy(outputs, first) + (1 - share) * F.cross_entropy(
            outputs, second
        )

    pairs = [(x, (y, y.flip(0), 0.7)) for x, y in batches()]
    data = {"train": pairs, "test": batches(), "num_classes": 3}
    (row,) = quick(lambda: Step(), data=data, loss=mixed).rows
    assert row.loss is not None


def test_a_prepared_dictionary() -> None:
    given = [{"image": x, "label": y} for x, y in batches()]
    data = {"train": given, "test": given, "prepare": lambda b: (b["image"], b["label"])}
    (row,) = quick(lambda: Step(), data=data).rows
    assert row.accuracy is not None


@pytest.mark.parametrize(("layout", "dim"), [("time-first", 0), ("batch-first", 1)])
def test_events_in_both_orders(layout: str, dim: int) -> None:
    events = (torch.rand(3, 64, 2, 4, 4) < 0.3).float()  # T = 3

    class OfEvents(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net(Spikes(), features=32)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x.transpose(0, dim).flatten(2)).transpose(0, dim)
            return out

    def part(size: int) -> Batches:
        return [
            (events[:, i : i + size].transpose(0, dim), Y[i : i + size]) for i in range(0, 64, size)
        ]

    (row,) = quick(OfEvents, data=(part(16), part(16)), timesteps=3).rows
    assert row.layout == layout
    assert row.counts is not None
    assert row.counts.rows[0].synops == int(events.count_nonzero()) * 16
    assert "timesteps=4, but the sequence has 3" in refused(OfEvents, data=(part(16), part(16)))


@pytest.mark.parametrize(("kind", "dim"), [(TimeFirst, 0), (networks.BatchFirst, 1)])
def test_a_last_test_batch_of_t_samples_is_read_as_the_first(
    kind: Callable[[], nn.Module], dim: int
) -> None:
    x, y = torch.rand(3, 8, 6), Y[:8]  # T = 3, and 8 = 5 + 3 samples
    train = [(x[:, :5].transpose(0, dim), y[:5])]
    data = (train, [*train, (x[:, 5:].transpose(0, dim), y[5:])])
    (row,) = quick(lambda: kind(), data=data, timesteps=3, epochs=0).rows
    assert row.counts is not None and row.counts.samples == 8
    assert row.counts.rows[0].synops == 3 * 8 * 6 * 16  # no input is 0


def test_sequences_with_as_many_channels_as_samples_that_are_tried() -> None:
    x = torch.rand(6, 2, 16)  # [B, C, L], T = 4
    data = ([(x, Y[:6])], [(x, Y[:6]), (x[:2], Y[:2])])

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv1d(2, 3, 16), networks.Keeping(), nn.Flatten())

    (row,) = quick(build, data=data, epochs=0).rows
    assert row.layout == "step" and row.counts is not None
    assert row.counts.rows[0].synops == 4 * 8 * 2 * 16 * 3  # one place of the kernel


def test_classes_of_every_position() -> None:
    class Positions(Net):
        """[B, L, 6] to [B, classes, L]."""

        def forward(self, x: Tensor) -> Tensor:
            repeated = x.unsqueeze(0).repeat(4, 1, 1, 1)
            out: Tensor = self.body(repeated).mean(0).transpose(1, 2)
            return out

    x = torch.rand(6, 7, 6)
    y = torch.arange(42).reshape(6, 7) % 3
    report = quick(lambda: Positions(Spikes()), data=([(x, y)], [(x, y)]))
    (row,) = report.rows
    assert row.layout == "inside" and row.counts is not None
    assert row.counts.rows[0].synops == 4 * 6 * 7 * 6 * 16
    assert any("share of positions" in note for note in report.notes)


# -- metric, optimiser, schedule


def test_a_metric_of_ones_own_is_a_column() -> None:
    def top2(outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs.topk(2, 1).indices == y[:, None]).any(1).float().mean()

    report = quick(lambda: Step(), metric=top2)
    (row,) = report.rows
    assert row.accuracy is None
    assert 0 <= row.more["top2"] <= 1  # type: ignore[operator]
    assert report.to_frame()["top2"].tolist() == [row.more["top2"]]
    assert quick(lambda: Step(), metric="none").rows[0].accuracy is None


def test_an_optimiser_and_a_schedule_of_ones_own() -> None:
    rates: list[float] = []

    def adam(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.5)

    def halve(optimizer: torch.optim.Optimizer, steps: int) -> Any:
        def factor(step: int) -> float:
            rates.append(0.5**step)
            return 0.5**step

        assert steps in (1, 4)
        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    report = quick(lambda: Step(), optimizer=adam, schedule=halve)
    assert rates[-1] == 0.5**4  # 64 samples in batches of 16: four steps
    assert any("optimiser adam, schedule halve" in note for note in report.notes)
    assert "learning_rate=0.1 would be ignored" in refused(
        lambda: Step(), optimizer=adam, learning_rate=0.1
    )
    message = refused(lambda: Step(), optimizer=lambda parameters: None)
    assert "returned a NoneType, not a torch.optim.Optimizer" in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": lambda o, y: o}, "it returned (3, 3), a scalar tensor is needed"),
        ({"loss": lambda o, y: o.sum() * float("nan")}, "it returned nan"),
        ({"loss": lambda o, y: 3.0}, "a scalar tensor is needed"),
        ({"loss": "hinge"}, "unknown loss 'hinge'; known: mse, ottt, step, sum, tet"),
        ({"metric": "f1"}, "unknown metric 'f1'; known: accuracy, none, package.module:function"),
        ({"metric": lambda o, y: o}, "returned a Tensor: a number is needed"),
        ({"optimizer": "adam"}, "optimizer='adam': give package.module:function"),
        ({"layout": "batch-first"}, "layout 'batch-first' does not fit: it mixes samples"),
        ({"steps": 0}, "steps=0: must be at least 1"),
        ({"workers": -1}, "workers=-1: must be 0 or more"),
        ({"workers": 2}, "so workers=2 would be ignored"),
        ({"workers": 2, "data": "digits"}, "workers=2: data 'digits' are in memory"),
        ({"image_size": 9}, "are no function, so image_size=9 would be ignored"),
        ({"optimizer": lambda p: {}["lr"]}, "optimizer '<lambda>' failed: "),
        ({"metric": lambda o, y: {}["f1"]}, "metric '<lambda>' failed: "),
        (
            {"data": (batches(), batches(x=X[:, :5]))},
            "it failed on test samples of shape (2, 5): ",
        ),
    ],
)
def test_what_is_refused_before_anything_is_trained(
    settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snnprof.experiment.run.train", lambda *_: pytest.fail("trained"))
    assert message in refused(time_first, **settings)


def test_accuracy_of_several_classes_of_a_sample_is_not_guessed() -> None:
    y = torch.stack([Y == 0, Y != 1, Y == 2], 1).long()

    def of_each(outputs: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, y.float())

    (row,) = quick(lambda: Step(), y=y, loss=of_each).rows
    assert row.accuracy is None


def test_a_model_is_made_anew_for_every_row() -> None:
    with pytest.raises(snnprof.SnnprofError, match="every row trains one of its own, so give"):
        quick(Step())


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda o, n: {}["gamma"], "schedule '<lambda>' failed: "),
        (lambda o, n: 0.1, "returned a float, not a torch LRScheduler"),
        (lambda o, n: torch.optim.lr_scheduler.ReduceLROnPlateau(o), "waits for a metric"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_before_the_first_step(
    schedule: Callable[..., Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "snnprof.experiment.stages.train_in_turn", lambda *_: pytest.fail("trained")
    )
    assert message in refused(time_first, schedule=schedule)


def test_what_could_not_be_seen_of_a_layout_is_said() -> None:
    report = quick(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
    assert any("no time step was seen to depend on the one before" in n for n in report.notes)
