"""Episodes that many tests look at, run once."""

from __future__ import annotations

import os

import pytest
from scripted_failures import ScriptedRuns


@pytest.fixture(scope="session")
def scripted(tmp_path_factory):
    """Runs of one episode by script; pytest's workers share them."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    runs = ScriptedRuns(shared / "scripted")
    yield runs
    runs.close()
