"""The 256 and the 61 numbers: where each field lies, and that it says what the state says.

Slices are written out from the evaluator's tables (StanfordVL/BEHAVIOR-1K, OmniGibson/omnigibson/
learning/utils/eval_utils.py `PROPRIOCEPTION_INDICES` for 2025, eval/r1pro.yaml for 2026); values
are compared with MuJoCo's state joint by joint, by name, and with the independent chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
import pytest
from urdf_chain import base_pose, link_poses, random_joints, rotation_xyzw

from b1k_envs import r1pro
from b1k_envs.base import ProtocolYear
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.mujoco_twin.robot.proprio import ProprioReader

SLICES_2025 = {
    "joint_qpos": (0, 28),
    "joint_qpos_sin": (28, 56),
    "joint_qpos_cos": (56, 84),
    "joint_qvel": (84, 112),
    "joint_qeffort": (112, 140),
    "robot_pos": (140, 143),
    "robot_ori_cos": (143, 146),
    "robot_ori_sin": (146, 149),
    "robot_2d_ori": (149, 150),
    "robot_2d_ori_cos": (150, 151),
    "robot_2d_ori_sin": (151, 152),
    "robot_lin_vel": (152, 155),
    "robot_ang_vel": (155, 158),
    "arm_left_qpos": (158, 165),
    "arm_left_qpos_sin": (165, 172),
    "arm_left_qpos_cos": (172, 179),
    "arm_left_qvel": (179, 186),
    "eef_left_pos": (186, 189),
    "eef_left_quat": (189, 193),
    "gripper_left_qpos": (193, 195),
    "gripper_left_qvel": (195, 197),
    "arm_right_qpos": (197, 204),
    "arm_right_qpos_sin": (204, 211),
    "arm_right_qpos_cos": (211, 218),
    "arm_right_qvel": (218, 225),
    "eef_right_pos": (225, 228),
    "eef_right_quat": (228, 232),
    "gripper_right_qpos": (232, 234),
    "gripper_right_qvel": (234, 236),
    "trunk_qpos": (236, 240),
    "trunk_qvel": (240, 244),
    "base_qpos": (244, 247),
    "base_qpos_sin": (247, 250),
    "base_qpos_cos": (250, 253),
    "base_qvel": (253, 256),
}
SLICES_2026 = {
    "base_qvel": (0, 3),
    "arm_left_qpos": (3, 10),
    "arm_left_qvel": (10, 17),
    "eef_left_pos": (17, 20),
    "eef_left_quat": (20, 24),
    "gripper_left_qpos": (24, 26),
    "gripper_left_qvel": (26, 28),
    "arm_right_qpos": (28, 35),
    "arm_right_qvel": (35, 42),
    "eef_right_pos": (42, 45),
    "eef_right_quat": (45, 49),
    "gripper_right_qpos": (49, 51),
    "gripper_right_qvel": (51, 53),
    "trunk_qpos": (53, 57),
    "trunk_qvel": (57, 61),
}
SLICES: dict[ProtocolYear, dict[str, tuple[int, int]]] = {"2025": SLICES_2025, "2026": SLICES_2026}
SHARED = tuple(name for name in SLICES_2026 if name != "base_qvel")

# joint_qpos and its like: left and right arm take turns
ORDER = [
    "base_footprint_x_joint",
    "base_footprint_y_joint",
    "base_footprint_z_joint",
    "base_footprint_rx_joint",
    "base_footprint_ry_joint",
    "base_footprint_rz_joint",
    "torso_joint1",
    "torso_joint2",
    "torso_joint3",
    "torso_joint4",
    "left_arm_joint1",
    "right_arm_joint1",
    "left_arm_joint2",
    "right_arm_joint2",
    "left_arm_joint3",
    "right_arm_joint3",
    "left_arm_joint4",
    "right_arm_joint4",
    "left_arm_joint5",
    "right_arm_joint5",
    "left_arm_joint6",
    "right_arm_joint6",
    "left_arm_joint7",
    "right_arm_joint7",
    "left_gripper_finger_joint1",
    "left_gripper_finger_joint2",
    "right_gripper_finger_joint1",
    "right_gripper_finger_joint2",
]
NOT_MODELLED = ("base_footprint_z_joint", "base_footprint_rx_joint", "base_footprint_ry_joint")


@dataclass
class State:
    """A random state of the twin and what both layouts say about it."""

    data: mujoco.MjData
    joints: dict[str, float]  # URDF values, without the base
    base: np.ndarray  # x, y, yaw
    y2025: Mapping[str, np.ndarray]
    y2026: Mapping[str, np.ndarray]

    def truth(self, name: str, quantity: str) -> float:
        """qpos or qvel of a joint as the evaluator counts it: fingers as openings."""
        if name in NOT_MODELLED:
            return 0.0
        value = float(getattr(self.data.joint(name), quantity)[0])
        return -value if name.endswith("finger_joint2") else value


def fields(vector: np.ndarray, protocol: ProtocolYear) -> dict[str, np.ndarray]:
    return {name: vector[slice(*where)] for name, where in SLICES[protocol].items()}


def random_state(model: mujoco.MjModel, seed: int) -> State:
    random = np.random.default_rng(seed)
    data = mujoco.MjData(model)
    joints = random_joints(random)
    base = random.uniform((-1, -1, -np.pi), (1, 1, np.pi))
    for name, value in (*joints.items(), *zip((ORDER[0], ORDER[1], ORDER[5]), base, strict=True)):
        data.joint(name).qpos = value
        data.joint(name).qvel = random.uniform(-1, 1)
    data.ctrl[:] = random.uniform(-1, 1, model.nu)
    mujoco.mj_forward(model, data)
    return State(
        data=data,
        joints=joints,
        base=base,
        y2025=fields(ProprioReader(model, "2025").read(data), "2025"),
        y2026=fields(ProprioReader(model, "2026").read(data), "2026"),
    )


@pytest.fixture(params=range(10))
def state(twin_2025: TwinEnv, request: pytest.FixtureRequest) -> State:
    return random_state(twin_2025._model, request.param)


# --- Layouts --------------------------------------------------------------------------------


@pytest.mark.parametrize(("protocol", "size"), [("2025", 256), ("2026", 61)])
def test_slices_are_the_evaluators_and_cover_every_number_once(
    protocol: ProtocolYear, size: int
) -> None:
    layout = r1pro.PROPRIO_LAYOUTS[protocol]
    assert {name: (where.start, where.stop) for name, where in layout.items()} == SLICES[protocol]
    covered = [i for where in layout.values() for i in range(where.start, where.stop)]
    assert sorted(covered) == list(range(size))
    assert r1pro.PROPRIO_DIM[protocol] == size


def test_joints_are_ordered_with_the_arms_taking_turns() -> None:
    assert list(r1pro.JOINT_ORDER) == ORDER
    assert ORDER[10:24:2] == [f"left_arm_joint{i}" for i in range(1, 8)]
    assert ORDER[11:24:2] == [f"right_arm_joint{i}" for i in range(1, 8)]


@pytest.mark.parametrize(("protocol", "size"), [("2025", 256), ("2026", 61)])
def test_an_observation_carries_a_read_only_float32_vector(
    protocol: ProtocolYear, size: int, request: pytest.FixtureRequest
) -> None:
    env: TwinEnv = request.getfixturevalue(f"twin_{protocol}")
    seen = env.observe(images=False)
    assert seen.protocol == env.info.protocol == protocol
    assert seen.proprio.shape == (size,)
    assert seen.proprio.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        seen.proprio[0] = 1.0


# --- Values against the state ---------------------------------------------------------------


def test_the_28_joints_are_the_states_by_name(state: State) -> None:
    positions = np.array([state.truth(name, "qpos") for name in ORDER])
    velocities = np.array([state.truth(name, "qvel") for name in ORDER])
    np.testing.assert_allclose(state.y2025["joint_qpos"], positions, atol=1e-6)
    np.testing.assert_allclose(state.y2025["joint_qpos_sin"], np.sin(positions), atol=1e-6)
    np.testing.assert_allclose(state.y2025["joint_qpos_cos"], np.cos(positions), atol=1e-6)
    np.testing.assert_allclose(state.y2025["joint_qvel"], velocities, atol=1e-6)


def test_effort_is_what_the_servo_of_that_joint_pushes_with(state: State) -> None:
    efforts = []
    for name in ORDER:
        force = 0.0 if name in NOT_MODELLED else state.data.actuator(name).force[0]
        efforts.append(-force if name.endswith("finger_joint2") else force)
    assert np.count_nonzero(efforts) == 25
    np.testing.assert_allclose(state.y2025["joint_qeffort"], efforts, rtol=1e-6)


@pytest.mark.parametrize("year", ["y2025", "y2026"])
def test_parts_are_the_same_joints_once_more(state: State, year: str) -> None:
    read: Mapping[str, np.ndarray] = getattr(state, year)
    parts = {
        "trunk": [f"torso_joint{i}" for i in range(1, 5)],
        "arm_left": [f"left_arm_joint{i}" for i in range(1, 8)],
        "arm_right": [f"right_arm_joint{i}" for i in range(1, 8)],
        "gripper_left": [f"left_gripper_finger_joint{i}" for i in (1, 2)],
        "gripper_right": [f"right_gripper_finger_joint{i}" for i in (1, 2)],
    }
    for part, names in parts.items():
        for quantity in ("qpos", "qvel"):
            truth = [state.truth(name, quantity) for name in names]
            np.testing.assert_allclose(read[f"{part}_{quantity}"], truth, atol=1e-6, err_msg=part)
        if year == "y2025" and part.startswith("arm"):
            angles = [state.truth(name, "qpos") for name in names]
            np.testing.assert_allclose(read[f"{part}_qpos_sin"], np.sin(angles), atol=1e-6)
            np.testing.assert_allclose(read[f"{part}_qpos_cos"], np.cos(angles), atol=1e-6)


def test_the_base_fields_of_2025_are_the_planar_pose_in_the_world(state: State) -> None:
    x, y, yaw = state.base
    read = state.y2025
    np.testing.assert_allclose(read["robot_pos"], [x, y, 0], atol=1e-6)
    np.testing.assert_allclose(read["robot_2d_ori"], [yaw], atol=1e-6)
    np.testing.assert_allclose(read["robot_2d_ori_cos"], [np.cos(yaw)], atol=1e-6)
    np.testing.assert_allclose(read["robot_2d_ori_sin"], [np.sin(yaw)], atol=1e-6)
    np.testing.assert_allclose(read["robot_ori_cos"], [1, 1, np.cos(yaw)], atol=1e-6)
    np.testing.assert_allclose(read["robot_ori_sin"], [0, 0, np.sin(yaw)], atol=1e-6)
    np.testing.assert_allclose(read["base_qpos"], state.base, atol=1e-6)
    np.testing.assert_allclose(read["base_qpos_sin"], np.sin(state.base), atol=1e-6)
    np.testing.assert_allclose(read["base_qpos_cos"], np.cos(state.base), atol=1e-6)


def test_robot_velocity_is_the_velocity_of_the_base_body(state: State) -> None:
    velocity = np.zeros(6)  # MuJoCo: rotation first
    body = state.data.body("base_link").id
    mujoco.mj_objectVelocity(
        state.data.model, state.data, mujoco.mjtObj.mjOBJ_XBODY, body, velocity, 0
    )
    np.testing.assert_allclose(state.y2025["robot_ang_vel"], velocity[:3], atol=1e-6)
    np.testing.assert_allclose(state.y2025["robot_lin_vel"], velocity[3:], atol=1e-6)


@pytest.mark.parametrize("arm", ["left", "right"])
@pytest.mark.parametrize("year", ["y2025", "y2026"])
def test_hand_poses_are_in_the_base_frame_with_quaternions_xyzw(
    state: State, arm: str, year: str
) -> None:
    """Wherever the base stands: the independent chain is given the joints and no base at all."""
    read: Mapping[str, np.ndarray] = getattr(state, year)
    hand = link_poses(state.joints)[f"{arm}_gripper_link"]
    tool = hand @ (0, 0, -0.05, 1)  # the twin's tool centre, between the pads
    np.testing.assert_allclose(read[f"eef_{arm}_pos"], tool[:3], atol=1e-6)
    quaternion = read[f"eef_{arm}_quat"]
    assert np.linalg.norm(quaternion) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(rotation_xyzw(quaternion), hand[:3, :3], atol=1e-6)


def test_both_layouts_say_the_same_where_both_speak(state: State) -> None:
    assert len(SHARED) == 14
    for name in SHARED:
        np.testing.assert_array_equal(state.y2025[name], state.y2026[name], err_msg=name)


def test_base_velocity_is_in_the_world_for_2025_and_in_the_robots_frame_for_2026(
    state: State,
) -> None:
    yaw = state.base[2]
    world = np.array([state.data.joint(ORDER[i]).qvel[0] for i in (0, 1, 5)])
    np.testing.assert_allclose(state.y2025["base_qvel"], world, atol=1e-6)
    forward, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    robot = [world[:2] @ forward, world[:2] @ left, world[2]]
    np.testing.assert_allclose(state.y2026["base_qvel"], robot, atol=1e-6)


# --- Values against what happens ------------------------------------------------------------


def facing_y(env: TwinEnv) -> np.ndarray:
    """Turn the robot to face the world's +y, and give the action that holds its posture."""
    for name, value in zip((ORDER[0], ORDER[1], ORDER[5]), (0, -0.5, np.pi / 2), strict=True):
        env._data.joint(name).qpos = value
    mujoco.mj_step1(env._model, env._data)
    return r1pro.hold_action(env.observe(images=False).proprio, env.info.protocol, 1.0, 1.0)


