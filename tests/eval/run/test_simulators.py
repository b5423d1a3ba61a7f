"""Which simulator a run gets, and what it gets by default, on machines with and without OmniGibson.

The package that is found here is an empty folder with a version: choosing imports nothing.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from doubles import ToyEnv

from b1k_envs.base import Worlds
from b1k_envs.errors import EnvError, UnavailableError, UsageError
from b1k_envs.tracks import StandardTrackEnv
from b1k_eval.cli.resolving import resolve_settings
from b1k_eval.run import simulators
from b1k_eval.run.watchdog import CallLimits


def given(**options):
    return {"task": "31", "policy": "hold", **options}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a package that calls itself omnigibson of a version on the path."""

    def put(version, *, vectorised):
        package = tmp_path / version / "omnigibson"
        (package / "envs").mkdir(parents=True)
        (package / "__init__.py").write_text(
            f'__version__ = "{version}"\nraise ImportError("this must not be imported")\n'
        )
        code = "num_envs = 1\n" if vectorised else "pass\n"
        (package / "envs" / "env_base.py").write_text(code)
        monkeypatch.syspath_prepend(str(package.parent))
        monkeypatch.setenv("OMNIGIBSON_DATA_PATH", str(tmp_path / "nowhere"))

    yield put
    assert "omnigibson" not in sys.modules


def test_auto_is_the_twin_where_nothing_is_installed():
    assert simulators.resolve_sim("auto") == "mujoco"


@pytest.mark.parametrize(
    ("version", "vectorised", "protocol", "sim"),
    [
        ("3.7.2", False, None, "omnigibson"),
        ("3.7.2", False, "2025", "omnigibson"),
        ("3.7.2", False, "2026", "mujoco"),
        ("3.9.3", True, "2026", "omnigibson"),
        ("3.9.3", True, "2025", "mujoco"),
        ("3.9.1", False, None, "mujoco"),
    ],
)
def test_auto_is_omnigibson_where_a_version_is_installed_that_fits(
    install, version, vectorised, protocol, sim
):
    install(version, vectorised=vectorised)
    assert simulators.resolve_sim("auto", protocol=protocol, policy="hold") == sim


@pytest.mark.parametrize("only", [{"policy": "expert"}, {"render_quality": "high"}])
def test_auto_is_the_twin_for_what_only_the_twin_has(install, only):
    install("3.9.3", vectorised=True)
    assert simulators.resolve_sim("auto", **only) == "mujoco"


def test_omnigibson_in_a_version_that_does_not_fit_is_unavailable(install):
    install("3.7.2", vectorised=False)
    with pytest.raises(UnavailableError, match=r"^--sim omnigibson: --protocol 2026 needs .*3\.9"):
        simulators.resolve_sim("omnigibson", protocol="2026")


@pytest.mark.parametrize(
    ("version", "vectorised", "protocol"), [("3.7.2", False, "2025"), ("3.9.3", True, "2026")]
)
def test_the_protocol_is_that_of_the_installed_version(install, version, vectorised, protocol):
    install(version, vectorised=vectorised)
    assert simulators.default_protocol("omnigibson") == protocol
    assert simulators.default_protocol("mujoco") == "2026"


def test_missing_data_are_said_before_anything_starts(install):
    install("3.9.3", vectorised=True)
    with pytest.raises(UnavailableError, match="set OMNIGIBSON_DATA_PATH to the folder"):
        resolve_settings(given(sim="omnigibson"))


def test_what_only_the_twin_has_is_refused_in_omnigibson(install):
    install("3.9.3", vectorised=True)
    twin = resolve_settings(given(sim="mujoco"))
    with pytest.raises(UsageError, match=r"^--render-quality high is of the MuJoCo twin: "):
        replace(twin, sim="omnigibson", render_quality="high")
    expert = replace(twin, sim="omnigibson", policy="expert")
    with pytest.raises(UsageError, match=r"^--policy expert reads the twin's state"):
        simulators.check_world(expert)


def test_several_envs_a_process_are_refused_where_there_is_one_only():
    twin = resolve_settings(given(sim="mujoco"))
    simulators.check_world(twin, 2)
    settings = replace(twin, sim="omnigibson", protocol="2025")
    with pytest.raises(UsageError, match=r"^--num-envs 2: only OmniGibson v3\.9\.3 has several"):
        simulators.check_world(settings, 2)


def test_only_omnigibson_is_held_to_limits_and_gets_a_process_of_its_own():
    twin = resolve_settings(given(sim="mujoco"))
    assert simulators.limits(twin) is None
    assert simulators.limits(replace(twin, sim="omnigibson")) == CallLimits()


@pytest.mark.parametrize("count", [1, 2])
def test_the_twins_of_a_standard_track_run_hide_the_pose(count):
    settings = resolve_settings(given(sim="mujoco", protocol="2025"))
    worlds = simulators.make_worlds(replace(settings, track="standard"), count)
    try:
        assert worlds.independent
        assert len(worlds.envs) == count
        assert worlds.reset({n: (n, 0, 0) for n in range(count)}) == dict.fromkeys(range(count))
        for env in worlds.envs:
            assert isinstance(env, StandardTrackEnv)
            proprio = env.observe(images=False).proprio
            assert not proprio[140:152].any()
            assert np.flatnonzero(proprio).size > 100
    finally:
        worlds.close()


@pytest.mark.parametrize("track", ["standard", "privileged"])
def test_several_worlds_of_one_omnigibson_show_what_the_track_allows(track, monkeypatch):
    class Together(Worlds):
        def __init__(self, task, *, count, **options):
            super().__init__([ToyEnv(protocol="2026") for _ in range(count)])

        def step(self, actions):
            return {index: "moved together" for index in actions}

    monkeypatch.setattr("b1k_envs.omnigibson.env.OmniGibsonWorlds", Together)
    settings = resolve_settings(given(sim="mujoco"))
    worlds = simulators.make_worlds(replace(settings, sim="omnigibson", track=track), 3)
    masked = [isinstance(env, StandardTrackEnv) for env in worlds.envs]
    assert masked == [track == "standard"] * 3
    if track == "standard":
        with pytest.raises(EnvError, match="not for policies of this track"):
            worlds.envs[2].privileged_state()
    assert worlds.step({1: None}) == {1: "moved together"}
