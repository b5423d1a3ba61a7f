"""What a data set needs of an episode beyond its trace: every step's observation.

    EPISODE/frames.parquet          proprio and camera poses, one row a step, before its action
            frames.head.mp4 ...     the pictures of the same steps

They lie in the episode's own folder, which the run renames in one step, so they exist for whole
episodes only; they come with the folder from workers, nodes and shards. The trace has the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_envs.base import VIEWS, Env, Float32Array, Observation, View
from b1k_envs.errors import EnvError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_eval.dataset.film import Film
from b1k_eval.execution import RecordOnly
from b1k_eval.files import write_atomic
from b1k_eval.loop.events import EpisodeResult, EpisodeStart, StepEvent, Subscriber

FRAMES_FILE = "frames.parquet"
_PICTURES = b"b1k_eval.pictures"  # key in the file's schema
_NUMBERS = ("proprio", "cam_rel_poses")


def film_file(view: View) -> str:
    """Return the name of a camera's video in the episode's folder."""
    return f"frames.{view}.mp4"


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """What is known of a camera's video without decoding it.

    Attributes:
        size: Rows and columns [px].
        histogram: int64 [3, 256], see `Film`.
    """

    size: tuple[int, int]
    histogram: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """The observations of an episode's N steps, each before its action.

    Attributes:
        proprio: float32 [N, 256 or 61].
        cam_rel_poses: float32 [N, 21]; see `Observation`.
        pictures: By view.
    """

    proprio: Float32Array
    cam_rel_poses: Float32Array
    pictures: Mapping[View, Pictures]


class FrameRecorder:
    """Writes the files of one episode."""

    def __init__(self, folder: Path) -> None:
        """Write into this folder; nothing is made before the first observation."""
        self._folder = folder
        self._films = {view: Film(folder / film_file(view), CONTROL_HZ) for view in VIEWS}
        self._rows: dict[str, list[Float32Array]] = {name: [] for name in _NUMBERS}

    def add(self, observation: Observation) -> None:
        """Add the observation before the next action.

        Raises:
            EnvError: A video cannot be written.
        """
        for view, film in self._films.items():
            film.add(observation.images[view])
        for name, rows in self._rows.items():
            rows.append(getattr(observation, name))

    def finish(self) -> None:
        """Complete the files.

        Raises:
            EnvError: A video cannot be written.
            OSError: The other file cannot.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        known = {}
        for view, film in self._films.items():
            film.finish()
            known[view] = {"size": film.size, "histogram": film.histogram.tolist()}
        table = pa.table({name: fixed(np.stack(rows)) for name, rows in self._rows.items()})
        table = table.replace_schema_metadata({_PICTURES: json.dumps(known).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_atomic(self._folder / FRAMES_FILE, memoryview(sink.getvalue()))

    def drop(self) -> None:
        """Stop, and remove all files; safe at any time."""
        for film in self._films.values():
            film.abort()
        (self._folder / FRAMES_FILE).unlink(missing_ok=True)


class RecordSubscriber(Subscriber):
    """Observes an episode before every action, and records it where it is wanted."""

    def __init__(self, folder: Path, env: Env, only: RecordOnly) -> None:
        """Record into the episode's folder what this env shows."""
        self._recorder = FrameRecorder(folder)
        self._env = env
        self._only = only
        self._seen: Observation | None = None  # kept until its action has been executed
        self._wanted = self._done = False

    def on_start(self, start: EpisodeStart) -> None:
        """Look at the initial state."""
        self._seen = self._env.observe()

    def on_step(self, event: StepEvent) -> None:
        """Record what was seen before this step's action, and look again."""
        if self._seen is not None:
            self._recorder.add(self._seen)
        over = event.result.terminated or event.result.truncated
        self._seen = None if over else self._env.observe()

    def on_end(self, result: EpisodeResult) -> None:
        """Decide whether the episode belongs into the data set."""
        outcomes = ("success",) if self._only == "success" else ("success", "failure")
        self._wanted = result.outcome in outcomes and result.steps > 0
        self._seen = None

    def finish(self) -> None:
        """Complete the files, or remove them where the episode is not wanted.

        Raises:
            EnvError: They cannot be written.
            OSError: The same.
        """
        if self._wanted:
            self._recorder.finish()
            self._done = True

    def close(self) -> None:
        """Remove the files, unless `finish` has completed them."""
        if not self._done:
            self._recorder.drop()


def fixed(values: npt.NDArray[Any]) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return rows [N, D] as an Arrow array of lists of length D."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def has_frames(folder: Path) -> bool:
    """Return whether an episode's folder has all its files."""
    names = (FRAMES_FILE, *map(film_file, VIEWS))
    return all((folder / name).is_file() for name in names)


def read_frames(folder: Path, steps: int) -> Frames:
    """Read the files of an episode; the videos are not opened.

    Raises:
        EnvError: The file is damaged, or not of an episode of so many steps.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / FRAMES_FILE
    try:
        table = pq.read_table(pa.BufferReader(path.read_bytes()), use_threads=False)
        known = json.loads(table.schema.metadata[_PICTURES])
        numbers = {name: _rows(table.column(name)) for name in _NUMBERS}
        pictures = {
            view: Pictures(
                size=(known[view]["size"][0], known[view]["size"][1]),
                histogram=np.array(known[view]["histogram"], np.int64),
            )
            for view in VIEWS
        }
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise EnvError(f"{path} cannot be read: {error}; remove it, and `record` again") from error
    if table.num_rows != steps:
        raise EnvError(
            f"{path} has {table.num_rows} rows, the episode {steps} steps; remove it, and "
            "`record` again"
        )
    return Frames(pictures=pictures, **numbers)


def _rows(column: Any) -> Float32Array:  # noqa: ANN401 - pyarrow has no types
    width = column.type.list_size
    flat: Float32Array = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, width)
