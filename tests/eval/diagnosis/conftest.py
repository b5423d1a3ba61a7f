"""Episodes that many tests look at, run once."""

from __future__ import annotations

import pytest
from scripted_failures import ScriptedRuns


@pytest.fixture(scope="session")
def scripted(made_once):
    """Runs of one episode by script; pytest's workers share them."""
    runs = ScriptedRuns(made_once)
    yield runs
    runs.close()
