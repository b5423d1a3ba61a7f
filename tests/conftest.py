"""Fixtures shared by all floors' tests; the doubles are in `doubles.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Spawned workers import the doubles by name, and inherit this path.
sys.path.insert(0, str(Path(__file__).parent))

from b1k_policies.base import EpisodeInfo
from doubles import DrivePolicy, ToyEnv


@pytest.fixture
def toy_env() -> ToyEnv:
    return ToyEnv()


@pytest.fixture
def drive_policy() -> DrivePolicy:
    return DrivePolicy()


@pytest.fixture
def episode() -> EpisodeInfo:
    return EpisodeInfo(
        task="clean_boxing_gloves",
        task_index=31,
        instruction="clean the boxing gloves",
        instance=0,
        rollout=0,
        seed=7,
        protocol="2026",
    )
