"""Data of one's own: every way to hand it in, and what is refused before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import snnprof
from snnprof.experiment.lookups import find_data
from snnprof.experiment.own_data import Loading, OwnData, own_data

X = torch.arange(20.0).reshape(10, 2)
Y = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
Batches = list[tuple[Tensor, Tensor]]


def batches(size: int = 4) -> Batches:
    return list(zip(X.split(size), Y.split(size), strict=True))


def read(given: object, loading: Loading | None = None, **settings: object) -> OwnData:
    data = own_data(given, loading or Loading(), **settings)
    assert isinstance(data, OwnData)
    return data


def epoch(data: OwnData, size: int = 64) -> Batches:
    return list(data.epoch(size, torch.Generator()))


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Map-style, by the index."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return X[index], Y[index]


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from batches()


def generator() -> Iterator[tuple[Tensor, Tensor]]:
    yield from batches()


class Endless(Dataset[tuple[Tensor, Tensor]]):
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return X[index], Y[index]


def test_a_map_style_data_set_says_how_long_it_is() -> None:
    for given in ((Endless(), Samples()), (Samples(), Endless())):
        with pytest.raises(snnprof.SnnprofError, match="set that has no len: give it __len__"):
            read(given, Loading(2))


def test_workers_do_not_alter_the_order_of_later_epochs() -> None:
    """torch's sampler draws again at the end of an epoch, which workers reach ahead of its use."""
    orders = []
    for workers in (0, 2):
        data = read((Samples(), Samples()), Loading(5, workers))
        orders.append([torch.cat([x for x, _ in epoch(data)])[:, 0].tolist() for _ in range(2)])
    assert orders[0] == orders[1]
    assert [sorted(order) for order in orders[0]] == [X[:, 0].tolist()] * 2
    assert orders[0][0] != orders[0][1]


LOADERS: dict[str, Callable[[], Any]] = {
    "list": batches,
    "loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=4),
    "loader of a stream": lambda: DataLoader(Stream(), batch_size=None),
    "generator function": lambda: generator,
}


@pytest.mark.parametrize("kind", LOADERS)
def test_every_kind_of_loader_gives_the_same_batches(kind: str) -> None:
    data = read((LOADERS[kind](), LOADERS[kind]()), Loading(steps=2))
    found = epoch(data)
    assert [x.tolist() for x, _ in found] == [x.tolist() for x, _ in batches()[:2]]
    assert [y.tolist() for _, y in found] == [y.tolist() for _, y in batches()[:2]]
    assert sum(len(y) for _, y in data.test(64)) in (8, 10)  # a stream is read as far as --steps
    assert data.batch_size == 4
    assert data.shape["num_classes"] == 3


def test_a_function_or_an_object_gives_them() -> None:
    for given in (
        (batches(), batches()),
        lambda: (batches(), batches()),
        {"train": batches(), "test": batches()},
        SimpleNamespace(train=batches(), test=batches()),
        lambda: SimpleNamespace(train=batches(), test=batches()),
    ):
        assert len(epoch(read(given))) == 2  # the third batch has two samples only: left out


def test_a_function_gets_the_settings_that_it_takes() -> None:
    seen: dict[str, object] = {}

    def load(batch_size: int, timesteps: int, seed: int) -> tuple[Batches, Batches]:
        seen.update(batch_size=batch_size, timesteps=timesteps, seed=seed)
        return batches(batch_size), batches(batch_size)

    data = read(load, Loading(batch_size=5, seed=3), timesteps=4, seed=3, image_size=None)
    assert seen == {"batch_size": 5, "timesteps": 4, "seed": 3}
    assert data.batch_size == 5
    with pytest.raises(snnprof.SnnprofError, match="no parameter 'image_size'"):
        find_data(load, 32, None, Loading(), (4,))


def test_a_map_style_data_set_is_loaded_by_us() -> None:
    data = read((Samples(), Samples()), Loading(batch_size=4, seed=1))
    first, second = epoch(data), epoch(data)
    assert [len(y) for _, y in first] == [4, 4]  # 10 samples: the last two are left out
    seen = torch.cat([x for x, _ in first])
    assert len(seen.unique(dim=0)) == 8
    assert not torch.equal(first[0][0], second[0][0])  # shuffled anew
    again = epoch(read((Samples(), Samples()), Loading(batch_size=4, seed=1)))
    torch.testing.assert_close(first[0][0], again[0][0])  # by the seed
    assert [x.tolist() for x, _ in data.test(4)] == [x.tolist() for x in X.split(4)]
    assert data.images == 10


def test_steps_read_a_short_loader_again() -> None:
    data = read((batches(5), batches()), Loading(steps=5))
    assert [y.tolist() for _, y in epoch(data)] == [
        b[1].tolist() for b in batches(5) * 2 + batches(5)[:1]
    ]
    assert data.steps(5) == 5


def test_nothing_is_loaded_whole() -> None:
    taken: list[int] = []

    def endless() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            taken.append(len(taken))
            yield X[:4], Y[:4]

    data = read((endless, batches()), Loading(steps=3))
    taken.clear()
    assert len(epoch(data)) == 3
    assert len(taken) <= 4


