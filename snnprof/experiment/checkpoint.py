"""Weights from a file, read without running code in it."""

from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnprof.core import strict_json
from snnprof.core.errors import SnnprofError, reason_of
from snnprof.core.module_names import strip_wrappers
from snnprof.experiment.safetensors_file import from_bytes, is_safetensors
from snnprof.results.decoding import decode

CONFIGURATION = "snnprof"  # in the metadata of a file that snnprof saved
_SHOWN = 3
_DEEPEST = 3
# Types of the settings in a configuration.
_SETTINGS: dict[str, Any] = {
    **dict.fromkeys(("timesteps", "batch_size", "image_size", "epochs", "seed"), int),
    **dict.fromkeys(("model", "neuron", "weights", "modes", "data", "layout", "loss"), str),
    **dict.fromkeys(("metric", "checkpoint", "baseline"), str),
    "learning_rate": float,
    "variants": dict[str, str | int | float | bool],
}
_LATENT = ".parametrizations.weight.original"
# What trainers put beside the weights, and what holds nothing but values.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
    type(np.dtype(np.int64)),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
]


def load_checkpoint(model: nn.Module, path: str | Path) -> tuple[str, ...]:
    """Load weights from a file into a model.

    The file is one of the safetensors format, or of ``torch.save``, read without running any
    code in it (``weights_only=True``). Of the state dicts in it, under whatever names, the one
    that fits the model is taken, an averaged one (EMA) first, as it is what trainers evaluate.
    Prefixes of wrappers (``module.``, ``_orig_mod.``) are recognised, and one in front of all
    keys (Lightning's ``model.``).

    Returns:
        Sentences on what was chosen and left out, where there was a choice.

    Raises:
        SnnprofError: the file cannot be read, holds something else than tensors, or is of
            another architecture (the keys are named).
    """
    own = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    loaded, _ = read_file(path)
    found = [
        candidate for name, state in _states(loaded) for candidate in _candidates(name, state, own)
    ]
    if not found:
        raise SnnprofError(f"checkpoint {str(path)!r} holds no state dict: save model.state_dict()")
    fitting = sorted((c for c in found if not c.complaints), key=lambda c: not c.averaged)
    if not fitting:
        nearest = max(found, key=lambda c: len(own.keys() & c.state.keys()))
        raise SnnprofError(
            f"checkpoint {str(path)!r} is of another network; {'; '.join(nearest.complaints)}"
        )
    chosen, *others = fitting
    model.load_state_dict({key: chosen.state[key] for key in own}, strict=False)
    return tuple(_choice(path, chosen, others))


def saved_configuration(path: str | Path) -> dict[str, Any] | None:
    """The configuration in a file that ``save`` or a training wrote: settings, versions, figures.

    Returns:
        None for a file of anybody else's.

    Raises:
        SnnprofError: the file cannot be read.
    """
    _, metadata = read_file(path)
    try:
        found = strict_json.parse(metadata.get(CONFIGURATION, "null"))
        if not isinstance(found, dict) or "settings" not in found:
            return None
        settings = decode(dict[str, Any], found["settings"], "settings")
        for name in settings.keys() & _SETTINGS.keys():
            decode(_SETTINGS[name], settings[name], f"settings[{name!r}]")
    except ValueError as error:
        raise SnnprofError(
            f"checkpoint {str(path)!r}: its configuration is damaged: {error}"
        ) from error
    return dict(found)


@dataclass(frozen=True)
class _Candidate:
    """A state dict of the file, under the model's own keys.

    Attributes:
        name: where in the file.
        state: the tensors.
        left_out: keys beside the prefix that the model's are under.
        complaints: why it does not fit.
    """

    name: str
    state: Mapping[str, Tensor]
    left_out: Sequence[str]
    complaints: Sequence[str]

    @property
    def averaged(self) -> bool:
        """True for an exponential moving average, by its name."""
        return "ema" in self.name.lower().replace(".", "_").replace("/", "_").split("_")


