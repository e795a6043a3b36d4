"""Data of the user's own: loaders, lists, generator functions or map-style data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as MapStyle

from snnprof.core.error_line import of_the_users
from snnprof.core.errors import SnnprofError
from snnprof.experiment.class_labels import number_of_classes
from snnprof.experiment.data import Batch, Data, Normalization, Part
from snnprof.experiment.own_function import keywords_of, name_of
from snnprof.experiment.random_state import loader_generators
from snnprof.experiment.sample_order import SampleOrder
from snnprof.training.sequences import as_pair, samples_in, samples_of

Prepare = Callable[[Any], Any]
_SHAPE = ("num_classes", "in_channels", "image_size")
_STATED = ("prepare", "description", *_SHAPE)


@dataclass(frozen=True)
class Loading:
    """How samples of a map-style data set become batches.

    Attributes:
        batch_size: samples of a batch; None for what loaders bring, 64 for data sets.
        workers: processes that load.
        steps: training steps of an epoch; None for one pass.
        seed: of the order.
    """

    batch_size: int | None = None
    workers: int = 0
    steps: int | None = None
    seed: int = 0


USUAL_BATCH = 64
_END = object()


def own_data(given: object, loading: Loading, name: str | None = None, **settings: object) -> Data:
    """Data from what the user gave.

    Args:
        given: a function that makes one of these, from those of the settings that it has
            keywords for (``batch_size``, ``timesteps``, ``image_size``, ``seed``); or
            (train, test), or an object or a mapping with ``train`` and ``test`` and, if wanted,
            ``prepare``, ``num_classes``, ``in_channels``, ``image_size`` and ``description``;
            or a :class:`~snnprof.experiment.data_sets.Dataset`. Train and test are iterables of
            batches (a DataLoader, a list, a function that makes an iterator) or map-style
            data sets.
        loading: what was asked for.
        name: for messages; None for that of the function or the object's class.
        settings: what a function may take.

    Raises:
        SnnprofError: none of these; an epoch that has no end; no batch; a batch that is no pair.
    """
    name = name or name_of(given)
    takes_batch = False
    if makes_data(given):
        takes = keywords_of(f"data {name!r}", given)
        wanted = {k: v for k, v in settings.items() if v is not None}
        wanted["batch_size"] = loading.batch_size or USUAL_BATCH
        takes_batch = takes is None or "batch_size" in takes
        make = partial(given, **{k: v for k, v in wanted.items() if takes is None or k in takes})
        given = of_the_users(f"data {name!r}: it failed", make)
    if isinstance(given, Data):
        return given
    parts = _parts(name, given)
    loading = replace(loading, batch_size=None) if takes_batch else loading
    train = _batches(name, "train", parts.pop("train"), loading, shuffled=True)
    test = _batches(name, "test", parts.pop("test"), loading, shuffled=False)
    prepare = parts.pop("prepare", None) or _pair
    data = OwnData(name, train, test, prepare, loading.steps)
    return _described(data, parts, settings.get("timesteps"))


def makes_data(given: object) -> TypeGuard[Callable[..., Any]]:
    """Whether it is a function; a data set may have a ``__call__`` too."""
    return callable(given) and not isinstance(given, MapStyle)


def _parts(name: str, given: object) -> dict[str, Any]:
    """Train, test and what is stated of them."""
    if isinstance(given, tuple | list) and len(given) == 2:
        return {"train": given[0], "test": given[1]}
    found = {
        key: given.get(key) if isinstance(given, Mapping) else getattr(given, key, None)
        for key in ("train", "test", *_STATED)
    }
    for part in ("train", "test"):
        if found[part] is None:
            raise SnnprofError(
                f"data {name!r} gives a {type(given).__name__} without {part}: give (train, test), "
                "or an object with train and test"
            )
    return found


@dataclass(frozen=True)
class _Batches:
    """One of the two parts.

    Attributes:
        what: for messages.
        make: gives an iterator over its batches.
        length: number of batches; None if not known.
        samples: number of samples; None if not known.
        source: what was given, or the loader's data set.
        generators: what a loader draws the order of its samples from.
    """

    what: str
    make: Callable[[], Iterator[Any]]
    length: int | None
    samples: int | None
    source: object
    generators: tuple[torch.Generator, ...] = ()


def _batches(name: str, part: str, given: Any, loading: Loading, shuffled: bool) -> _Batches:
    what = f"data {name!r}: {part}"
    batch_size = loading.batch_size
    if isinstance(given, MapStyle) and not isinstance(given, IterableDataset):
        if not isinstance(given, Sized):
            raise SnnprofError(f"{what} is a map-style data set that has no len: give it __len__")
        samples: int | None = len(given)
        order = torch.Generator().manual_seed(loading.seed)
        loader: Any = DataLoader(
            given,
            batch_size or USUAL_BATCH,
            sampler=SampleOrder(given, order) if shuffled else None,
            drop_last=shuffled,
            num_workers=loading.workers,
            pin_memory=torch.cuda.is_available(),
            generator=order,
        )
        if shuffled and not len(loader):
            raise _too_few(samples, batch_size)
        return _Batches(
            what, lambda: iter(loader), len(loader), samples, given, loader_generators(loader)
        )
    if batch_size is not None:
        raise SnnprofError(
            f"{what} brings batches of its own, so batch_size={batch_size} would be ignored: leave "
            "it out, give a map-style data set, or a function with a parameter batch_size"
        )
    if loading.workers:
        raise SnnprofError(
            f"{what} brings batches of its own, so workers={loading.workers} would be ignored: "
            "leave it out, or give a map-style data set"
        )
    if callable(given) and not isinstance(given, Iterable):
        return _Batches(what, lambda: iter(given()), None, None, given)
    if not isinstance(given, Iterable):
        raise SnnprofError(f"{what} is a {type(given).__name__}: give an iterable of (x, y)")
    if iter(given) is given:
        raise SnnprofError(
            f"{what} is a {type(given).__name__} that can be read only once: give the function "
            "that makes it"
        )
    source = getattr(given, "dataset", given)
    samples = len(source) if isinstance(given, DataLoader) and isinstance(source, Sized) else None
    return _Batches(
        what, lambda: iter(given), _length(given), samples, source, loader_generators(given)
    )


def _too_few(samples: int | None, batch_size: int | None) -> SnnprofError:
    """The error for fewer training samples than one batch has, of which none would be left."""
    if batch_size is not None:
        return SnnprofError(
            f"batch_size={batch_size} is more than the {samples} training images: give "
            f"{samples} or fewer"
        )
    return SnnprofError(
        f"no batch size was given, and {USUAL_BATCH}, the usual one, is more than the {samples} "
        f"training images: give batch_size={samples} or less (--batch-size; of load_data, "
        f"loading=snnprof.extend.Loading({samples}))"
    )


def _length(given: object) -> int | None:
    try:
        return len(given) if isinstance(given, Sized) else None
    except TypeError:  # a loader over a stream
        return None


def _pair(batch: Any) -> Any:
    return batch


@dataclass(frozen=True)
class OwnData(Data):
    """Batches that somebody's loaders make; nothing is loaded whole.

    Attributes:
        name: of the function or object that gave them.
        train_part, test_part: the loaders.
        prepare: from a batch as it is loaded to (x, y).
        steps_given: training steps of an epoch; None for one pass.
        stated: num_classes, in_channels and image_size.
        device, layout: where batches go.
    """

    name: str
    train_part: _Batches
    test_part: _Batches
    prepare: Prepare
    steps_given: int | None = None
    stated: tuple[tuple[str, int], ...] = ()
    description: str = ""
    labelled: bool = True
    batch_size: int | None = None
    notes: tuple[str, ...] = ()
    normalization: Normalization | None = None
    cropped: Callable[[Part], Data] | None = None
    device: torch.device | None = None
    layout: torch.memory_format = torch.preserve_format

    @property
    def generators(self) -> tuple[torch.Generator, ...]:  # type: ignore[override]
        return (*self.train_part.generators, *self.test_part.generators)

    @property
    def shape(self) -> dict[str, int]:
        return dict(self.stated)

    @property
    def images(self) -> int | None:
        return self.train_part.samples

    @property
    def test_samples(self) -> int | None:
        return self.test_part.samples

    def to(self, device: torch.device, layout: torch.memory_format) -> OwnData:
        return replace(self, device=device, layout=layout)

    def first(self, batch_size: int) -> Batch:
        return next(self._read(self.train_part))

    def steps(self, batch_size: int) -> int:
        steps = self.steps_given or self.train_part.length
        if steps is None:
            raise SnnprofError(
                f"{self.train_part.what} does not say how long it is (it has no len): give steps=N "
                "(--steps N), training steps per epoch"
            )
        return steps

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        if self.steps_given is None:
            yield from self._alike(self._read(self.train_part))
            return
        yield from islice(self._alike(self._again_and_again()), self.steps_given)

    def _again_and_again(self) -> Iterator[Batch]:
        while True:
            read = False
            for batch in self._read(self.train_part):
                read = True
                yield batch
            if not read:
                raise SnnprofError(f"{self.train_part.what} gives no batch")

    def test(self, batch_size: int) -> Iterator[Batch]:
        read = self._read(self.test_part)
        return read if self.test_part.length is not None else islice(read, self.steps_given)

    def _read(self, part: _Batches) -> Iterator[Batch]:
        """The batches, on the device."""
        number = 0
        loader = of_the_users(f"{part.what} failed", part.make)
        while (loaded := of_the_users(f"{part.what} failed", partial(_next, loader))) is not _END:
            number += 1
            what = f"{part.what}: prepare failed on batch {number}"
            x, y = _checked(part.what, number, of_the_users(what, partial(self.prepare, loaded)))
            x = self._moved(x)
            if x.dim() == 4 and self.layout is not torch.preserve_format:
                x = x.contiguous(memory_format=self.layout)
            yield x, tree_map(self._moved, y)
        if not number:
            raise SnnprofError(f"{part.what} gives no batch")

    def _moved(self, value: Any) -> Any:
        if self.device is None or not isinstance(value, Tensor):
            return value
        return value.to(self.device, non_blocking=True)

    def _alike(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Batches of the size of the first; one of fewer samples, as the last, is left out."""
        shape: tuple[int, ...] = ()
        samples = None
        left_out = 0
        for number, (x, y) in enumerate(batches, start=1):
            if not shape:
                shape, samples = tuple(x.shape), samples_in(y)
            if tuple(x.shape) == shape:
                left_out = 0
                yield x, y
                continue
            left_out += 1
            fewer = _has_fewer(tuple(x.shape), samples_in(y), shape, samples)
            if not fewer or left_out > 1:
                raise SnnprofError(
                    f"{self.train_part.what}: batch {number} has the shape {tuple(x.shape)}, the "
                    f"first {shape}: steps of different sizes cannot be compared; give batches of "
                    "one shape"
                )


