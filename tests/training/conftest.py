"""Other libraries, as if they had been imported."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import pytest


@pytest.fixture
def fake_library(monkeypatch: pytest.MonkeyPatch) -> Callable[..., types.ModuleType]:
    """Makes a module that is imported already, with the given members."""

    def make(name: str, **members: object) -> types.ModuleType:
        module = types.ModuleType(name)
        for key, member in members.items():
            if isinstance(member, type):
                member.__module__ = name
            setattr(module, key, member)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make
