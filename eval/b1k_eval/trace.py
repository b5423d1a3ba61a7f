"""What happened, step by step, as columns; one row per control step, written as parquet.

Columns, all describing the state after the step unless said otherwise:

- `step` int32, from 1; `time` float64 [s];
- `action_0` .. `action_22` float32, the executed action; with action noise also `command_0` ..
  `command_22`, what the policy asked for;
- `q_score` float32; `predicate:NAME` and `subgoal:NAME` bool;
- `inference` bool, the policy was asked right before the step; `latency_s` float32 [s], null
  elsewhere (a wall time: the one column that differs between equal runs);
- `skill` string, `skill_index` int32, `skill_prob` float32, `progress` float32: the policy's last
  word, null where it has none;
- `base_x` .. `right_eef_z` float64 [m], world frame, what the official AgentMetric integrates.

Memory: columns in numpy, about 250 bytes a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_envs.errors import EnvError
from b1k_envs.r1pro import ACTION_DIM
from b1k_eval.events import EpisodeStart, StepEvent, Subscriber
from b1k_eval.files import write_atomic

POSITION_COLUMNS: tuple[str, ...] = tuple(
    f"{body}_{axis}" for body in ("base", "left_eef", "right_eef") for axis in "xyz"
)

_FIRST_CAPACITY = 1024


class Trace(Subscriber):
    """Collects the rows of one episode after another; `write` puts the present one on disk."""

    def __init__(self, *, with_command: bool = False) -> None:
        """Prepare the columns.

        Args:
            with_command: Keep the command beside the executed action (runs with action noise).
        """
        self.with_command = with_command
        self._columns: dict[str, npt.NDArray[Any]] = {}
        self._predicates: tuple[str, ...] = ()
        self._subgoals: tuple[str, ...] = ()
        self._skills: dict[str | None, int] = {}
        self._length = 0

    def __len__(self) -> int:
        """Rows so far."""
        return self._length

    def on_start(self, start: EpisodeStart) -> None:
        """Forget the last episode; fix the predicates and sub-goals of this one."""
        self._predicates = tuple(start.goal.predicates)
        self._subgoals = tuple(start.subgoals)
        self._skills = {None: -1}
        self._length = 0
        shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
            "step": (np.int32, ()),
            "time": (np.float64, ()),
            "action": (np.float32, (ACTION_DIM,)),
            "q_score": (np.float32, ()),
            "predicates": (np.bool_, (len(self._predicates),)),
            "subgoals": (np.bool_, (len(self._subgoals),)),
            "inference": (np.bool_, ()),
            "latency_s": (np.float32, ()),
            "skill": (np.int32, ()),
            "skill_index": (np.int32, ()),
            "skill_prob": (np.float32, ()),
            "progress": (np.float32, ()),
            "position": (np.float64, (9,)),
        }
        if self.with_command:
            shapes["command"] = (np.float32, (ACTION_DIM,))
        self._columns = {
            name: np.empty((_FIRST_CAPACITY, *shape), dtype=dtype)
            for name, (dtype, shape) in shapes.items()
        }

    def on_step(self, event: StepEvent) -> None:
        """Add a row.

        Raises:
            EnvError: The predicates or sub-goals changed their names within the episode.
        """
        i = self._length
        columns = self._columns
        if i == len(columns["step"]):
            columns = self._grow()
        result, agent, skill = event.result, event.result.agent, event.skill
        columns["step"][i] = result.step
        columns["time"][i] = result.time
        columns["action"][i] = event.action
        if self.with_command:
            columns["command"][i] = event.command
        columns["q_score"][i] = event.goal.q_score
        self._truths("predicates", self._predicates, event.goal.predicates, i)
        self._truths("subgoals", self._subgoals, event.subgoals, i)
        columns["inference"][i] = event.inference
        columns["latency_s"][i] = np.nan if event.latency_s is None else event.latency_s
        if skill is None:
            columns["skill"][i] = columns["skill_index"][i] = -1
            columns["skill_prob"][i] = np.nan
        else:
            columns["skill"][i] = self._skills.setdefault(skill.name, len(self._skills) - 1)
            columns["skill_index"][i] = -1 if skill.index is None else skill.index
            columns["skill_prob"][i] = np.nan if skill.probability is None else skill.probability
        columns["progress"][i] = np.nan if event.progress is None else event.progress
        position = columns["position"]
        position[i, 0:3] = agent.base
        position[i, 3:6] = agent.left_eef
        position[i, 6:9] = agent.right_eef
        self._length = i + 1

    def _grow(self) -> dict[str, npt.NDArray[Any]]:
        self._columns = {
            name: np.concatenate([column, np.empty_like(column)])
            for name, column in self._columns.items()
        }
        return self._columns

    def _truths(
        self, column: str, names: tuple[str, ...], truths: Mapping[str, bool], row: int
    ) -> None:
        if tuple(truths) != names:
            raise EnvError(
                f"{column} changed within the episode, from {list(names)} to {list(truths)}"
            )
        self._columns[column][row] = tuple(truths.values())

    def write(self, path: Path) -> None:
        """Write the rows so far as parquet, whole or not at all.

        Raises:
            OSError: The file cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        # Encoded in memory (a few MB) so that the write to disk is one, and atomic.
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(self._arrow_columns()), sink, compression="zstd")
        write_atomic(path, memoryview(sink.getvalue()))

    def _arrow_columns(self) -> dict[str, Any]:
        import pyarrow as pa

        if not self._columns:  # broke off before the world was there: no rows, and no names yet
            return {"step": pa.array([], pa.int32()), "time": pa.array([], pa.float64())}
        rows = {name: column[: self._length] for name, column in self._columns.items()}
        table: dict[str, Any] = {"step": pa.array(rows["step"]), "time": pa.array(rows["time"])}
        for kind in ("action", "command"):
            if kind in rows:
                for i in range(ACTION_DIM):
                    table[f"{kind}_{i}"] = pa.array(rows[kind][:, i])
        table["q_score"] = pa.array(rows["q_score"])
        for i, name in enumerate(self._predicates):
            table[f"predicate:{name}"] = pa.array(rows["predicates"][:, i])
        for i, name in enumerate(self._subgoals):
            table[f"subgoal:{name}"] = pa.array(rows["subgoals"][:, i])
        table["inference"] = pa.array(rows["inference"])
        names = [name for name in self._skills if name is not None]
        code = rows["skill"]
        table["skill"] = pa.DictionaryArray.from_arrays(
            pa.array(code, mask=code < 0), pa.array(names, pa.string())
        ).cast(pa.string())
        table["skill_index"] = pa.array(rows["skill_index"], mask=rows["skill_index"] < 0)
        for name in ("skill_prob", "progress", "latency_s"):
            table[name] = pa.array(rows[name], mask=np.isnan(rows[name]))
        for i, name in enumerate(POSITION_COLUMNS):
            table[name] = pa.array(rows["position"][:, i])
        return table
