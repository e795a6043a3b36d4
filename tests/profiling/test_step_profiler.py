"""profile: anybody's step, by a clock that goes on by a second whenever it is read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import snnprof
from snnprof.models import create
from snnprof.profiling.step_profiler import StepProfiler
from snnprof.results import StepProfile
from snnprof.results.serialization import from_json, to_json
from snnprof.spiking.lif import LIF
from snnprof.training.step_runner import sgd

X, Y = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3


def ticking() -> Callable[[], float]:
    return map(float, itertools.count()).__next__


class Trainer:
    """A network, its optimiser and a training step."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.optimizer = sgd(self.net.parameters())
        self.calls = 0

    def step(self) -> Tensor:
        self.calls += 1
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(X), Y)
        loss.backward()
        self.optimizer.step()
        return loss

    def hooks(self) -> int:
        return sum(
            len(held)
            for held in (
                self.net._forward_hooks,
                self.net._forward_pre_hooks,
                self.optimizer._optimizer_step_pre_hooks,
                self.optimizer._optimizer_step_post_hooks,
            )
        )


def quick(step: Callable[[], object], **settings) -> StepProfile:
    settings = {"warmup": 1, "repeats": 2, "device": "cpu", "clock": ticking(), **settings}
    return snnprof.profile(step, **settings)


def test_the_phases_of_a_training_step() -> None:
    mine = Trainer()
    found = quick(mine.step, model=mine.net, optimizer=mine.optimizer, samples=6)
    # start, forward begins, ends, backward begins, ends, optimiser begins, ends, end: 0 to 7
    assert found.step_s == (7.0, 7.0)
    assert found.forward_s == found.backward_s == found.optimizer_s == (1.0, 1.0)
    assert (found.backward_passes, found.optimizer_steps) == (1, 1)
    assert (found.mode, found.timesteps, found.batch_size, found.device) == (None, None, 6, "cpu")
    assert found.samples_per_s == 6 / 7
    assert found.notes == ()
    assert mine.calls == 1 + 1 + 2  # to warm up, for memory, timed
    assert mine.hooks() == 0


def test_the_phases_of_an_online_step() -> None:
    mine = Trainer()

    def step() -> None:
        for _ in range(3):
            F.cross_entropy(mine.net(X), Y).backward()
        mine.optimizer.step()

    found = quick(step, model=mine.net, optimizer=mine.optimizer)
    assert found.forward_s == found.backward_s == (3.0, 3.0)
    assert found.optimizer_s == (1.0, 1.0)
    assert found.step_s == (15.0, 15.0)  # 1 + 2 * (3 + 3 + 1)
    assert (found.backward_passes, found.optimizer_steps) == (3, 1)
    assert found.samples_per_s is None


def test_one_pass_through_several_calls_is_one() -> None:
    mine = Trainer()
    found = quick(lambda: sum(mine.net(X).sum() for _ in range(3)).backward(), model=mine.net)
    assert found.forward_s == (3.0, 3.0)
    assert found.backward_s == (1.0, 1.0)
    assert found.backward_passes == 1
    assert found.optimizer_s == ()
    assert found.optimizer_steps is None


def test_an_optimiser_with_a_closure_is_timed_without_what_the_closure_does() -> None:
    mine = Trainer()

    def closure() -> Tensor:
        loss = F.cross_entropy(mine.net(X), Y)
        loss.backward()
        return loss.detach()

    found = quick(lambda: mine.optimizer.step(closure), model=mine.net, optimizer=mine.optimizer)
    # start 0, optimiser 1, forward 2 to 3, backward 4 to 5, optimiser ends 6, end 7
    assert found.optimizer_s == (3.0, 3.0)  # 1 to 2, 3 to 4, 5 to 6
    assert found.forward_s == found.backward_s == (1.0, 1.0)
    assert found.step_s == (7.0, 7.0)


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_is_computed_again_in_the_backward_pass_belongs_to_it(reentrant: bool) -> None:
    mine = Trainer()
    x = X.clone().requires_grad_()

    def step() -> None:
        checkpoint(mine.net, x, use_reentrant=reentrant).sum().backward()

    found = quick(step, model=mine.net)
    assert found.forward_s == (1.0, 1.0)
    # The reentrant kind calls the model without a graph, and makes the output anew: no gradient
    # reaches the model's own output.
    assert found.backward_passes == (0 if reentrant else 1)


