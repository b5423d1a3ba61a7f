"""Joining recorded episodes to a LeRobotDataset v3.0.

    DIR/meta/{info.json,stats.json,tasks.parquet,runs.json}
        meta/episodes/chunk-000/file-000.parquet    a row an episode
        data/chunk-000/file-000.parquet             a row a control step, up to 100 MB a file
        videos/KEY/chunk-000/file-000.mp4           a file an episode, linked from the run

It is made under another name beside DIR and put in its place whole, so DIR is a complete data set
at any moment, and one process alone writes it. Episodes are in the order of the plan, however many
workers ran them. lerobot is not needed to write it: it wants other versions of numpy and torch than
OmniGibson's worlds (numpy < 2, Python 3.10) have. `scripts/check_lerobot.py` opens it with lerobot.

Source: lerobot 0.4.4, `lerobot/datasets/{lerobot_dataset,utils}.py`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from b1k_envs.base import VIEWS
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks.table import get_task
from b1k_eval.dataset.features import Layout, described, features_of, picture_key, rows_of
from b1k_eval.dataset.recorder import film_file, fixed, read_frames
from b1k_eval.dataset.statistics import Stats, of_numbers, of_pictures, together
from b1k_eval.files import TEMP_PREFIX, fsync_folder, link, to_json, write_atomic
from b1k_eval.records.loading import EpisodeData, RunData
from b1k_eval.records.store import storing

VERSION = "v3.0"
RUNS_FILE = "runs.json"
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_CHUNK = 1000  # files in a folder
_FILE_MB = 100


class Source(NamedTuple):
    """An episode for a data set.

    Attributes:
        run: Its run.
        episode: Its result.
        folder: Where the files of `dataset.recorder` are.
        numbers: What official files call its initial state and itself: `task_instance_id` and
            `raw_episode_id`; empty if unknown.
    """

    run: RunData
    episode: EpisodeData
    folder: Path
    numbers: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Written:
    """A data set that was written.

    Attributes:
        path: Its folder.
        episodes: How many it has.
        frames: How many rows.
        outcomes: Episodes by outcome.
    """

    path: Path
    episodes: int
    frames: int
    outcomes: Mapping[str, int]

    def words(self) -> str:
        """Return a line for people."""
        counts = ", ".join(f"{count} {name}" for name, count in self.outcomes.items())
        return f"{self.path}: {self.episodes} episodes ({counts}), {self.frames} frames"


def check_target(path: Path, sessions: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a folder that holds something else than a data set of these runs.

    Args:
        path: The data set's folder, there or not.
        sessions: The first session of each run; a run that is resumed keeps it.

    Raises:
        UsageError: See above.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    try:
        known = json.loads((path / "meta" / RUNS_FILE).read_bytes())
        ours = [each["sessions"][0] for each in known] == [dict(each) for each in sessions]
    except (OSError, ValueError, LookupError, TypeError):
        raise UsageError(
            f"{path} is not empty and holds no data set of b1k-eval: choose another folder"
        ) from None
    if not ours:
        names = ", ".join(str(each.get("run")) for each in known)
        raise UsageError(
            f"{path} holds the data set of another run ({names}): choose another folder, or "
            "remove it"
        )


def write_dataset(
    sources: Sequence[Source], path: Path, *, said: Callable[[int], None] = lambda _: None
) -> Written:
    """Write a data set in place of the one that is there.

    Args:
        sources: At least one episode, each of at least one step.
        path: Its folder; see `check_target`.
        said: Called with the number of episodes done.

    Raises:
        UsageError: The episodes do not fit together: other pictures, other proprioception.
        EnvError: An episode's files are damaged.
        DamagedTraceError: A trace is.
        StorageError: The disk is full.
    """
    temp = path.with_name(f"{TEMP_PREFIX}{path.name}")
    old = path.with_name(f"{TEMP_PREFIX}old-{path.name}")
    with storing(path, "do it again"):
        for left in (temp, old):
            shutil.rmtree(left, ignore_errors=True)
        temp.mkdir(parents=True)
        try:
            written = _Writer(sources, temp).write(said)
            if path.exists():  # in two steps: a rename cannot replace a folder that is not empty
                path.replace(old)
            temp.replace(path)
            fsync_folder(path.parent)
        finally:
            shutil.rmtree(temp, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    outcomes: dict[str, int] = {}
    for source in sources:
        outcomes[source.episode.outcome] = outcomes.get(source.episode.outcome, 0) + 1
    return Written(path=path, episodes=len(sources), frames=written, outcomes=outcomes)


class _Writer:
    """Fills an empty folder."""

    def __init__(self, sources: Sequence[Source], folder: Path) -> None:
        self._sources = sources
        self._folder = folder
        self._layout = _layout(sources)
        self._features = features_of(self._layout)
        self._runs = list({source.run.path: source.run for source in sources}.values())
        self._tasks = list(dict.fromkeys(source.episode.task for source in sources))
        self._stats: dict[str, list[Stats]] = {}
        self._frames = 0
        self._data: Any = None  # the open file
        self._data_files = 0
        self._data_bytes = 0

    def write(self, said: Callable[[int], None]) -> int:
        """Write all, and return the number of frames."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = []
        try:
            for number, source in enumerate(self._sources):
                rows.append(self._episode(number, source))
                said(number + 1)
        finally:
            if self._data is not None:
                self._data.close()
        for file in (self._folder / "data").rglob("*.parquet"):
            with file.open("rb") as written:
                os.fsync(written.fileno())
        meta = self._folder / "meta"
        episodes = meta / "episodes" / "chunk-000"
        episodes.mkdir(parents=True)
        table = pa.Table.from_pylist(rows)
        # lerobot reads the columns without the statistics, which are most of the file.
        pq.write_table(table, episodes / "file-000.parquet", compression="zstd")
        pq.write_table(self._task_table(), meta / "tasks.parquet")
        stats = {name: _json(together(parts)) for name, parts in self._stats.items()}
        write_atomic(meta / "stats.json", to_json(stats).encode())
        runs = [
            {
                "run": str(run.path),
                "identity": dict(run.identity),
                "sessions": [dict(each) for each in run.sessions],
            }
            for run in self._runs
        ]
        write_atomic(meta / RUNS_FILE, to_json(runs).encode())
        write_atomic(meta / "info.json", to_json(self._info()).encode())
        return self._frames

    def _episode(self, number: int, source: Source) -> dict[str, Any]:
        """Write an episode, and return its row in `meta/episodes`."""
        episode, count = source.episode, source.episode.steps
        frames = read_frames(source.folder, count)
        values = rows_of(episode, frames, self._layout)
        stats: dict[str, Stats] = {}
        for view in VIEWS:
            stats[picture_key(view)] = of_pictures(frames.pictures[view].histogram, count)
        first, last = self._frames, self._frames + count
        values["episode_index"] = np.full((count, 1), number)
        values["index"] = np.arange(first, last)[:, None]
        values["task_index"] = np.full((count, 1), self._tasks.index(episode.task))
        for name, column in values.items():
            found = None if column.dtype == object else of_numbers(column)
            if found is not None:
                stats[name] = found
        for name, each in stats.items():
            self._stats.setdefault(name, []).append(each)
        file = self._append(values)
        self._frames = last
        chunk, in_chunk = divmod(number, _CHUNK)
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [get_task(episode.task).instruction],
            "length": count,
            "data/chunk_index": file // _CHUNK,
            "data/file_index": file % _CHUNK,
            "dataset_from_index": first,
            "dataset_to_index": last,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            **source.numbers,
            "run": self._runs.index(source.run),
            "task_name": episode.task,
            "instance": episode.instance,
            "rollout": episode.rollout,
            "seed": episode.seed,
            "outcome": episode.outcome,
            "q_score": episode.q_score,
            "failure_reason": episode.failure_reason,
            "privileged": episode.privileged,
        }
        for view in VIEWS:
            key = picture_key(view)
            video = self._folder / _VIDEO.format(
                video_key=key, chunk_index=chunk, file_index=in_chunk
            )
            video.parent.mkdir(parents=True, exist_ok=True)
            link(source.folder / film_file(view), video)
            row[f"videos/{key}/chunk_index"] = chunk
            row[f"videos/{key}/file_index"] = in_chunk
            row[f"videos/{key}/from_timestamp"] = 0.0
            row[f"videos/{key}/to_timestamp"] = count / CONTROL_HZ
        for name, each in stats.items():
            row |= {f"stats/{name}/{what}": number.tolist() for what, number in each.items()}
        return row

    def _append(self, values: Mapping[str, npt.NDArray[Any]]) -> int:
        """Append rows to the data, and return the number of the file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({name: _arrow(column) for name, column in values.items()})
        if self._data is not None and self._data_bytes > _FILE_MB << 20:
            self._data.close()
            self._data = None
            self._data_files += 1
        if self._data is None:
            chunk, number = divmod(self._data_files, _CHUNK)
            path = self._folder / _DATA.format(chunk_index=chunk, file_index=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._data = pq.ParquetWriter(path, table.schema, compression="snappy")
            self._data_bytes = 0
        self._data.write_table(table)
        self._data_bytes += table.nbytes
        return self._data_files

    def _task_table(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Return the tasks as pandas stores a frame with the text as index, as lerobot reads it."""
        import pyarrow as pa

        texts = [get_task(name).instruction for name in self._tasks]
        table = pa.table({"task_index": list(range(len(texts))), "task": texts})
        kinds = (("task_index", "int64", "int64"), ("task", "unicode", "object"))
        stored = {
            "index_columns": ["task"],
            "column_indexes": [],
            "columns": [
                {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy}
                | {"metadata": None}
                for name, kind, numpy in kinds
            ],
            "pandas_version": "2.0.0",
        }
        return table.replace_schema_metadata({"pandas": json.dumps(stored)})

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": VERSION,
            "robot_type": "R1Pro",
            "total_episodes": len(self._sources),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": _CHUNK,
            "data_files_size_in_mb": _FILE_MB,
            "video_files_size_in_mb": 500,
            "fps": int(CONTROL_HZ),
            "splits": {"train": f"0:{len(self._sources)}"},
            "data_path": _DATA,
            "video_path": _VIDEO,
            "features": described(self._layout),
        }


