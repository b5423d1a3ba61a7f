"""The table of seed instances, `available_tasks.yaml`: scene and start pose of every task.

Source of its place: `load_available_tasks` in `joylo/gello/robots/sim_robot/og_teleop_utils.py`
(2025: in joylo) and `joylo/gello/utils/og_teleop_utils.py` of the v3.9.3 era (2026: with the
instances), repository StanfordVL/BEHAVIOR-1K.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b1k_envs.errors import UnavailableError
from b1k_envs.omnigibson.setup.generation import Generation, package_folder
from b1k_envs.tasks.table import Task


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """The entry of a task's seed instance in `available_tasks.yaml`.

    Attributes:
        scene_model: Scene, e.g. `house_single_floor`.
        robot_start_position: x, y, z [m], scene frame.
        robot_start_orientation: Quaternion x, y, z, w, scene frame.
        load_room_instances: Rooms to load; None if the entry names none.
    """

    scene_model: str
    robot_start_position: tuple[float, float, float]
    robot_start_orientation: tuple[float, float, float, float]
    load_room_instances: tuple[str, ...] | None


def find_table(generation: Generation, root: Path) -> Path:
    """Find the first table that exists, in the generation's order of places.

    Args:
        generation: The generation whose places are searched.
        root: Data path.

    Raises:
        UnavailableError: There is none; the text lists every place that was searched.
    """
    looked = []
    for where, path in generation.table_files:
        for folder in [root] if where == "data" else _joylo_folders(root):
            if (folder / path).is_file():
                return folder / path
            looked.append(str(folder / path))
    raise UnavailableError(
        f"available_tasks.yaml is missing, looked for {', '.join(looked)}: it comes with "
        f"BEHAVIOR-1K {generation.tag}, folder joylo, or with "
        f"omnigibson.utils.asset_utils.{generation.download}()"
    )


def _joylo_folders(root: Path) -> Iterator[Path]:
    """Yield the places of joylo: beside OmniGibson, beside the data, and the source of gello."""
    package = package_folder()
    if package is not None:
        yield package.parents[1] / "joylo"
    yield root.parent / "joylo"
    try:
        gello = importlib.util.find_spec("gello")
    except ValueError:
        return
    if gello is not None and gello.submodule_search_locations:
        yield Path(next(iter(gello.submodule_search_locations))).parent


def read_entry(file: Path, task: Task) -> TaskEntry:
    """Read a task's entry from a table.

    Raises:
        UnavailableError: PyYAML is missing, or the table has no usable entry.
    """
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as error:
        raise UnavailableError(
            f"{file} cannot be read without PyYAML, which OmniGibson brings along: "
            "pip install PyYAML"
        ) from error
    try:
        table = yaml.safe_load(file.read_text("utf-8"))
        seed = table[task.name][0]  # instance 0; a list in early files, a map by number since
        entry = TaskEntry(
            scene_model=str(seed["scene_model"]),
            robot_start_position=_floats(seed["robot_start_position"], 3),
            robot_start_orientation=_floats(seed["robot_start_orientation"], 4),
            load_room_instances=tuple(seed["load_room_instances"])
            if seed.get("load_room_instances")
            else None,
        )
    except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UnavailableError(
            f"{file} has no usable entry of task {task.name} (instance 0 with scene_model, "
            f"robot_start_position, robot_start_orientation): {type(error).__name__}: {error}"
        ) from error
    return entry


def _floats(values: Any, length: int) -> Any:  # noqa: ANN401 - read from a file
    numbers = tuple(float(value) for value in values)
    if len(numbers) != length or not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected {length} finite numbers, got {values}")
    return numbers
