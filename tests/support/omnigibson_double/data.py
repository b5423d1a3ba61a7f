"""Writes a data folder as the download would leave it, with instances made from the twin's own.

`<folder>/datasets` is what OMNIGIBSON_DATA_PATH points at; `<folder>/joylo` stands beside it as in
the repository. Index i of a split is the twin's instance i of that split, at rest.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from b1k_envs.base import ProtocolYear, Split
from b1k_envs.mujoco_twin.robot.body import MODELLED_BASE_JOINTS
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.states import DUST_PARTICLES
from b1k_envs.tasks.table import TASKS
from omnigibson_double.names import NAMES, SCENE_MODEL, TASK_ROOMS
from omnigibson_double.world import SEED_INSTANCE, TASK, twin

PUBLIC_IDS_2025 = (242, 15, 188, 7, 93, 120, 201, 54, 177, 66)
"""Ids of the ten public test instances, in the order of the csv; made up, and not sorted."""

TEST_IDS_2026: Mapping[Split, range] = {
    "public-test": range(301, 321),
    "hidden-test": range(321, 341),
}
TRAIN_IDS = (1, 2, 4)
"""Training instances that get a file; their number within the twin's training split, too."""

HIDDEN_IDS_2025 = range(10)
HUMAN_STATS = {
    "length": 8235.0,
    "distance_traveled": 28.6,
    "left_eef_displacement": 61.5,
    "right_eef_displacement": 70.25,
}
"""Means of task 31; the hands' are made up."""

_FOR_FILES = -1  # a twin of its own: the scenes of a running environment are not disturbed

ASSETS_VERSION: Mapping[ProtocolYear, str] = {"2025": "3.7.2", "2026": "3.9.3"}


def write_data_folder(
    folder: Path,
    generation: ProtocolYear,
    *,
    assets_version: str | None = None,
    instances: Sequence[int] | None = None,
    human: Mapping[str, float] = HUMAN_STATS,
) -> Path:
    """Write everything task 31 needs.

    Args:
        folder: Where to.
        generation: Whose layout.
        assets_version: Content of the VERSION files; the generation's own if None.
        instances: Indices of the test splits that get a file; all if None.
        human: Means of task 31; a short length makes short episodes.

    Returns:
        The folder for OMNIGIBSON_DATA_PATH.
    """
    data = folder / "datasets"
    version = assets_version or ASSETS_VERSION[generation]
    for name in ("behavior-1k-assets", "omnigibson-robot-assets"):
        _write(data / name / "VERSION", version + "\n")
    (data / "behavior-1k-assets" / "scenes" / SCENE_MODEL).mkdir(parents=True)
    _write_available_tasks(folder / "joylo" / "sampled_task" / "available_tasks.yaml", generation)
    root = data / f"{generation}-challenge-task-instances"
    if generation == "2025":
        _write_metadata_2025(root / "metadata", human)
        places = _places_2025(data, root)
    else:
        _write_metadata_2026(root / "metadata", human)
        places = _places_2026(root)
    for split, number, path in places:
        if split == "train" or instances is None or number in instances:
            _write(path, json.dumps(instance_state(generation, split, number)))
    return data


def instance_file_name(instance_id: int) -> str:
    """File name of an instance by its official id."""
    return f"{SCENE_MODEL}_task_{TASK.name}_0_{instance_id}_template-tro_state.json"


def instance_state(generation: ProtocolYear, split: Split, number: int) -> dict[str, Any]:
    """Content of an instance file: dumped states by BDDL instance, and `robot_poses`."""
    env = twin(generation, _FOR_FILES)
    env._split = split
    env.reset(number, 0, 0)
    data, model = env._data, env._model
    state: dict[str, Any] = {}
    for instance, body in layout.BDDL_BODIES.items():
        found = data.body(body)
        state[instance] = _object_state(found.xpos, found.xquat)
    state["washer.n.03_1"] |= {
        "joint_pos": [0.0],
        "joint_vel": [0.0],
        "non_kin": {"ToggledOn": {"value": False, "hand_in_marker_steps": 0}},
    }
    state["floor.n.01_1"] = _object_state(np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]))
    gloves = [name for name, body in layout.BDDL_BODIES.items() if body in layout.GLOVES]
    state["dust.n.01_1"] = {
        "n_particles": DUST_PARTICLES * len(gloves),
        "groups": {NAMES[glove]: DUST_PARTICLES for glove in gloves},
    }
    x, y, yaw = (float(data.qpos[model.joint(n).qposadr[0]]) for n in MODELLED_BASE_JOINTS)
    first = {"position": [x, y, 0.0], "orientation": _turn(yaw)}
    second = {"position": [x - 0.5, y, 0.0], "orientation": _turn(yaw + 1.0)}  # never the one used
    state["robot_poses"] = {"R1Pro" if generation == "2025" else "r1pro": [first, second]}
    return state