def _layout(sources: Sequence[Source]) -> Layout:
    """Find what all episodes have in common.

    Raises:
        UsageError: Their pictures or their proprioception differ.
    """
    shapes = {}
    subgoals: dict[str, None] = {}
    predicates: dict[str, None] = {}
    for source in sources:
        frames = read_frames(source.folder, source.episode.steps)
        sizes = {view: frames.pictures[view].size for view in VIEWS}
        shapes[frames.proprio.shape[1], tuple(sizes.items())] = source
        subgoals |= dict.fromkeys(source.episode.subgoals)
        predicates |= dict.fromkeys(source.episode.predicates)
    if len(shapes) > 1:
        one, two = list(shapes.values())[:2]
        (a, _), (b, _) = list(shapes)[:2]
        raise UsageError(
            f"{one.run.path} and {two.run.path} do not go into one data set: their proprioception "
            f"has {a} and {b} numbers, or their pictures differ in size; write one for each"
        )
    ((state, of_views),) = shapes
    return Layout(
        state=state,
        sizes=dict(of_views),
        subgoals=tuple(subgoals),
        predicates=tuple(predicates),
    )


def _arrow(column: npt.NDArray[Any]) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return rows [N, D] as lerobot stores them: lists of length D, and single ones as they are."""
    import pyarrow as pa

    return fixed(column) if column.shape[1] > 1 else pa.array(column[:, 0])


def _json(stats: Stats) -> dict[str, Any]:
    return {name: values.tolist() for name, values in stats.items()}