class Telling(nn.Module):
    """A network that gives more than a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, object]:
        out = self.layer(x)
        return {"logits": [out, out.detach()], "name": "telling"}


def test_outputs_of_any_structure() -> None:
    net = Telling()
    found = quick(lambda: net(X)["logits"][0].sum().backward(), model=net)
    assert found.backward_s == (1.0, 1.0)


def test_inference_has_no_backward_pass() -> None:
    mine = Trainer()

    @torch.no_grad()
    def step() -> Tensor:
        return mine.net(X)

    found = quick(step, model=mine.net, samples=6)
    assert found.forward_s == (1.0, 1.0)
    assert found.backward_s == found.optimizer_s == ()
    assert (found.backward_passes, found.optimizer_steps) == (0, None)
    assert found.notes == ()


def test_without_phases_there_are_no_hooks() -> None:
    mine = Trainer()
    seen = []

    def step() -> None:
        seen.append(mine.hooks())
        mine.step()

    found = quick(step, model=mine.net, optimizer=mine.optimizer, phases=False)
    assert seen == [0] * 4
    assert found.step_s == (1.0, 1.0)
    assert found.forward_s == found.backward_s == found.optimizer_s == ()
    assert found.backward_passes is found.optimizer_steps is None
    assert found.static_bytes is not None  # the model and the optimiser tell it
    seen.clear()
    quick(step, model=mine.net, optimizer=mine.optimizer)
    assert seen == [0, 0, 4, 4]  # neither to warm up nor for memory


def test_a_black_box() -> None:
    mine = Trainer()
    found = quick(mine.step)
    assert found.step_s == (1.0, 1.0)
    assert found.static_bytes is found.activation_bytes is found.batch_size is None
    assert found.backward_passes is found.optimizer_steps is None
    assert found.peak_bytes > 0
    known = quick(mine.step, model=mine.net, optimizer=mine.optimizer)
    assert found.peak_bytes == known.peak_bytes


def test_what_is_given_and_not_used_is_said() -> None:
    mine, other = Trainer(), Trainer()
    found = quick(mine.step, model=other.net, optimizer=other.optimizer)
    assert found.notes == (
        "The step never called the model that was given (Sequential): no such time.",
        "The step never stepped the optimiser that was given (SGD): no such time.",
    )
    assert found.forward_s == found.backward_s == found.optimizer_s == ()
    assert (found.backward_passes, found.optimizer_steps) == (0, 0)


def test_gradients_over_several_steps() -> None:
    """The optimiser every second time: no time in the others is a true zero."""
    mine = Trainer()

    def step() -> None:
        mine.calls += 1
        mine.net(X).sum().backward()
        if mine.calls % 2:
            mine.optimizer.step()

    found = quick(step, model=mine.net, optimizer=mine.optimizer, repeats=4)
    assert found.optimizer_s == (1.0, 0.0, 1.0, 0.0)
    assert found.optimizer_steps == 0  # of the last step


def test_the_result_of_a_step_is_not_kept() -> None:
    """A step that returns its output: 6 * 3 * 4 bytes less than if it stood beside the next."""
    mine = Trainer()

    def silent() -> None:
        mine.net(X).detach()

    assert quick(lambda: mine.net(X)).peak_bytes == quick(silent).peak_bytes


# --- the same bytes as profile_step ---


class Stepwise(nn.Module):
    """A spiking MLP over [T, B, ...]."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.neuron, self.out = nn.Linear(64, 50), LIF(3), nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.neuron(self.hidden(x.flatten(2))))


def adamw(parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, foreach=True)


def vgg(**settings) -> nn.Module:
    return create("vgg5", timesteps=3, in_channels=1, image_size=8, **settings)


