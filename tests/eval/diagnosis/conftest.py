"""Episodes that many tests look at, run once."""

from __future__ import annotations

import pytest
from scripted_failures import ScriptedRuns


@pytest.fixture(scope="session")
def scripted(tmp_path_factory):
    """Runs of one episode by script."""
    runs = ScriptedRuns(tmp_path_factory.mktemp("scripted"))
    yield runs
    runs.close()
