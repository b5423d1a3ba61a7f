"""What the evaluators set before the first instance: ours has it, and a naive variant has not."""

from __future__ import annotations

import importlib
import random
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from naive_variants import assert_catches, put
from omnigibson_bench import Double, drive, shown_camera, start_anew
from omnigibson_double import simulator, touch
from omnigibson_double.names import ROOMS, TASK_ROOMS
from omnigibson_double.sensors import VisionSensor

from b1k_envs.base import VIEWS
from b1k_envs.errors import UnavailableError, UsageError
from b1k_envs.omnigibson import world
from b1k_envs.omnigibson.setup import application, config, generation
from b1k_envs.omnigibson.setup.generation import installed_generation

# --- The flat cache of 2025 ------------------------------------------------------------------


def test_2025_starts_on_the_flat_cache_as_its_evaluator_does(double_2025: Double):
    def check() -> None:
        start_anew()
        env = double_2025.env()
        assert double_2025.app.settings["ENABLE_FLATCACHE"] is True
        assert env.info.settings["applied"]["macros"]["ENABLE_FLATCACHE"] is True
        checks = {each.name: each for each in env.findings}
        assert checks["macro ENABLE_FLATCACHE"].ok

    bare = replace(installed_generation(), macros={})
    assert_catches(check, put(world, "installed_generation", lambda protocol: bare))


