"""The R1Pro by the names that GR00T's BEHAVIOR checkpoints know it by.

Source: NVIDIA/Isaac-GR00T, `gr00t/eval/sim/BEHAVIOR/behavior_env.py`@97187792: names of state,
action and cameras, pictures of 256 px, the sentence of a task. The 2025 evaluator's 256 numbers
have the same names; that evaluator's 258 have `grasp_left` and `grasp_right` besides, which the
checkpoint does not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from b1k_envs.base import VIEWS, View
from b1k_envs.r1pro import ACTION_SLICES, PROPRIO_2025
from b1k_envs.tasks.table import TASKS, Task

PICTURE_SIZE = 256
"""Size of the pictures of the published checkpoint [px]."""
CHUNK_LENGTH = 32
"""Rows of its chunks."""
HORIZON = 8
"""Rows of a chunk that its evaluator executes."""

STATES: tuple[str, ...] = (
    "robot_pos", "robot_ori_cos", "robot_ori_sin", "robot_2d_ori", "robot_2d_ori_cos",
    "robot_2d_ori_sin", "robot_lin_vel", "robot_ang_vel",
    "arm_left_qpos", "arm_left_qpos_sin", "arm_left_qpos_cos", "eef_left_pos", "eef_left_quat",
    "gripper_left_qpos",
    "arm_right_qpos", "arm_right_qpos_sin", "arm_right_qpos_cos", "eef_right_pos",
    "eef_right_quat", "gripper_right_qpos",
    "trunk_qpos",
)  # fmt: skip
"""What the published checkpoint reads of the state: 82 numbers, the pose in the house included."""

CAMERA_POSES = "cam_rel_poses"
"""Ours: name in the state of float32 [21] as in `Observation`, for policies that read it."""
CAMERA_POSES_DIM = 21

ACTIONS: Mapping[str, slice] = MappingProxyType(
    {
        "base": ACTION_SLICES["base"],
        "torso": ACTION_SLICES["trunk"],
        "left_arm": ACTION_SLICES["arm_left"],
        "left_gripper": ACTION_SLICES["gripper_left"],
        "right_arm": ACTION_SLICES["arm_right"],
        "right_gripper": ACTION_SLICES["gripper_right"],
    }
)
"""Parts of an action, with their columns of the 23; absolute, as executed."""

LANGUAGE = "annotation.human.coarse_action"
"""Key of the sentence, in flat and in nested observations."""

_PICTURE = re.compile(r"observation\.images\.rgb\.(\w+?)_(\d{1,4})_(\d{1,4})")


def picture_key(view: View, size: int = PICTURE_SIZE) -> str:
    """Return the name of a camera's picture."""
    return f"observation.images.rgb.{view}_{size}_{size}"


def read_picture_key(key: str) -> tuple[View, int] | None:
    """Return camera and size [px] of a picture's name; None if it is of none of the cameras."""
    found = _PICTURE.fullmatch(key)
    if found is None or found[2] != found[3] or int(found[2]) < 1:
        return None
    return next(((view, int(found[2])) for view in VIEWS if view == found[1]), None)


def sentence(task: Task) -> str:
    """Return the sentence for a task, as in `Turning on radio.`: all else is in small letters."""
    return task.name.replace("_", " ").capitalize() + "."


def task_of(text: str) -> Task | None:
    """Return the task that a sentence is of; None for any other text."""
    return _BY_SENTENCE.get(text.strip().rstrip(".").casefold())


def state_dim(name: str) -> int | None:
    """Return how many numbers a state of this name has; None for an unknown name."""
    if name == CAMERA_POSES:
        return CAMERA_POSES_DIM
    part = PROPRIO_2025.get(name)
    return None if part is None else part.stop - part.start


_BY_SENTENCE: Mapping[str, Task] = MappingProxyType(
    {sentence(task).rstrip(".").casefold(): task for task in TASKS}
)
