"""profile_step: what it measures, what it leaves alone, what it refuses."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnprof
from snnprof.experiment.training_run import TrainingRun
from snnprof.models import create
from snnprof.profiling.profile import profile_step, profile_steps, try_profiles
from snnprof.profiling.step_memory import OutOfMemory, _bytes_of
from snnprof.profiling.step_meter import StepMeter
from snnprof.results.serialization import from_json, to_json
from snnprof.spiking.lif import LIF
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.sequences import as_sequence
from snnprof.training.step_runner import StepRunner, StepSetup
from snnprof.training.stepped_model import SteppedModel

from ..support.neurons import Remembering

IMAGES, LABELS = (
    torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
    torch.arange(6),
)
BATCH = (IMAGES, LABELS)


def build(timesteps: int = 3) -> SpikingNetwork:
    return create("vgg5", timesteps=timesteps, in_channels=1, image_size=8)


def ticking() -> Callable[[], float]:
    """A clock that goes on by a second whenever it is read."""
    return map(float, itertools.count()).__next__


def quick(mode: str, **settings: object) -> snnprof.StepProfile:
    settings = {"warmup": 1, "repeats": 2, "device": "cpu", "clock": ticking(), **settings}
    return profile_step(build, BATCH, mode, **settings)  # type: ignore[arg-type]


def test_the_phases_of_stbp() -> None:
    found = quick("stbp")
    assert (found.mode, found.device, found.batch_size, found.timesteps) == ("stbp", "cpu", 6, 3)
    # One second per phase: zero_grad, forward, loss, backward, step.
    assert found.forward_s == (2.0, 2.0)
    assert found.backward_s == (1.0, 1.0)
    assert found.optimizer_s == (2.0, 2.0)
    # Ten readings lie inside the step's own two: eleven seconds.
    assert found.step_s == (11.0, 11.0)
    assert found.samples_per_s == 6 / 11
    assert (found.backward_passes, found.optimizer_steps) == (1, 1)


def test_the_phases_of_online() -> None:
    found = quick("online")
    # Per time step: detach, forward, loss.
    assert found.forward_s == (9.0, 9.0)
    assert found.backward_s == (3.0, 3.0)
    assert found.optimizer_s == (2.0, 2.0)
    assert (found.backward_passes, found.optimizer_steps) == (3, 1)


def test_memory_is_whole_and_the_same_in_every_run() -> None:
    found, again = quick("online"), quick("online")
    assert found == again
    assert found.reserved_bytes is found.sltt_authors_bytes is found.hdlif_authors_bytes is None
    assert replace(found, reserved_bytes=9).sltt_authors_bytes == 9
    assert found.activation_bytes == found.peak_bytes - found.static_bytes > 0
    parameters = sum(p.numel() for p in build().parameters())
    assert found.static_bytes == 3 * 4 * parameters  # weight, gradient, momentum in float32


def test_setups_take_turns_and_agree_with_one_alone() -> None:
    order: list[str] = []

    class Telling(torch.optim.SGD):
        def __init__(self, parameters: object, name: str) -> None:
            super().__init__(parameters, lr=0.01)  # type: ignore[arg-type]
            self.name = name

        def step(self, closure: object = None) -> None:  # type: ignore[override]
            order.append(self.name)
            super().step()

    setups = [
        StepSetup(build, optimizer=lambda p, name=name: Telling(p, name))  # type: ignore[misc]
        for name in "abc"
    ]
    found = profile_steps(setups, BATCH, warmup=1, repeats=4, device="cpu")
    # Two steps each for memory, one each to warm up, then turns that start with the next.
    assert "".join(order) == "aabbcc" + "abc" + "abc" + "bca" + "cab" + "abc"
    assert len({profile.peak_bytes for profile in found}) == 1
    alone = profile_step(build, BATCH, optimizer=setups[0].optimizer, warmup=0, repeats=1)
    assert alone.peak_bytes == found[0].peak_bytes


def test_a_model_is_left_as_it_was() -> None:
    model = build().eval()
    model(IMAGES[None])  # one step of three: a state is left
    for neuron in model.modules():
        if isinstance(neuron, snnprof.spiking.neuron.Neuron):
            neuron.detach()
    before = copy.deepcopy(model)
    torch.manual_seed(5)
    profile_step(model, BATCH, "online", warmup=0, repeats=1, device="cpu")
    state = torch.random.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    for (name, a), b in zip(model.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    out, expected = model(IMAGES[None]), before(IMAGES[None])
    assert torch.equal(out, expected)


def test_a_model_with_a_graph_in_its_state_says_so() -> None:
    model = build()
    model(IMAGES[None])
    with pytest.raises(snnprof.SnnprofError, match=r"VGG cannot be copied.*snnprof\.reset"):
        profile_step(model, BATCH)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
@pytest.mark.parametrize("mode", ["stbp", "online-step", "ottt"])
def test_mixed_precision_takes_less_memory(mode: str, amp: str) -> None:
    def wide() -> SpikingNetwork:
        return create("vgg5", timesteps=4, in_channels=1, image_size=16)

    batch = (torch.randn(16, 1, 16, 16), torch.arange(16) % 10)
    full, half = (
        profile_step(wide, batch, mode, warmup=0, repeats=1, device="cpu", amp=precision)
        for precision in (None, amp)
    )
    assert half.activation_bytes < full.activation_bytes


def steep(logits: Tensor, target: Tensor) -> Tensor:
    return 1e5 * F.cross_entropy(logits, target)


def test_fp16_is_measured_with_the_state_of_the_optimiser() -> None:
    """Its first updates are left out, until the scale of the loss lets no gradient overflow."""

    plain, half = (
        profile_step(build, BATCH, warmup=0, repeats=1, device="cpu", amp=precision, loss=steep)
        for precision in (None, "fp16")
    )
    assert half.static_bytes == plain.static_bytes


def test_fp16_is_measured_after_an_update_in_a_training_too() -> None:
    def measured(amp: str | None) -> int:
        torch.manual_seed(0)
        setup = StepSetup(build, timesteps=3, amp=amp, loss=steep)
        run = TrainingRun(setup, snnprof.ReportRow("vgg5", "lif", "fp32", "stbp", 3))
        run.make(torch.device("cpu"), seed=0, schedule=lambda optimizer: None, timed=True)
        while run.profile is None:
            run.step(BATCH)
        return run.profile.static_bytes

    assert measured("fp16") == measured(None)


def test_parts_of_a_storage_are_counted_once() -> None:
    whole = torch.empty(1000)
    assert _bytes_of([whole, whole[:10]]) == 4000
    assert _bytes_of([whole[:900], whole[100:]]) == 4000
    assert _bytes_of([whole[:10], whole[20:30], whole[:10]]) == 80
    assert _bytes_of([torch.empty(1).expand(50), torch.empty(0), None]) == 4


def test_channels_last_runs() -> None:
    assert quick("online", channels_last=True).backward_passes == 3


class Leaky(nn.Module):
    """A user's network that never forgets its graph."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, 5)
        self.neuron = Remembering()
        self.out = nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.neuron(self.hidden(x.flatten(1))))


