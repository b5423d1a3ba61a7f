"""Fixtures shared by all floors' tests; the doubles are in `doubles.py`."""

from __future__ import annotations

import fcntl
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import hypothesis
import pytest

# Before torch: two of its threads wait for each other wherever tests share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from doubles import DrivePolicy, ToyEnv

from b1k_envs.base import ProtocolYear
from b1k_policies.base import EpisodeInfo

# Some images set it. Every process that a test starts would compile our sources anew: a worker's
# imports take 0.7 s then, and 0.35 s from the cache.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# No example fails for being slow: machines that test are shared.
hypothesis.settings.register_profile(
    "b1k-eval", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("b1k-eval")

# A shell's background job is born deaf to Ctrl-C, and would make its children so.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """A stopped verb leaves signals ignored, as its process ends; here the next test has them."""
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


if TYPE_CHECKING:  # the runner's tests need no mujoco
    from expert_episodes import ExpertEpisodes

    from b1k_envs.mujoco_twin.env import TwinEnv


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


def _twin(protocol: ProtocolYear) -> Iterator[TwinEnv]:
    from b1k_envs.mujoco_twin.rendering.gl import ensure_gl

    ensure_gl()
    from b1k_envs.mujoco_twin.env import TwinEnv
    from b1k_envs.tasks.table import get_task

    env = TwinEnv(get_task(31), protocol=protocol, split="public-test", max_steps=100_000)
    yield env
    env.close()


@pytest.fixture(scope="session")
def _twin_2025() -> Iterator[TwinEnv]:
    yield from _twin("2025")


@pytest.fixture(scope="session")
def _twin_2026() -> Iterator[TwinEnv]:
    yield from _twin("2026")


@pytest.fixture
def twin_2025(_twin_2025: TwinEnv) -> TwinEnv:
    """The twin at its instance 0, compiled once for all tests."""
    _twin_2025.reset(0, 0, 0)
    return _twin_2025


@pytest.fixture
def twin_2026(_twin_2026: TwinEnv) -> TwinEnv:
    """The same with the 61-number proprio."""
    _twin_2026.reset(0, 0, 0)
    return _twin_2026


@pytest.fixture(scope="session")
def tiny_maker() -> ModuleType:
    """scripts/make_tiny_checkpoint.py as a module."""
    return importlib.import_module("make_tiny_checkpoint")


@pytest.fixture(scope="session")
def made_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], None]], Path]:
    """Takes a name and what makes a folder: the first of pytest's workers to ask makes it.

    The folder is for reading only. Where making it fails, nothing of it stays.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    shared.mkdir(exist_ok=True)

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        path = shared / name
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                try:
                    make(path)
                except BaseException:
                    shutil.rmtree(path, ignore_errors=True)
                    raise
        return path

    return folder


@pytest.fixture(scope="session")
def expert_episode(made_once: Callable[[str, Callable[[Path], None]], Path]) -> ExpertEpisodes:
    """The expert's recorded episode of a protocol and public-test instance."""
    from expert_episodes import ExpertEpisodes

    return ExpertEpisodes(made_once)


@pytest.fixture(scope="session")
def _tiny(
    made_once: Callable[[str, Callable[[Path], None]], Path], tiny_maker: ModuleType
) -> Callable[[str], Path]:
    return lambda version: made_once(
        f"tiny_{version}", partial(tiny_maker.make_tiny_checkpoint, version)
    )


@pytest.fixture(scope="session")
def tiny_v4(_tiny: Callable[[str], Path]) -> Path:
    """Folder of a made v4 checkpoint with random weights; for reading only."""
    return _tiny("v4")


@pytest.fixture(scope="session")
def tiny_v17(_tiny: Callable[[str], Path]) -> Path:
    """The same for v17."""
    return _tiny("v17")


@pytest.fixture(scope="session")
def tiny_family(_tiny: Callable[[str], Path]) -> Path:
    """The same in the shape of the public X-VLA family."""
    return _tiny("family")
