"""Where a model comes from: our networks by name, or anybody's builder."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.core.error_line import one_line
from snnprof.core.errors import SnnprofError, is_out_of_memory, known
from snnprof.models import MODELS, create
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.adapters import SteppedModel, adapt
from snnprof.training.step_runner import as_sequence


class ModelSource:
    """A function that makes a model.

    Args:
        name: as it was given.
        function: makes it, from keywords.
        takes: the keywords that it has; None for any.
        ours: whether it is one of our networks.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        takes: frozenset[str] | None,
        ours: bool,
    ) -> None:
        self.name = name
        self.ours = ours
        self._function = function
        self._takes = takes

    def takes(self, keyword: str) -> bool:
        """True if the function has this keyword."""
        return self._takes is None or keyword in self._takes

    def __call__(self, **settings: Any) -> nn.Module | SteppedModel:
        """Make a model; a setting that the function does not have is left out.

        Raises:
            SnnprofError: the function fails, or returns no model.
        """
        wanted = {key: value for key, value in settings.items() if self.takes(key)}
        try:
            built = self._function(**wanted)
        except SnnprofError:
            raise
        except (Exception, SystemExit) as error:  # theirs to mend
            if self.ours or is_out_of_memory(error):
                raise
            raise self._error("its builder failed", error) from error
        if not isinstance(built, nn.Module | SteppedModel):
            raise SnnprofError(
                f"model {self.name!r} returned a {type(built).__name__}, not a torch.nn.Module"
            )
        return built

    def check(self, images: Tensor, labels: Tensor, timesteps: int, **settings: Any) -> None:
        """Run a model of somebody else's once, on a few images, before anything depends on it.

        Raises:
            SnnprofError: it fails, gives something else than [T, B, classes] (step by step:
                [B, classes]), or is made for another number of time steps.
        """
        if self.ours:
            return
        stepped = adapt(self(timesteps=timesteps, **settings))
        model = stepped.model.to(images.device).eval()
        if isinstance(model, SpikingNetwork) and model.timesteps != timesteps:
            raise SnnprofError(
                f"model {self.name!r} is made for {model.timesteps} time steps, and {timesteps} "
                f"were asked for: give its builder a parameter 'timesteps', or use "
                f"timesteps={model.timesteps}"
            )
        try:
            with torch.no_grad():
                stepped.reset()
                stepped.run_sequence(as_sequence(images, labels, timesteps))
        except SnnprofError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            shape = (timesteps, *images.shape)
            raise self._error(f"it failed on an input of shape {shape}", error) from error

    def _error(self, what: str, error: BaseException) -> SnnprofError:
        return SnnprofError(f"model {self.name!r}: {what}: {one_line(error)}")


def find_builder(model: str) -> ModelSource:
    """Where a model comes from.

    Args:
        model: a name of :func:`snnprof.models.list_models`, or ``package.module:function``.

    Returns:
        What makes it from the keywords of :func:`snnprof.models.create`. Somebody's own
        function gets those that it has parameters for. It returns a torch.nn.Module from
        [T, B, C, H, W] to [T, B, classes], a model of a library that
        :mod:`snnprof.training.adapters` knows, or a :func:`snnprof.stepwise` model.

    Raises:
        SnnprofError: no such module or function, or it cannot be imported.
    """
    if ":" not in model:
        if model not in MODELS:
            raise known("model", model, MODELS)
        return ModelSource(model, partial(create, model), None, ours=True)
    module_name, _, attribute = model.partition(":")
    function = _imported(model, module_name, attribute)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as error:
        raise SnnprofError(
            f"model {model!r}: {attribute!r} tells no parameters: wrap it"
        ) from error
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    names = frozenset(p.name for p in parameters)
    return ModelSource(model, function, None if takes_all else names, ours=False)


def _imported(model: str, module_name: str, attribute: str) -> Callable[..., Any]:
    here = str(Path.cwd())
    if here not in sys.path:  # as python -m has it; a console script does not
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever their module raises is theirs to mend
        raise SnnprofError(
            f"model {model!r}: cannot import {module_name!r}: {one_line(error)}"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise SnnprofError(f"model {model!r}: {module_name!r} has no function {attribute!r}")
    return function  # type: ignore[no-any-return]