def test_a_model_that_keeps_its_graph_is_named() -> None:
    def wrong() -> object:
        model = Leaky()

        def reset() -> None:
            model.neuron.state = None

        return snnprof.stepwise(model, reset=reset, detach=lambda: None)

    with pytest.raises(
        snnprof.SnnprofError,
        match=r"keeps its graph between time steps, in neuron \(Remembering\).*detach=",
    ):
        profile_step(wrong, BATCH, "online", timesteps=3)  # type: ignore[arg-type]

    def right() -> object:
        model = Leaky()

        def reset() -> None:
            model.neuron.state = None

        def detach() -> None:
            if model.neuron.state is not None:
                model.neuron.state = model.neuron.state.detach()

        return snnprof.stepwise(model, reset=reset, detach=detach)

    for mode in ("online", "stbp"):
        profile_step(right, BATCH, mode, timesteps=3, warmup=0, repeats=1)  # type: ignore[arg-type]


def test_a_record_that_grows_is_found_too() -> None:
    class Recording(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 6)
            self.record: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:  # [K, B, ...]
            self.record.append(self.layer(x.flatten(2)))
            return self.record[-1]

    def build() -> SteppedModel:
        model = Recording()
        return snnprof.stepwise(
            model, reset=model.record.clear, detach=lambda: None, step=lambda x: model(x[None])[0]
        )

    with pytest.raises(snnprof.SnnprofError, match=r"in the model \(Recording\)"):
        profile_step(build, BATCH, "online", timesteps=3)


def test_a_tensor_made_anew_at_every_step_is_no_kept_graph() -> None:
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 6)

        def forward(self, x: Tensor) -> Tensor:  # [K, B, ...]
            self.last = self.layer(x.flatten(2))
            return self.last

    found = profile_step(Caching, BATCH, "online", timesteps=4, warmup=0, repeats=1)
    assert found.backward_passes == 4