def test_the_flat_cache_cannot_be_had_later(double_2025: Double):
    bare = replace(installed_generation(), macros={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "installed_generation", lambda protocol: bare)
        double_2025.env()
    with pytest.raises(AttributeError, match="already been used"):
        double_2025.macros.gm.ENABLE_FLATCACHE = True


def test_2026_leaves_the_flat_cache_alone(double_2026: Double):
    env = double_2026.env()
    assert ("macros.globals", "ENABLE_FLATCACHE") not in touch.touches()
    assert "ENABLE_FLATCACHE" not in env.info.settings["applied"]["macros"]


# --- House and base --------------------------------------------------------------------------


def test_2025_loads_the_whole_house(double_2025: Double):
    """The organisers' own runs left `partial_scene_load` false."""

    def check() -> None:
        start_anew()
        env = double_2025.env(heavy_base=False)
        assert double_2025.sim.scenes[0].loaded_rooms == ROOMS
        assert env.info.settings["rooms"] == {"load_room_types": None, "load_room_instances": None}

    real = config.scene_rooms
    assert_catches(
        check,
        put(config, "scene_rooms", lambda *given, partial: real(*given, partial=True)),
    )


def test_2025_leaves_the_base_its_own_mass(double_2025: Double):
    """Only one of its wrappers sets 250 kg, and it is not the default."""

    def check() -> None:
        start_anew()
        env = double_2025.env(heavy_base=False)
        assert env.info.settings["applied"]["base_mass_kg"] == pytest.approx(47.63)
        assert double_2025.physics().base_mass == pytest.approx(47.63)

    heavy = partial(world.prepare_environment, heavy_base=True)
    naive = put(world, "prepare_environment", lambda *given, heavy_base: heavy(*given))
    assert_catches(check, naive)


def test_2025_has_the_rooms_of_the_task_and_250_kg_where_asked(double_2025: Double):
    env = double_2025.env(partial_scene=True, heavy_base=True)
    assert double_2025.sim.scenes[0].loaded_rooms == ("utility_room_0",)
    assert env.info.settings["rooms"]["load_room_types"] == ["utility_room"]
    assert env.info.settings["applied"]["base_mass_kg"] == 250.0
    assert [each for each in env.findings if not each.ok] == []


def test_2026_has_neither_choice_and_always_both(double_2026: Double):
    for choice in ("partial_scene", "heavy_base"):
        with pytest.raises(UsageError, match=r"v3\.9\.3 always loads .* in 2025 alone"):
            double_2026.env(**{choice: True})
    env = double_2026.env()
    assert double_2026.sim.scenes[0].loaded_rooms == TASK_ROOMS
    assert env.info.settings["rooms"]["load_room_instances"] == list(TASK_ROOMS)
    assert double_2026.physics().base_mass == 250.0


# --- Camera poses of 2026 --------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cameras whose `camera_parameters` were read, in that order."""
    read: list[str] = []
    real = VisionSensor.camera_parameters

    def note(sensor: VisionSensor) -> Any:
        read.append(sensor.name)
        return real.fget(sensor)  # type: ignore[attr-defined]

    monkeypatch.setattr(VisionSensor, "camera_parameters", property(note))
    return read


@pytest.mark.parametrize("render", ["on-demand", "every-step"])
def test_2026_reads_camera_parameters_for_the_age_of_pictures_only(double_2026, asked, render):
    """v3.9.3 takes the poses of the prims: the first reading renders, and goes on to cost."""

    def check() -> None:
        start_anew()
        asked.clear()
        env = double_2026.env(render=render)
        assert set(asked) == {"robot_r1:zed_link:Camera:0"}
        assert env.info.settings["camera_poses_from"] == "prims"
        asked.clear()
        env.reset(0, 0, 0)
        for step in range(4):
            env.observe()
            env.step(drive(step))
        assert asked == []

    assert_catches(check, put(world, "picture_age", lambda findings: None))


def test_2025_reads_them_as_its_evaluator_does(double_2025, asked):
    env = double_2025.env()
    assert env.info.settings["camera_poses_from"] == "renderer"
    env.reset(0, 0, 0)
    asked.clear()
    env.observe()
    assert len(set(asked)) == len(VIEWS)


@pytest.mark.parametrize("lag", [1, 2, 3])
@pytest.mark.parametrize("render", ["on-demand", "every-step"])
def test_without_them_a_pose_is_still_that_of_the_moment_in_the_picture(
    double_2026, monkeypatch, render, lag
):
    monkeypatch.setattr(simulator, "RENDERS_UNTIL_CURRENT", lag)

    def check() -> None:
        start_anew()
        env = double_2026.env(render=render)
        env.reset(0, 0, 0)
        for step in range(6):
            observation = env.observe()
            for view in VIEWS:
                camera, base = shown_camera(double_2026, view)
                expected = np.linalg.inv(base) @ camera
                np.testing.assert_allclose(observation.camera_to_base[view], expected, atol=2e-5)
            env.step(drive(step))

    if render == "on-demand" or lag == 1:  # then the picture is of the present
        check()
    else:
        assert_catches(check, put(world, "picture_age", lambda findings: 0))


def test_where_pictures_are_too_old_the_renderer_is_asked_after_all(
    double_2026, asked, monkeypatch
):
    monkeypatch.setattr(simulator, "RENDERS_UNTIL_CURRENT", 5)
    env = double_2026.env(render="every-step")
    assert env.info.settings["camera_poses_from"] == "renderer"
    env.reset(0, 0, 0)
    for step in range(6):
        env.step(drive(step))
    asked.clear()
    observation = env.observe()
    assert len(set(asked)) == len(VIEWS)
    camera, base = shown_camera(double_2026, "left_wrist")
    found = observation.camera_to_base["left_wrist"]
    np.testing.assert_allclose(found, np.linalg.inv(base) @ camera, atol=2e-5)


# --- Seeds -----------------------------------------------------------------------------------


def seeded_draw(double: Double) -> float:
    start_anew()
    env = double.env()
    checks = {each.name: each for each in env.findings}
    assert checks["seeded generators"].ok
    return float(importlib.import_module("warp").draw())


def test_2026_seeds_warp_beside_the_others(double_2026: Double):
    def check() -> None:
        assert seeded_draw(double_2026) == random.Random(0).random()

    def naive(generation: Any) -> Any:  # says so, and seeds the others only
        return ("python", "numpy", "torch", "warp"), None

    assert_catches(check, put(application, "_seed", naive))


def test_a_2026_without_warp_starts_and_says_so(double_2026: Double, monkeypatch):
    start_anew()
    monkeypatch.setitem(sys.modules, "warp", None)
    env = double_2026.env()
    found = {each.name: each for each in env.findings}["seeded generators"]
    assert (found.found, found.ok, found.fatal) == (["python", "numpy", "torch"], False, False)


@pytest.mark.parametrize(("year", "deterministic"), [("2025", False), ("2026", True)])
def test_cudnn_is_made_deterministic_where_the_evaluator_does_it(
    request, monkeypatch, year, deterministic
):
    torch = importlib.import_module("torch")
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    env = request.getfixturevalue(f"double_{year}").env()
    assert torch.backends.cudnn.deterministic is deterministic
    assert torch.backends.cudnn.benchmark is not deterministic
    wanted = {"benchmark": False, "deterministic": True} if deterministic else None
    assert env.info.settings["applied"]["cudnn"] == wanted


# --- PR 2327 ---------------------------------------------------------------------------------


@pytest.fixture
def unfixed(double_2026: Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Double:
    """A build of v3.9.3 without the fixes for several scenes in one process."""
    double_2026.installed.rebuild(
        monkeypatch,
        tmp_path,
        "object_states/on_fire.py",
        {"def _load_state": "def _load_nothing"},
    )
    return double_2026


def temperatures(double: Double) -> list[float]:
    things = [scene.things["boxing_glove.n.01_1"] for scene in double.sim.scenes]
    return [thing.temperature for thing in things]


def test_several_scenes_are_refused_in_a_build_without_pr_2327(unfixed: Double, monkeypatch):
    words = r"2 scenes in one process .* PR 2327 .* has no OnFire\._load_state.* --workers"
    with pytest.raises(UnavailableError, match=words):
        unfixed.group(2)
    assert "omnigibson" not in sys.modules
    # A naive adapter, which does not look, gets scenes in which everything is hot.
    monkeypatch.setattr(generation, "has_scene_fixes", lambda: True)
    unfixed.group(2)
    assert temperatures(unfixed) == [249.0, 249.0]


def test_several_scenes_run_in_a_build_with_pr_2327(double_2026: Double):
    group = double_2026.group(2)
    assert temperatures(double_2026) == [23.0, 23.0]
    assert [each for each in group.envs[0].findings if not each.ok] == []


def test_one_scene_runs_in_a_build_without_it_and_says_so(unfixed: Double):
    env = unfixed.env()
    found = {each.name: each for each in env.findings}["PR 2327 (OnFire loads without heating)"]
    assert (found.expected, found.found, found.ok, found.fatal) == (True, False, False, False)
    assert temperatures(unfixed) == [249.0]  # the first of the four is no matter of how many


def test_a_build_that_cannot_be_told_is_refused_for_several_scenes(
    double_2026: Double, monkeypatch, tmp_path
):
    double_2026.installed.rebuild(
        monkeypatch, tmp_path, "object_states/on_fire.py", {"class OnFire": "class Burning"}
    )
    assert generation.has_scene_fixes() is None
    with pytest.raises(UnavailableError, match="has no class OnFire to tell by"):
        generation.require_scene_fixes(2)
    generation.require_scene_fixes(1)
