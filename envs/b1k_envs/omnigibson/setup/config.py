"""The config of `og.Environment`, with every key as the official evaluators write it.

Sources, repository StanfordVL/BEHAVIOR-1K, under `OmniGibson/omnigibson/`:
`generate_basic_environment_config` in `learning/utils/eval_utils.py`@031729c4 (2025) and
`eval/utils/eval_utils.py` (2026); `Evaluator.load_env` in `learning/eval.py`@4c1184a6 and
`BatchedEvaluator.load_env` in `eval/evaluator.py` of the v3.9.3 era; the robot from
`generate_robot_config` in joylo's `og_teleop_utils.py` (2025) and `eval/r1pro.yaml`@c71025ad
(2026), whose values agree. `learning/configs/robot/r1pro.yaml`, which 2025 merges in, leaves
`controllers` empty in the public copies.

Where the evaluators leave a choice: cameras record `rgb`, with `depth_linear` only where that is
asked for, and have the size of data collection (720 head, 480 wrists), as `DefaultWrapper` (2025)
and `RGBDFullResWrapper` (2026) set it, both of which always record depth. There is no option for
the 224 px of `RGBLowResWrapper`, the 2025 default: intrinsics, the resizing that a contract
prescribes, remote policies and videos all start from the full size, and a policy that wants 224 px
gets them by resizing the full picture. In 2026 the size is in this config, because tiled cameras
cannot be resized later; in 2025 `preparation` sets it.
"""

from __future__ import annotations

from typing import Any

from b1k_envs.errors import UsageError
from b1k_envs.omnigibson.observations import DEPTH
from b1k_envs.omnigibson.setup.data import TaskData
from b1k_envs.omnigibson.setup.generation import (
    ACTION_HZ,
    PHYSICS_HZ,
    RENDERING_HZ,
    ROBOT_NAME,
    Generation,
)
from b1k_envs.omnigibson.setup.rooms import scene_rooms
from b1k_envs.r1pro import ARMS, BASE_VELOCITY_LIMIT, CAMERAS, PROPRIO_LAYOUTS, RESET_JOINT_POSITION
from b1k_envs.tasks.table import Task

CREATION_SIZE = 1080
"""Edge of a camera's picture where the config sets no other [px]."""

GAIN = 150
"""Position gain of arms and trunk, velocity gain of the base."""


def build_config(
    generation: Generation,
    task: Task,
    data: TaskData,
    *,
    num_envs: int = 1,
    max_steps: int,
    depth: bool = False,
    partial_scene: bool = False,
) -> dict[str, Any]:
    """Build the config of one task from JSON values.

    Args:
        generation: The generation whose config it is.
        task: The task.
        data: Its data.
        num_envs: Scenes in the one simulator; more than one in 2026 only.
        max_steps: Limit of the termination condition `timeout` [control steps].
        depth: Whether the cameras also give depth.
        partial_scene: See `rooms.scene_rooms`.

    Raises:
        UsageError: More envs than the generation can have, or a limit below 1.
        UnavailableError: The table of rooms or the bddl package is missing.
    """
    if num_envs < 1 or (num_envs > 1 and not generation.vectorised):
        raise UsageError(
            f"{num_envs} envs in one simulator: {generation.tag} has "
            f"{'1 or more' if generation.vectorised else 'exactly 1'}"
        )
    if max_steps < 1:
        raise UsageError(f"a time limit of {max_steps} steps: expected 1 or more")
    env: dict[str, Any] = {
        "action_frequency": ACTION_HZ,
        "rendering_frequency": RENDERING_HZ,
        "physics_frequency": PHYSICS_HZ,
    }
    activity: dict[str, Any] = {
        "type": "BehaviorTask",
        "activity_name": task.name,
        "activity_definition_id": 0,
        "activity_instance_id": 0,
        "online_object_sampling": False,
        "debug_object_sampling": False,
        "highlight_task_relevant_objects": False,
        "termination_config": {"max_steps": max_steps},
        "reward_config": {"r_potential": 1.0},
        "include_obs": False,
    }
    if generation.vectorised:
        env["num_envs"] = num_envs
    else:
        activity["predefined_problem"] = None  # a key that only the 2025 evaluator writes
    return {
        "env": env,
        "scene": {
            "type": "InteractiveTraversableScene",
            "scene_model": data.entry.scene_model,
            **scene_rooms(generation, data, partial=partial_scene),
            "include_robots": False,
        },
        "task": activity,
        "robots": [
            {
                **robot_config(generation, depth=depth),
                "position": list(data.entry.robot_start_position),
                "orientation": list(data.entry.robot_start_orientation),
            }
        ],
    }


def robot_config(generation: Generation, *, depth: bool = False) -> dict[str, Any]:
    """Build the robot's part of the config, without the start pose, which belongs to the task."""
    return {
        **generation.robot,
        "name": ROBOT_NAME,
        "action_normalize": False,
        "self_collisions": True,
        "grasping_mode": "assisted",
        "obs_modalities": ["proprio", "rgb", *([DEPTH] if depth else [])],
        "proprio_obs": list(PROPRIO_LAYOUTS[generation.protocol]),
        "reset_joint_pos": RESET_JOINT_POSITION.tolist(),
        "sensor_config": _sensors(generation),
        "controller_config": _controllers(),
    }


def _sensors(generation: Generation) -> dict[str, Any]:
    """Build the camera sizes; an entry of a link overrides that of the class."""

    def size(pixels: int) -> dict[str, Any]:
        return {"sensor_kwargs": {"image_height": pixels, "image_width": pixels}}

    # Tiled cameras of 2026 cannot be resized later; in 2025 `preparation` sets the sizes.
    sensors = {"VisionSensor": size(CREATION_SIZE)}
    if generation.vectorised:
        sensors |= {f"{camera.link}:Camera:0": size(camera.size) for camera in CAMERAS.values()}
    return sensors


def _controllers() -> dict[str, Any]:
    """Build the controllers of each part; the camera's adds no action dimension."""
    joints: dict[str, Any] = {
        "name": "JointController",
        "motor_type": "position",
        "pos_kp": GAIN,
        "command_input_limits": None,
        "command_output_limits": None,
        "use_impedances": False,
        "use_delta_commands": False,
    }
    gripper: dict[str, Any] = {
        "name": "MultiFingerGripperController",
        "mode": "smooth",
        "command_input_limits": "default",
        "command_output_limits": "default",
    }
    limit = BASE_VELOCITY_LIMIT.tolist()
    base: dict[str, Any] = {
        "name": "HolonomicBaseJointController",
        "motor_type": "velocity",
        "vel_kp": GAIN,
        "command_input_limits": [[-1.0] * 3, [1.0] * 3],
        "command_output_limits": [[-value for value in limit], limit],
        "use_impedances": False,
    }
    return {
        **{f"arm_{arm}": dict(joints) for arm in ARMS},
        **{f"gripper_{arm}": dict(gripper) for arm in ARMS},
        "base": base,
        "trunk": dict(joints),
        "camera": {"name": "NullJointController"},
    }
