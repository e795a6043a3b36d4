"""Weights from a file, read without running code in it."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.core.module_names import strip_wrappers

# What files of training frameworks wrap a state dict in.
_WRAPPED_AS = ("state_dict", "model", "model_state_dict", "net")
_SHOWN = 3


def load_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Load weights from a file of ``torch.save`` into a model.

    The file is read without running any code in it (``weights_only=True``). A state dict
    inside a dict, and prefixes that wrappers such as DataParallel add, are recognised.

    Raises:
        SnnprofError: the file cannot be read, holds something else than tensors, or is of
            another architecture (the keys are named).
    """
    own = model.state_dict()
    state = _as_quantised(_unwrapped(_state_dict(_read(path), path), own), own)
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    shaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    typed = [
        f"{key} is {state[key].dtype}, {state[key].layout}"
        for key in own
        if key in state and _make(state[key]) != _make(own[key])
    ]
    complaints = [
        f"{what}: {_shortened(keys)}"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shaped),
            ("of another kind", typed),
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
    except Exception as error:  # whatever a damaged file makes torch run into
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise SnnprofError(
            f"checkpoint {str(path)!r} is damaged or no torch file ({why})"
        ) from error


def _state_dict(loaded: object, path: str | Path) -> dict[str, Tensor]:
    if isinstance(loaded, Mapping):
        for name in _WRAPPED_AS:
            if isinstance(loaded.get(name), Mapping):
                loaded = loaded[name]
                break
    whole = isinstance(loaded, Mapping) and all(isinstance(v, Tensor) for v in loaded.values())
    if not isinstance(loaded, Mapping) or not whole or not loaded:
        raise SnnprofError(f"checkpoint {str(path)!r} holds no state dict: save model.state_dict()")
    return {str(key): value for key, value in loaded.items()}


def _unwrapped(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The keys of the model itself, where only what wrappers add to a name differs."""
    known = {strip_wrappers(key): key for key in own}
    return {known.get(strip_wrappers(key), key): value for key, value in state.items()}


def _make(tensor: Tensor) -> tuple[bool, torch.layout]:
    return tensor.is_complex(), tensor.layout


_LATENT = ".parametrizations.weight.original"


def _as_quantised(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Full-precision weights become the latent weights of a model that is quantised."""
    latent = {key.removesuffix(_LATENT) + ".weight": key for key in own if key.endswith(_LATENT)}
    return {latent.get(key, key): value for key, value in state.items()}


def _shortened(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
