"""Loading of numbered instances into a running environment, in the evaluator's order.

Mirrors `Evaluator.load_task_instance` with the resets around it in `OmniGibson/omnigibson/learning/
eval.py`@4c1184a6 (2025), and `BatchedEvaluator.load_batch` in `eval/evaluator.py` of the v3.9.3 era
(2026), repository StanfordVL/BEHAVIOR-1K. An instance file moves only the task's objects and the
robot's base; joints, and whatever a hand holds, keep their state. So the world is reset first;
otherwise the snapshot that every later reset restores would contain the end of another episode.
v3.9.3 resets only the robot there, because it loads one batch in a process. We load many, so the
scene is reset as well, without a step.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b1k_envs.errors import EnvError, UsageError
from b1k_envs.omnigibson.setup.application import Application
from b1k_envs.omnigibson.setup.data import TaskData
from b1k_envs.omnigibson.setup.generation import Generation
from b1k_envs.omnigibson.setup.preparation import robots_of

SETTLE_STEPS = 25
"""Physics steps after loading, which makes things jump; they are held still after each step."""

_ROBOT_POSES = "robot_poses"


@dataclass(frozen=True, kw_only=True)
class _Instance:
    """An instance file: states by BDDL name, with lists as float32 tensors, and the pose's key."""

    state: Mapping[str, Any]
    pose_key: str


def load_instances(
    application: Application,
    generation: Generation,
    env: Any,  # noqa: ANN401 - an object of OmniGibson
    data: TaskData,
    instances: Mapping[int, int],
) -> dict[int, dict[str, Any]]:
    """Load instances and leave the environment as after the evaluator's last reset.

    Args:
        application: The application that the environment belongs to.
        generation: The generation whose order is followed.
        env: A prepared `omnigibson.Environment`.
        data: The task's data.
        instances: For each env index, the index of the instance within the split.

    Returns:
        For each env index what was loaded, JSON values: `instance_id`, `file`, `pose_key`.

    Raises:
        UsageError: An index is outside the split, or an env does not exist.
        UnavailableError: An instance file is missing.
        EnvError: A file does not fit the scene.
    """
    count = len(robots_of(generation, env))
    absent = [index for index in instances if not 0 <= index < count]
    if absent or not instances:
        raise UsageError(
            f"instances for the envs {sorted(instances)}: there are envs 0-{count - 1}"
        )
    loaded: dict[int, dict[str, Any]] = {}
    read: dict[int, _Instance] = {}
    for index in sorted(instances):
        file = data.instance_file(instances[index])
        read[index] = _read(file, generation)
        loaded[index] = {
            "instance_id": data.instance_id(instances[index]),
            "file": str(file),
            "pose_key": read[index].pose_key,
        }
    if generation.vectorised:
        _load_2026(application, env, generation, read)
    else:
        _load_2025(application, env, generation, read[0])
    return loaded


def _load_2025(
    application: Application,
    env: Any,  # noqa: ANN401 - an object of OmniGibson
    generation: Generation,
    instance: _Instance,
) -> None:
    env.reset()
    scope = env.task.object_scope
    _apply(instance, generation, env.robots[0], env.scene, scope, offset=None)
    for _ in range(SETTLE_STEPS):
        application.og.sim.step_physics()
        for entity in scope.values():
            if not entity.is_system and entity.exists:
                entity.keep_still()
    env.scene.update_initial_file()
    env.scene.reset()
    env.reset()  # without it the first picture and the start of q would be of the world before


def _load_2026(
    application: Application,
    env: Any,  # noqa: ANN401 - an object of OmniGibson
    generation: Generation,
    instances: Mapping[int, _Instance],
) -> None:
    sim = application.og.sim
    torch = importlib.import_module("torch")
    indices = torch.tensor(sorted(instances), dtype=torch.long)
    env.reset(env_indices=indices, get_obs=False)
    scopes = env.task.object_scopes
    for index, instance in instances.items():
        scene, robot = env.scenes[index], env.robots[index][0]
        robot.reset()
        offset = scene._scene_prim.get_position_orientation()[0] if index else None
        _apply(instance, generation, robot, scene, scopes[index], offset=offset)
        sim.update_handles()
    is_system = importlib.import_module("omnigibson.utils.bddl_utils").is_system_bddl_inst
    for _ in range(SETTLE_STEPS):
        sim.step_physics()
        for index in instances:
            for name, entity in scopes[index].items():
                if entity is not None and not is_system(name):
                    entity.keep_still()
    for index in instances:
        env.scenes[index].update_initial_file()
    env.reset(env_indices=indices)


def _apply(
    instance: _Instance,
    generation: Generation,
    robot: Any,  # noqa: ANN401 - objects of OmniGibson
    scene: Any,  # noqa: ANN401
    scope: Mapping[str, Any],
    *,
    offset: Any,  # noqa: ANN401 - a tensor [3]
) -> None:
    """Write one instance into one scene.

    Files use the frame of their scene. Objects are loaded in the world frame, where scene i > 0
    stands at `offset`; the robot takes its pose in the generation's frame.
    """
    for name, value in instance.state.items():
        if name == _ROBOT_POSES:
            pose = _poses(value, generation)[instance.pose_key][0]
            frame = {"frame": "scene"} if generation.pose_frame == "scene" else {}
            robot.set_position_orientation(pose["position"], pose["orientation"], **frame)
            scene.write_task_metadata(key=name, data=value)  # every reset reads it from there
            continue
        # Scene 0 stands at the world's origin, and only a state with a root link has a place.
        if offset is not None and isinstance(value, dict) and "root_link" in value:
            value["root_link"]["pos"] = value["root_link"]["pos"] + offset
        entity = scope.get(name)
        if entity is None:
            raise EnvError(
                f"the instance has a state of {name}, which this scene does not: data and "
                f"simulator are not of one version; the scene has {', '.join(sorted(scope))}"
            )
        entity.load_state(value, serialized=False)


def _read(file: Path, generation: Generation) -> _Instance:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EnvError(f"cannot read the instance file {file}: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get(_ROBOT_POSES), dict):
        raise EnvError(f"{file} is no instance file: expected an object with {_ROBOT_POSES!r}")
    poses = _poses(content[_ROBOT_POSES], generation)
    key = next((key for key in generation.pose_keys if poses.get(key)), None)
    if key is None:
        raise EnvError(
            f"{file} has no pose of this robot: expected {' or '.join(generation.pose_keys)} in "
            f"{_ROBOT_POSES!r}, found {', '.join(content[_ROBOT_POSES])}"
        )
    convert = importlib.import_module("omnigibson.utils.python_utils").recursively_convert_to_torch
    return _Instance(state=convert(content), pose_key=key)


def _poses(value: Mapping[str, Any], generation: Generation) -> dict[str, Any]:
    return {key.lower() if generation.lower_pose_keys else key: each for key, each in value.items()}
