"""Ranges: named by layer and time step, closed in every case, gone afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.models import create
from snnprof.profiling.layer_ranges import LayerRanges
from snnprof.spiking.network import SpikingNetwork

T = 2


def network() -> SpikingNetwork:
    return create("vgg5", timesteps=T, in_channels=1, image_size=8)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class Marks:
    """Takes the place of record_function: which ranges were opened, and that all closed."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.open: list[str] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.names.append(name)
        self.open.append(name)
        yield
        assert self.open.pop() == name


class Loop(nn.Module):
    """A foreign model that loops over time inside; its stem runs once for all steps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = (nn.Linear(3, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        once = self.stem(x[0])
        steps = [self.body(once + current) for current in x]
        return self.head(torch.stack(steps))  # type: ignore[no-any-return]


def test_a_model_that_loops_inside() -> None:
    model, marks = Loop(), Marks()
    with LayerRanges(model, 4, steps_per_call=4, mark=marks) as ranges:
        model(torch.randn(4, 5, 3))
        ranges.next_step()
        marks.names.clear()
        model(torch.randn(4, 5, 3))
    # What runs once per time step is known from the call before.
    assert marks.names == [
        "Loop t=0..3", "stem t=0..3", "body t=0", "body t=1", "body t=2", "body t=3",
        "head t=0..3",
    ]  # fmt: skip


def test_a_layer_that_is_used_as_often_as_there_are_time_steps() -> None:
    class Shared(nn.Module):
        timesteps = 2

        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def steps_and_batch(self, x: Tensor) -> tuple[int, int]:
            return x.shape[0], x.shape[1]

        def forward(self, x: Tensor) -> Tensor:
            once = self.relu(x)  # [T, B, ...]
            flat = self.relu(once.flatten(0, 1))  # [T * B, ...]
            return flat.unflatten(0, x.shape[:2])

    model, marks = Shared(), Marks()
    with LayerRanges(model, 2, mark=marks):
        for _ in range(2):
            model(torch.randn(2, 3, 4))
    assert marks.names == ["Shared t=0..1", "relu t=0..1", "relu t=0..1"] * 2


def test_a_foreign_model_called_once_per_time_step() -> None:
    model, marks = nn.Sequential(nn.Linear(3, 3)), Marks()
    with LayerRanges(model, 3, mark=marks) as ranges:
        for calls in (3, 2, 3):  # the second sequence stops early
            for _ in range(calls):
                model(torch.randn(2, 3))
            ranges.next_step()
        model[0](torch.randn(2, 3))  # outside a call of the model
    seen = [name for name in marks.names if name.startswith("0")]
    steps = ["0 t=0", "0 t=1", "0 t=2"]
    assert seen == [*steps, *steps[:2], *steps, "0"]


def test_neurons_know_where_a_sequence_stopped_and_begins_again() -> None:
    model = network()
    image, marks = torch.randn(1, 4, 1, 8, 8), Marks()
    with LayerRanges(model, T, mark=marks):
        model(image)  # stopped at t=0, as random-bp does
        model(image.expand(T, *image.shape[1:]))  # whole: from rest
        model(image)
        model(image)
    seen = [name for name in marks.names if name.startswith("VGG")]
    assert seen == ["VGG t=0", "VGG t=0..1", "VGG t=0", "VGG t=1"]


def test_recomputed_activations_are_not_marked_again() -> None:
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = checkpoint(self.inner, x, use_reentrant=False)
            return out

    model, marks = Checkpointed(), Marks()
    with LayerRanges(model, 1, mark=marks):
        model(torch.randn(2, 3, requires_grad=True)).sum().backward()
    assert marks.names == ["Checkpointed t=0", "inner t=0"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_ranges_close_after_an_exception(error: type[BaseException]) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise error("broken")

    model, marks = nn.Sequential(nn.Sequential(nn.Linear(3, 3), Broken())), Marks()
    with pytest.raises(error, match="broken"), LayerRanges(model, 1, mark=marks):
        model(torch.randn(2, 3))
    assert marks.names == ["Sequential t=0", "0 t=0", "0.0 t=0", "0.1 t=0"]
    assert not marks.open and hooks(model) == 0


def test_an_interrupt_that_a_parent_catches_closes_the_ranges_inside_it() -> None:
    class Stopping(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyboardInterrupt

    class Catching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.child = Stopping()

        def forward(self, x: Tensor) -> Tensor:
            with suppress(KeyboardInterrupt):
                self.child(x)
            return x

    model, marks = Catching(), Marks()
    with LayerRanges(model, 2, mark=marks):
        for _ in range(2):
            model(torch.randn(2, 3))
            assert not marks.open
    assert marks.names == ["Catching t=0", "child t=0", "Catching t=1", "child t=1"]


def test_an_exception_that_the_step_catches_leaves_the_ranges_right() -> None:
    model, marks = nn.Sequential(nn.Linear(3, 3)), Marks()
    with LayerRanges(model, 4, mark=marks):
        with pytest.raises(RuntimeError):
            model(torch.randn(2, 5))
        assert not marks.open
        model(torch.randn(2, 3))
    assert marks.names[-2:] == ["Sequential t=1", "0 t=1"]


def test_compiled_parts_are_named_as_not_marked() -> None:
    model = nn.Sequential(nn.Linear(3, 3), torch.compile(nn.Linear(3, 3), backend="eager"))
    x, marks = torch.randn(2, 3), Marks()
    expected = model(x)
    with LayerRanges(model, 1, mark=marks) as ranges:
        assert torch.equal(model(x), expected)
    assert marks.names == ["Sequential t=0", "0 t=0", "1 t=0"]
    assert len(ranges.not_marked()) == 1  # what is compiled, inside the wrapper


def test_ranges_that_cannot_be() -> None:
    model = network()
    for settings, named in (
        ((model, 3), "timesteps=3, but the model was made for 2"),
        ((nn.ReLU(), 0), "timesteps=0"),
        ((nn.ReLU(), 2, 3), "steps_per_call=3"),
        ((nn.ReLU(), 2, 0), "steps_per_call=0"),
    ):
        with pytest.raises(SnnprofError, match=named):
            LayerRanges(*settings)