def _next(loader: Iterator[Any]) -> Any:
    """The next batch, or ``_END``.

    An error of ours in a worker process comes with its whole traceback, whose last line it is.
    """
    try:
        return next(loader, _END)
    except SnnprofError as error:
        last = str(error).splitlines()[-1]
        raise SnnprofError(last.partition("SnnprofError: ")[2] or last) from error


def _has_fewer(
    shape: tuple[int, ...], samples: int | None, first: tuple[int, ...], first_samples: int | None
) -> bool:
    """True if it only has fewer samples than the first: one of the first two dimensions tells."""
    if len(shape) != len(first):
        return False
    other = [n for n, (a, b) in enumerate(zip(shape, first, strict=True)) if a != b]
    if len(other) != 1 or other[0] > 1 or shape[other[0]] > first[other[0]]:
        return False
    told = samples is not None and first_samples is not None
    return not told or (shape[other[0]], first[other[0]]) == (samples, first_samples)


def _checked(what: str, number: int, batch: Any) -> Batch:
    """A batch as (x, y), from arrays to tensors."""
    way_out = "give prepare=function(batch) that makes it (x, y)"
    x, y = as_pair(batch, f"{what}: batch {number}", way_out)
    if isinstance(y, int | float) or (isinstance(y, Tensor) and not y.dim()):
        raise SnnprofError(
            f"{what}: y of batch {number} is a single number: these are samples, not batches; give "
            "a torch.utils.data.Dataset or a DataLoader"
        )
    return x, y


def _described(data: OwnData, stated: Mapping[str, Any], timesteps: Any) -> OwnData:
    """The data, with what the first batches show of them."""
    x, y = data.first(0)
    next(data._read(data.test_part))
    batch = samples_of(x, y, timesteps)
    shape: dict[str, int] = {}
    if x.dim() in (4, 5):
        shape |= {"in_channels": x.shape[-3], "image_size": x.shape[-1]}
    notes = []
    classes, guessed = number_of_classes(data.train_part.source, y)
    if classes is not None:
        shape["num_classes"] = classes
    shape |= {key: int(stated[key]) for key in _SHAPE if stated.get(key) is not None}
    if guessed and stated.get("num_classes") is None:
        notes.append(
            f"Classes: {classes}, by the largest label of the first batch; state num_classes if "
            "there are more."
        )
    loaded = "x".join(map(str, x.shape))
    samples = data.train_part.samples
    count = "" if samples is None else f", {samples} training samples"
    description = stated.get("description") or f"{data.name}{count}, batches of {loaded}"
    return replace(
        data,
        stated=tuple(shape.items()),
        description=description,
        labelled=y is not None,
        batch_size=batch,
        notes=tuple(notes),
    )
