"""The official evaluators' config and their loading of an instance, for the double's own tests.

Written from the public evaluators: 2025 `OmniGibson/omnigibson/learning/eval.py`, 2026
`OmniGibson/omnigibson/eval/evaluator.py` and `eval/r1pro.yaml`. The adapter's tests must not use
it: there the adapter's own config and loading are on trial.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b1k_envs import r1pro
from omnigibson_double.data import instance_file_name
from omnigibson_double.names import SCENE_MODEL
from omnigibson_double.world import TASK

if TYPE_CHECKING:
    from omnigibson_double.fixtures import Installed


def official_config(
    installed: Installed, *, max_steps: int = 5000, num_envs: int = 1, size: int | None = None
) -> dict[str, Any]:
    """The config; `size` is that of all cameras at creation, native if None."""
    import yaml

    tasks = installed.folder / "joylo" / "sampled_task" / "available_tasks.yaml"
    entry = yaml.safe_load(tasks.read_text())[TASK.name][0]
    new = installed.generation == "2026"
    arm = {
        "name": "JointController",
        "motor_type": "position",
        "pos_kp": 150,
        "command_input_limits": None,
        "command_output_limits": None,
        "use_delta_commands": False,
        "use_impedances": False,
    }
    gripper = {
        "name": "MultiFingerGripperController",
        "mode": "smooth",
        "command_input_limits": "default",
        "command_output_limits": "default",
    }
    base = {
        "name": "HolonomicBaseJointController",
        "motor_type": "velocity",
        "vel_kp": 150,
        "command_input_limits": [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]],
        "command_output_limits": [[-0.75, -0.75, -1.0], [0.75, 0.75, 1.0]],
        "use_impedances": False,
    }
    cameras: dict[str, Any] = {
        "VisionSensor": {"sensor_kwargs": {"image_height": size or 720, "image_width": size or 720}}
    }
    if new and size is None:
        for camera in r1pro.CAMERAS.values():
            kwargs = {"image_height": camera.size, "image_width": camera.size}
            cameras[f"{camera.link}:Camera:0"] = {"sensor_kwargs": kwargs}
    robot = {
        **({"model": "r1pro"} if new else {"type": "R1Pro"}),
        "name": "robot_r1",
        "action_normalize": False,
        "self_collisions": True,
        "grasping_mode": "assisted",
        "obs_modalities": ["proprio", "rgb"],
        "proprio_obs": list(r1pro.PROPRIO_LAYOUTS[installed.generation]),
        "position": entry["robot_start_position"],
        "orientation": entry["robot_start_orientation"],
        "sensor_config": cameras,
        "reset_joint_pos": r1pro.RESET_JOINT_POSITION.tolist(),
        "controller_config": {
            "arm_left": arm,
            "arm_right": arm,
            "trunk": arm,
            "gripper_left": gripper,
            "gripper_right": gripper,
            "base": base,
            "camera": {"name": "NullJointController"},
        },
    }
    return {
        "env": {
            "action_frequency": 30,
            "rendering_frequency": 30,
            "physics_frequency": 120,
            **({"num_envs": num_envs} if new else {}),
        },
        "scene": {"type": "InteractiveTraversableScene", "scene_model": entry["scene_model"]},
        "task": {
            "type": "BehaviorTask",
            "activity_name": TASK.name,
            "activity_definition_id": 0,
            "activity_instance_id": 0,
            "online_object_sampling": False,
            "termination_config": {"max_steps": max_steps},
            "reward_config": {"r_potential": 1.0},
            "include_obs": False,
        },
        "robots": [robot],
    }


def heavy_and_wide(env: Any) -> None:
    """Base mass 250 kg and head aperture 40 mm, as the evaluators set them."""
    import omnigibson as og

    robots = env.robots if og.__version__.startswith("3.7") else [row[0] for row in env.robots]
    og.sim.stop()
    for robot in robots:
        robot.base_footprint_link.mass = 250.0
    og.sim.play()
    for robot in robots:
        robot.sensors["robot_r1:zed_link:Camera:0"].horizontal_aperture = 40.0
    if not og.__version__.startswith("3.7"):
        og.sim.update_handles()


def instance_path(installed: Installed, instance_id: int) -> Path:
    """File of a public test instance by its official id."""
    name = instance_file_name(instance_id)
    inside = Path(SCENE_MODEL) / "json" / f"{SCENE_MODEL}_task_{TASK.name}_instances" / name
    root = installed.data / f"{installed.generation}-challenge-task-instances"
    return root / ("scenes" if installed.generation == "2025" else "scene_test/public") / inside


def load_2025(installed: Installed, env: Any, instance_id: int) -> None:
    """`load_task_instance`, between the two resets of the evaluator."""
    import omnigibson as og
    from omnigibson.utils.python_utils import recursively_convert_to_torch

    states = json.loads(instance_path(installed, instance_id).read_text())
    for key, state in recursively_convert_to_torch(states).items():
        if key == "robot_poses":
            pose = state["R1Pro"][0]
            env.robots[0].set_position_orientation(pose["position"], pose["orientation"])
            env.scene.write_task_metadata(key=key, data=state)
        else:
            env.task.object_scope[key].load_state(state, serialized=False)
    for _ in range(25):
        og.sim.step_physics()
        for entity in env.task.object_scope.values():
            if not entity.is_system and entity.exists:
                entity.keep_still()
    env.scene.update_initial_file()
    env.scene.reset()


def load_2026(
    installed: Installed, env: Any, instance_ids: list[int], *, shift: bool = True
) -> Any:
    """`load_batch`: one instance per env; without `shift` scene offsets are forgotten."""
    import omnigibson as og
    from omnigibson.utils.bddl_utils import is_system_bddl_inst
    from omnigibson.utils.python_utils import recursively_convert_to_torch

    for index, instance_id in enumerate(instance_ids):
        scene = env.scenes[index]
        robot = scene.robots[0]
        robot.reset()
        states = json.loads(instance_path(installed, instance_id).read_text())
        for key, state in recursively_convert_to_torch(states).items():
            if key == "robot_poses":
                pose = state["r1pro"][0]
                robot.set_position_orientation(pose["position"], pose["orientation"], frame="scene")
                scene.write_task_metadata(key=key, data=state)
                continue
            if shift and index and "root_link" in state:
                offset = scene._scene_prim.get_position_orientation()[0]
                state["root_link"]["pos"] = state["root_link"]["pos"] + offset
            env.task.object_scopes[index][key].load_state(state, serialized=False)
        og.sim.update_handles()
    for _ in range(25):
        og.sim.step_physics()
        for scope in env.task.object_scopes:
            for name, entity in scope.items():
                if not is_system_bddl_inst(name) and entity is not None:
                    entity.keep_still()
    for scene in env.scenes:
        scene.update_initial_file()
    return env.reset(env_indices=range(len(instance_ids)))
