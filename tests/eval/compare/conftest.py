"""The script that measures coverage and level, for the slow tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def checks() -> ModuleType:
    """scripts/check_statistics.py as a module; scripts are no package."""
    script = Path(__file__).parents[3] / "scripts" / "check_statistics.py"
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
