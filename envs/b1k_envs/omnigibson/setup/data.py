"""The data of BEHAVIOR-1K on this disk: their places, and what the evaluator reads from them.

Only files are read; nothing is imported, downloaded or written. Layout and rules, repository
StanfordVL/BEHAVIOR-1K, under `OmniGibson/omnigibson/`: data path from `macros.py`@00be39f7,
versions, key and download functions from `utils/asset_utils.py`@01e1c036, instance numbers from
`learning/eval.py`@4c1184a6 (2025) and `resolve_instance_ids` in `eval/evaluator.py` (2026).

What a pass does not prove: that a download is complete, or that the key opens the assets.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from b1k_envs.base import Split
from b1k_envs.errors import UnavailableError, UsageError
from b1k_envs.omnigibson.setup.generation import (
    GENERATIONS,
    Generation,
    has_vectorised_api,
    installed_version,
    metadata_version,
    package_folder,
)
from b1k_envs.omnigibson.setup.task_table import TaskEntry, find_table, read_entry
from b1k_envs.tasks.table import (
    TIME_LIMIT_FACTORS,
    HumanStats,
    Task,
    check_protocol,
    load_human_stats,
)

ASSETS = ("behavior-1k-assets", "omnigibson-robot-assets")
"""Folders below the data path that every scene needs."""

DOWNLOADS = {
    "behavior-1k-assets": "download_behavior_1k_assets(accept_license=True)",
    "omnigibson-robot-assets": "download_omnigibson_robot_assets()",
    **{each.instances: f"{each.download}()" for each in GENERATIONS.values()},
}
"""The function of `omnigibson.utils.asset_utils` that downloads each folder."""

KEY = "omnigibson.key"
"""Key of the encrypted assets; `download_behavior_1k_assets(accept_license=True)` brings it."""

FIRST_PUBLIC_ID, FIRST_HIDDEN_ID = 301, 321
"""Instance ids of index 0 in 2026; 301-340 are the test instances, half of them public."""

FIRST_IDS: Mapping[Split, int] = MappingProxyType(
    {"train": 0, "public-test": FIRST_PUBLIC_ID, "hidden-test": FIRST_HIDDEN_ID}
)
"""Instance ids of index 0 in 2026, by split."""

_WANTED = {
    "behavior-1k-assets": re.compile(r'BEHAVIOR_1K_(?:ASSET|DATASET)_VERSION = "([^"]+)"'),
    "omnigibson-robot-assets": re.compile(r'MINIMUM_ROBOT_ASSETS_VERSION = "([^"]+)"'),
}
_EPISODES = "metadata/episodes.jsonl"
_LIGHT_TASK = "turning_out_all_lights_before_sleep"


# --- What is on this disk; these never raise ------------------------------------------------


def find_data_path() -> Path | None:
    """Return where omnigibson will look for its data; the folder need not exist.

    That is `OMNIGIBSON_DATA_PATH`, if relative from the package's folder; otherwise `datasets` in
    the repository. None if omnigibson is not installed and the variable gives no absolute path.
    """
    given = os.environ.get("OMNIGIBSON_DATA_PATH")
    package = package_folder()
    if given is not None and Path(given).expanduser().is_absolute():
        return Path(given).expanduser()
    if package is None:
        return None
    return package / Path(given).expanduser() if given else package.parents[1] / "datasets"


def assets_present() -> dict[str, bool]:
    """Return whether each folder of `ASSETS` exists."""
    root = find_data_path()
    return {name: root is not None and (root / name).is_dir() for name in ASSETS}


def instance_files_present(generation: Generation) -> bool:
    """Return whether the folder of the challenge's instances exists."""
    root = find_data_path()
    return root is not None and (root / generation.instances).is_dir()


def key_present() -> bool:
    """Return whether the key of the encrypted assets exists."""
    root = find_data_path()
    return root is not None and (root / KEY).is_file()


def assets_version() -> dict[str, dict[str, str | None]]:
    """Read for each folder of `ASSETS` the version `installed` and that `wanted` by the package.

    `installed` comes from the VERSION file. `wanted` is the version the package downloads
    (`behavior-1k-assets`) or its minimum (`omnigibson-robot-assets`); v3.7.2 names none for the
    robot. None where the version is not known.
    """
    root, package = find_data_path(), package_folder()
    code = package / "utils" / "asset_utils.py" if package else None
    text = code.read_text("utf-8") if code and code.is_file() else ""
    versions: dict[str, dict[str, str | None]] = {}
    for name in ASSETS:
        file = root / name / "VERSION" if root else None
        found = _WANTED[name].search(text)
        versions[name] = {
            "installed": file.read_text("utf-8").strip() if file and file.is_file() else None,
            "wanted": found.group(1) if found else None,
        }
    return versions