def test_arrays_lists_and_dictionaries() -> None:
    arrays = [(X.numpy(), Y.numpy())]
    x, y = read((arrays, arrays)).first(0)
    assert isinstance(x, Tensor)
    assert y.tolist() == Y.tolist()
    listed = [(X, Y.tolist())]
    assert read((listed, listed)).first(0)[1].tolist() == Y.tolist()
    dictionaries = [{"image": X, "label": Y}]
    with pytest.raises(snnprof.SnnprofError, match=r"no pair \(x, y\) but dict: give prepare="):
        read((dictionaries, dictionaries))
    given = {
        "train": dictionaries,
        "test": dictionaries,
        "prepare": lambda batch: (batch["image"], batch["label"]),
    }
    assert read(given).first(0)[1].tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (Y, 3),
        (torch.nn.functional.one_hot(Y, 5), 5),
        (torch.softmax(torch.randn(10, 4), 1), 4),
        (torch.randn(10), 1),
        (torch.randn(10, 2), 2),
        (torch.arange(40).reshape(10, 2, 2) % 7, 7),
        (torch.arange(20).reshape(10, 2) % 7, 7),  # of two positions
        (torch.arange(40).reshape(10, 4) % 3 % 2, 4),  # several classes of a sample
        (None, None),
    ],
)
def test_classes_of_every_kind_of_label(y: Tensor | None, classes: int | None) -> None:
    data = read(([(X, y)], [(X, y)]))
    assert data.shape.get("num_classes") == classes
    assert data.labelled == (y is not None)


def test_classes_that_are_stated_or_named_by_the_data_set() -> None:
    stated = {"train": batches(), "test": batches(), "num_classes": 11, "in_channels": 3}
    assert read(stated).shape == {"num_classes": 11, "in_channels": 3}

    class Named(Samples):
        classes = ("a", "b", "c", "d")

    assert read((Named(), Named()), Loading(batch_size=4)).shape["num_classes"] == 4
    seen_first = read((generator, generator), Loading(steps=1))
    assert "by the largest label of the first batch" in seen_first.notes[0]
    late = [(X[:4], Y[:4]), (X[:4], torch.full((4,), 8))]
    assert read((late, late)).shape["num_classes"] == 9  # of a list, all labels are looked at


def test_images_and_events_tell_their_size() -> None:
    for shape in ((4, 2, 8, 8), (3, 4, 2, 8, 8), (4, 3, 2, 8, 8)):
        given = [(torch.zeros(shape), Y[:4])]
        found = read((given, given)).shape
        assert (found["in_channels"], found["image_size"]) == (2, 8)


@pytest.mark.parametrize(
    ("given", "loading", "message"),
    [
        (([], batches()), Loading(), "train gives no batch"),
        ((batches(), []), Loading(), "test gives no batch"),
        ((batches(), None), Loading(), "gives a .*tuple.* without test|test is a NoneType"),
        ({"train": batches()}, Loading(), "gives a dict without test"),
        (3, Loading(), "gives a int without train"),
        ((generator(), batches()), Loading(), "can be read only once: give the function"),
        ((batches(), batches()), Loading(batch_size=8), "batch_size=8 would be ignored"),
        (([(X, Y, Y)], batches()), Loading(), "no pair .* but 3 parts: give prepare"),
        (([("a", Y)], batches()), Loading(), "batch 1 is a str, not a tensor"),
        (([(X[0], Y[0])], batches()), Loading(), "these are samples, not batches"),
        (
            (Samples(), Samples()),
            Loading(batch_size=64),
            "batch_size=64 is more than the 10 training images: give 10 or fewer$",
        ),
        (
            (Samples(), Samples()),
            Loading(),
            r"no batch size was given, and 64, the usual one, is more than the 10 training images: "
            r"give batch_size=10 or less \(--batch-size; .* loading=snnprof\.extend\.Loading\(10\)",
        ),
    ],
)
def test_what_is_refused(given: object, loading: Loading, message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        read(given, loading)


def test_a_loader_without_a_length_needs_steps() -> None:
    data = read((generator, generator))
    with pytest.raises(snnprof.SnnprofError, match=r"\(it has no len\): give steps=N"):
        data.steps(4)


def test_batches_that_change_their_shape() -> None:
    other = [(X[:4], Y[:4]), (torch.zeros(4, 3), Y[:4])]
    with pytest.raises(snnprof.SnnprofError, match=r"batch 2 has the shape \(4, 3\), the first"):
        epoch(read((other, other)))
    growing = [(X[:2], Y[:2]), (X[:4], Y[:4])]
    with pytest.raises(snnprof.SnnprofError, match=r"batch 2 has the shape \(4, 2\)"):
        epoch(read((growing, growing)))
    shorter = [(torch.zeros(4, steps, 2), Y[:4]) for steps in (5, 3)]  # fewer steps, not samples
    with pytest.raises(snnprof.SnnprofError, match=r"batch 2 has the shape \(4, 3, 2\)"):
        epoch(read((shorter, shorter)))
    small = [(X[:4], Y[:4]), (X[:2], Y[:2]), (X[:2], Y[:2])]  # it is not the last that is short
    with pytest.raises(snnprof.SnnprofError, match=r"batch 3 has the shape \(2, 2\)"):
        epoch(read((small, small)))
    fewer = [(torch.zeros(5, size, 2), Y[:size]) for size in (4, 3)]
    assert [len(y) for _, y in epoch(read((fewer, fewer)))] == [4]


@pytest.mark.parametrize(("shape", "samples"), [((3, 4, 2, 8, 8), 4), ((4, 3, 2, 8, 8), 4)])
def test_samples_of_events_without_labels(shape: tuple[int, ...], samples: int) -> None:
    """Whichever dimension T = 3 stands in."""
    given = [(torch.zeros(shape), None)]
    assert read((given, given), timesteps=3).batch_size == samples
