"""A cell of the grid: the settings of one run, and the name that they make."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snnprof.energy.conventions import at_precision, convention_names
from snnprof.experiment.lookups import once_each
from snnprof.experiment.run import run
from snnprof.experiment.sweep.keys import VARIANTS
from snnprof.models import MODELS, options_of
from snnprof.results import ReportRow
from snnprof.spiking.neuron_registry import specification
from snnprof.training.layouts import AUTO

_NOT_IN_NAMES = re.compile(r"[^\w.+=-]+")
_LONGEST = 120  # characters of a name before its digest
_DIGITS = 12
_IN_NAMES = ("model", "neuron", "weights", "mode")
USUAL = {name: p.default for name, p in inspect.signature(run).parameters.items()}


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        settings: by key, a value each; variants are a table of their own.
        shown: settings that tell this cell from others and that no column of a report shows.
    """

    settings: Mapping[str, Any]
    shown: Mapping[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of :func:`snnprof.run`.

        Raises:
            SnnprofError: a precision that a convention has no prices at.
        """
        given = {key: value for key, value in self.settings.items() if key != VARIANTS}
        given |= self.settings.get(VARIANTS, {})
        if "mode" in given:
            given["modes"] = given.pop("mode")
        if (precision := given.pop("precision", None)) is not None:
            energies = once_each("energy", given.get("energy", USUAL["energy"]))
            names = [name for energy in energies for name in convention_names(energy)]
            given["energy"] = at_precision(names, precision)
        return given

    @property
    def name(self) -> str:
        """``"vgg5-lif-fp32-stbp-T4-seed0-1f0c5e2a7b3d"``: what is equal has one name.

        The digits are a digest of all settings but those that are as if they were left out.
        """
        of = self._with_usual()
        parts = [str(of[key]) for key in _IN_NAMES if of.get(key) is not None]
        readable = "-".join((*parts, f"T{of['timesteps']}", f"seed{of['seed']}"))
        plain = json.dumps(self._unusual(), sort_keys=True, default=list)
        digest = hashlib.sha256(plain.encode()).hexdigest()[:_DIGITS]
        return f"{_NOT_IN_NAMES.sub('-', readable)[:_LONGEST]}-{digest}"

    def failed(self, reason: str) -> ReportRow:
        """The row of a run that came to nothing."""
        of = self._with_usual()
        size = of["batch_size"]
        ours = of["model"] in MODELS
        options = options_of(of["model"]) if ours else {}
        variants = self.settings.get(VARIANTS, {})
        of_network = {key: v for key, v in variants.items() if key in options or not ours}
        of_neuron = {key: v for key, v in variants.items() if key not in of_network}
        return ReportRow(
            model=specification(of["model"], **of_network),
            neuron=specification(of["neuron"], **of_neuron),
            weights=of["weights"],
            mode=of.get("mode"),
            timesteps=of["timesteps"],
            batch_size=None if size == AUTO else size,
            epochs=of["epochs"],
            checkpoint=of["checkpoint"],
            seed=of["seed"],
            data=of["data"],
            image_size=of["image_size"],
            failure=reason,
        )

    def _with_usual(self) -> dict[str, Any]:
        return {**USUAL, **self.settings}

    def _unusual(self) -> dict[str, Any]:
        return {
            key: value
            for key, value in self.settings.items()
            if key not in USUAL or once_each(key, value) != once_each(key, USUAL[key])
        }
