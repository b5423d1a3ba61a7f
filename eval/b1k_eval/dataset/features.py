"""The features of the data set, each declared once: name, dtype, shape, where its rows come from.

Row t is a control step: what was observed before it, the action, and the state after it (`next.`).
Names are those of the BEHAVIOR demonstrations where they have one (`observation.images.rgb.*`,
`observation.state`, `observation.cam_rel_poses`, `action`). The command is not called `action.*`:
lerobot takes every feature whose name begins so for something that a policy puts out.

Sources: `meta/info.json` of `behavior-1k/2026-challenge-demos` (names); lerobot 0.4.4,
`lerobot/datasets/utils.py` (dtypes, shapes, `dataset_to_policy_features`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_envs.base import VIEWS, View
from b1k_envs.r1pro import (
    ACTION_DIM,
    ACTION_NAMES,
    CAM_REL_POSES_ORDER,
    CONTROL_HZ,
    PROPRIO_DIM,
    PROPRIO_LAYOUTS,
)
from b1k_eval.dataset.recorder import Frames
from b1k_eval.records.columns import PREDICATE_PREFIX, SUBGOAL_PREFIX
from b1k_eval.records.loading import EpisodeData, read_trace
from b1k_eval.records.trace_reading import EpisodeTrace

ABSENT = -1
"""In `next.subgoals` and `next.predicates`: the episode's task has no such one."""


def picture_key(view: View) -> str:
    """Return the name of a camera's feature."""
    return f"observation.images.rgb.{view}"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What differs from data set to data set.

    Attributes:
        state: Numbers of `observation.state`, 256 or 61.
        sizes: Rows and columns of the pictures [px], by view.
        subgoals: Names of all tasks' sub-goals.
        predicates: Names of all tasks' goal predicates.
    """

    state: int
    sizes: Mapping[View, tuple[int, int]]
    subgoals: tuple[str, ...]
    predicates: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What the rows of an episode are made of.

    Attributes:
        episode: Its result.
        frames: What was observed.
        trace: Its trace.
        layout: The data set's.
    """

    episode: EpisodeData
    frames: Frames
    trace: EpisodeTrace
    layout: Layout