def _object_state(pos: np.ndarray, quat: np.ndarray) -> dict[str, Any]:
    root = {
        "pos": [float(v) for v in pos],
        "ori": [float(v) for v in quat[[1, 2, 3, 0]]],
        "lin_vel": [0.0, 0.0, 0.0],
        "ang_vel": [0.0, 0.0, 0.0],
    }
    return {"root_link": root, "non_kin": {}}


def _turn(yaw: float) -> list[float]:
    return [0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)]


def _places_2025(data: Path, root: Path) -> Iterable[tuple[Split, int, Path]]:
    scenes = root / "scenes" / SCENE_MODEL / "json" / f"{SCENE_MODEL}_task_{TASK.name}_instances"
    for index, instance_id in enumerate(PUBLIC_IDS_2025):
        yield "public-test", index, scenes / instance_file_name(instance_id)
    for instance_id in TRAIN_IDS:
        yield "train", instance_id, scenes / instance_file_name(instance_id)
    hidden = data / "2025-challenge-test-instances" / TASK.name
    for instance_id in HIDDEN_IDS_2025:
        yield "hidden-test", instance_id, hidden / instance_file_name(instance_id)


def _places_2026(root: Path) -> Iterable[tuple[Split, int, Path]]:
    inside = Path(SCENE_MODEL) / "json" / f"{SCENE_MODEL}_task_{TASK.name}_instances"
    for instance_id in TRAIN_IDS:
        yield "train", instance_id, root / "scenes" / inside / instance_file_name(instance_id)
    for split, folder in (("public-test", "public"), ("hidden-test", "private")):
        for index, instance_id in enumerate(TEST_IDS_2026[split]):  # type: ignore[index]
            place = root / "scene_test" / folder / inside / instance_file_name(instance_id)
            yield split, index, place  # type: ignore[misc]


def _write_available_tasks(path: Path, generation: ProtocolYear) -> None:
    env = twin(generation, _FOR_FILES)
    env._split = "train"
    env.reset(SEED_INSTANCE, 0, 0)
    x, y, yaw = (
        float(env._data.qpos[env._model.joint(n).qposadr[0]]) for n in MODELLED_BASE_JOINTS
    )
    rooms = f"  load_room_instances: [{', '.join(TASK_ROOMS)}]\n" if generation == "2026" else ""
    _write(
        path,
        "turning_on_radio:\n- scene_model: house_double_floor_lower\n"
        "  robot_start_position: [1.0, 2.0, 0.0]\n"
        "  robot_start_orientation: [0.0, 0.0, 0.0, 1.0]\n"
        f"{TASK.name}:\n- scene_model: {SCENE_MODEL}\n"
        f"  robot_start_position: {[x, y, 0.0]}\n"
        f"  robot_start_orientation: {_turn(yaw)}\n{rooms}",
    )


def _write_metadata_2025(folder: Path, human: Mapping[str, float]) -> None:
    folder.mkdir(parents=True)
    with (folder / "test_instances.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Task ID", "Task", "Test Instance IDs"])
        for task in TASKS[:50]:
            ids = PUBLIC_IDS_2025 if task == TASK else [(task.index + 3 * i) for i in range(10)]
            writer.writerow([task.index, task.name, ", ".join(map(str, ids))])
    rows = []
    for task, stats in ((TASKS[0], {key: 1.5 for key in human}), (TASK, human)):
        spread = np.linspace(0.9, 1.1, len(TRAIN_IDS))  # their mean is what counts
        for instance_id, share in zip(TRAIN_IDS, spread, strict=True):
            index = task.index * 10_000 + instance_id * 10
            figures = {key: value * float(share) for key, value in stats.items()}
            rows.append({"episode_index": index, "tasks": [task.name], **figures})
    _write(folder / "episodes.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _write_metadata_2026(folder: Path, human: Mapping[str, float]) -> None:
    folder.mkdir(parents=True)
    with (folder / "B100_task_misc.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Task", "Task ID", "Rooms to inlcude"])
        for task in TASKS:
            rooms = TASK_ROOMS if task == TASK else [f"{room}_0" for room in task.rooms]
            writer.writerow([task.name, task.index, "\n".join(rooms)])
    rows = [
        {"task_index": task.index, "task_name": task.name, **stats}
        for task, stats in ((TASKS[0], {key: 1.5 for key in human}), (TASK, human))
    ]
    _write(folder / "task.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