def test_driving_ahead_at_yaw_90_reads_plus_y_in_2025_and_plus_x_in_2026(
    twin_2025: TwinEnv, twin_2026: TwinEnv
) -> None:
    for env, expected in ((twin_2025, (0.0, 0.75, 0.0)), (twin_2026, (0.75, 0.0, 0.0))):
        action = facing_y(env)
        action[0] = 1.0
        for _ in range(29):
            before = env.step(action).agent.base
        after = env.step(action).agent.base
        # the truth: where it really went, world frame
        np.testing.assert_allclose((after - before) * 30, [0, 0.75, 0], atol=0.02)
        read = fields(env.observe(images=False).proprio, env.info.protocol)
        np.testing.assert_allclose(read["base_qvel"], expected, atol=0.02)


def test_velocities_are_the_rates_at_which_positions_change(twin_2025: TwinEnv) -> None:
    """Central difference over two steps while joints glide to a new target (no new commands)."""
    env = twin_2025
    action = facing_y(env)
    action[[3, 7, 17]] += 0.2, -0.3, 0.4  # a trunk joint, left joint 1, right joint 3
    action[[14, 22]] = -1.0, 0.0  # fingers close
    action[2] = 0.4
    reads = []
    for _ in range(5):
        env.step(action)
        reads.append(fields(env.observe(images=False).proprio, "2025"))
    middle = reads[-2]
    for block in ("joint", "trunk", "arm_left", "arm_right", "gripper_left", "gripper_right"):
        rate = (reads[-1][f"{block}_qpos"] - reads[-3][f"{block}_qpos"]) * 15
        np.testing.assert_allclose(middle[f"{block}_qvel"], rate, rtol=0.1, atol=5e-3)
    assert middle["trunk_qvel"][0] > 0.5
    assert middle["arm_left_qvel"][0] < -0.5
    assert middle["arm_right_qvel"][2] > 0.5
    assert middle["base_qvel"][2] > 0.3
    assert (middle["gripper_left_qvel"] < -0.03).all()


