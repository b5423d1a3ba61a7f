"""The Galaxea R1Pro as data: actions, proprioception, joints, cameras.

Sources: BEHAVIOR-1K (StanfordVL/BEHAVIOR-1K), under `OmniGibson/omnigibson/`: action columns,
`PROPRIOCEPTION_INDICES`, `JOINT_RANGE` and camera constants from `learning/utils/eval_utils.py`
(2025, v3.7.2) and `eval/utils/eval_utils.py` (2026); the 61-number layout and the robot
configuration from `eval/r1pro.yaml` (2026). Links and joints from the public URDF
`r1_pro_with_gripper`, kept in `data/r1pro_kinematics.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np

from b1k_envs.base import VIEWS, Float32Array, Float64Array, Observation, ProtocolYear, View
from b1k_envs.errors import ActionError

Arm = Literal["left", "right"]
ARMS: tuple[Arm, Arm] = ("left", "right")


def _read_only(values: Sequence[float]) -> Float64Array:
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


# --- Time -----------------------------------------------------------------------------------

CONTROL_HZ = 30.0
"""Control steps per second; also the rendering rate of the evaluator and of the dataset."""

# --- Action: 23 columns, one row per control step -------------------------------------------

ACTION_DIM = 23

ACTION_SLICES: Mapping[str, slice] = MappingProxyType(
    {
        "base": slice(0, 3),  # vx, vy, wz in the robot frame, [-1, 1] of BASE_VELOCITY_LIMIT
        "trunk": slice(3, 7),  # absolute joint position [rad]
        "arm_left": slice(7, 14),  # absolute joint position [rad]
        "gripper_left": slice(14, 15),  # [-1, 1]: -1 closed, +1 open
        "arm_right": slice(15, 22),  # absolute joint position [rad]
        "gripper_right": slice(22, 23),  # [-1, 1]: -1 closed, +1 open
    }
)

BASE_VELOCITY_LIMIT: Float64Array = _read_only([0.75, 0.75, 1.0])
"""The base velocity that a command of 1 stands for [m/s, m/s, rad/s]."""

GRIPPER_OPEN = 1.0
"""The only gripper command that releases an assisted grasp; 0.99 still holds."""
GRIPPER_CLOSED = -1.0

FINGER_TRAVEL = 0.05
"""Opening of one finger at command +1 [m]; the command maps linearly to [0, FINGER_TRAVEL]."""

# --- Joints ---------------------------------------------------------------------------------

BASE_JOINTS: tuple[str, ...] = tuple(
    f"base_footprint_{axis}_joint" for axis in ("x", "y", "z", "rx", "ry", "rz")
)
TRUNK_JOINTS: tuple[str, ...] = tuple(f"torso_joint{i}" for i in range(1, 5))
ARM_JOINTS: Mapping[Arm, tuple[str, ...]] = MappingProxyType(
    {arm: tuple(f"{arm}_arm_joint{i}" for i in range(1, 8)) for arm in ARMS}
)
ACTION_NAMES: tuple[str, ...] = (
    *("base_vx", "base_vy", "base_wz"),
    *TRUNK_JOINTS,
    *(name for arm in ARMS for name in (*ARM_JOINTS[arm], f"{arm}_gripper")),
)
"""Names of the action's columns, in the order of `ACTION_SLICES`."""

FINGER_JOINTS: Mapping[Arm, tuple[str, str]] = MappingProxyType(
    {arm: (f"{arm}_gripper_finger_joint1", f"{arm}_gripper_finger_joint2") for arm in ARMS}
)
FINGER_SIGNS: tuple[float, float] = (1.0, -1.0)
"""Opening of finger i is FINGER_SIGNS[i] times its URDF joint value; OmniGibson counts openings."""

JOINT_ORDER: tuple[str, ...] = (
    *BASE_JOINTS,
    *TRUNK_JOINTS,
    *(name for pair in zip(ARM_JOINTS["left"], ARM_JOINTS["right"], strict=True) for name in pair),
    *FINGER_JOINTS["left"],
    *FINGER_JOINTS["right"],
)
"""The 28 joints as OmniGibson orders them: base 6, trunk 4, arms interleaved 14, fingers 4."""

RESET_JOINT_POSITION: Float64Array = _read_only(
    [0.0] * 6 + [1.025, -1.45, -0.47, 0.0] + [0.0] * 14 + [FINGER_TRAVEL] * 4
)
"""Posture after a reset, float64 [28] in JOINT_ORDER [m, rad]; fingers as openings."""

