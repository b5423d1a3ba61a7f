"""Episodes made up for corner cases, with traces that hold just what is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from b1k_eval.records.loading import EpisodeData, RunData

GLOVES_TASK = "clean_boxing_gloves"
SUBGOALS = (
    "near_washer",
    "near_countertop",
    "washer_opened",
    "glove_1_picked_up",
    "glove_2_picked_up",
    "glove_1_in_washer",
    "glove_2_in_washer",
    "washer_closed",
    "washer_turned_on",
    "glove_1_clean",
    "glove_2_clean",
)
Spans = Sequence[tuple[int, int]]


def truth(steps: int, spans: Spans) -> np.ndarray:
    """Bool [steps], true from the first to the last step of each span, counted from 1."""
    values = np.zeros(steps, dtype=np.bool_)
    for first, last in spans:
        values[first - 1 : last] = True
    return values


def episode(
    folder: Path,
    *,
    steps: int = 100,
    task: str = GLOVES_TASK,
    instance: int = 0,
    subgoals: Mapping[str, Spans] | None = None,
    predicates: Mapping[str, Spans] | None = None,
    columns: Mapping[str, Any] | None = None,
    **fields: Any,
) -> EpisodeData:
    """An episode with its trace; a robot that stands still with open grippers and says nothing.

    Args:
        folder: Where the trace is written.
        steps: Rows.
        task: Name.
        instance: For the key.
        subgoals: When each held, for those that ever did; the others of the task never.
        predicates: When each predicate of the goal held.
        columns: Other columns, in place of those of the still and silent robot.
        fields: Of EpisodeData, in place of those of a failure at the time limit.
    """
    names = SUBGOALS if task == GLOVES_TASK else ()
    held = {name: truth(steps, (subgoals or {}).get(name, ())) for name in names}
    goals = {name: truth(steps, spans) for name, spans in (predicates or {}).items()}
    table: dict[str, Any] = {"inference": np.arange(steps) % 10 == 0}
    table["skill"] = pa.array([None] * steps, pa.string())
    table["skill_index"] = pa.array([None] * steps, pa.int32())
    table["progress"] = pa.array([None] * steps, pa.float32())
    for body in ("base", "left_eef", "right_eef"):
        table.update({f"{body}_{axis}": np.zeros(steps) for axis in "xyz"})
    table.update({f"action_{i}": np.zeros(steps, dtype=np.float32) for i in range(23)})
    table["action_14"] = table["action_22"] = np.ones(steps, dtype=np.float32)
    table.update({f"subgoal:{name}": values for name, values in held.items()})
    table.update({f"predicate:{name}": values for name, values in goals.items()})
    table.update(columns or {})
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), folder / "trace.parquet")
    firsts = {name: int(np.argmax(v)) + 1 if v.any() else None for name, v in held.items()}
    known: dict[str, Any] = {
        "task": task,
        "task_index": 31,
        "instance": instance,
        "rollout": 0,
        "seed": 0,
        "outcome": "failure",
        "success": False,
        "q_score": 0.0,
        "failure_reason": None,
        "message": None,
        "steps": steps,
        "simulated_s": steps / 30,
        "truncated": True,
        "inferences": -(-steps // 10),
        "privileged": False,
        "initial_predicates": dict.fromkeys(goals, False),
        "predicates": {name: bool(v[-1]) for name, v in goals.items()},
        "subgoals": firsts,
        "efficiency": {},
        "timing": {},
        "folder": folder,
    }
    return EpisodeData(**{**known, **fields})


def moving(steps: int, *, first: int = 1, speed: float = 0.01) -> np.ndarray:
    """Positions of a body that starts to move in a step, float64 [steps] [m]."""
    return np.maximum(np.arange(1, steps + 1) - first, 0) * speed


def run(path: Path, *episodes: EpisodeData, task: str = GLOVES_TASK) -> RunData:
    """A run of these episodes."""
    return RunData(
        path=path,
        name=path.name,
        identity=MappingProxyType({"settings": {"task": task}, "privileged": False}),
        sessions=(),
        label=path.name,
        plan=tuple(episode.key for episode in episodes),
        episodes=episodes,
        pending=(),
        damaged=(),
    )
