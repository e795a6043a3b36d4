"""Other libraries: skipped where they are missing, but required by ``make test-peers``."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def library(name: str) -> Any:
    """The module of that name."""
    if os.environ.get("SNNPROF_PEERS") == "required":
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"needs {name}: make test-peers")
