"""The writer of recordings, which is a script; and planted faults for import by name."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def recordings() -> ModuleType:
    """scripts/twin_recordings.py as a module."""
    return importlib.import_module("twin_recordings")
