"""Forward kinematics of the R1Pro from the published figures alone: the tests' second opinion.

Plain numpy on `data/r1pro_kinematics.json`; nothing of MuJoCo and nothing of the code under test
but the JSON file itself. URDF rules: a joint frame is translated by xyz and turned by rpy about
fixed axes, R = Rz(yaw) Ry(pitch) Rx(roll), then moved by the joint about or along its axis.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

FIGURES: dict[str, Any] = json.loads(
    resources.files("b1k_envs").joinpath("data/r1pro_kinematics.json").read_text("utf-8")
)
JOINTS: dict[str, dict[str, Any]] = {joint["name"]: joint for joint in FIGURES["joints"]}
LINKS: dict[str, dict[str, Any]] = FIGURES["links"]

MOVING: tuple[str, ...] = (
    *(f"torso_joint{i}" for i in range(1, 5)),
    *(f"{arm}_arm_joint{i}" for arm in ("left", "right") for i in range(1, 8)),
    *(f"{arm}_gripper_finger_joint{i}" for arm in ("left", "right") for i in (1, 2)),
)
"""The 22 joints that the evaluator moves; steering and wheels stay at 0."""

_MIRROR_AXIS = {"1": 1, "2": -1, "3": -1, "4": 1, "5": -1, "6": 1, "7": -1}


def rotation_rpy(rpy: Sequence[float]) -> np.ndarray:
    """Rz(y) Ry(p) Rx(r), float64 [3, 3]."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def rotation_axis(axis: Sequence[float], angle: float) -> np.ndarray:
    """Rodrigues' formula for a unit axis, float64 [3, 3]."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def rotation_xyzw(quaternion: Sequence[float]) -> np.ndarray:
    """Rotation matrix of a quaternion x, y, z, w, float64 [3, 3]."""
    x, y, z, w = np.asarray(quaternion, dtype=np.float64) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def pose(rotation: np.ndarray, position: Sequence[float]) -> np.ndarray:
    """Homogeneous matrix, float64 [4, 4]."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, position
    return matrix


def base_pose(base: Sequence[float]) -> np.ndarray:
    """World pose of the base from x, y [m] and yaw [rad]; the floor is its z = 0."""
    x, y, yaw = base
    return pose(rotation_axis((0, 0, 1), yaw), (x, y, 0))


def link_poses(
    joints: Mapping[str, float], base: Sequence[float] = (0.0, 0.0, 0.0)
) -> dict[str, np.ndarray]:
    """Pose of every link, float64 [4, 4], in the frame in which `base` is given.

    Args:
        joints: URDF joint values [rad or m]; joints that are not named stay at 0.
        base: x, y [m] and yaw [rad] of base_link; by default poses are in the base frame.
    """
    poses = {"base_link": base_pose(base)}
    for name, joint in JOINTS.items():
        value = joints.get(name, 0.0)
        moved = np.eye(4)
        if joint["type"] == "prismatic":
            moved[:3, 3] = value * np.array(joint["axis"])
        elif joint["type"] != "fixed":
            moved[:3, :3] = rotation_axis(joint["axis"], value)
        origin = pose(rotation_rpy(joint["rpy"]), joint["xyz"])
        poses[joint["child"]] = poses[joint["parent"]] @ origin @ moved
    return poses


def random_joints(random: np.random.Generator) -> dict[str, float]:
    """All 22 joints anywhere within their limits."""
    return {name: random.uniform(JOINTS[name]["lower"], JOINTS[name]["upper"]) for name in MOVING}


def mirrored(joints: Mapping[str, float]) -> dict[str, float]:
    """The posture as a mirror in the base's x-z plane shows it: left and right change places."""
    other = {"left": "right", "right": "left"}
    result = {}
    for name, value in joints.items():
        side, _, rest = name.partition("_")
        if side not in other:
            result[name] = -value if name == "torso_joint4" else value
        elif "finger" in name:  # finger 1 is on +y of either hand, so the fingers swap too
            twin = rest.replace("joint1", "joint!").replace("joint2", "joint1")
            result[f"{other[side]}_{twin.replace('joint!', 'joint2')}"] = -value
        else:
            result[f"{other[side]}_{rest}"] = _MIRROR_AXIS[name[-1]] * value
    return result