def read_file(path: str | Path) -> tuple[object, Mapping[str, str]]:
    """What is in a file of safetensors or torch.save, and its metadata; no code in it is run.

    Raises:
        SnnprofError: it cannot be read, is damaged, or holds more than values.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise SnnprofError(f"checkpoint {str(path)!r}: {reason_of(error)}") from error
    if is_safetensors(content):
        try:
            return from_bytes(content)
        except ValueError as error:
            raise SnnprofError(f"checkpoint {str(path)!r} is damaged: {error}") from error
    loaded = _unpickled(content, path)
    stated = loaded.get(CONFIGURATION) if isinstance(loaded, Mapping) else None
    return loaded, {CONFIGURATION: stated} if isinstance(stated, str) else {}


def _unpickled(content: bytes, path: str | Path) -> object:
    _check_archive(content, path)
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
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


def _check_archive(content: bytes, path: str | Path) -> None:
    """Raise SnnprofError where a checksum in the file is of other bytes; torch reads none.

    A file of before torch 1.6 is no archive and has none; where all are 0, it was written
    without (``torch.serialization.set_crc32_options(False)``).
    """
    try:
        if not zipfile.is_zipfile(io.BytesIO(content)):
            return
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unchecked = all(member.CRC == 0 for member in archive.infolist())
            damaged = None if unchecked else archive.testzip()
    except Exception as error:  # whatever a damaged archive makes Python run into
        raise SnnprofError(f"checkpoint {str(path)!r} is damaged: {error}") from error
    if damaged is not None:
        raise SnnprofError(f"checkpoint {str(path)!r} is damaged: {damaged!r:.80} in it")


def _states(
    loaded: object, name: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Everything in the file that may be a state dict, and where it stands."""
    if not isinstance(loaded, Mapping) or depth > _DEEPEST:
        return
    tensors = {
        key: value
        for key, value in loaded.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if tensors:
        yield name, tensors
    for key, value in loaded.items():
        yield from _states(value, f"{name}/{key}" if name else str(key), depth + 1)


def _candidates(
    name: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> Iterator[_Candidate]:
    """The state dict as it is, and what of it stands under a prefix."""
    known = {_plain(key): key for key in own}
    plain = {_plain(key): value for key, value in state.items()}
    if len(known) < len(own) or len(plain) < len(state):  # names that differ in wrappers alone
        known, plain = {key: key for key in own}, dict(state)
    first = next(iter(known), "")
    prefixes = {key.removesuffix(first): None for key in plain if key.endswith("." + first)}
    for prefix in ("", *prefixes):
        inside = {k.removeprefix(prefix): v for k, v in plain.items() if k.startswith(prefix)}
        renamed = {known.get(key, key): value for key, value in inside.items()}
        if "n_averaged" not in own:  # of torch's AveragedModel
            renamed.pop("n_averaged", None)
        where = f"{name}/{prefix}" if name and prefix else name or prefix
        yield _Candidate(
            name=where.rstrip("."),
            state=renamed,
            left_out=[key for key in plain if not key.startswith(prefix)],
            complaints=_complaints(renamed, own),
        )


def _plain(key: str) -> str:
    """A key without what wrappers and quantisers add to it."""
    stripped = strip_wrappers(key)
    return stripped.removesuffix(_LATENT) + ".weight" if stripped.endswith(_LATENT) else stripped


def _complaints(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    shared = [key for key in own if key in state]
    wrong = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in shared
            if _make(state[key]) == _make(own[key]) and state[key].shape != own[key].shape
        ],
        "of another kind": [
            f"{key} is {state[key].dtype}, {state[key].layout}, on {state[key].device}"
            for key in shared
            if _make(state[key]) != _make(own[key])
        ],
    }
    return [f"{what}: {_shortened(keys)}" for what, keys in wrong.items() if keys]


def _make(tensor: Tensor) -> tuple[object, ...]:
    """What a tensor is beside its numbers; a meta tensor has none."""
    return (
        tensor.is_complex(),
        tensor.layout,
        tensor.is_nested,
        tensor.is_quantized,
        tensor.is_meta,
    )


def _choice(path: str | Path, chosen: _Candidate, others: Sequence[_Candidate]) -> Iterator[str]:
    if others:
        also = ", ".join(repr(other.name) for other in others)
        yield f"Of the weights in {path}, {chosen.name!r} were loaded; there were also {also}."
    if chosen.left_out:
        yield (
            f"Of {path}, what stands under {chosen.name!r} was loaded; left out: "
            f"{_shortened(chosen.left_out)}."
        )


def _shortened(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
