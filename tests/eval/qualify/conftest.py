"""The writer of recordings, which is a script; and planted faults for import by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def recordings() -> ModuleType:
    """scripts/twin_recordings.py as a module; scripts are no package."""
    script = Path(__file__).parents[3] / "scripts" / "twin_recordings.py"
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
