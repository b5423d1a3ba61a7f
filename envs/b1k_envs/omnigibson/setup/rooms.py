"""The rooms of the scene that are loaded, chosen as that year's evaluator does.

2025 loads the whole house: `partial_scene_load` is false in `learning/configs/base_config.yaml` of
v3.7.2, and the organisers' own runs left it so. On request rooms are loaded by type: the types in
the `inroom` facts of the BDDL problem and the rooms they depend on, from
`get_task_relevant_room_types` and `augment_rooms` with their tables in
`joylo/gello/robots/sim_robot/og_teleop_{utils,cfg}.py`. 2026 (from v3.9.2 on) always loads a part,
by room instance, from a table in the data: `_load_challenge_task_misc` in
`OmniGibson/omnigibson/eval/utils/eval_utils.py`. All in StanfordVL/BEHAVIOR-1K.
"""

from __future__ import annotations

import csv
import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from b1k_envs.errors import UnavailableError
from b1k_envs.omnigibson.setup.data import DOWNLOADS, TaskData, missing
from b1k_envs.omnigibson.setup.generation import Generation
from b1k_envs.tasks.table import Task

DEPENDENCIES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "house_single_floor": {
            "dining_room": ("kitchen", "living_room"),
            "kitchen": ("living_room", "dining_room"),
            "living_room": ("kitchen", "dining_room"),
        },
        "house_double_floor_lower": {
            "kitchen": ("living_room", "corridor"),
            "living_room": ("kitchen", "corridor"),
            "garage": ("corridor",),
        },
        "house_double_floor_upper": {},
    }
)
"""For each scene, the room types that a room type adds; what they would add is not followed."""

EXTRA_ROOMS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"chopping_wood": {"house_double_floor_lower": ("garage",)}}
)
"""For each task and scene, room types that are added last."""

_COLUMN = "Rooms to inlcude"  # spelt so in the file
_INROOM = re.compile(r"\(\s*inroom\s+\S+\s+([^\s()]+)\s*\)")


def scene_rooms(
    generation: Generation, data: TaskData, *, partial: bool
) -> dict[str, list[str] | None]:
    """Return the two room keys of the scene config.

    Args:
        generation: The generation whose rule applies.
        data: The task's data.
        partial: Whether to load only the rooms of the task in 2025; 2026 has no choice.

    Raises:
        UnavailableError: The bddl package or the table of rooms is missing, or does not fit.
    """
    entry = data.entry.load_room_instances
    if generation.protocol == "2026":
        return {"load_room_types": None, "load_room_instances": room_instances(data)}
    return {
        "load_room_types": room_types(data.task, data.entry.scene_model) if partial else None,
        "load_room_instances": list(entry) if entry else None,
    }


def room_types(task: Task, scene_model: str) -> list[str]:
    """Return the room types of a task, sorted (2025; the evaluator's order is arbitrary).

    Raises:
        UnavailableError: No bddl package, no problem in it, or an unknown scene.
    """
    if scene_model not in DEPENDENCIES:
        raise UnavailableError(
            f"the 2025 evaluator has no room dependencies for the scene {scene_model!r} of task "
            f"{task.name}, only for {', '.join(DEPENDENCIES)}"
        )
    named = set(_INROOM.findall(_problem_text(task)))
    if not named:
        raise UnavailableError(f"the BDDL problem of {task.name} has no `inroom` fact")
    brought = {more for room in named for more in DEPENDENCIES[scene_model].get(room, ())}
    extra = EXTRA_ROOMS.get(task.name, {}).get(scene_model, ())
    return sorted({*named, *brought, *extra})


def room_instances(data: TaskData) -> list[str]:
    """Return the room instances of a task, in the order of the 2026 table.

    Raises:
        UnavailableError: The table is missing, has no row for the task, gives it another number or
            names no rooms.
    """
    task, folder = data.task, data.generation.instances
    path = data.root / folder / "metadata" / "B100_task_misc.csv"
    if not path.is_file():
        raise missing(path, DOWNLOADS[folder])
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("Task") == task.name]
    if len(rows) != 1 or rows[0].get("Task ID") != str(task.index):
        raise UnavailableError(
            f"{path} must have one row with Task {task.name} and Task ID {task.index}, found Task "
            f"IDs {[row.get('Task ID') for row in rows]}: the table is not that of v3.9.3"
        )
    rooms = [room.strip() for room in (rows[0].get(_COLUMN) or "").splitlines() if room.strip()]
    if not rooms:
        raise UnavailableError(
            f"{path} names no rooms for {task.name}: expected them in the column {_COLUMN!r}, "
            f"found the columns {', '.join(map(str, rows[0]))}"
        )
    return rooms


def _problem_text(task: Task) -> str:
    """Read the task's BDDL problem, definition 0, without comments."""
    try:
        config = importlib.import_module("bddl.config")
    except ImportError as error:
        raise UnavailableError(
            f"the rooms of {task.name} need the bddl package, which cannot be imported ({error}): "
            "it comes with BEHAVIOR-1K"
        ) from error
    path = Path(config.get_definition_filename(task.name, 0))
    if not path.is_file():
        raise UnavailableError(f"the installed bddl package has no problem of {task.name}: {path}")
    return re.sub(r";[^\n]*", "", path.read_text("utf-8"))
