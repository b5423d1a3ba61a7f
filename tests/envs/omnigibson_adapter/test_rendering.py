"""What is rendered when, and which moment pictures and their camera poses show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from jobs import run_jobs
from omnigibson_bench import base_of, camera_now, drive, renders, shown_camera, tick_shown
from scipy.spatial.transform import Rotation

from b1k_envs.base import VIEWS
from b1k_envs.errors import EnvError

# --- On demand ------------------------------------------------------------------------------


def test_on_demand_an_action_renders_nothing_and_an_observation_three_times_once(double):
    env = double.env()
    env.reset(0, 0, 0)
    assert renders(double, env.observe) == 3
    for step in range(4):
        assert renders(double, lambda step=step: env.step(drive(step))) == 0
    assert renders(double, lambda: (env.goal(), env.subgoals())) == 0
    assert renders(double, lambda: env.observe(images=False)) == 0
    assert renders(double, env.observe) == 3
    assert renders(double, env.observe) == 0
    assert renders(double, env.frame) == 0
    assert env.observe().images is env.observe().images


def test_on_demand_a_picture_shows_the_present_after_any_number_of_actions(double):
    env = double.env()
    env.reset(0, 0, 0)
    for step in range(9):
        env.step(drive(step))
        if step % 4 == 0:
            for picture in env.observe().images.values():
                assert tick_shown(picture) == double.physics().tick


def test_on_demand_camera_poses_are_the_present_ones(double):
    env = double.env()
    env.reset(0, 0, 0)
    for step in range(7):
        env.step(drive(step))
    seen, unseen = env.observe(), env.observe(images=False)
    physics = double.physics()
    base = base_of(double, physics.data.qpos)
    for view in VIEWS:
        camera = np.eye(4)
        camera[:3, 3], camera[:3, :3] = physics.camera_pose(view)
        expected = np.linalg.inv(base) @ camera
        np.testing.assert_allclose(seen.camera_to_base[view], expected, atol=1e-5)
        np.testing.assert_allclose(unseen.camera_to_base[view], expected, atol=1e-5)
    np.testing.assert_allclose(seen.cam_rel_poses, unseen.cam_rel_poses, atol=1e-5)


def test_without_pictures_an_observation_has_everything_else(double):
    env = double.env()
    env.reset(0, 0, 0)
    blind, seeing = env.observe(images=False), env.observe()
    assert blind.images == {}
    assert set(blind.camera_to_base) == set(VIEWS)
    assert blind.proprio is seeing.proprio


def test_envs_that_look_between_the_same_two_steps_share_three_renders(double_2026):
    group = double_2026.group(2)
    start = double_2026.sim.renders
    counts: dict[int, list[int]] = {0: [], 1: []}

    def job(index: int) -> Any:
        def go(env: Any) -> None:
            env.reset(index, 0, 0)
            for step in range(3):
                env.observe()
                env.observe()
                env.step(drive(step))
                counts[index].append(env.observe().step)

        return go

    run_jobs(group, [job(0), job(1)])
    assert counts == {0: [1, 2, 3], 1: [1, 2, 3]}
    loading = 1 + 3  # the last reset's step and its renders
    assert double_2026.sim.renders - start == loading + 4 * 3


# --- Every step -----------------------------------------------------------------------------


def test_every_step_renders_once_with_each_action_and_never_else(double):
    env = double.env(render="every-step")
    env.reset(0, 0, 0)
    assert renders(double, env.observe) == 0
    for step in range(4):
        assert renders(double, lambda step=step: env.step(drive(step))) == 1
        assert renders(double, lambda: (env.observe(), env.frame())) == 0


def test_every_step_the_first_picture_after_a_reset_shows_the_reset_world(double):
    env = double.env(render="every-step")
    env.reset(0, 0, 0)
    assert tick_shown(env.observe().images["head"]) == double.physics().tick
    for step in range(5):
        env.step(drive(step))
    env.reset(2, 0, 0)
    assert tick_shown(env.observe().images["head"]) == double.physics().tick


def test_every_step_a_picture_lags_and_its_camera_pose_is_of_the_moment_it_shows(double):
    env = double.env(render="every-step")
    env.reset(0, 0, 0)
    for step in range(8):
        env.step(drive(step))
        observation = env.observe()
        for view in VIEWS:
            camera, base = shown_camera(double, view)
            np.testing.assert_allclose(
                observation.camera_to_base[view], np.linalg.inv(base) @ camera, atol=2e-5
            )
    assert tick_shown(observation.images["head"]) == double.physics().tick - 2
    now = env.observe(images=False)
    assert np.abs(now.camera_to_base["left_wrist"] - camera_now(double, "left_wrist")).max() < 1e-4


def test_recorded_poses_are_those_of_the_generations_own_evaluator(double):
    """2025: the rendered camera seen from the present base; 2026: both of the present."""
    env = double.env(render="every-step")
    env.reset(0, 0, 0)
    for step in range(8):
        env.step(drive(step))
    recorded = env.observe().cam_rel_poses
    physics = double.physics()
    base = base_of(double, physics.data.qpos)
    for block, view in enumerate(("left_wrist", "right_wrist", "head")):
        camera = np.eye(4)
        if double.protocol == "2025":
            camera, _ = shown_camera(double, view)
        else:
            camera[:3, 3], camera[:3, :3] = physics.camera_pose(view)
        expected = np.linalg.inv(base) @ camera
        part = recorded[7 * block : 7 * block + 7]
        np.testing.assert_allclose(part[:3], expected[:3, 3], atol=2e-5)
        turned = Rotation.from_quat(part[3:]).as_matrix()
        np.testing.assert_allclose(turned, expected[:3, :3], atol=2e-5)


# --- The switch -----------------------------------------------------------------------------


@pytest.mark.parametrize("raised", [RuntimeError("PhysX"), KeyboardInterrupt(), SystemExit(1)])
def test_the_render_switch_is_back_after_whatever_a_step_raises(double, monkeypatch, raised):
    env = double.env()
    env.reset(0, 0, 0)
    physics = type(double.physics())

    def fail(self: Any) -> None:
        assert double.sim._render_on_step is False
        raise raised

    monkeypatch.setattr(physics, "control_step", fail)
    with pytest.raises((EnvError, KeyboardInterrupt)):
        env.step(drive(0))
    assert double.sim._render_on_step is True
