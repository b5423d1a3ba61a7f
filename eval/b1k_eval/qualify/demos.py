"""Reading the BEHAVIOR demonstrations: LeRobot data sets of actions and proprioception.

There are two layouts. v2.1 (`behavior-1k/2025-challenge-demos`): one parquet file per episode,
`data/task-0031/episode_00310070.parquet` or `data/chunk-031/...`, of which mostly only a part is
downloaded. v3.0 (`behavior-1k/2026-challenge-demos`): files with many episodes,
`data/chunk-031/file-000.parquet`, and `meta/episodes/**/*.parquet` with one row an episode that
names its file. Columns of both: `action` [23], `observation.state` [256] or [61],
`episode_index`, `frame_index`, `timestamp`, `task_index`.

An episode's initial state follows from its BEHAVIOR number, task * 10000 + instance * 10 + try. In
v2.1 the episode's index is that number. In v3.0 episodes are numbered consecutively, and the number
is in the column `raw_episode_id`, the instance also in `task_instance_id`. A data set without these
whose indices are consecutive does not say, and is refused.

Sources: `meta/info.json` of LeRobot data sets of `codebase_version` v2.1 and v3.0; StanfordVL/
BEHAVIOR-1K, `docs/challenge/dataset.md` and `Evaluator.load_task_instance` of
`OmniGibson/omnigibson/learning/eval.py` (v3.7.2) for the numbering.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from b1k_envs.base import Float32Array, ProtocolYear
from b1k_envs.errors import UsageError
from b1k_envs.parquet import require_pyarrow
from b1k_envs.r1pro import ACTION_DIM, CONTROL_HZ, PROPRIO_DIM
from b1k_envs.tasks.table import TASKS, Task
from b1k_eval.dataset.choosing import INSTANCE_FACTOR, TASK_FACTOR

ACTION, STATE = "action", "observation.state"
_COLUMNS = ("episode_index", "frame_index", ACTION, STATE)
_FILE = re.compile(r"episode_(\d+)\.parquet")
_INSTANCES = 1_000


@dataclass(frozen=True, kw_only=True)
class DemoEntry:
    """An episode of a data set that has not been read yet.

    Attributes:
        number: Its BEHAVIOR number.
        episode_index: Its index in the data files.
        instance_id: Official number of its initial state.
        file: The parquet file.
    """

    number: int
    episode_index: int
    instance_id: int
    file: Path

    @property
    def name(self) -> str:
        """Its name, as in the official files."""
        return f"episode_{self.number:08d}"

    @property
    def task_index(self) -> int:
        """Index of its task in the challenge's table."""
        return self.number // TASK_FACTOR


