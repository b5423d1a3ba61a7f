"""The robot as data against the evaluator's tables, written out once more.

Source: StanfordVL/BEHAVIOR-1K, OmniGibson/omnigibson/learning/utils/eval_utils.py (2025) and
eval/utils/eval_utils.py, eval/r1pro.yaml (2026).
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from urdf_chain import JOINTS

from b1k_envs import r1pro
from b1k_envs.base import VIEWS, ProtocolYear
from b1k_envs.errors import ActionError

LEFT_RANGE = (  # JOINT_RANGE of 2025 [rad]
    (-4.4506, -0.1745, -2.3562, -2.0944, -2.3562, -1.0472, -1.5708),
    (1.3090, 3.1416, 2.3562, 0.3491, 2.3562, 1.0472, 1.5708),
)
RIGHT_RANGE = (
    (-4.4506, -3.1416, -2.3562, -2.0944, -2.3562, -1.0472, -1.5708),
    (1.3090, 0.1745, 2.3562, 0.3491, 2.3562, 1.0472, 1.5708),
)
TRUNK_RANGE = ((-1.1345, -2.7925, -1.8326, -3.0543), (1.8326, 2.5307, 1.5708, 3.0543))
ELBOW = 3
"""Joint 4, whose lower end the table gives as -2.0944 and the URDF as -1.7453."""


def test_the_23_action_columns_are_the_evaluators() -> None:
    assert {name: (s.start, s.stop) for name, s in r1pro.ACTION_SLICES.items()} == {
        "base": (0, 3),
        "trunk": (3, 7),
        "arm_left": (7, 14),
        "gripper_left": (14, 15),
        "arm_right": (15, 22),
        "gripper_right": (22, 23),
    }
    assert r1pro.ACTION_DIM == 23
    assert r1pro.CONTROL_HZ == 30
    np.testing.assert_array_equal(r1pro.BASE_VELOCITY_LIMIT, [0.75, 0.75, 1.0])
    assert (r1pro.GRIPPER_CLOSED, r1pro.GRIPPER_OPEN, r1pro.FINGER_TRAVEL) == (-1, 1, 0.05)


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (r1pro.TRUNK_JOINTS, TRUNK_RANGE),
        (r1pro.ARM_JOINTS["left"], LEFT_RANGE),
        (r1pro.ARM_JOINTS["right"], RIGHT_RANGE),
    ],
)
def test_joint_limits_agree_with_the_evaluators_table_but_for_the_elbows_lower_end(
    names: tuple[str, ...], table: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    limits = r1pro.joint_limits(names)
    apart = np.abs(limits - np.array(table).T) > 1e-4
    elbow = np.zeros_like(apart)
    elbow[ELBOW, 0] = names != r1pro.TRUNK_JOINTS
    np.testing.assert_array_equal(apart, elbow)
    if elbow.any():  # the URDF's range is the narrower
        assert limits[ELBOW, 0] == -1.7453


def test_joints_of_the_parts_are_those_of_the_28_in_the_evaluators_order() -> None:
    order = r1pro.JOINT_ORDER
    assert len(order) == len(set(order)) == 28
    assert order[0:6] == r1pro.BASE_JOINTS
    assert order[6:10] == r1pro.TRUNK_JOINTS
    assert order[10:24:2] == r1pro.ARM_JOINTS["left"]
    assert order[11:24:2] == r1pro.ARM_JOINTS["right"]
    assert order[24:26] == r1pro.FINGER_JOINTS["left"]
    assert order[26:28] == r1pro.FINGER_JOINTS["right"]
    assert set(order[6:]) <= JOINTS.keys()


def test_the_reset_posture_raises_the_trunk_and_opens_the_fingers() -> None:
    posture = dict(zip(r1pro.JOINT_ORDER, r1pro.RESET_JOINT_POSITION, strict=True))
    raised = {"torso_joint1": 1.025, "torso_joint2": -1.45, "torso_joint3": -0.47}
    fingers = {f"{a}_gripper_finger_joint{i}": 0.05 for a in ("left", "right") for i in (1, 2)}
    assert {name: value for name, value in posture.items() if value} == raised | fingers
    for name in raised:
        assert JOINTS[name]["lower"] < posture[name] < JOINTS[name]["upper"]


def test_fingers_open_in_the_direction_that_their_limits_allow() -> None:
    for arm in r1pro.ARMS:
        for name, sign in zip(r1pro.FINGER_JOINTS[arm], r1pro.FINGER_SIGNS, strict=True):
            end = sign * r1pro.FINGER_TRAVEL
            assert {JOINTS[name]["lower"], JOINTS[name]["upper"]} == {0.0, end}


@pytest.mark.parametrize(
    ("view", "size", "focal", "field_of_view", "key"),
    [
        ("head", 720, 306.0, 99.3, "robot_r1::robot_r1:zed_link:Camera:0::rgb"),
        (
            "left_wrist",
            480,
            388.6639,
            63.4,
            "robot_r1::robot_r1:left_realsense_link:Camera:0::rgb",
        ),
        (
            "right_wrist",
            480,
            388.6639,
            63.4,
            "robot_r1::robot_r1:right_realsense_link:Camera:0::rgb",
        ),
    ],
)
def test_cameras_have_the_evaluators_size_intrinsics_and_key(
    view: str, size: int, focal: float, field_of_view: float, key: str
) -> None:
    camera = r1pro.CAMERAS[view]  # type: ignore[index]
    assert camera.size == size
    centre = {720: 360.0, 480: 240.0}[size]
    truth = [[focal, 0, centre], [0, focal, centre], [0, 0, 1]]
    np.testing.assert_array_equal(camera.intrinsics, truth)
    assert camera.observation_key == key
    assert np.degrees(2 * np.arctan(size / 2 / camera.focal)) == pytest.approx(
        field_of_view, abs=0.05
    )


def test_views_are_listed_head_first_and_recorded_head_last() -> None:
    assert VIEWS == ("head", "left_wrist", "right_wrist")
    assert tuple(r1pro.CAMERAS) == VIEWS
    assert r1pro.CAM_REL_POSES_ORDER == ("left_wrist", "right_wrist", "head")
    assert r1pro.PROPRIO_KEY == "robot_r1::proprio"
    assert r1pro.CAM_REL_POSES_KEY == "robot_r1::cam_rel_poses"


@pytest.mark.parametrize(
    ("protocol", "where"),
    [
        ("2025", {"trunk": 236, "arm_left": 158, "arm_right": 197}),
        ("2026", {"trunk": 53, "arm_left": 3, "arm_right": 28}),
    ],
)
def test_hold_puts_present_joints_into_their_columns_and_zero_into_the_base(
    protocol: ProtocolYear, where: dict[str, int]
) -> None:
    """A vector that counts: each number tells which proprio column an action column came from."""
    proprio = np.arange(r1pro.PROPRIO_DIM[protocol], dtype=np.float32)
    action = r1pro.hold_action(proprio, protocol, 0.25, -0.5)
    trunk = [where["trunk"] + i for i in range(4)]
    left = [where["arm_left"] + i for i in range(7)]
    right = [where["arm_right"] + i for i in range(7)]
    assert action.tolist() == [0, 0, 0, *trunk, *left, 0.25, *right, -0.5]
    assert action.dtype == np.float32
    np.testing.assert_array_equal(proprio, np.arange(r1pro.PROPRIO_DIM[protocol]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_finite_floats_of_the_right_shape_pass_whatever_their_size(dtype: type) -> None:
    r1pro.check_action(np.full(23, 1e4, dtype))


@pytest.mark.parametrize("column", [0, 11, 22])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_by_its_column(column: int, value: float) -> None:
    action = np.zeros(23, np.float32)
    action[column] = value
    with pytest.raises(ActionError, match=rf"^action\[{column}\] is {re.escape(str(value))}$"):
        r1pro.check_action(action)


@pytest.mark.parametrize("shape", [(24,), (23, 1), (0,)])
def test_a_wrong_shape_is_told_with_the_right_one(shape: tuple[int, ...]) -> None:
    text = re.escape(f"an action must have shape [23], got {list(shape)}")
    with pytest.raises(ActionError, match=f"^{text}$"):
        r1pro.check_action(np.zeros(shape, np.float32))


@pytest.mark.parametrize("dtype", [np.int32, np.bool_, np.complex64, object])
def test_numbers_that_are_not_floats_are_refused_by_their_type(dtype: type) -> None:
    text = f"an action must be floating point, got {np.dtype(dtype)}"
    with pytest.raises(ActionError, match=f"^{text}$"):
        r1pro.check_action(np.zeros(23, dtype))


def test_tables_cannot_be_changed_by_who_reads_them() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        r1pro.ACTION_SLICES["base"] = slice(0, 2)  # type: ignore[index]
    with pytest.raises(TypeError, match="does not support item assignment"):
        r1pro.CAMERAS["head"] = r1pro.CAMERAS["left_wrist"]  # type: ignore[index]
    with pytest.raises(AttributeError, match="cannot assign"):
        r1pro.CAMERAS["head"].size = 224  # type: ignore[misc]
    for table in (r1pro.RESET_JOINT_POSITION, r1pro.BASE_VELOCITY_LIMIT):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 9.0