def describe_installation() -> dict[str, Any]:
    """Return everything above as JSON values, for doctor and run.json."""
    package, root = package_folder(), find_data_path()
    return {
        "package": str(package) if package else None,
        "version": installed_version(),
        "metadata_version": metadata_version(),
        "vectorised_api": has_vectorised_api(),
        "data_path": str(root) if root else None,
        "data_path_exists": root is not None and root.is_dir(),
        "assets": assets_present(),
        "assets_version": assets_version(),
        "key": key_present(),
        "instances": {
            each.instances: instance_files_present(each) for each in GENERATIONS.values()
        },
    }


# --- What a run needs -----------------------------------------------------------------------


def require_data(generation: Generation) -> Path:
    """Find the data path, and refuse what would make a run fail minutes later.

    Raises:
        UnavailableError: The data path, the assets, the key or the instances are missing; the
            text names the path and what downloads it.
    """
    root = find_data_path()
    if root is None or not root.is_dir():
        raise UnavailableError(
            f"the data of BEHAVIOR-1K are not at {root}: set OMNIGIBSON_DATA_PATH to the folder "
            f"that holds {', '.join(ASSETS)} and {generation.instances}"
        )
    for name in (*ASSETS, generation.instances):
        if not (root / name).is_dir():
            raise missing(root / name, DOWNLOADS[name])
    if not key_present() and _are_encrypted(root):
        raise missing(root / KEY, DOWNLOADS["behavior-1k-assets"])
    return root


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """The data of one task in one split.

    Attributes:
        generation: The generation whose layout and numbering apply.
        task: The task.
        split: The split in which indices are counted.
        root: Data path.
        entry: The task's entry in `available_tasks.yaml`.
        entry_file: Path of that file.
    """

    generation: Generation
    task: Task
    split: Split
    root: Path
    entry: TaskEntry
    entry_file: Path

    def instance_id(self, index: int) -> int:
        """Return the number in the file names for an index of the split.

        2025: in public-test the index-th id of the task's row in `test_instances.csv`, in train the
        id in the task's index-th line of `episodes.jsonl`, in hidden-test the index itself. 2026:
        301 + index in public-test, 321 + index in hidden-test, in train the index itself.

        Raises:
            UsageError: The index is outside the split.
            UnavailableError: The file with the ids is missing or does not hold them.
        """
        check_index(self.generation, self.split, index)
        if self.generation.protocol == "2026":
            return FIRST_IDS[self.split] + index
        if self.split == "hidden-test":
            return index
        ids = self._public_ids if self.split == "public-test" else self._train_ids
        if index >= len(ids):
            raise UsageError(
                f"instance {index} is out of range: {self.split} of task {self.task.index} "
                f"{self.task.name} has instances 0-{len(ids) - 1} in these data"
            )
        return ids[index]

    def instance_name(self, index: int) -> str:
        """Return the name of an instance in its file names (definition 0).

        Raises:
            UsageError: See `instance_id`.
            UnavailableError: See `instance_id`.
        """
        scene, number = self.entry.scene_model, self.instance_id(index)
        return f"{scene}_task_{self.task.name}_0_{number}_template"

    def instance_file(self, index: int) -> Path:
        """Find the state file of an instance.

        Raises:
            UsageError: See `instance_id`.
            UnavailableError: The file, or the one with the ids, is missing.
        """
        path = self.root / self.generation.instance_files[self.split].format(
            scene=self.entry.scene_model, task=self.task.name, name=self.instance_name(index)
        )
        if not path.is_file():
            hint = (
                "the organisers keep the hidden instances to themselves"
                if self.split == "hidden-test"
                else None
            )
            raise missing(path, DOWNLOADS[self.generation.instances], hint)
        return path

    @property
    def human_stats_file(self) -> Path:
        """Path of the file with the figures of the human demonstrations."""
        return self.root / self.generation.human_stats

    @cached_property
    def human_stats(self) -> HumanStats:
        """The exact means over the human demonstrations.

        Raises:
            UnavailableError: The file is missing or cannot be used, see `tasks.load_human_stats`.
        """
        if not self.human_stats_file.is_file():
            raise missing(self.human_stats_file, DOWNLOADS[self.generation.instances])
        try:
            return load_human_stats(self.human_stats_file, self.task, self.generation.protocol)
        except UsageError as error:
            raise UnavailableError(f"{error}: {self._anew()}") from error

    def default_max_steps(self) -> int:
        """Return the evaluator's time limit, `int(mean length * factor)` [control steps].

        Raises:
            UnavailableError: See `human_stats`.
        """
        return int(self.human_stats.length * TIME_LIMIT_FACTORS[self.generation.protocol])

    @cached_property
    def _public_ids(self) -> list[int]:
        """Ids of the 2025 public test; the file's rows are in the order of the task indices."""
        path = self.root / self.generation.instances / "metadata" / "test_instances.csv"
        if not path.is_file():
            raise missing(path, DOWNLOADS[self.generation.instances])
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        row = rows[self.task.index] if self.task.index < len(rows) else []
        if len(row) < 3 or row[1] != self.task.name:
            raise UnavailableError(
                f"{path}, row {self.task.index + 1} after the header, must be that of "
                f"{self.task.name} with its ids in column 3, got {row}"
            )
        try:
            return [int(number) for number in row[2].split(",")]
        except ValueError as error:
            raise self._unusable(path, error) from error

    @cached_property
    def _train_ids(self) -> list[int]:
        # The index is the task's times 10,000, plus the instance's times 10, plus the rollout's.
        return [episode["episode_index"] // 10 % 1000 for episode in self._episodes]

    @cached_property
    def _episodes(self) -> list[dict[str, Any]]:
        """Lines of the task in `episodes.jsonl`; episode_index is task, instance, rollout."""
        path = self.root / self.generation.instances / _EPISODES
        if not path.is_file():
            raise missing(path, DOWNLOADS[self.generation.instances])
        lines = path.read_text("utf-8").splitlines()
        try:
            episodes = [json.loads(line) for line in lines if line.strip()]
            mine = [each for each in episodes if each["episode_index"] // 10_000 == self.task.index]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise self._unusable(path, error) from error
        if not mine:
            raise UnavailableError(
                f"{path} has no demonstration of task {self.task.index} {self.task.name}"
            )
        return mine

    def _unusable(self, path: Path, error: Exception) -> UnavailableError:
        return UnavailableError(
            f"{path} is not as {self.generation.tag} reads it ({type(error).__name__}: {error}): "
            f"{self._anew()}"
        )

    def _anew(self) -> str:
        download = DOWNLOADS[self.generation.instances]
        return f"download it anew with omnigibson.utils.asset_utils.{download}"


def find_task_data(generation: Generation, task: Task, split: Split) -> TaskData:
    """Find the data of a task.

    Raises:
        UsageError: The generation does not have the task.
        UnavailableError: Data are missing, or `available_tasks.yaml` lacks the task, or it is the
            one task whose lights the evaluator itself switches at every step.
    """
    check_protocol(task, generation.protocol)
    if task.name == _LIGHT_TASK:
        raise UnavailableError(
            f"task {task.index} {task.name} is not run in OmniGibson here: the official evaluator "
            "derives its lights anew at every step, which this adapter does not; take another task"
        )
    root = require_data(generation)
    file = find_table(generation, root)
    entry = read_entry(file, task)
    return TaskData(
        generation=generation, task=task, split=split, root=root, entry=entry, entry_file=file
    )


def check_index(generation: Generation, split: Split, index: int) -> None:
    """Refuse an index outside a split, as far as its size is known without the data.

    Raises:
        UsageError: The index is out of range; the text names the range.
    """
    count = generation.index_counts[split]
    if index >= 0 and (count is None or index < count):
        return
    span = "0 and up" if count is None else f"0-{count - 1}"
    hint = ""
    if split == "hidden-test" and generation.protocol == "2026":
        hint = "; the documentation says 20-39, the evaluator counts each split from 0"
    raise UsageError(
        f"instance {index} is out of range: {split} of {generation.protocol} has instances "
        f"{span}{hint}"
    )


def missing(path: Path, download: str, hint: str | None = None) -> UnavailableError:
    """Make the error about a missing file, with the function that downloads it."""
    instead = hint or f"download it with omnigibson.utils.asset_utils.{download}"
    return UnavailableError(f"{path} is missing: {instead}")


def _are_encrypted(root: Path) -> bool:
    """Return whether any object of the assets is encrypted; stops at the first one found."""
    objects = (root / "behavior-1k-assets" / "objects").glob("*/*/usd/*.encrypted.usd")
    return next(objects, None) is not None