BASE_MASS = 250.0
"""Mass the evaluator gives the base link, as in data collection [kg] (the URDF says 47.63)."""

# --- Proprioception -------------------------------------------------------------------------


def _layout(*fields: tuple[str, int]) -> Mapping[str, slice]:
    slices: dict[str, slice] = {}
    start = 0
    for name, length in fields:
        slices[name] = slice(start, start + length)
        start += length
    return MappingProxyType(slices)


PROPRIO_2025: Mapping[str, slice] = _layout(
    ("joint_qpos", 28),
    ("joint_qpos_sin", 28),
    ("joint_qpos_cos", 28),
    ("joint_qvel", 28),
    ("joint_qeffort", 28),
    ("robot_pos", 3),
    ("robot_ori_cos", 3),
    ("robot_ori_sin", 3),
    ("robot_2d_ori", 1),
    ("robot_2d_ori_cos", 1),
    ("robot_2d_ori_sin", 1),
    ("robot_lin_vel", 3),
    ("robot_ang_vel", 3),
    ("arm_left_qpos", 7),
    ("arm_left_qpos_sin", 7),
    ("arm_left_qpos_cos", 7),
    ("arm_left_qvel", 7),
    ("eef_left_pos", 3),
    ("eef_left_quat", 4),
    ("gripper_left_qpos", 2),
    ("gripper_left_qvel", 2),
    ("arm_right_qpos", 7),
    ("arm_right_qpos_sin", 7),
    ("arm_right_qpos_cos", 7),
    ("arm_right_qvel", 7),
    ("eef_right_pos", 3),
    ("eef_right_quat", 4),
    ("gripper_right_qpos", 2),
    ("gripper_right_qvel", 2),
    ("trunk_qpos", 4),
    ("trunk_qvel", 4),
    ("base_qpos", 3),
    ("base_qpos_sin", 3),
    ("base_qpos_cos", 3),
    ("base_qvel", 3),
)
"""256 numbers. rad, rad/s, m, m/s; end effectors in the base frame, quaternions x, y, z, w.
`base_qvel` is the raw velocity of the virtual base joints, in the world-fixed frame."""

PROPRIO_2026: Mapping[str, slice] = _layout(
    ("base_qvel", 3),
    ("arm_left_qpos", 7),
    ("arm_left_qvel", 7),
    ("eef_left_pos", 3),
    ("eef_left_quat", 4),
    ("gripper_left_qpos", 2),
    ("gripper_left_qvel", 2),
    ("arm_right_qpos", 7),
    ("arm_right_qvel", 7),
    ("eef_right_pos", 3),
    ("eef_right_quat", 4),
    ("gripper_right_qpos", 2),
    ("gripper_right_qvel", 2),
    ("trunk_qpos", 4),
    ("trunk_qvel", 4),
)
"""61 numbers, same units; `base_qvel` is vx, vy, wz in the robot frame (v3.9.x)."""

PROPRIO_LAYOUTS: Mapping[ProtocolYear, Mapping[str, slice]] = MappingProxyType(
    {"2025": PROPRIO_2025, "2026": PROPRIO_2026}
)
PROPRIO_DIM: Mapping[ProtocolYear, int] = MappingProxyType({"2025": 256, "2026": 61})

