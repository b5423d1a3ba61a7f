"""The expert's arm kinematics, against a chain of matrices built from the published figures."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from expert_postures import CANONICAL, ArmSolver, IkResult, hand_rotation

from b1k_envs import r1pro
from b1k_envs.r1pro import Arm, kinematics

Array = npt.NDArray[np.float64]

TRUNK = np.array([1.025, -1.45, -0.47, 0.0])
ARMS: tuple[Arm, ...] = ("left", "right")
TOOL = np.array([0.0, 0.0, -0.05])  # between the pads, in the gripper link's frame [m]


@cache
def arm_of(arm: Arm) -> ArmSolver:
    return ArmSolver(arm)


def about(axis: npt.ArrayLike, angle: float) -> Array:
    """Rodrigues' formula."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def chain(arm: Arm, trunk: Array, joints: Array) -> tuple[Array, Array]:
    """Hand pose in the base frame, joint by joint from the URDF's origins and axes."""
    by_child = {joint["child"]: joint for joint in kinematics()["joints"]}
    values = dict(zip([f"torso_joint{i}" for i in range(1, 5)], trunk, strict=True))
    values |= dict(zip([f"{arm}_arm_joint{i}" for i in range(1, 8)], joints, strict=True))
    path = []
    link = f"{arm}_gripper_link"
    while link in by_child:
        path.append(by_child[link])
        link = by_child[link]["parent"]
    assert link == "base_link"
    position, rotation = np.zeros(3), np.eye(3)
    for joint in reversed(path):
        roll, pitch, yaw = joint["rpy"]
        position = position + rotation @ np.array(joint["xyz"])
        rotation = rotation @ about([0, 0, 1], yaw) @ about([0, 1, 0], pitch)
        rotation = rotation @ about([1, 0, 0], roll)
        if joint["name"] in values:
            rotation = rotation @ about(joint["axis"], values.pop(joint["name"]))
    assert not values, f"joints that are not on the way to the hand: {list(values)}"
    return position + rotation @ TOOL, rotation


def angle_between(first: Array, second: Array) -> float:
    return float(np.arccos(np.clip((np.trace(first.T @ second) - 1.0) / 2.0, -1.0, 1.0)))


def random_posture(arm: Arm, random: np.random.Generator) -> tuple[Array, Array]:
    trunk, joints = (
        r1pro.joint_limits(names) for names in (r1pro.TRUNK_JOINTS, r1pro.ARM_JOINTS[arm])
    )
    return random.uniform(trunk[:, 0], trunk[:, 1]), random.uniform(joints[:, 0], joints[:, 1])


@pytest.mark.parametrize("arm", ARMS)
def test_forward_agrees_with_the_published_chain_at_100_postures(arm: Arm):
    random = np.random.default_rng(5)
    for _ in range(100):
        trunk, joints = random_posture(arm, random)
        position, rotation = arm_of(arm).forward(trunk, joints)
        expected_position, expected_rotation = chain(arm, trunk, joints)
        np.testing.assert_allclose(position, expected_position, atol=1e-9)
        np.testing.assert_allclose(rotation, expected_rotation, atol=1e-9)


def test_what_forward_returns_is_the_callers():
    first = arm_of("left").forward(TRUNK, CANONICAL["left"])
    kept = first[0].copy(), first[1].copy()
    arm_of("left").forward(np.zeros(4), np.zeros(7))
    np.testing.assert_array_equal(first[0], kept[0])
    np.testing.assert_array_equal(first[1], kept[1])


def workspace(arm: Arm, count: int) -> list[tuple[Array, Array]]:
    """Targets before the robot that its elbow, which bends by 1.745 rad at most, allows."""
    random = np.random.default_rng(17)
    side = 1.0 if arm == "left" else -1.0
    return [
        (
            np.array([random.uniform(0.60, 0.70), side * random.uniform(0.18, 0.30), z]),
            hand_rotation(random.uniform(0.0, 0.6), random.uniform(-0.3, 0.3)),
        )
        for z in random.uniform(0.76, 0.86, count)
    ]


@pytest.mark.parametrize("arm", ARMS)
def test_inverse_puts_the_hand_where_it_was_asked_to(arm: Arm):
    low, high = r1pro.joint_limits(r1pro.ARM_JOINTS[arm]).T
    for position, rotation in workspace(arm, 40):
        result = arm_of(arm).inverse(TRUNK, position, rotation)
        assert result.reached
        reached, turned = chain(arm, TRUNK, result.joints)
        assert np.linalg.norm(reached - position) < 0.01
        assert angle_between(turned, rotation) < 0.1
        assert (result.joints > low).all()
        assert (result.joints < high).all()


@pytest.mark.parametrize("arm", ARMS)
def test_inverse_finds_hand_poses_that_joints_near_the_canonical_ones_make(arm: Arm):
    random = np.random.default_rng(23)
    for _ in range(40):
        trunk = TRUNK + random.uniform(-0.2, 0.2, 4)
        target = chain(arm, trunk, CANONICAL[arm] + random.uniform(-0.3, 0.3, 7))
        assert arm_of(arm).inverse(trunk, *target).reached


