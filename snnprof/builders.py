"""Where a model comes from: our networks by name, anybody's builder, a checkpoint."""

from __future__ import annotations

import importlib
import inspect
import io
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from snnprof.counting.naming import strip_wrappers
from snnprof.errors import SnnprofError
from snnprof.models import create

# What files of training frameworks wrap a state dict in.
_WRAPPED_AS = ("state_dict", "model", "model_state_dict", "net")
_SHOWN = 3


def find_builder(model: str) -> Callable[..., nn.Module]:
    """The function behind a model's name.

    Args:
        model: a name of :func:`snnprof.models.list_models`, or ``package.module:function``.

    Returns:
        A function of the keywords of :func:`snnprof.models.create`. Somebody's own function
        gets those that it has parameters for, and must return a torch.nn.Module.

    Raises:
        SnnprofError: no such module or function, or it cannot be imported.
    """
    if ":" not in model:
        return lambda **settings: create(model, **settings)
    module_name, _, attribute = model.partition(":")
    function = _imported(model, module_name, attribute)
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    names = {p.name for p in parameters}

    def build(**settings: Any) -> nn.Module:
        wanted = {k: v for k, v in settings.items() if takes_all or k in names}
        built = function(**wanted)
        if not isinstance(built, nn.Module):
            raise SnnprofError(
                f"model {model!r} returned a {type(built).__name__}, not a torch.nn.Module"
            )
        return built

    return build


def _imported(model: str, module_name: str, attribute: str) -> Callable[..., Any]:
    here = str(Path.cwd())
    if here not in sys.path:  # as python -m has it; a console script does not
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever their module raises: it is theirs to mend
        raise SnnprofError(
            f"model {model!r}: cannot import {module_name!r}: {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise SnnprofError(f"model {model!r}: {module_name!r} has no function {attribute!r}")
    return function  # type: ignore[no-any-return]


def load_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Load weights from a file of ``torch.save`` into a model.

    The file is read without running any code in it (``weights_only=True``). A state dict
    inside a dict, and prefixes that wrappers such as DataParallel add, are recognised.

    Raises:
        SnnprofError: the file cannot be read, holds something else than tensors, or is of
            another architecture (the keys are named).
    """
    own = model.state_dict()
    state = _as_quantised(_state_dict(_read(path), path), own)
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    shaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    complaints = [
        f"{what}: {_shortened(keys)}"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shaped),
        )
        if keys
    ]
    if complaints:
        raise SnnprofError(
            f"checkpoint {str(path)!r} is of another network; {'; '.join(complaints)}"
        )
    model.load_state_dict(state)


def _read(path: str | Path) -> object:
    try:
        content = io.BytesIO(Path(path).read_bytes())
    except OSError as error:
        raise SnnprofError(f"checkpoint {str(path)!r}: {error.strerror or error}") from error
    try:
        return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SnnprofError(
            f"checkpoint {str(path)!r} is damaged, or holds more than tensors (such a file could "
            "run code, so it is not read): save model.state_dict()"
        ) from error
    except (RuntimeError, OSError, EOFError, BadZipFile, ValueError, KeyError, IndexError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise SnnprofError(
            f"checkpoint {str(path)!r} is damaged or no torch file: {first}"
        ) from error


def _state_dict(loaded: object, path: str | Path) -> dict[str, Tensor]:
    if isinstance(loaded, Mapping):
        for name in _WRAPPED_AS:
            if isinstance(loaded.get(name), Mapping):
                loaded = loaded[name]
                break
    tensors = isinstance(loaded, Mapping) and all(isinstance(v, Tensor) for v in loaded.values())
    if not tensors or not loaded:
        raise SnnprofError(f"checkpoint {str(path)!r} holds no state dict: save model.state_dict()")
    assert isinstance(loaded, Mapping)
    return {strip_wrappers(str(key)): value for key, value in loaded.items()}


_LATENT = ".parametrizations.weight.original"


def _as_quantised(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Full-precision weights become the latent weights of a model that is quantised."""
    latent = {key.removesuffix(_LATENT) + ".weight": key for key in own if key.endswith(_LATENT)}
    return {latent.get(key, key): value for key, value in state.items()}


def _shortened(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
