"""What an action does: OmniGibson's controller semantics, measured on the moving robot."""

from __future__ import annotations

import re

import mujoco
import numpy as np
import pytest
from urdf_chain import JOINTS

from b1k_envs import r1pro
from b1k_envs.errors import ActionError, EnvError, PolicyFaultError
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.tasks.table import get_task

BASE = ("base_footprint_x_joint", "base_footprint_y_joint", "base_footprint_rz_joint")
TRUNK = [f"torso_joint{i}" for i in range(1, 5)]
ARM = {arm: [f"{arm}_arm_joint{i}" for i in range(1, 8)] for arm in ("left", "right")}
COLUMNS = dict(
    zip((*TRUNK, *ARM["left"], *ARM["right"]), (*range(3, 14), *range(15, 22)), strict=True)
)
"""Action column of each position-controlled joint."""
GRIPPER = {"left": 14, "right": 22}


def place(env: TwinEnv, x: float, y: float, yaw: float) -> np.ndarray:
    """Stand the robot there, and give the action that holds its posture, fingers open."""
    for name, value in zip(BASE, (x, y, yaw), strict=True):
        env._data.joint(name).qpos = value
    mujoco.mj_step1(env._model, env._data)
    return r1pro.hold_action(env.observe(images=False).proprio, "2025", 1.0, 1.0)


def base(env: TwinEnv) -> np.ndarray:
    """x, y, yaw of the base in the world."""
    return np.array([env._data.joint(name).qpos[0] for name in BASE])


def joints(env: TwinEnv, names: list[str]) -> np.ndarray:
    return np.array([env._data.joint(name).qpos[0] for name in names])


def openings(env: TwinEnv, arm: str) -> np.ndarray:
    """Distance of each finger from the middle of the closed grip [m]."""
    fingers = joints(env, [f"{arm}_gripper_finger_joint{i}" for i in (1, 2)])
    return fingers * (1, -1)


# --- Base -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yaw", "command", "direction"),
    [
        (0.0, (1, 0, 0), (1, 0)),
        (np.pi / 2, (1, 0, 0), (0, 1)),  # ahead of a robot facing +y is +y
        (-np.pi / 2, (1, 0, 0), (0, -1)),
        (0.0, (0, 1, 0), (0, 1)),  # vy is to the left
        (np.pi / 2, (0, 1, 0), (-1, 0)),
        (0.7, (-1, 0, 0), (-np.cos(0.7), -np.sin(0.7))),
    ],
)
def test_a_full_command_drives_at_three_quarters_of_a_metre_a_second_in_the_robots_frame(
    twin_2025: TwinEnv, yaw: float, command: tuple[int, ...], direction: tuple[float, float]
) -> None:
    action = place(twin_2025, -0.4, -0.4, yaw)
    action[0:3] = command
    for _ in range(15):
        twin_2025.step(action)
    before = base(twin_2025)
    for _ in range(6):
        twin_2025.step(action)
    moved = base(twin_2025) - before
    np.testing.assert_allclose(moved[:2] / 0.2, 0.75 * np.array(direction), atol=0.015)
    assert moved[2] == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_full_turn_command_is_one_radian_a_second_counter_clockwise(
    twin_2025: TwinEnv, sign: int
) -> None:
    action = place(twin_2025, -0.4, -0.4, 0.3)
    action[2] = sign
    for _ in range(15):
        twin_2025.step(action)
    before = base(twin_2025)
    for _ in range(30):
        twin_2025.step(action)
    moved = base(twin_2025) - before
    assert moved[2] == pytest.approx(sign * 1.0, abs=0.01)
    np.testing.assert_allclose(moved[:2], 0, atol=5e-3)


def test_half_a_command_is_half_the_speed(twin_2025: TwinEnv) -> None:
    action = place(twin_2025, -0.4, -0.4, 0.0)
    action[0:3] = 0.5, -0.2, 0.0
    for _ in range(15):
        twin_2025.step(action)
    before = base(twin_2025)
    for _ in range(6):
        twin_2025.step(action)
    moved = (base(twin_2025) - before) / 0.2
    np.testing.assert_allclose(moved, [0.375, -0.15, 0], atol=0.01)


@pytest.mark.parametrize("command", [(3.0, -1.7, 1.2), (-9.0, 1.0001, -50.0)])
def test_base_commands_are_clipped_at_one(
    twin_2025: TwinEnv, command: tuple[float, float, float]
) -> None:
    paths = []
    for velocity in (command, np.sign(command)):
        twin_2025.reset(0, 0, 0)
        action = place(twin_2025, -0.4, -0.2, 0.5)
        action[0:3] = velocity
        for _ in range(12):
            twin_2025.step(action)
        paths.append(base(twin_2025))
    np.testing.assert_array_equal(paths[0], paths[1])
    assert np.abs(paths[0] - (-0.4, -0.2, 0.5)).min() > 0.04


