"""The registry of data sets, and loading one by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from snnprof.core.errors import SnnprofError
from snnprof.core.registry import Registry
from snnprof.experiment.data import Data
from snnprof.experiment.own_data import Loading
from snnprof.experiment.own_function import keywords_of

# From (image size in pixels or None, seed), and those of the keywords data_dir, timesteps and
# loading that it has parameters for, to the data.
LoadDataset = Callable[..., Any]
DATA_SETS: Registry[LoadDataset] = Registry("data set")


def load(
    name: str,
    image_size: int | None = None,
    seed: int = 0,
    *,
    data_dir: str | Path | None = None,
    timesteps: Sequence[int] = (4,),
    loading: Loading | None = None,
) -> Any:
    """Load a data set by name.

    Args:
        name: "digits", "random", "cifar10", or a name of :data:`DATA_SETS`.
        image_size: height and width in pixels; None for the data's own (random: 32).
        seed: of the random images.
        data_dir: folder with the data; None for the environment's SNNPROF_DATA, or ./data.
        timesteps: T, or several; event data are cut into T frames, and take one.
        loading: batch size, workers and seed of data that are streamed.

    Returns:
        Data, of the class that this data set has: a Dataset of those in memory.

    Raises:
        SnnprofError: unknown name, an image size below 1, a data set that is not there or
            broken, or a setting that it would ignore.
    """
    data: Data = find_data_set(
        name, image_size, seed, data_dir=data_dir, timesteps=timesteps, loading=loading
    )()
    return data


def find_data_set(
    name: str,
    image_size: int | None = None,
    seed: int = 0,
    *,
    data_dir: str | Path | None = None,
    timesteps: Sequence[int] = (4,),
    loading: Loading | None = None,
) -> Callable[[], Data]:
    """Look a data set up, as :func:`load` does, and give what loads it.

    Raises:
        SnnprofError: unknown name, an image size below 1, or a setting that it would ignore.
    """
    load_it = DATA_SETS.find(name)
    if image_size is not None and image_size < 1:
        raise SnnprofError(f"image_size={image_size}: must be at least 1")
    loading = loading or Loading(seed=seed)
    offered = {"data_dir": data_dir, "timesteps": timesteps[0], "loading": loading}
    takes = keywords_of(f"data set {name!r}", load_it)
    if len(timesteps) > 1 and takes is not None and "timesteps" in takes:
        raise SnnprofError(
            f"timesteps={','.join(map(str, timesteps))}: data {name!r} are cut into T frames when "
            "they are loaded: give one T per run"
        )
    if loading.workers and takes is not None and "loading" not in takes:
        raise SnnprofError(
            f"workers={loading.workers}: data {name!r} are in memory, and would not be loaded "
            "by them: leave workers out"
        )
    if data_dir is not None and takes is not None and "data_dir" not in takes:
        raise SnnprofError(
            f"data_dir={str(data_dir)!r}: data {name!r} are read from no folder, so it would be "
            "ignored: leave data_dir out"
        )
    given = {k: v for k, v in offered.items() if takes is None or k in takes}

    def loaded() -> Data:
        data = load_it(image_size, seed, **given)
        if not isinstance(data, Data):
            raise SnnprofError(
                f"data set {name!r} returned a {type(data).__name__}, not a snnprof.extend.Dataset"
            )
        return data

    return loaded
