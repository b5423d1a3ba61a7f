"""Envs on the double of either OmniGibson. One a test: a process starts OmniGibson once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omnigibson_bench import Double
from omnigibson_double.fixtures import _og_data_2025, _og_data_2026, og_2025, og_2026

from b1k_envs.mujoco_twin.env import TwinEnv

__all__ = ["_og_data_2025", "_og_data_2026", "og_2025", "og_2026"]


@pytest.fixture(autouse=True)
def _own_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The folder that OmniGibson keeps its caches in, and the GPU, are of this test only."""
    monkeypatch.setenv("OMNIGIBSON_APPDATA_PATH", str(tmp_path / "appdata"))
    monkeypatch.setenv("OMNIGIBSON_GPU_ID", "0")


def _double(request: pytest.FixtureRequest, protocol: str) -> Double:
    return Double(request.getfixturevalue(f"og_{protocol}"))


@pytest.fixture(params=["2025", "2026"])
def double(request: pytest.FixtureRequest) -> Double:
    """Either generation."""
    return _double(request, request.param)


@pytest.fixture
def double_2025(request: pytest.FixtureRequest) -> Double:
    return _double(request, "2025")


@pytest.fixture
def double_2026(request: pytest.FixtureRequest) -> Double:
    return _double(request, "2026")


@pytest.fixture
def twin_of(request: pytest.FixtureRequest) -> Callable[[str], TwinEnv]:
    """A twin of its own at instance 0, the independent truth."""
    return lambda protocol: request.getfixturevalue(f"twin_{protocol}")