def test_openings_count_outwards_on_both_fingers(twin_2025: TwinEnv) -> None:
    """The URDF's second finger travels to -0.05; the evaluator counts both from 0 to 0.05."""
    data = twin_2025._data
    for arm, openings in (("left", (0.01, 0.02)), ("right", (0.03, 0.04))):
        for i, opening in enumerate(openings, start=1):
            sign = 1 if i == 1 else -1
            data.joint(f"{arm}_gripper_finger_joint{i}").qpos = sign * opening
    mujoco.mj_step1(twin_2025._model, data)
    read = fields(twin_2025.observe(images=False).proprio, "2025")
    np.testing.assert_allclose(read["gripper_left_qpos"], [0.01, 0.02], atol=1e-6)
    np.testing.assert_allclose(read["gripper_right_qpos"], [0.03, 0.04], atol=1e-6)
    np.testing.assert_allclose(read["joint_qpos"][24:], [0.01, 0.02, 0.03, 0.04], atol=1e-6)


def test_agent_positions_are_the_base_and_the_hands_in_the_world(twin_2025: TwinEnv) -> None:
    env = twin_2025
    action = facing_y(env)
    action[0:3] = 0.3, -0.2, 0.5
    for _ in range(10):
        agent = env.step(action).agent
    read = fields(env.observe(images=False).proprio, "2025")
    base = base_pose(read["base_qpos"].astype(np.float64))
    np.testing.assert_allclose(agent.base, base[:3, 3], atol=1e-6)
    for arm, position in (("left", agent.left_eef), ("right", agent.right_eef)):
        world = base @ (*read[f"eef_{arm}_pos"].astype(np.float64), 1.0)
        np.testing.assert_allclose(position, world[:3], atol=1e-6)


def test_a_reset_shows_the_documented_posture(twin_2025: TwinEnv) -> None:
    """Trunk raised, arms at 0, fingers open; the base where the instance starts."""
    read = fields(twin_2025.observe(images=False).proprio, "2025")
    np.testing.assert_allclose(read["trunk_qpos"], [1.025, -1.45, -0.47, 0.0], atol=2e-3)
    for arm in ("left", "right"):
        np.testing.assert_allclose(read[f"arm_{arm}_qpos"], np.zeros(7), atol=2e-3)
        np.testing.assert_allclose(read[f"gripper_{arm}_qpos"], [0.05, 0.05], atol=5e-4)
    np.testing.assert_array_equal(read["joint_qvel"], np.zeros(28))