@dataclass(frozen=True, kw_only=True, eq=False)
class Demo:
    """A demonstration over N steps.

    Attributes:
        entry: Its entry in the data set.
        actions: float32 [N, 23].
        states: float32 [N, 256 or 61], one per step.
        layout: Layout of the states.
    """

    entry: DemoEntry
    actions: Float32Array
    states: Float32Array
    layout: ProtocolYear

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of actions and states, hex."""
        return hashlib.sha256(self.actions.tobytes() + self.states.tobytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Found:
    """The episodes of a task in a data set.

    Attributes:
        entries: The episodes, in order of number.
        remarks: What a person should know about the data set.
    """

    entries: tuple[DemoEntry, ...]
    remarks: tuple[str, ...]


def find_demos(folder: Path, task: Task) -> Found:
    """List a data set's episodes of a task whose data files are there.

    Raises:
        UsageError: It is not a LeRobot data set, is not at 30 Hz, does not say the initial states
            of its episodes, or has none of the task.
    """
    info = _read_info(folder)
    remarks: list[str] = []
    version = str(info.get("codebase_version", ""))
    if version.startswith("v2"):
        entries = list(_entries_v2(folder))
    elif version.startswith("v3"):
        entries, remarks = _entries_v3(folder, info)
    else:
        raise UsageError(
            f"--demos {folder}: meta/info.json has codebase_version {version!r}; LeRobot data sets "
            "of v2.x and v3.x can be read"
        )
    fitting = sorted(
        (entry for entry in entries if entry.task_index == task.index),
        key=lambda entry: entry.number,
    )
    if not fitting:
        raise UsageError(f"--demos {folder}: {_none_of(task, entries)}")
    there = tuple(entry for entry in fitting if entry.file.is_file())
    if not there:
        raise UsageError(
            f"--demos {folder}: of the {len(fitting)} episodes of task {task.index} {task.name} "
            f"no data file is there, such as {fitting[0].file.relative_to(folder)}: download it"
        )
    if len(there) < len(fitting):
        remarks = [*remarks, f"{len(fitting) - len(there)} episodes have no data file here"]
    return Found(entries=there, remarks=tuple(remarks))


def _none_of(task: Task, entries: Sequence[DemoEntry]) -> str:
    if not entries:
        return "no episode is in it: neither data/**/episode_*.parquet nor rows of meta/episodes"
    tasks = Counter(entry.task_index for entry in entries)
    names = [
        f"{TASKS[index].name if index < len(TASKS) else 'unknown'} ({index}): {count}"
        for index, count in sorted(tasks.items())[:5]
    ]
    more = "" if len(tasks) <= 5 else f" and {len(tasks) - 5} more tasks"
    return (
        f"it has no episode of task {task.index} {task.name}, but of {'; '.join(names)}{more}: "
        "choose its --task, or download the episodes of this one"
    )


def _read_info(folder: Path) -> Mapping[str, Any]:
    path = folder / "meta" / "info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--demos {folder} is no LeRobot data set: {path} cannot be read ({error})"
        ) from error
    if not isinstance(info, dict):
        raise UsageError(f"--demos {folder}: {path} is not a JSON object")
    if info.get("fps") != CONTROL_HZ:
        raise UsageError(
            f"--demos {folder}: {path} has fps {info.get('fps')!r}; the demonstrations of "
            f"BEHAVIOR-1K have {CONTROL_HZ:g}, one row a control step"
        )
    return info


def _entries_v2(folder: Path) -> Iterator[DemoEntry]:
    """Yield entries by the files that are there: `episodes.jsonl` lists all, downloaded or not."""
    indices = {}
    for file in sorted((folder / "data").glob("*/episode_*.parquet")):
        match = _FILE.fullmatch(file.name)
        if match is not None:
            indices[int(match[1])] = file
    _refuse_counted_through(folder, sorted(indices))
    for index, file in indices.items():
        yield DemoEntry(
            number=index, episode_index=index, instance_id=_instance_of(index), file=file
        )


def _entries_v3(folder: Path, info: Mapping[str, Any]) -> tuple[list[DemoEntry], list[str]]:
    rows = _episode_rows(folder)
    template = str(info.get("data_path", ""))
    if "{chunk_index" not in template or "{file_index" not in template:
        raise UsageError(
            f"--demos {folder}: data_path of meta/info.json is {template!r}, without chunk_index "
            "and file_index"
        )
    if rows and "raw_episode_id" not in rows[0]:
        _refuse_counted_through(folder, sorted(int(row["episode_index"]) for row in rows))
    entries, differing = [], 0
    for row in rows:
        number = int(row.get("raw_episode_id", row["episode_index"]))
        instance = int(row.get("task_instance_id", _instance_of(number)))
        differing += instance != _instance_of(number)
        file = template.format(
            chunk_index=int(row["data/chunk_index"]), file_index=int(row["data/file_index"])
        )
        entries.append(
            DemoEntry(
                number=number,
                episode_index=int(row["episode_index"]),
                instance_id=instance,
                file=folder / file,
            )
        )
    remark = (
        f"{differing} episodes have a task_instance_id that is not the instance in their "
        "raw_episode_id: the former is believed"
    )
    return entries, [remark] if differing else []


def _episode_rows(folder: Path) -> list[dict[str, Any]]:
    """Read the rows of `meta/episodes`, with the columns that matter here."""
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    needed = ("episode_index", "data/chunk_index", "data/file_index")
    rows: list[dict[str, Any]] = []
    for file in sorted((folder / "meta" / "episodes").rglob("*.parquet")):
        try:
            names = pq.read_schema(file).names
            missing = [name for name in needed if name not in names]
            if missing:
                raise UsageError(f"--demos {folder}: {file} has no column {missing[0]!r}")
            wanted = [*needed, "raw_episode_id", "task_instance_id"]
            table = pq.read_table(file, columns=[name for name in wanted if name in names])
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"--demos {folder}: {file} cannot be read: {error}") from error
        rows += table.to_pylist()
    return rows


def _refuse_counted_through(folder: Path, indices: Sequence[int]) -> None:
    """Refuse consecutive indices: BEHAVIOR numbers of two instances are at least 10 apart.

    Raises:
        UsageError: The indices are consecutive, so that nothing says their initial states.
    """
    # Eleven indices without a gap are a count: BEHAVIOR numbers of one instance are at most ten.
    in_a_row = any(
        later - index == INSTANCE_FACTOR
        for index, later in zip(indices, indices[INSTANCE_FACTOR:], strict=False)
    )
    if in_a_row or (len(indices) > 0 and indices[0] < INSTANCE_FACTOR):
        raise UsageError(
            f"--demos {folder}: its episodes are counted through from {indices[0]} and do not say "
            "which initial state they are of. Needed is the BEHAVIOR number (task * 10000 + "
            "instance * 10 + try) as episode_index, or as raw_episode_id in meta/episodes, or "
            "task_instance_id there"
        )


def _instance_of(number: int) -> int:
    return number // INSTANCE_FACTOR % _INSTANCES


def read_demo(entry: DemoEntry) -> Demo:
    """Read an episode.

    Raises:
        UsageError: The file cannot be read, lacks a column, or does not hold rows 0 to N - 1 of
            finite numbers of the right lengths.
    """
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(entry.file).names
        missing = [name for name in _COLUMNS if name not in names]
        if missing:
            raise UsageError(f"{entry.file} has no column {missing[0]!r}")
        table = pq.read_table(
            entry.file,
            columns=list(_COLUMNS),
            filters=[("episode_index", "=", entry.episode_index)],
        )
        table = table.sort_by("frame_index")
        frames = table.column("frame_index").to_numpy()
        actions = np.array(table.column(ACTION).to_pylist(), dtype=np.float32)
        states = np.array(table.column(STATE).to_pylist(), dtype=np.float32)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise UsageError(f"{entry.file} cannot be read as a demonstration: {error}") from error
    # A missing row would shift all later actions against the states.
    count = len(frames)
    if count == 0 or not np.array_equal(frames, np.arange(count)):
        raise UsageError(
            f"{entry.file}: episode {entry.episode_index} must have frame_index 0 to N - 1, has "
            f"{count} rows{'' if count == 0 else f' from {frames[0]} to {frames[-1]}'}"
        )
    layouts = {size: protocol for protocol, size in PROPRIO_DIM.items()}
    if actions.shape != (count, ACTION_DIM) or states.ndim != 2 or states.shape[1] not in layouts:
        raise UsageError(
            f"{entry.file}: expected {ACTION} [{ACTION_DIM}] and {STATE} [256] or [61], found "
            f"{list(actions.shape[1:])} and {list(states.shape[1:])}"
        )
    for name, values in ((ACTION, actions), (STATE, states)):
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise UsageError(f"{entry.file}: {name} is not finite in frame {row}")
    return Demo(entry=entry, actions=actions, states=states, layout=layouts[states.shape[1]])
