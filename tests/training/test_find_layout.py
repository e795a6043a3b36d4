"""How a model takes its time steps: the same network in every layout, and what must be refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnprof
from snnprof.training.adapters import adapt
from snnprof.training.find_layout import find_layout

from ..support import networks
from ..support.networks import LoopInside, RepeatInside, Step, TimeFirst

Make = Callable[[int], nn.Module]


def always(kind: Callable[[], nn.Module]) -> Make:
    """A network that is the same for every T."""
    return lambda timesteps: kind()


NETWORKS: dict[str, tuple[Make, str, int | None, bool]] = {
    "step": (always(Step), "step", None, False),
    "time-first": (always(TimeFirst), "time-first", 0, False),
    "batch-first": (always(networks.BatchFirst), "batch-first", 1, False),
    "time-first averaged": (
        always(networks.AveragingTimeFirst),
        "time-first",
        None,
        False,
    ),
    "batch-first averaged": (
        always(networks.AveragingBatchFirst),
        "batch-first",
        None,
        False,
    ),
    "repeat inside": (RepeatInside, "inside", None, False),
    "loop inside": (LoopInside, "inside", 0, True),
}


def images(timesteps: int, samples: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(samples, 6, generator=generator).expand(timesteps, samples, 6)


@pytest.mark.parametrize("timesteps", [2, 3, 4, 7])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layout_is_found(name: str, timesteps: int) -> None:
    make, layout, output_dim, several = NETWORKS[name]
    found = find_layout(lambda: make(timesteps), images(timesteps))
    assert (found.name, found.output_dim, found.first_of_several) == (layout, output_dim, several)
    assert found.output_shape == (3,)
    assert found.found
    assert not found.remarks


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layout_gives_the_same_outputs(name: str) -> None:
    """The networks differ in where T stands alone: mean over time, by the one that is stepped."""
    make, *_ = NETWORKS[name]
    x = 10 * images(4)
    with torch.no_grad():
        expected = adapt(Step())
        expected.reset()
        by_hand = torch.stack([expected.model(current) for current in x]).mean(0)
        found = find_layout(lambda: make(4), x)
        stepped = found.apply(adapt(make(4)))
        stepped.reset()
        out = stepped.run_sequence(x)
    torch.testing.assert_close(out.mean(0), by_hand)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_layout_that_is_given_is_the_one_that_is_used(name: str) -> None:
    make, layout, *_ = NETWORKS[name]
    found = find_layout(lambda: make(4), images(4), layout)
    assert (found.name, found.found, found.asked) == (layout, False, layout)


@pytest.mark.parametrize(
    ("make", "layout", "message"),
    [
        (TimeFirst, "batch-first", r"layout 'batch-first' does not fit: .*mixes samples"),
        (networks.BatchFirst, "time-first", r"layout 'time-first' does not fit: .*mixes samples"),
        (Step, "inside", r"runs 1 time step inside, and timesteps=4 was asked for"),
        (RepeatInside, "step", r"runs 4 time steps inside each of the 4 calls, 16 in all"),
        (Step, "batch", r"unknown layout 'batch'; known: batch-first, inside, step, time-first"),
    ],
)
def test_a_layout_that_does_not_fit_is_one_line(
    make: Callable[[], nn.Module], layout: str, message: str
) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        find_layout(make, images(4), layout)


def test_another_number_of_steps_inside_is_named() -> None:
    with pytest.raises(snnprof.SnnprofError, match=r"runs 6 time steps inside.*timesteps=6"):
        find_layout(lambda: RepeatInside(6), images(4), "inside")


def stepped(make: Callable[[], nn.Module], **ways: Any) -> Callable[[], Any]:
    def build() -> Any:
        model = make()
        return snnprof.stepwise(
            model,
            reset=getattr(getattr(model, "neurons", None), "reset", lambda: None),
            detach=lambda: None,
            **{key: way(model) for key, way in ways.items()},
        )

    return build


def test_t_steps_inside_each_of_t_calls_are_refused() -> None:
    """Case 2: the advised ``stepwise`` ran 16 steps, reported as 4."""
    with pytest.raises(snnprof.SnnprofError, match=r"runs 4 time steps inside each of the 4 calls"):
        find_layout(stepped(RepeatInside), images(4))


class Encoded(nn.Module):
    """[B, features] to [B, classes]: layers that run once, more of them than those in the loop."""

    def __init__(self, timesteps: int = 4) -> None:
        super().__init__()
        layers = [layer for _ in range(3) for layer in (nn.Linear(6, 6), nn.Tanh())]
        self.encoder = nn.Sequential(*layers)
        self.net = LoopInside(timesteps)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(3 * self.encoder(x))[0].mean(0)
        return out


@pytest.mark.parametrize("timesteps", [2, 4])
def test_layers_before_the_loop_do_not_hide_it(timesteps: int) -> None:
    """Taken for a step, T * T time steps ran and were reported as T."""
    found = find_layout(lambda: Encoded(timesteps), images(timesteps))
    assert (found.name, found.remarks) == ("inside", ())
    with pytest.raises(snnprof.SnnprofError, match=f"{timesteps} time steps inside each of the"):
        find_layout(lambda: Encoded(timesteps), images(timesteps), "step")
    with pytest.raises(snnprof.SnnprofError, match=f"runs {timesteps + 1} time steps inside"):
        find_layout(lambda: Encoded(timesteps + 1), images(timesteps), "inside")


def test_a_layer_that_runs_t_times_in_a_step_is_no_loop_over_time() -> None:
    class Shared(Step):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(4):
                x = self.scale(x)
            return self.body(x)

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Identity()

    assert find_layout(Shared, images(4), "step").name == "step"


def test_sequences_are_not_cut_to_one_image() -> None:
    """The first time step was run T times, and the others were never looked at."""
    with pytest.raises(snnprof.SnnprofError, match=r"sequences of 4 time steps.*the first alone"):
        find_layout(RepeatInside, images(4), "inside", repeated=False)


def test_a_network_that_changes_its_input_is_refused() -> None:
    class Clamping(networks.BatchFirst):
        def forward(self, x: Tensor) -> Any:
            return self.body(x.clamp_(0, 0.5))

    with pytest.raises(snnprof.SnnprofError, match="changes its input in place"):
        find_layout(Clamping, images(4).clone(), "batch-first")


def test_layers_without_weights_are_one_line() -> None:
    lazy = lambda: nn.Sequential(nn.LazyLinear(3))  # noqa: E731
    with pytest.raises(snnprof.SnnprofError, match="Sequential has layers without weights yet"):
        find_layout(lazy, images(4))


@pytest.mark.parametrize("value", [0, 1])
def test_mixing_is_found_on_whole_numbers_that_are_all_alike(value: int) -> None:
    """Reordering events that are all 0 changes nothing, and so showed nothing."""

    class OfWholeNumbers(networks.BatchFirst):
        def forward(self, x: Tensor) -> Any:
            return super().forward(4.0 * x)

    x = torch.full((4, 5, 6), value, dtype=torch.uint8)
    with pytest.raises(snnprof.SnnprofError, match="it mixes samples"):
        find_layout(OfWholeNumbers, x, "time-first", repeated=False)


def test_a_step_of_ones_own_is_taken_as_it_is() -> None:
    """Case 5: the module sees [1, B, ...], whatever it does with it."""

    class Carrying(TimeFirst):
        def __init__(self) -> None:
            super().__init__()
            self.neurons = networks.Keeping()

    build = stepped(Carrying, step=lambda model: lambda x: model(x.unsqueeze(0))[0])
    found = find_layout(build, images(4))
    assert (found.name, found.calls, found.steps_alone) == (None, 4, True)
    with pytest.raises(snnprof.SnnprofError, match="leave layout out"):
        find_layout(build, images(4), "step")


def test_a_step_that_never_calls_the_model_is_refused() -> None:
    """Case 6: forward hooks would see nothing run."""
    with pytest.raises(snnprof.SnnprofError, match=r"never calls the model itself.*leave step out"):
        find_layout(stepped(Step, step=lambda model: model.body), images(4))


def test_a_network_that_mixes_samples_is_refused() -> None:
    class Centring(Step):
        def forward(self, x: Tensor) -> Tensor:
            return self.body(x - x.mean(0))

    with pytest.raises(snnprof.SnnprofError, match="step: it mixes samples"):
        find_layout(Centring, images(4))


def test_mixing_that_only_later_samples_see_is_found() -> None:
    """Neurons that integrate over the batch: sample 0 comes first, and sees none of the others."""

    class OverTheBatch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = TimeFirst()

        def forward(self, x: Tensor) -> Tensor:  # [B, features], taken for [T, features]
            out: Tensor = self.net(x.unsqueeze(1)).squeeze(1)
            return out

    with pytest.raises(snnprof.SnnprofError, match="mixes samples"):
        find_layout(OverTheBatch, images(1), "step")


def test_a_state_that_stays_is_refused_and_told() -> None:
    class Forgetless(Step):
        def __init__(self) -> None:
            super().__init__()
            self.neurons.reset = lambda: None  # type: ignore[method-assign, assignment]

    with pytest.raises(snnprof.SnnprofError, match=r"does not return to rest.*method reset\(\)"):
        find_layout(Forgetless, images(4), "step")


def test_a_reset_that_makes_new_weights_is_refused() -> None:
    class Resetting(Step):
        def reset(self) -> None:
            self.first.reset_parameters()

    with pytest.raises(snnprof.SnnprofError, match=r"its reset\(\) changes its weights"):
        find_layout(Resetting, images(4), "step")


def test_a_network_that_is_silent_before_its_batch_norm_is_settled() -> None:
    """Untrained batch norms divide by 1: without the statistics of the samples nothing fires."""

    class Quiet(TimeFirst):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(16)

        def body(self, x: Tensor) -> Tensor:
            hidden = self.norm(self.first(x / 1000).flatten(0, 1)).unflatten(0, x.shape[:2])
            out: Tensor = self.second(self.neurons(2 * hidden))
            return out

    assert find_layout(Quiet, images(4)).remarks == ()
    assert find_layout(Quiet, images(4)).name == "time-first"


def test_a_dense_network_is_said_to_have_no_state() -> None:
    found = find_layout(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), images(4)
    )
    assert "without state" in found.remarks[0]


def test_whole_sequences_that_cannot_be_stepped() -> None:
    """States made anew in every call: the step-by-step outputs are those of the first step."""
    assert not find_layout(TimeFirst, images(4)).steps_alone
    with pytest.raises(snnprof.SnnprofError, match=r"cannot be trained step by step.*'stbp'"):
        find_layout(TimeFirst, images(4)).apply(adapt(TimeFirst())).run_step(images(4)[0])


def test_averages_of_whole_sequences_can_be_stepped_where_the_state_stays() -> None:
    class Carrying(nn.Module):
        """[T, B, features] to [B, classes], its membrane kept between calls."""

        def __init__(self) -> None:
            super().__init__()
            self.one = Step()

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.one(current) for current in x]).mean(0)

    found = find_layout(Carrying, images(4))
    assert (found.name, found.output_dim, found.steps_alone) == ("time-first", None, True)


def test_the_trial_leaves_the_random_state_and_the_model() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    find_layout(TimeFirst, images(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_labels_say_how_many_dimensions_an_output_has() -> None:
    found = find_layout(TimeFirst, images(4), output_dims=(1,))
    assert found.output_shape == (3,)
    with pytest.raises(
        snnprof.SnnprofError, match=r"outputs are \(3,\) per sample.*2 or 3 dimensions"
    ):
        find_layout(TimeFirst, images(4), "time-first", output_dims=(2, 3))


def test_nothing_fits() -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum()

    with pytest.raises(snnprof.SnnprofError) as caught:
        find_layout(Wrong, images(4))
    for name in (
        "time-first: from (4, 2, 6) it makes ()",
        "batch-first:",
        "step, inside: from (2, 6)",
    ):
        assert name in str(caught.value)


@pytest.mark.parametrize("hidden", [2, 3, 4])
def test_few_neurons_on_a_constant_image(hidden: int) -> None:
    """Few neurons may not follow one changed time step: but what they give changes over time."""

    class Small(TimeFirst):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(hidden)
            self.first, self.second = nn.Linear(6, hidden), nn.Linear(hidden, 3)

    found = find_layout(Small, torch.full((4, 2, 6), 0.5))
    assert (found.name, found.remarks) == ("time-first", ())


def test_a_random_encoder_does_not_pass_for_a_state() -> None:
    """Its spikes differ from step to step: the neurons behind it still take one step a call."""

    class Encoding(Step):
        def forward(self, x: Tensor) -> Tensor:
            return self.body((torch.rand_like(x) < x).float())

    assert find_layout(Encoding, images(4)).name == "step"


def test_a_model_without_values_is_refused() -> None:
    with pytest.raises(snnprof.SnnprofError, match=r"first.weight of Step is on the meta device"):
        find_layout(lambda: Step().to("meta"), images(4))


def test_a_forward_that_needs_more_is_refused() -> None:
    class NeedsT(nn.Module):
        def forward(self, x: Tensor, timesteps: int, scale: float = 1.0) -> Tensor:
            return x

    message = r"forward of NeedsT needs timesteps besides x: give it a default"
    with pytest.raises(snnprof.SnnprofError, match=message):
        find_layout(NeedsT, images(4))
    assert find_layout(lambda: torch.nn.DataParallel(Step()), images(4)).name == "step"


def test_outputs_whose_dimensions_move_in_another_layout_are_no_error_of_ours() -> None:
    class Positions(TimeFirst):
        """[B, L] to [B, classes, L]; of [T, B, L] it makes [T, L, B, classes]."""

        def __init__(self) -> None:
            super().__init__(features=1)

        def forward(self, x: Tensor) -> Any:
            repeated = x.unsqueeze(0).repeat(4, *[1] * x.dim()).unsqueeze(-1)
            return self.body(repeated).mean(0).transpose(1, 2)

    found = find_layout(Positions, 3 * images(4), output_dims=(2,))
    assert (found.name, found.output_shape) == ("inside", (3, 6))


@pytest.mark.parametrize("kind", [TimeFirst, networks.BatchFirst])
def test_a_network_whose_last_neurons_are_silent_is_found_by_its_negated_weights(
    kind: Callable[[], networks.Net],
) -> None:
    """Spikes in, weights below 0: no output whatever the input, in either layout."""

    def build() -> nn.Module:
        net = kind()
        with torch.no_grad():
            net.second.weight.copy_(-net.second.weight.abs())
            net.second.bias.zero_()
        silent = nn.Sequential(net, networks.Spikes(int(kind is networks.BatchFirst)))
        before = [weight.clone() for weight in silent.parameters()]
        built.append((silent, before))
        return silent

    built: list[tuple[nn.Module, list[Tensor]]] = []
    found = find_layout(build, images(4), repeated=False)
    assert (found.name, found.remarks) == (build_layout(kind), ())
    for model, before in built:
        assert all(map(torch.equal, model.parameters(), before))


def build_layout(kind: object) -> str:
    return "time-first" if kind is TimeFirst else "batch-first"