@pytest.mark.parametrize(
    ("build", "optimizer"),
    [
        (vgg, sgd),
        (lambda: vgg(neuron="hdlif", weights="1.5bit"), torch.optim.Adam),
        (Stepwise, adamw),
        (Stepwise, torch.optim.Adagrad),
    ],
)
def test_memory_is_that_of_profile_step(build, optimizer) -> None:
    images, labels = torch.rand(20, 1, 8, 8)[5:11], torch.arange(6)
    settings = {"warmup": 0, "repeats": 1, "device": "cpu"}
    expected = snnprof.profile_step(
        build, (images, labels), timesteps=3, optimizer=optimizer, **settings
    )
    torch.manual_seed(0)
    net = build()
    mine = optimizer(net.parameters())

    def step() -> None:
        mine.zero_grad()
        snnprof.reset(net)
        loss = F.cross_entropy(net(images.expand(3, *images.shape)).sum(0), labels)
        loss.backward()
        mine.step()

    found = snnprof.profile(step, model=net, optimizer=mine, **{**settings, "warmup": 2})
    black_box = snnprof.profile(step, **{**settings, "warmup": 2})
    assert found.peak_bytes == black_box.peak_bytes == expected.peak_bytes
    assert found.static_bytes == expected.static_bytes
    assert found.activation_bytes == expected.activation_bytes


# --- in a loop of one's own ---


def test_a_loop_of_ones_own() -> None:
    mine = Trainer()
    prof = snnprof.profile(
        model=mine.net, optimizer=mine.optimizer, samples=6, warmup=2, device="cpu", clock=ticking()
    )
    for _ in range(2 + 1 + 7):
        with prof.step():
            mine.step()
        assert mine.hooks() == 0
    found = prof.result()
    assert found.step_s == (7.0,) * 7
    assert found.backward_s == (1.0,) * 7
    with prof.step():
        mine.step()
    assert len(prof.result().step_s) == 8  # it goes on


def test_a_decorator() -> None:
    prof = snnprof.profile(warmup=0, device="cpu", clock=ticking())

    @prof
    def train(x: int, *, add: int = 0) -> int:
        """Train."""
        return x + add

    assert [train(n, add=1) for n in range(3)] == [1, 2, 3]
    assert train.__doc__ == "Train."
    assert prof.result().step_s == (1.0, 1.0)


@pytest.mark.parametrize("steps", [0, 2, 3])
def test_too_few_steps(steps: int) -> None:
    prof = snnprof.profile(warmup=2)
    for _ in range(steps):
        with prof.step():
            pass
    with pytest.raises(snnprof.SnnprofError, match=f"{steps} steps ran whole, 4 are needed: 2 to"):
        prof.result()


@pytest.mark.parametrize("failing", [0, 1, 2, 3])
def test_an_exception_passes_and_its_step_does_not_count(failing: int) -> None:
    mine = Trainer()
    prof = snnprof.profile(
        model=mine.net, optimizer=mine.optimizer, warmup=1, device="cpu", clock=ticking()
    )
    for number in range(5):
        if number == failing:
            with pytest.raises(ZeroDivisionError), prof.step():
                raise ZeroDivisionError(mine.net(X).sum().backward())
            assert mine.hooks() == 0
        with prof.step():
            mine.step()
    assert prof.result().step_s == (7.0, 7.0, 7.0)


def test_counts_are_of_the_last_step_that_did_not_fail() -> None:
    mine = Trainer()
    prof = snnprof.profile(model=mine.net, warmup=0)
    for passes in (1, 2):
        with prof.step():
            for _ in range(passes):
                mine.net(X).sum().backward()
    with pytest.raises(KeyError), prof.step():
        raise KeyError
    assert prof.result().backward_passes == 2


def test_exceptions_of_the_step_pass_unchanged() -> None:
    error = RuntimeError("mine")

    def step() -> None:
        raise error

    with pytest.raises(RuntimeError) as found:
        quick(step)
    assert found.value is error


def test_a_graph_that_outlives_its_step_is_free_of_hooks() -> None:
    mine = Trainer()
    kept = []
    prof = snnprof.profile(model=mine.net, warmup=0, device="cpu", clock=ticking())
    for _ in range(3):
        with prof.step():
            kept.append(mine.net(X))
    before = prof.result()
    with prof.step():
        sum(out.sum() for out in kept).backward()
    found = prof.result()
    # No reading of the clock but the step's own two, and no pass through this step's output.
    assert found.step_s == (*before.step_s, 1.0)
    assert found.backward_passes == 0