def test_driving_ahead_while_turning_follows_the_heading(twin_2025: TwinEnv) -> None:
    """A command is in the robot's frame of the moment, so the path bends with the robot."""
    action = place(twin_2025, 0.0, -0.8, 0.0)
    action[0:3] = 0.8, 0.0, 1.0
    for _ in range(20):
        twin_2025.step(action)
    start = base(twin_2025)
    for _ in range(45):
        before = base(twin_2025)
        twin_2025.step(action)
        x, y, _ = (base(twin_2025) - before) * 30
        assert np.hypot(x, y) == pytest.approx(0.6, abs=0.01)
        off_heading = np.angle(np.exp(1j * (np.arctan2(y, x) - before[2])))
        assert abs(off_heading) < 0.12  # the 310 kg lag their servo by 0.1 s
    assert base(twin_2025)[2] - start[2] == pytest.approx(1.5, abs=0.02)


def test_the_base_stops_when_the_command_does(twin_2025: TwinEnv) -> None:
    action = place(twin_2025, -0.4, -0.4, 0.0)
    action[0:3] = 1, 1, 1
    for _ in range(15):
        twin_2025.step(action)
    action[0:3] = 0
    for _ in range(30):
        twin_2025.step(action)
    before = base(twin_2025)
    twin_2025.step(action)
    np.testing.assert_allclose(base(twin_2025), before, atol=1e-4)


# --- Trunk and arms -------------------------------------------------------------------------


def test_an_all_zero_action_is_not_hold_but_drives_to_zero_and_half_opens_the_grippers(
    twin_2025: TwinEnv,
) -> None:
    start = base(twin_2025)
    assert np.abs(joints(twin_2025, TRUNK)).max() > 1
    for _ in range(120):
        twin_2025.step(np.zeros(23, np.float32))
    np.testing.assert_allclose(joints(twin_2025, list(COLUMNS)), 0, atol=2e-3)
    for arm in ("left", "right"):
        np.testing.assert_allclose(openings(twin_2025, arm), 0.025, atol=2e-4)
    np.testing.assert_allclose(base(twin_2025), start, atol=0.02)