def test_the_errors_it_reports_are_those_of_the_pose_it_returns():
    position, rotation = np.array([0.6, 0.25, 0.8]), hand_rotation(0.3, 0.1)
    for target in (position, position + [0.5, 0.0, 0.0], position + [0.0, 0.0, 1.5]):
        result = arm_of("left").inverse(TRUNK, target, rotation)
        reached, turned = chain("left", TRUNK, result.joints)
        assert result.position_error == pytest.approx(np.linalg.norm(target - reached), abs=1e-9)
        assert result.rotation_error == pytest.approx(angle_between(turned, rotation), abs=1e-6)


@pytest.mark.parametrize("offset", [(1.0, 0.0, 0.0), (0.0, 1.5, 0.0), (0.0, 0.0, 2.0)])
def test_a_target_out_of_reach_is_said_to_be(offset: tuple[float, float, float]):
    target = np.array([0.6, 0.25, 0.8]) + offset
    result = arm_of("left").inverse(TRUNK, target, hand_rotation(0.0, 0.0))
    assert not result.reached
    low, high = r1pro.joint_limits(r1pro.ARM_JOINTS["left"]).T
    assert (result.joints > low).all()
    assert (result.joints < high).all()


@pytest.mark.parametrize(
    ("position_error", "rotation_error", "reached"),
    [(0.0099, 0.099, True), (0.0101, 0.0, False), (0.0, 0.101, False)],
)
def test_reached_means_within_1_cm_and_a_tenth_of_a_radian(
    position_error: float, rotation_error: float, reached: bool
):
    result = IkResult(np.zeros(7), position_error=position_error, rotation_error=rotation_error)
    assert result.reached is reached


def test_the_same_question_gets_the_same_answer_whatever_was_asked_before():
    position, rotation = np.array([0.6, 0.25, 0.8]), hand_rotation(0.3, 0.1)
    first = ArmSolver("left").inverse(TRUNK, position, rotation).joints
    for other, turned in workspace("left", 5):
        arm_of("left").inverse(TRUNK, other, turned)
        np.testing.assert_array_equal(
            arm_of("left").inverse(TRUNK, position, rotation).joints, first
        )


def test_a_small_move_of_the_target_is_a_small_move_of_the_joints():
    """One branch of solutions: no jumps, or demonstrations would be multimodal."""
    for start, along in (
        ((0.58, 0.25, 0.80), (1.0, 0.0, 0.0)),
        ((0.62, 0.20, 0.80), (0.0, 1.0, 0.0)),
        ((0.62, 0.25, 0.76), (0.0, 0.0, 1.0)),
    ):
        last = None
        for k in range(20):
            target = np.array(start) + 0.005 * k * np.array(along)
            result = arm_of("left").inverse(TRUNK, target, hand_rotation(0.2, 0.0))
            assert result.reached
            if last is not None:
                assert np.abs(result.joints - last).max() < 0.12
            last = result.joints


def test_a_nearby_start_ends_on_the_same_branch_and_is_left_as_it_was():
    position, rotation = np.array([0.62, 0.25, 0.83]), hand_rotation(0.0, 0.0)
    cold = arm_of("left").inverse(TRUNK, position, rotation).joints
    start = cold + 0.02
    kept = start.copy()
    warm = arm_of("left").inverse(TRUNK, position, rotation, start)
    np.testing.assert_array_equal(start, kept)
    assert warm.reached
    np.testing.assert_allclose(warm.joints, cold, atol=0.05)


def test_the_canonical_posture_itself_is_never_written():
    before = {arm: joints.copy() for arm, joints in CANONICAL.items()}
    for arm in ARMS:
        result = arm_of(arm).inverse(TRUNK, np.array([9.0, 0.0, 0.0]), np.eye(3))
        result.joints[:] = 0.0
        np.testing.assert_array_equal(CANONICAL[arm], before[arm])


@pytest.mark.parametrize(
    ("pitch", "yaw", "approach", "across"),
    [
        (0.0, 0.0, (1, 0, 0), (0, 1, 0)),
        (np.pi / 2, 0.0, (0, 0, -1), (0, 1, 0)),
        (0.0, np.pi / 2, (0, 1, 0), (-1, 0, 0)),
        (np.pi / 4, 0.0, (np.sqrt(0.5), 0, -np.sqrt(0.5)), (0, 1, 0)),
        (np.pi / 4, np.pi, (-np.sqrt(0.5), 0, -np.sqrt(0.5)), (0, -1, 0)),
    ],
)
def test_hand_rotation_approaches_along_minus_z_with_the_fingers_along_y(
    pitch: float, yaw: float, approach: tuple[float, ...], across: tuple[float, ...]
):
    rotation = hand_rotation(pitch, yaw)
    np.testing.assert_allclose(-rotation[:, 2], approach, atol=1e-12)
    np.testing.assert_allclose(rotation[:, 1], across, atol=1e-12)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
