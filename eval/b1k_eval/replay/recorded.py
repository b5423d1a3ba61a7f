"""Reading an episode that is to be executed again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float32Array
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import ACTION_DIM
from b1k_envs.tasks.table import get_task
from b1k_eval.records.columns import COLUMNS, COMPARED, PREDICATE_PREFIX, SUBGOAL_PREFIX
from b1k_eval.records.episode import EpisodeKey
from b1k_eval.records.loading import EpisodeData, RunData, read_run_data, read_trace
from b1k_eval.records.trace_reading import DamagedTraceError, EpisodeTrace, Values
from b1k_eval.settings import RunSettings, recorded_settings

BoolArray = npt.NDArray[np.bool_]

_SAID = ("skill", *(column.name for column in COLUMNS if column.rerun is not None))
_EPISODE = re.compile(r"(?:(?P<task>.+)-)?(?P<instance>\d+)-(?P<rollout>\d+)|(?P<alone>\d+)")


@dataclass(frozen=True, kw_only=True, eq=False)
class WorldStates:
    """States of the world over N steps.

    Attributes:
        truths: By column of the trace (`predicate:NAME`, `subgoal:NAME`), bool [N + 1]; row 0 is
            before the first action.
        numbers: By column of `records.columns.COMPARED`, in its type, [N] after each step: the
            q-score, positions of base and hands [m], world frame. A trace of an older version may
            lack some.
    """

    truths: Mapping[str, BoolArray]
    numbers: Mapping[str, Values]

    @property
    def steps(self) -> int:
        """Number of steps N."""
        return len(self.numbers["q_score"])


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """A recorded episode of N >= 1 steps.

    Attributes:
        episode: Its result.
        actions: float32 [N, 23], as executed; columns and units as in `b1k_envs.r1pro`.
        commands: float32 [N, 23], as the policy gave them; None without action noise.
        states: The recorded states.
        words: The policy's reports and latency, one value per step, by column: `skill`, and those
            of `records.columns` that go to the Rerun file.
    """

    episode: EpisodeData
    actions: Float32Array
    commands: Float32Array | None
    states: WorldStates
    words: Mapping[str, Values]


def world_settings(run: RunData) -> RunSettings:
    """Return the settings that the world of a run is built from.

    Raises:
        UsageError: The run was imported, is not of the twin, or its run.json is damaged.
    """
    source = run.identity.get("imported_from")
    if source is not None:
        raise UsageError(
            f"{run.path} was imported from {source}: the official evaluator files no actions, so "
            "there is nothing to replay; `b1k-eval report` shows what there is"
        )
    fields = recorded_settings(run.identity)
    if fields["sim"] != "mujoco":
        raise UsageError(
            f"{run.path} was run in {fields['sim']}: only runs of the MuJoCo twin (--sim mujoco) "
            "can be executed again from their trace"
        )
    return RunSettings(**{**fields, "checkpoint": None})


def run_of_episode(path: Path, name: str) -> RunData:
    """Read a run for one of its episodes: of several tasks, the one that the name has.

    Args:
        path: The run folder.
        name: As of `find_episode`.

    Raises:
        UsageError: There is no run, or it has several tasks and the name has none of them.
    """
    match = _EPISODE.fullmatch(name)
    known = match is not None and match["task"] is not None
    return read_run_data(path, get_task(match["task"]).name if match and known else None)


def find_episode(run: RunData, name: str) -> EpisodeData:
    """Find an episode of a run by name.

    Args:
        run: The run.
        name: TASK-INSTANCE-ROLLOUT, INSTANCE-ROLLOUT, or INSTANCE for its rollout 0; the task by
            name or index.

    Raises:
        UsageError: The name is malformed, or the episode is not in the run, unfinished or damaged.
    """
    key = _key(run, name)
    for episode in run.episodes:
        if episode.key == key:
            return episode
    for entry in run.damaged:
        if entry.name == key.folder:
            raise UsageError(f"{run.path}: {key.folder} cannot be used: {entry.why}")
    if key in run.plan:
        raise UsageError(f"{run.path}: {key.folder} has no result yet; finish it with --resume")
    instances = sorted({planned.instance for planned in run.plan})
    rollouts = 1 + max(planned.rollout for planned in run.plan)
    raise UsageError(
        f"{run.path} has no episode {key.folder}: its task is {run.task}, its instances are "
        f"{', '.join(map(str, instances))}, its rollouts 0 to {rollouts - 1}"
    )


def _key(run: RunData, name: str) -> EpisodeKey:
    match = _EPISODE.fullmatch(name)
    if match is None:
        raise UsageError(
            f"EPISODE {name!r} is not of the form TASK-INSTANCE-ROLLOUT, INSTANCE-ROLLOUT or "
            "INSTANCE"
        )
    if match["alone"] is not None:
        return EpisodeKey(run.task, int(match["alone"]), 0)
    task = run.task if match["task"] is None else get_task(match["task"]).name
    return EpisodeKey(task, int(match["instance"]), int(match["rollout"]))


def read_recorded(episode: EpisodeData) -> Recorded:
    """Read an episode's trace.

    Raises:
        UsageError: It ended before its first step.
        DamagedTraceError: The trace cannot be read, lacks a column, or does not fit the result.
    """
    if episode.steps == 0:
        raise UsageError(
            f"{episode.name} ended before its first step ({episode.message}): there is nothing to "
            "execute again"
        )
    trace = read_trace(episode)
    return Recorded(
        episode=episode,
        actions=_rows(trace, "action"),
        commands=_rows(trace, "command") if "command_0" in trace.names else None,
        states=WorldStates(
            truths=_truths(trace, episode),
            numbers={
                name: _finite(trace, name).astype(column.kind)
                for name, column in COMPARED.items()
                if name in trace.names or not column.newer
            },
        ),
        words=trace.read(*_SAID),
    )


def _rows(trace: EpisodeTrace, kind: str) -> Float32Array:
    """Read actions or commands; they are float32 in the trace, so nothing is rounded here."""
    columns = [_finite(trace, f"{kind}_{i}") for i in range(ACTION_DIM)]
    return np.stack(columns, axis=1).astype(np.float32)


def _finite(trace: EpisodeTrace, name: str) -> Values:
    values = trace.read(name)[name]
    if not np.isfinite(values).all():
        raise DamagedTraceError(f"{trace.path}: column {name!r} has a value that is not finite")
    return values


def _truths(trace: EpisodeTrace, episode: EpisodeData) -> dict[str, BoolArray]:
    """Read predicates and sub-goals by column, with the state before the first action as row 0."""
    start = {PREDICATE_PREFIX + name: holds for name, holds in episode.initial_predicates.items()}
    start |= {SUBGOAL_PREFIX + name: step == 0 for name, step in episode.subgoals.items()}
    names = [n for n in trace.names if n.startswith((PREDICATE_PREFIX, SUBGOAL_PREFIX))]
    if set(names) != set(start):
        odd = sorted(set(names) ^ set(start))[0]
        raise DamagedTraceError(f"{trace.path} and the result do not both have {odd!r}")
    columns = trace.read(*names)
    return {name: np.concatenate(([start[name]], columns[name])) for name in names}