def test_steps_inside_each_other_are_refused() -> None:
    prof = snnprof.profile(warmup=0)
    message = "inside a step: leave one"
    with pytest.raises(snnprof.SnnprofError, match=message), prof.step(), prof.step():
        pass
    for _ in range(2):
        with prof.step():
            pass
    assert len(prof.result().step_s) == 1


def test_an_abandoned_step_lets_the_next_one_begin() -> None:
    mine = Trainer()
    prof = snnprof.profile(model=mine.net, warmup=0)

    def batches() -> Iterator[int]:
        for number in range(9):
            with prof.step():
                yield number

    for _ in range(3):
        for number in batches():
            if number == 1:
                break  # the generator is closed inside its second step
    assert mine.hooks() == 0
    assert len(prof.result().step_s) == 2  # three whole steps: one for memory


# --- what is refused ---


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (3, "step is a int: give a function without arguments"),
        (nn.Linear(2, 2), r"step is a model \(Linear\).*profile_inference"),
        (lambda x, y=1: x, r"takes arguments, \(x, y=1\): wrap it, as in profile\(lambda: step"),
        (lambda *, lr: lr, r"takes arguments, \(\*, lr\)"),
        ((lambda: (yield)), "a call of it only makes a generator"),
    ],
)
def test_what_is_no_step(step, message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        snnprof.profile(step)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": 0}, "repeats=0: must be a whole number, at least 1"),
        ({"repeats": 2.5}, "repeats=2.5: must be a whole number"),
        ({"warmup": -1}, "warmup=-1: must be a whole number, at least 0"),
        ({"samples": 0}, "samples=0: must be a whole number, at least 1"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"model": torch.nn.functional}, "model is a module: give a torch.nn"),
        ({"optimizer": sgd}, "optimizer is a partial: give a torch.optim"),
        ({"model": nn.Linear(2, 2, device="meta"), "device": "cpu"}, "on meta, and device='cpu'"),
    ],
)
def test_what_is_refused_before_anything_runs(settings: dict[str, object], message: str) -> None:
    ran = []
    with pytest.raises(snnprof.SnnprofError, match=message):
        snnprof.profile(lambda: ran.append(1), **settings)
    assert not ran


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(snnprof.SnnprofError, match="device 'cuda' was asked for"):
        snnprof.profile(lambda: None, model=nn.Linear(2, 2), device="cuda")


def test_arguments_with_defaults_and_unknown_signatures_are_steps() -> None:
    assert quick(lambda x=1, *args, **kwargs: x).step_s == (1.0, 1.0)
    assert quick(dict).step_s == (1.0, 1.0)


# --- the result ---


def test_a_profile_of_a_black_box_is_a_result_like_any_other(tmp_path: Path) -> None:
    mine = Trainer()
    for found in (quick(mine.step), quick(mine.step, model=Trainer().net)):
        assert from_json(to_json(found)) == found
        row = found.to_frame().iloc[0]
        assert row["mode"] is row["batch_size"] is row["samples_per_s"] is None
        assert row["forward_median_s"] is row["static_bytes"] is row["optimizer_steps"] is None
        found.save(tmp_path / "step.md")
        text = (tmp_path / "step.md").read_text("utf-8")
        cells = [cell.strip() for cell in text.splitlines()[4].split("|")]
        # mode, T, batch, forward, backward, optimiser; step; samples/s
        assert cells[1:9] == ["", "", "", "", "", "", "1000 (1000-1000)", ""]
        assert "None" not in text
        assert "seen from outside" in text
        assert all(note in text for note in found.notes)
        found.save(tmp_path / "step.csv")
        assert (tmp_path / "step.csv").read_text("utf-8").splitlines()[1].startswith(",cpu,,,")


def test_a_file_from_before_there_were_notes_is_read() -> None:
    found = quick(Trainer().step)
    document = json.loads(to_json(found))
    del document["crc32"]  # there was none yet
    del document["result"]["notes"]
    assert from_json(json.dumps(document)) == found


def test_the_profiler_is_named_by_its_type() -> None:
    assert isinstance(snnprof.profile(), StepProfiler)
