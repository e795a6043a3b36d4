"""Other libraries: skipped where they are missing, but required by ``make test-peers``."""

from __future__ import annotations

import importlib
import os
from types import SimpleNamespace
from typing import Any

import pytest


def library(name: str, needed_for: str = "required") -> Any:
    """The module of that name.

    Args:
        name: of the module.
        needed_for: a value of SNNPROF_PEERS with which a test without it fails.
    """
    if os.environ.get("SNNPROF_PEERS") == needed_for:
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"needs {name}: make test-peers")


def spikingjelly() -> Any:
    """The modules ``neuron``, ``layer``, ``functional`` and ``surrogate`` of any SpikingJelly."""
    needed = os.environ.get("SNNPROF_PEERS", "")
    package = "clock_driven" if needed == "clock_driven" else "activation_based"
    try:
        importlib.import_module(f"spikingjelly.{package}")
    except ImportError:
        package = "clock_driven"
    parts = {
        part: library(f"spikingjelly.{package}.{part}", needed)
        for part in ("neuron", "layer", "functional", "surrogate")
    }
    return SimpleNamespace(package=package, **parts)