Names = Callable[[Layout], Sequence[str] | None]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A feature that is a column, with what `meta/info.json` says of it.

    Attributes:
        name: Its name.
        dtype: As of numpy, or `string`.
        values: Returns its rows, [N] or [N, D].
        names: Names of the D numbers; None for a single one.
    """

    name: str
    dtype: str
    values: Callable[[Material], npt.NDArray[Any]]
    names: Names = lambda _: None

    def width(self, layout: Layout) -> int:
        """Return D."""
        names = self.names(layout)
        return 1 if names is None else len(names)

    def described(self, layout: Layout) -> dict[str, Any]:
        """Return its entry in `meta/info.json`."""
        names = self.names(layout)
        return {
            "dtype": self.dtype,
            "shape": [self.width(layout)],
            "names": None if names is None else list(names),
        }


def _state_names(layout: Layout) -> list[str]:
    protocol = next(year for year, size in PROPRIO_DIM.items() if size == layout.state)
    names = [f"proprio_{number}" for number in range(layout.state)]
    for field, part in PROPRIO_LAYOUTS[protocol].items():
        for place, number in enumerate(range(layout.state)[part]):
            names[number] = f"{field}_{place}"
    return names


_POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
_POSES = [f"{view}_{number}" for view in CAM_REL_POSES_ORDER for number in _POSE]


def _rows_of(prefix: str, start: str) -> Callable[[Material], npt.NDArray[Any]]:
    """Return the reader of 23 columns; of the executed ones where the trace has no commands."""

    def read(made: Material) -> npt.NDArray[Any]:
        there = prefix if f"{prefix}0" in made.trace.names else start
        columns = made.trace.read(*(f"{there}{number}" for number in range(ACTION_DIM)))
        return np.stack(list(columns.values()), axis=1)

    return read


def _truths_of(
    prefix: str, names: Callable[[Layout], tuple[str, ...]]
) -> Callable[[Material], Any]:
    def read(made: Material) -> npt.NDArray[Any]:
        wanted = names(made.layout)
        rows = np.full((made.episode.steps, len(wanted)), ABSENT, np.int8)
        for place, name in enumerate(wanted):
            if prefix + name in made.trace.names:
                rows[:, place] = made.trace.read(prefix + name)[prefix + name]
        return rows

    return read


def _column(name: str) -> Callable[[Material], npt.NDArray[Any]]:
    return lambda made: made.trace.read(name)[name]


def _at_end(holds: Callable[[EpisodeData], bool]) -> Callable[[Material], npt.NDArray[Any]]:
    """Return the reader of what is true in the last row alone, if at all."""

    def read(made: Material) -> npt.NDArray[Any]:
        rows = np.zeros(made.episode.steps, np.bool_)
        rows[-1] = holds(made.episode)
        return rows

    return read


def _success(episode: EpisodeData) -> bool:
    return bool(episode.success)


def _words(made: Material) -> npt.NDArray[Any]:
    said = made.trace.read("skill")["skill"]
    return np.array([word or "" for word in said], dtype=object)


FEATURES: tuple[Feature, ...] = (
    Feature(
        name="observation.state",
        dtype="float32",
        values=lambda made: made.frames.proprio,
        names=_state_names,
    ),
    Feature(
        name="observation.cam_rel_poses",
        dtype="float32",
        values=lambda made: made.frames.cam_rel_poses,
        names=lambda _: _POSES,
    ),
    Feature(
        name="action",
        dtype="float32",
        values=_rows_of("action_", "action_"),
        names=lambda _: ACTION_NAMES,
    ),
    Feature(
        name="commanded_action",
        dtype="float32",
        values=_rows_of("command_", "action_"),
        names=lambda _: ACTION_NAMES,
    ),
    Feature(
        name="next.reward",
        dtype="float32",
        values=lambda made: _at_end(_success)(made).astype(np.float32),
    ),
    Feature(name="next.done", dtype="bool", values=_at_end(lambda _: True)),
    Feature(name="next.success", dtype="bool", values=_at_end(_success)),
    Feature(name="next.q_score", dtype="float32", values=_column("q_score")),
    Feature(
        name="next.subgoals",
        dtype="int8",
        values=_truths_of(SUBGOAL_PREFIX, lambda layout: layout.subgoals),
        names=lambda layout: layout.subgoals,
    ),
    Feature(
        name="next.predicates",
        dtype="int8",
        values=_truths_of(PREDICATE_PREFIX, lambda layout: layout.predicates),
        names=lambda layout: layout.predicates,
    ),
    Feature(name="policy.skill", dtype="string", values=_words),
    Feature(name="policy.skill_index", dtype="int64", values=_column("skill_index")),
    Feature(name="policy.progress", dtype="float32", values=_column("progress")),
    Feature(
        name="outcome",
        dtype="string",
        values=lambda made: np.array([made.episode.outcome] * made.episode.steps, dtype=object),
    ),
    Feature(
        name="timestamp",
        dtype="float32",
        values=lambda made: np.arange(made.episode.steps) / CONTROL_HZ,
    ),
    Feature(name="frame_index", dtype="int64", values=lambda made: np.arange(made.episode.steps)),
)
"""All but the pictures, and the three numbers that depend on the data set's order."""

COUNTED = ("episode_index", "index", "task_index")
"""int64 columns that say where a row lies in the data set."""


def features_of(layout: Layout) -> tuple[Feature, ...]:
    """Return those that a data set has: not the sub-goals of tasks without any."""
    return tuple(each for each in FEATURES if each.width(layout) > 0)


def rows_of(episode: EpisodeData, frames: Frames, layout: Layout) -> dict[str, npt.NDArray[Any]]:
    """Return an episode's columns by feature, [N, D] each in its dtype, strings as objects.

    Raises:
        DamagedTraceError: The trace cannot be read, or is not of this episode.
    """
    made = Material(episode=episode, frames=frames, trace=read_trace(episode), layout=layout)
    rows = {}
    for each in features_of(layout):
        dtype = object if each.dtype == "string" else each.dtype
        values = np.asarray(each.values(made)).astype(dtype, copy=False)
        rows[each.name] = values.reshape(episode.steps, each.width(layout))
    return rows


def described(layout: Layout) -> dict[str, Any]:
    """Return `features` of `meta/info.json`."""
    from b1k_eval.dataset.film import CODEC

    entries: dict[str, Any] = {
        picture_key(view): {
            "dtype": "video",
            "shape": [*layout.sizes[view], 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": layout.sizes[view][0],
                "video.width": layout.sizes[view][1],
                "video.codec": CODEC,
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": int(CONTROL_HZ),
                "video.channels": 3,
                "has_audio": False,
            },
        }
        for view in VIEWS
    }
    entries |= {each.name: each.described(layout) for each in features_of(layout)}
    counted = {"dtype": "int64", "shape": [1], "names": None}
    return {**entries, **dict.fromkeys(COUNTED, counted)}