def test_the_loss_is_yours_to_choose() -> None:
    def twice(logits: Tensor, target: Tensor) -> Tensor:
        seen.append(len(logits))
        return logits.square().sum()

    seen: list[int] = []
    profile_step(build, BATCH, "online", warmup=0, repeats=1, loss=twice)
    tried = seen.index(6)  # on fewer samples, before
    assert seen[tried:] == [6] * 3 * 3  # two steps for memory, one timed, of three time steps each


def test_traces_and_compilation_exclude_each_other() -> None:
    with pytest.raises(snnprof.SnnprofError, match="do not run compiled"):
        profile_step(build, BATCH, "ottt", compile=True)


@pytest.mark.parametrize(
    ("mode", "timesteps", "graphs"), [("stbp", 2, 1), ("online", 4, 2), ("random-bp", 4, 4)]
)
def test_a_compiled_network_is_one_graph_that_gives_the_same_loss(
    mode: str, timesteps: int, graphs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At rest or not, with gradients or without: no other reason to compile anew, at any t."""
    # Traced whole, then run by the usual kernels: the same sums, and no C++ to compile.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    counters = torch._dynamo.utils.counters
    torch._dynamo.reset()
    counters.clear()

    def losses(compiled: bool) -> Tensor:
        torch.manual_seed(0)
        setup = StepSetup(partial(build, timesteps), mode, compile=compiled)
        runner = StepRunner(setup, build(timesteps), torch.device("cpu"))
        return torch.stack([runner.run(*BATCH) for _ in range(6)])

    torch.testing.assert_close(losses(True), losses(False))
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == graphs


def test_compiled_neurons_fire_alike() -> None:
    def layers() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), LIF(3), nn.Linear(8, 6))

    torch._dynamo.reset()
    batch = torch.rand(3, 6, 4), LABELS
    losses: list[list[Tensor]] = [[], []]
    for seen, compiled in zip(losses, (False, True), strict=True):

        def loss(logits: Tensor, target: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(logits.detach())
            return F.cross_entropy(logits, target)

        profile_step(layers, batch, "online", warmup=0, repeats=1, loss=loss, compile=compiled)
    measured = [[logits for logits in seen if len(logits) == 6] for seen in losses]
    torch.testing.assert_close(*map(torch.stack, measured))


def test_a_compiler_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    with pytest.raises(snnprof.SnnprofError, match=r"torch.compile failed \(InvalidCxxCompiler"):
        profile_step(build, BATCH, compile=True)


def test_memory_that_runs_out_beside_others_leaves_what_was_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> NoReturn:
        raise torch.OutOfMemoryError("as an allocator would")

    monkeypatch.setattr(StepMeter, "time_step", fail)
    (lost,) = try_profiles([StepSetup(build)], BATCH, warmup=0, repeats=1)
    assert isinstance(lost, OutOfMemory)
    assert lost.profile is not None
    assert lost.profile.peak_bytes > 0
    assert lost.profile.step_s == ()


def test_what_is_no_model() -> None:
    stepped = snnprof.stepwise(build(), reset=lambda: None, detach=lambda: None)
    with pytest.raises(snnprof.SnnprofError, match="build is a SteppedModel: give a function"):
        profile_step(stepped, BATCH)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["stbp", "online"])
def test_a_loss_that_is_not_finite_names_mode_and_step(mode: str) -> None:
    broken = torch.full((6, 5), float("nan"))
    with pytest.raises(snnprof.SnnprofError, match=f"mode '{mode}': the loss is nan at step 1"):
        profile_step(nn.Linear(5, 6), (broken, LABELS), mode, timesteps=2)


def test_nan_that_the_spikes_swallow_is_found_in_the_parameters() -> None:
    broken = IMAGES.clone()
    broken[0, 0, 0, 0] = float("nan")
    with pytest.raises(snnprof.SnnprofError, match=r"features\.0\.0\.weight is not finite after"):
        profile_step(build, (broken, LABELS), warmup=0, repeats=1)


def test_a_training_that_diverges_in_the_timed_steps_is_found_after_them() -> None:
    class Breaking(torch.optim.SGD):
        steps = 0

        @torch.no_grad()
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            self.steps += 1
            if self.steps == 4:
                self.param_groups[0]["params"][0].fill_(torch.nan)

    ran = []
    with pytest.raises(snnprof.SnnprofError, match="the loss is nan at step 5:"):
        profile_step(
            nn.Linear(64, 6),
            (IMAGES.flatten(1), LABELS),
            timesteps=1,
            warmup=2,
            repeats=5,
            optimizer=Breaking,
            clock=lambda: float(ran.append(0) or len(ran)),
        )
    assert len(ran) == 5 * 12  # all five were run: the step's two readings and ten inside


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "bptt"}, "unknown mode 'bptt'; known: ndot"),
        ({"mode": "sltt-4"}, "K = 4 is more than the T = 3"),
        ({"timesteps": 0}, "timesteps=0: must be at least 1"),
        ({"timesteps": 4}, "4 time steps after 0 in a network made for 3"),
        ({"amp": "fp8"}, "unknown amp 'fp8'; known: bf16, fp16"),
        ({"repeats": 0}, "repeats=0"),
        ({"warmup": -1}, "warmup=-1"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_what_is_refused(settings: dict[str, object], message: str) -> None:
    mode = str(settings.pop("mode", "stbp"))
    with pytest.raises(snnprof.SnnprofError, match=message):
        profile_step(build, BATCH, mode, **settings)  # type: ignore[arg-type]


def test_images_and_sequences() -> None:
    labels = torch.arange(4)
    assert as_sequence(torch.zeros(4, 1, 8, 8), labels, 3).shape == (3, 4, 1, 8, 8)
    assert as_sequence(torch.zeros(4, 9), labels, 3).shape == (3, 4, 9)
    assert as_sequence(torch.zeros(3, 4, 9), labels, None).shape == (3, 4, 9)
    assert as_sequence(torch.zeros(5, 4, 2, 9), labels, None).shape == (5, 4, 2, 9)
    for x, steps, message in [
        (torch.zeros(4, 9), None, "give timesteps=T"),
        (torch.zeros(3, 4, 9), 2, "timesteps=2, but the sequence has 3"),
        (torch.zeros(5, 9), 2, r"shape \(5, 9\) with 4 labels"),
    ]:
        with pytest.raises(snnprof.SnnprofError, match=message):
            as_sequence(x, labels, steps)
    assert as_sequence(torch.zeros(4, 9), torch.zeros(4, 10), 2).shape == (2, 4, 9)  # soft labels


def test_a_profile_is_a_result_like_any_other(tmp_path: Path) -> None:
    found = quick("online")
    assert from_json(to_json(found)) == found
    row = found.to_frame().iloc[0]
    assert row["step_median_s"] == found.step_s[0]
    assert row["peak_bytes"] == found.peak_bytes
    assert row["reserved_bytes"] is row["sltt_authors_bytes"] is None
    assert row["hdlif_authors_bytes"] is None
    assert row["loss"] == "step"
    found.save(tmp_path / "step.md")
    text = " ".join((tmp_path / "step.md").read_text("utf-8").split())
    assert "| online | 3 | 6 |" in text
    assert "activation (MiB)" in text
    assert "nor known on the CPU" in text
    assert "Loss: mean over time of each time step's cross-entropy." in text
    authors = replace(found, device="cuda", reserved_bytes=2**20, hdlif_authors_bytes=3 * 2**20)
    authors.save(tmp_path / "gpu.md")
    assert "| 1.000 | 3.000 |" in " ".join((tmp_path / "gpu.md").read_text("utf-8").split())
    assert from_json(to_json(authors)) == authors


@pytest.mark.parametrize(
    ("mode", "loss", "name"),
    [
        ("stbp", "sum", "sum"),
        ("stbp", "step", "step"),
        ("stbp-checkpoint", "sum", "sum"),
        ("online", "sum", "step"),
        ("ndot-step", "mse", "mse of each step"),
    ],
)
def test_a_profile_says_the_loss_it_had(mode: str, loss: str, name: str) -> None:
    assert StepSetup(build, mode, loss=loss).loss_name == name


def test_batches_of_arrays_lists_and_soft_labels() -> None:
    arrays = (IMAGES.numpy(), LABELS.numpy())
    soft = F.one_hot(LABELS, 10).float()
    for batch in (arrays, [IMAGES, LABELS], (IMAGES, LABELS.tolist()), (IMAGES, soft)):
        found = profile_step(build, batch, warmup=0, repeats=1)  # type: ignore[arg-type]
        assert found.batch_size == len(LABELS)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": 1}, r"the batch is no pair \(x, y\) but dict: give inputs and labels"),
        ((IMAGES, LABELS, LABELS), "no pair .* but 3 parts"),
        (("a", LABELS), "x of the batch is a str, not a tensor"),
        ((IMAGES, LABELS + 99), "y goes from 99"),
    ],
)
def test_what_is_no_batch(batch: object, message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        profile_step(
            nn.Sequential(nn.Flatten(2), nn.Linear(64, 10)),
            batch,  # type: ignore[arg-type]
            timesteps=2,
        )