@pytest.mark.parametrize("posture", range(4))
def test_the_hold_action_keeps_still(twin_2025: TwinEnv, posture: int) -> None:
    """From the reset posture and from working postures: 60 steps within 2 mrad and 1 mm."""
    random = np.random.default_rng(posture)
    action = place(twin_2025, -0.3, -0.2, 0.4)
    if posture:
        for arm, side in (("left", 1), ("right", -1)):
            angles = random.uniform(
                (-1.5, 0.1, -0.5, -1.6, -1, -0.8, -1), (-0.2, 0.6, 0.5, -0.8, 1, 0.8, 1)
            )
            signs = np.array([1, side, side, 1, side, 1, side])
            action[[COLUMNS[name] for name in ARM[arm]]] = angles * signs
            action[GRIPPER[arm]] = random.uniform(-1, 1)
    for _ in range(90):
        twin_2025.step(action)
    grippers = action[14], action[22]
    hold = r1pro.hold_action(twin_2025.observe(images=False).proprio, "2025", *grippers)
    for _ in range(30):  # to settle onto the new targets
        twin_2025.step(hold)
    names = [*COLUMNS, *(n for n in JOINTS if "finger" in n)]
    where, at = base(twin_2025), joints(twin_2025, names)
    for _ in range(60):
        twin_2025.step(hold)
        assert np.abs(joints(twin_2025, names) - at).max() < 2e-3
        assert np.linalg.norm(base(twin_2025)[:2] - where[:2]) < 1e-3
        assert abs(base(twin_2025)[2] - where[2]) < 2e-3


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_moves_its_own_joint_to_the_commanded_angle(
    twin_2025: TwinEnv, name: str
) -> None:
    action = place(twin_2025, -0.4, -0.4, 0.0)
    figures = JOINTS[name]
    inwards = 1 if figures["upper"] - action[COLUMNS[name]] > 0.4 else -1
    action[COLUMNS[name]] += 0.2 * inwards
    before = joints(twin_2025, list(COLUMNS))
    for _ in range(60):
        twin_2025.step(action)
    moved = joints(twin_2025, list(COLUMNS)) - before
    target = np.zeros(len(COLUMNS))
    target[list(COLUMNS).index(name)] = 0.2 * inwards
    np.testing.assert_allclose(moved, target, atol=5e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_targets_beyond_the_limits_end_at_the_limits(twin_2025: TwinEnv, sign: int) -> None:
    """Wrists and waist, which reach their ends without hitting anything."""
    action = place(twin_2025, -0.4, -0.4, 0.0)
    free = ["torso_joint4", *(f"{arm}_arm_joint{i}" for arm in ("left", "right") for i in (5, 7))]
    action[[COLUMNS[name] for name in free]] = sign * 10.0
    for _ in range(150):
        twin_2025.step(action)
        for name in free:
            angle = twin_2025._data.joint(name).qpos[0]
            assert JOINTS[name]["lower"] - 0.01 < angle < JOINTS[name]["upper"] + 0.01, name
    ends = [JOINTS[name]["upper" if sign > 0 else "lower"] for name in free]
    np.testing.assert_allclose(joints(twin_2025, free), ends, atol=5e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_servo_targets_are_the_commands_limited_by_the_joint_range_alone(
    twin_2025: TwinEnv, sign: int
) -> None:
    data, action = twin_2025._data, np.zeros(23, np.float32)
    for name, column in COLUMNS.items():
        action[column] = sign * 100.0
        twin_2025._controller.apply(action, data)
        end = JOINTS[name]["upper" if sign > 0 else "lower"]
        assert data.actuator(name).ctrl[0] == pytest.approx(end, abs=1e-12), name
        inside = 0.99 * end  # no smaller limit of our own
        action[column] = inside
        twin_2025._controller.apply(action, data)
        assert data.actuator(name).ctrl[0] == pytest.approx(inside, rel=1e-6), name


# --- Grippers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "opening"),
    [(-1, 0.0), (-0.5, 0.0125), (0, 0.025), (0.5, 0.0375), (1, 0.05), (-7, 0.0), (7, 0.05)],
)
@pytest.mark.parametrize("arm", ["left", "right"])
def test_a_gripper_command_is_an_opening_of_each_finger(
    twin_2025: TwinEnv, arm: str, command: float, opening: float
) -> None:
    action = place(twin_2025, -0.4, -0.4, 0.0)
    other = "right" if arm == "left" else "left"
    action[GRIPPER[other]] = 0.2
    action[GRIPPER[arm]] = command
    for _ in range(45):
        twin_2025.step(action)
    np.testing.assert_allclose(openings(twin_2025, arm), opening, atol=3e-4)
    np.testing.assert_allclose(openings(twin_2025, other), 0.03, atol=3e-4)


# --- Malformed actions ----------------------------------------------------------------------


def with_value(index: int, value: float) -> np.ndarray:
    action = np.zeros(23, np.float32)
    action[index] = value
    return action


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(22, np.float32), "an action must have shape [23], got [22]"),
        (np.zeros((1, 23), np.float32), "an action must have shape [23], got [1, 23]"),
        (np.float32(0), "an action must have shape [23], got float32"),
        ([0.0] * 23, "an action must have shape [23], got list"),
        (np.zeros(23, np.int64), "an action must be floating point, got int64"),
        (with_value(7, np.nan), "action[7] is nan"),
        (with_value(0, np.inf), "action[0] is inf"),
        (with_value(22, -np.inf), "action[22] is -inf"),
    ],
)
def test_a_malformed_action_is_the_policys_fault_and_moves_nothing(
    twin_2025: TwinEnv, action: np.ndarray, message: str
) -> None:
    qpos = twin_2025._data.qpos.copy()
    with pytest.raises(ActionError, match=f"^{re.escape(message)}$") as raised:
        twin_2025.step(action)
    assert isinstance(raised.value, PolicyFaultError)
    assert raised.value.reason == "policy_invalid_action"
    np.testing.assert_array_equal(twin_2025._data.qpos, qpos)
    assert twin_2025.observe(images=False).step == 0


def test_an_action_is_left_as_it_was(twin_2025: TwinEnv) -> None:
    action = np.full(23, 5.0, np.float32)
    action.setflags(write=False)
    twin_2025.step(action)
    np.testing.assert_array_equal(action, np.full(23, 5.0, np.float32))


def test_acting_or_looking_before_the_first_reset_is_an_error_of_ours() -> None:
    env = TwinEnv(get_task(31), protocol="2026", split="public-test", max_steps=10)
    with pytest.raises(EnvError, match=r"^step was called before reset$"):
        env.step(np.zeros(23, np.float32))
    with pytest.raises(EnvError, match=r"^observe was called before reset$"):
        env.observe()
    env.close()
