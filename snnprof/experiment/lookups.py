"""What was asked for, looked up by its name and checked; no data are loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.experiment.data import Data
from snnprof.experiment.data_sets import find_data_set
from snnprof.experiment.own_data import Loading, makes_data, own_data
from snnprof.experiment.own_function import find_function, keywords_of, name_of
from snnprof.training.losses import Loss, StepLoss, find_loss
from snnprof.training.modes import find_mode


def check_names(
    neuron: str | Sequence[str],
    modes: str | Sequence[str],
    timesteps: int | Sequence[int],
) -> dict[str, Any]:
    """Neurons, modes and T, each once; the modes looked up."""
    several = {
        "neuron": once_each("neuron", neuron),
        "mode": once_each("mode", modes),
        "number of time steps": once_each("timesteps", timesteps),
    }
    for what, given in several.items():
        if not given:
            raise SnnprofError(f"no {what} was given: there is nothing to run")
    neurons, names, counts = several.values()
    for steps in counts:
        if not isinstance(steps, int) or steps < 1:
            raise SnnprofError(f"timesteps={steps}: must be at least 1, and whole")
    found = tuple(find_mode(name) for name in names)
    for mode in found:
        for steps in counts:
            mode.check(steps)
    return {"neurons": neurons, "modes": found, "timesteps": counts}


def find_data(
    data: object,
    image_size: int | None,
    data_dir: str | Path | None,
    loading: Loading,
    timesteps: Sequence[int],
) -> Callable[[], Data]:
    """What loads the data of a name, of ``package.module:function``, or of what the user gave.

    Raises:
        SnnprofError: an unknown name, or a setting that cannot be, or that they would ignore.
    """
    if loading.steps is not None and loading.steps < 1:
        raise SnnprofError(f"steps={loading.steps}: must be at least 1")
    if loading.workers < 0:
        raise SnnprofError(f"workers={loading.workers}: must be 0 or more")
    if isinstance(data, str) and ":" not in data:
        if loading.steps is not None:
            raise SnnprofError(
                f"steps={loading.steps}: data {data!r} has an end, its epochs are whole passes: "
                "leave steps out"
            )
        return find_data_set(
            data,
            image_size,
            loading.seed,
            data_dir=data_dir,
            timesteps=timesteps,
            loading=loading,
        )
    name = data if isinstance(data, str) else name_of(data)
    if data_dir is not None:
        raise SnnprofError(
            f"data_dir={str(data_dir)!r}: data {name!r} are your own, so it would be ignored: "
            "leave data_dir out"
        )
    given = find_function("data", data) if isinstance(data, str) else data
    _check_image_size(name, given, image_size)
    settings = {"image_size": image_size, "timesteps": timesteps[0], "seed": loading.seed}
    return partial(own_data, given, loading, name, **settings)


def _check_image_size(name: str, given: object, image_size: int | None) -> None:
    """Raise SnnprofError for an image size that data of the user's own would ignore."""
    if image_size is None:
        return
    ignored = f"so image_size={image_size} would be ignored: leave it out"
    if not makes_data(given):
        raise SnnprofError(
            f"data {name!r} are no function, {ignored}, or give a function with a parameter "
            "image_size"
        )
    takes = keywords_of(f"data {name!r}", given)
    if takes is not None and "image_size" not in takes:
        raise SnnprofError(
            f"data {name!r} has no parameter 'image_size', {ignored}, or add the parameter"
        )


def named_loss(given: str | StepLoss | Loss | None) -> str | Loss | None:
    """The loss that was asked for; ``package.module:function`` is imported."""
    if given is None:
        return None
    name = given if isinstance(given, str) and ":" in given else None
    if name is not None:
        given = find_function("loss", name)
    if isinstance(given, type):
        raise SnnprofError(
            f"loss {name or given.__name__!r} is a class: give an instance of it, or a function"
        )
    found = find_loss(given)
    return found if name is None else replace(found, name=name)


def own_recipe(
    optimizer: str | Callable[..., Any] | None,
    schedule: str | Callable[..., Any] | None,
    learning_rate: float | None,
) -> dict[str, Any]:
    """Functions for the optimiser and the schedule, and the learning rate if it is given.

    Raises:
        SnnprofError: no such function, or a learning rate that the user's optimiser would ignore.
    """
    given = {"optimizer": optimizer, "schedule": schedule}
    for name, function in given.items():
        if isinstance(function, str):
            if ":" not in function:
                raise SnnprofError(f"{name}={function!r}: give package.module:function")
            given[name] = find_function(name, function)
        elif function is not None and not callable(function):
            raise SnnprofError(f"{name}={function!r}: give a function, or package.module:function")
    make = given["optimizer"]
    if make is not None and learning_rate is not None:
        raise SnnprofError(
            f"learning_rate={learning_rate} would be ignored: optimizer {name_of(make)!r} has its "
            "own; leave it out"
        )
    rate = {} if learning_rate is None else {"learning_rate": learning_rate}
    return {**rate, "own_optimizer": make, "own_schedule": given["schedule"]}


def once_each(what: str, given: Any) -> tuple[Any, ...]:
    """One thing or several, in order.

    Args:
        what: for messages: the name of the argument.
        given: a thing, or a sequence of them.

    Raises:
        SnnprofError: one of them is given twice. It would be run once: whoever gives a seed twice
            would miss a second row.
    """
    several = isinstance(given, Sequence) and not isinstance(given, str)
    found = tuple(given) if several else (given,)
    for place, thing in enumerate(found):
        if thing in found[:place]:
            name = repr(thing) if isinstance(thing, str | int | float) else name_of(thing)
            raise SnnprofError(f"{what} {name} is given twice: leave one of them out")
    return found
