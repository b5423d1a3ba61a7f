"""What most adapters get wrong, one test each: the check holds for ours, and not for the naive.

A naive variant is our adapter with one piece put the obvious way. So each test shows two things:
that the piece is right, and that the check would notice if it were not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from jobs import run_jobs
from naive_variants import assert_catches, dialects, put
from omnigibson_bench import Double, base_of, camera_now, drive, renders, shown_camera, tick_shown

from b1k_envs.base import VIEWS
from b1k_envs.errors import EnvError
from b1k_envs.omnigibson import world as world_module
from b1k_envs.omnigibson.dialects import dialect as dialect_module
from b1k_envs.omnigibson.dialects.dialect import Dialect, Stepped
from b1k_envs.omnigibson.dialects.dialect_2025 import Dialect2025
from b1k_envs.omnigibson.dialects.dialect_2026 import Dialect2026
from b1k_envs.omnigibson.observations import in_base, to_numpy
from b1k_envs.omnigibson.world import OmniGibsonWorld
from b1k_envs.r1pro import CAMERAS, PROPRIO_LAYOUTS

# --- Pictures -------------------------------------------------------------------------------


def _raw(observation: Mapping[str, Any], view: Any) -> Any:
    robot, sensor, modality = CAMERAS[view].observation_key.split("::")  # type: ignore[index]
    return to_numpy(observation[robot][sensor][modality])


@pytest.mark.parametrize(
    "naive",
    [_raw, lambda observation, view: _raw(observation, view)[:, :, 2::-1]],
    ids=["with alpha", "as BGR"],
)
def test_pictures_come_as_rgba_and_go_as_rgb(double, twin_of, naive):
    env, twin = double.env(), twin_of(double.protocol)
    double.installed.draw_pictures()

    def check() -> None:
        env.reset(0, 0, 0)
        for view, expected in twin.observe().images.items():
            got = env.observe().images[view]
            assert got.shape == expected.shape
            assert abs(got.astype(int) - expected).max() <= 1

    assert_catches(check, put(world_module, "picture", naive))


@pytest.mark.parametrize("times", [0, 1, 2])
def test_after_steps_without_rendering_fewer_than_three_renders_show_the_past(double, times):
    env = double.env()

    def check() -> None:
        env.reset(0, 0, 0)
        for step in range(6):
            env.step(drive(step))
        assert tick_shown(env.observe().images["head"]) == double.physics().tick

    assert_catches(check, put(world_module, "RENDERS_UNTIL_CURRENT", times))


def test_no_render_iterations_are_still_one_render(double):
    def naive(self: Any, actions: Any) -> list[Stepped]:
        action = actions if double.protocol == "2026" else actions[0]
        info = self._env.step(action, n_render_iterations=0)[4]
        infos = info if double.protocol == "2026" else [info]
        return [dialect_module.outcome(one["done"]) for one in infos]

    env = double.env()

    def check() -> None:
        env.reset(0, 0, 0)
        assert renders(double, lambda: env.step(drive(0))) == 0

    assert_catches(check, dialects("step_unrendered", naive))


def test_the_simulators_own_switch_forgets_to_switch_back_when_a_step_raises(double):
    env = double.env()

    @contextlib.contextmanager
    def naive(self: Any) -> Iterator[None]:
        with self._og.sim.render_on_step(False):
            yield

    def check() -> None:
        double.sim._render_on_step = True
        with contextlib.suppress(RuntimeError), env._world._dialect.without_rendering():
            raise RuntimeError("in the middle of a step")
        assert double.sim._render_on_step is True

    assert_catches(check, put(Dialect, "without_rendering", naive))


def test_the_first_look_at_camera_parameters_renders_four_times_a_camera(double_2025):
    env = double_2025.env()

    def check() -> None:
        for sensor in sensors(double_2025):
            sensor._has_parameters = False  # as after the simulator was stopped
        env._world._switch_camera_poses_on()
        env.reset(0, 0, 0)
        assert renders(double_2025, env.observe) == 3

    nothing = put(OmniGibsonWorld, "_switch_camera_poses_on", lambda self: None)
    assert_catches(check, nothing)


def sensors(double: Double) -> list[Any]:
    robot = double.sim.scenes[0].robots[0]
    return list(robot.sensors.values())


def test_one_envs_pictures_are_not_anothers(double_2026):
    group = double_2026.group(2)
    env_0_for_all = put(Dialect2026, "read", lambda self, index: self._env.get_obs()[0][0])

    def check() -> None:
        seen: dict[int, Any] = {}

        def job(index: int) -> Callable[[Any], None]:
            def go(env: Any) -> None:
                env.reset(0, 0, 0)
                physics = double_2026.physics(index)
                physics.tick = 1000 * (index + 1)
                env.step(drive(0))
                seen[index] = tick_shown(env.observe().images["head"])

            return go

        run_jobs(group, [job(0), job(1)])
        assert seen == {0: 1001, 1: 2001}

    assert_catches(check, env_0_for_all)


# --- Camera poses ---------------------------------------------------------------------------
# Those of the renderer are 2025's; how 2026 does without is shown in test_quirks_of_starts.py.


def _present_only(rendered: Any, present: Any, base: Any, history: Any) -> Any:
    return {view: in_base(present[view], base) for view in VIEWS}


def _base_of_now(rendered: Any, present: Any, base: Any, history: Any) -> Any:
    return {view: in_base(rendered[view], base) for view in VIEWS}


@pytest.mark.parametrize("naive", [_present_only, _base_of_now])
def test_a_lagging_pictures_pose_is_neither_the_present_one_nor_seen_from_the_present_base(
    double_2025, naive
):
    env = double_2025.env(render="every-step")

    def check() -> None:
        env.reset(0, 0, 0)
        for step in range(6):
            env.step(drive(step))
        observation = env.observe()
        for view in VIEWS:
            camera, base = shown_camera(double_2025, view)
            expected = np.linalg.inv(base) @ camera
            assert np.abs(observation.camera_to_base[view] - expected).max() < 1e-3

    assert_catches(check, put(world_module, "frame_poses", naive))


def _poses_are_true(double: Double, env: Any) -> Callable[[], None]:
    def check() -> None:
        env.reset(0, 0, 0)
        for step in range(4):
            env.step(drive(step))
        poses = env.observe().camera_to_base
        for view in VIEWS:
            assert np.abs(poses[view] - camera_now(double, view)).max() < 1e-4

    return check


def test_a_view_transform_of_zeros_is_not_a_pose(double_2025):
    env = double_2025.env()
    true = _poses_are_true(double_2025, env)

    def check() -> None:
        for sensor in sensors(double_2025):
            sensor._has_parameters = False
        true()

    def naive(flat: Any) -> Any:
        return np.linalg.inv(np.reshape(to_numpy(flat), (4, 4)).T)

    assert_catches(check, put(dialect_module, "rendered_camera_pose", naive), EnvError)


def test_the_view_transform_is_for_row_vectors(double_2025):
    def naive(flat: Any) -> Any:
        return np.linalg.inv(np.reshape(to_numpy(flat), (4, 4)))

    check = _poses_are_true(double_2025, double_2025.env())
    assert_catches(check, put(dialect_module, "rendered_camera_pose", naive))


def test_quaternions_have_their_scalar_last(double):
    right = dialect_module.pose_matrix

    def naive(position: Any, quat: Any) -> Any:
        return right(position, to_numpy(quat)[[1, 2, 3, 0]])

    check = _poses_are_true(double, double.env())
    assert_catches(check, put(dialect_module, "pose_matrix", naive))


def test_camera_axes_are_not_turned_to_opencvs(double):
    def naive(camera: Any, base: Any) -> Any:
        return in_base(camera @ np.diag([1.0, -1.0, -1.0, 1.0]), base)

    env = double.env()
    true = _poses_are_true(double, env)

    def check() -> None:
        true()
        poses = env.observe(images=False).camera_to_base
        assert np.abs(poses["head"] - camera_now(double, "head")).max() < 1e-4

    assert_catches(check, put(world_module, "in_base", naive))


def test_recorded_poses_are_of_the_rendered_frame_in_2025_and_of_the_present_in_2026(double):
    env = double.env(render="every-step")
    env._world._switch_camera_poses_on()  # 2026 never does, and the first reading would be current
    other = {
        "2025": put(Dialect2025, "recorded_camera_pose", Dialect.camera_pose),
        "2026": put(Dialect2026, "recorded_camera_pose", Dialect.rendered_camera_pose),
    }

    def check() -> None:
        env.reset(0, 0, 0)
        for step in range(6):
            env.step(drive(step))
        recorded = env.observe().cam_rel_poses[:3]  # the left wrist's position
        base = base_of(double, double.physics().data.qpos)
        if double.protocol == "2025":
            camera, _ = shown_camera(double, "left_wrist")
            expected = (np.linalg.inv(base) @ camera)[:3, 3]
        else:
            expected = camera_now(double, "left_wrist")[:3, 3]
        assert np.abs(recorded - expected).max() < 1e-3

    assert_catches(check, other[double.protocol])


# --- Proprioception -------------------------------------------------------------------------


def test_base_velocities_are_handed_on_in_the_frame_of_their_generation(double, twin_of):
    """2025: of the world-fixed joints; 2026: turned into the robot's frame already."""
    env, twin = double.env(), twin_of(double.protocol)
    right = world_module.proprio_vector

    def naive(value: Any, protocol: Any) -> Any:
        vector = right(value, protocol).copy()
        where = PROPRIO_LAYOUTS[protocol]["base_qvel"]
        x, y, turn = vector[where]
        yaw = base_of(double, double.physics().data.qpos)
        vector[where] = (*(yaw[:2, :2].T @ (x, y)), turn)
        return vector

    def check() -> None:
        env.reset(0, 0, 0)
        twin.reset(0, 0, 0)
        for step in range(8):
            env.step(drive(step))
            twin.step(drive(step))
        got = env.observe(images=False).proprio
        assert np.abs(got - twin.observe(images=False).proprio).max() < 1e-4

    assert_catches(check, put(world_module, "proprio_vector", naive))