# --- Cameras and observation keys -----------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera with square pixels and a centred principal point.

    Attributes:
        link: Robot link it is mounted on.
        size: Width and height of the native picture [px].
        focal: fx = fy at the native size [px].
        observation_key: Flattened OmniGibson key of its RGBA picture.
    """

    link: str
    size: int
    focal: float
    observation_key: str

    @property
    def depth_key(self) -> str:
        """Flattened OmniGibson key of its depth, float32 [H, W] [m], where a wrapper has it."""
        return f"{self.observation_key.removesuffix('rgb')}depth_linear"

    @property
    def intrinsics(self) -> Float64Array:
        """K at the native size, float64 [3, 3], OpenCV axes, pixel centres at half-integers."""
        centre = self.size / 2  # half the size, because pixel centres are at half-integers
        return np.array([[self.focal, 0, centre], [0, self.focal, centre], [0, 0, 1]])


_CAMERA_TABLE: tuple[tuple[View, str, int, float], ...] = (
    ("head", "zed_link", 720, 306.0),
    ("left_wrist", "left_realsense_link", 480, 388.6639),
    ("right_wrist", "right_realsense_link", 480, 388.6639),
)

CAMERAS: Mapping[View, Camera] = MappingProxyType(
    {
        view: Camera(
            link=link,
            size=size,
            focal=focal,
            observation_key=f"robot_r1::robot_r1:{link}:Camera:0::rgb",
        )
        for view, link, size, focal in _CAMERA_TABLE
    }
)

CAM_REL_POSES_ORDER: tuple[View, ...] = ("left_wrist", "right_wrist", "head")
"""Order of the 7-number blocks (position, quaternion xyzw) in `cam_rel_poses`."""

PROPRIO_KEY = "robot_r1::proprio"
CAM_REL_POSES_KEY = "robot_r1::cam_rel_poses"
TASK_ID_KEY = "task_id"

assert tuple(CAMERAS) == VIEWS

# --- The published kinematics ---------------------------------------------------------------


@cache
def kinematics() -> Mapping[str, Any]:
    """Read the URDF's figures: `links` (mass, com, inertia) and `joints` (origin, axis, limits).

    Units m, rad, kg, kg m^2, N m (N for prismatic), rad/s (m/s); rpy are fixed-axis angles.
    """
    text = resources.files("b1k_envs").joinpath("data/r1pro_kinematics.json").read_text("utf-8")
    return cast("Mapping[str, Any]", json.loads(text))


@cache
def joint_limits(names: tuple[str, ...]) -> Float64Array:
    """Return the position limits of URDF joints, float64 [len(names), 2] [rad or m], read-only."""
    by_name = {joint["name"]: joint for joint in kinematics()["joints"]}
    limits = np.array([[by_name[name]["lower"], by_name[name]["upper"]] for name in names])
    limits.setflags(write=False)
    return limits


# --- Helpers on actions ---------------------------------------------------------------------


def check_action(action: Float32Array) -> None:
    """Check that one action has the right shape and finite numbers; nothing is clipped or filled.

    Raises:
        ActionError: Not float [23], or a value is NaN or infinite.
    """
    if not isinstance(action, np.ndarray) or action.shape != (ACTION_DIM,):
        shape = list(getattr(action, "shape", ())) or type(action).__name__
        raise ActionError(f"an action must have shape [{ACTION_DIM}], got {shape}")
    if action.dtype.kind != "f":
        raise ActionError(f"an action must be floating point, got {action.dtype}")
    if not np.isfinite(action).all():
        column = int(np.argmin(np.isfinite(action)))
        raise ActionError(f"action[{column}] is {action[column]}")


def hold_action(
    proprio: Float32Array, protocol: ProtocolYear, gripper_left: float, gripper_right: float
) -> Float32Array:
    """Return the action that keeps the robot where it is: base 0, joints as they are now.

    Args:
        proprio: float32 [256] or [61] of the present state.
        protocol: Which layout `proprio` has.
        gripper_left: Last left gripper command in [-1, 1]; the position alone cannot tell it.
        gripper_right: Last right gripper command in [-1, 1].

    Returns:
        float32 [23]; not finite where the proprio is not.
    """
    layout = PROPRIO_LAYOUTS[protocol]
    action = np.zeros(ACTION_DIM, dtype=np.float32)
    for part, field in (
        ("trunk", "trunk_qpos"),
        ("arm_left", "arm_left_qpos"),
        ("arm_right", "arm_right_qpos"),
    ):
        action[ACTION_SLICES[part]] = proprio[layout[field]]
    action[ACTION_SLICES["gripper_left"]] = gripper_left
    action[ACTION_SLICES["gripper_right"]] = gripper_right
    return action


# --- Helpers on observations ----------------------------------------------------------------


def not_finite(observation: Observation) -> tuple[str, ...]:
    """Return the names of proprio fields and camera poses that hold a NaN or an infinity.

    The evaluators pass such numbers on, and so does an env; its caller reports them.
    """
    proprio, found = observation.proprio, []
    if not np.isfinite(proprio).all():
        layout = PROPRIO_LAYOUTS[observation.protocol]
        found += [name for name, part in layout.items() if not np.isfinite(proprio[part]).all()]
    if not np.isfinite(observation.cam_rel_poses).all():
        found.append("cam_rel_poses")
    poses = observation.camera_to_base
    found += [f"camera_to_base of {view}" for view in poses if not np.isfinite(poses[view]).all()]
    return tuple(found)
