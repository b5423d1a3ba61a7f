"""The script that measures coverage and level, for the slow tests."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def checks() -> ModuleType:
    """scripts/check_statistics.py as a module."""
    return importlib.import_module("check_statistics")
