"""Reading a run folder for analysis.

Resuming a run must refuse any damage (`b1k_eval.records.run_files`); analysis need not. An episode
whose files are damaged is listed in `RunData.damaged` with the reason, and everything else counts.
Nothing is repaired. Traces are opened one by one, by `read_trace`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from b1k_envs.errors import UsageError
from b1k_eval.files import spelled_out
from b1k_eval.loop.events import Outcome
from b1k_eval.records.episode import (
    OUTCOMES,
    RESULT_FILE,
    TRACE_FILE,
    VIDEO_FILE,
    DamagedRecordError,
    EpisodeKey,
    EpisodeRecord,
)
from b1k_eval.records.identity import of_each_task
from b1k_eval.records.run_files import EPISODES_FOLDER, RUN_FILE, parse_object, read_lines, read_run
from b1k_eval.records.trace_reading import DamagedTraceError, EpisodeTrace
from b1k_eval.selection import share
from b1k_eval.settings import settled


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """An episode that was left out.

    Attributes:
        name: The episode (TASK-INSTANCE-ROLLOUT), or the number of a line that names none.
        why: What is wrong with it.
    """

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class EpisodeData(EpisodeRecord):
    """A finished episode and the folder with its files."""

    folder: Path

    @property
    def trace(self) -> Path | None:
        """trace.parquet; None if missing."""
        return _present(self.folder / TRACE_FILE)

    @property
    def video(self) -> Path | None:
        """video.mp4; None if missing."""
        return _present(self.folder / VIDEO_FILE)


@dataclass(frozen=True, kw_only=True)
class RunData:
    """The finished and undamaged part of a run, or of one task of a run of several.

    Attributes:
        path: The run folder.
        name: Its name; of one task of several with the task, as in `RUN/TASK`.
        identity: `identity` of run.json, as of a run of this task alone.
        sessions: `sessions` of run.json.
        label: The policy for tables: its name, or a checkpoint's origin and contract, and in
            parentheses what its numbers depend on (privileged, forced).
        plan: All its episodes, by instance and rollout.
        episodes: The finished ones, in the order of the plan.
        pending: Those without a line, as the run is unfinished; also those whose line cannot be
            read.
        damaged: Episodes that were left out.
    """

    path: Path
    name: str
    identity: Mapping[str, Any]
    sessions: tuple[Mapping[str, Any], ...]
    label: str
    plan: tuple[EpisodeKey, ...]
    episodes: tuple[EpisodeData, ...]
    pending: tuple[EpisodeKey, ...]
    damaged: tuple[Damaged, ...]

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """Episodes by outcome, all three outcomes always present."""
        counted = Counter(episode.outcome for episode in self.episodes)
        return MappingProxyType({outcome: counted[outcome] for outcome in OUTCOMES})

    @property
    def scored(self) -> tuple[EpisodeData, ...]:
        """Successes and failures."""
        return tuple(episode for episode in self.episodes if episode.outcome != "error")

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.identity["settings"]["task"])

    @property
    def privileged(self) -> bool:
        """Whether the policy reads the simulator's state."""
        return bool(self.identity.get("privileged"))


def read_run_data(path: str | Path, task: str | None = None) -> RunData:
    """Read a run folder of one task, finished or not.

    Args:
        path: The run folder.
        task: Which task of a run of several; None for a run of one.

    Raises:
        UsageError: There is no run, run.json is damaged, or the run has several tasks and none or
            another was asked for.
    """
    runs = read_tasks(path)
    if len(runs) == 1:
        return runs[0]
    for run in runs:
        if run.task == task:
            return run
    names = ", ".join(run.task for run in runs)
    raise UsageError(
        f"{path} is a run of {len(runs)} tasks ({names}), and this takes one of them"
        + ("" if task is None else f", not {task}")
    )


class RunLines(NamedTuple):
    """A run as run.json and episodes.jsonl have it; the files of its episodes were not opened.

    Attributes:
        record: Content of run.json.
        identities: `identity` of run.json, as of a run of each task alone.
        label: As `RunData.label`.
        plans: All episodes by task.
        lines: The usable lines.
        damaged: What is wrong with the others.
    """

    record: Mapping[str, Any]
    identities: Sequence[Mapping[str, Any]]
    label: str
    plans: Sequence[tuple[EpisodeKey, ...]]
    lines: Mapping[EpisodeKey, dict[str, Any]]
    damaged: Sequence[Damaged]


def read_run_lines(path: Path) -> RunLines:
    """Read run.json and episodes.jsonl.

    Raises:
        UsageError: There is no run, or run.json is damaged.
    """
    record = read_run(path)
    identities = of_each_task(record["identity"])
    try:
        for identity in identities:
            identity["settings"] = settled(identity["settings"])
        plans = _plans(identities)
        label = policy_label(identities[0])
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{path / RUN_FILE} is damaged (in its identity: {type(error).__name__} {error}): "
            "restore the file, or start the run again under another --out"
        ) from error
    lines, damaged = _lines(path, {key for plan in plans for key in plan})
    return RunLines(record, identities, label, plans, lines, damaged)


def read_tasks(path: str | Path) -> tuple[RunData, ...]:
    """Read a run folder, finished or not; one entry per task.

    Raises:
        UsageError: There is no run, or run.json is damaged.
    """
    path = Path(path)
    record, identities, label, plans, lines, damaged = read_run_lines(path)
    owner = {key.folder: number for number, plan in enumerate(plans) for key in plan}
    name = spelled_out(path.resolve().name)
    runs = []
    for number, (identity, plan) in enumerate(zip(identities, plans, strict=True)):
        # A damaged line that names no episode is listed with the first task.
        left_out = [entry for entry in damaged if owner.get(entry.name, 0) == number]
        episodes = []
        for key in plan:
            if key not in lines:
                continue
            try:
                episodes.append(read_episode(path, key, lines[key]))
            except DamagedRecordError as error:
                left_out.append(Damaged(name=key.folder, why=str(error)))
        named = {entry.name for entry in left_out}
        runs.append(
            RunData(
                path=path,
                name=name if len(plans) == 1 else f"{name}/{identity['settings']['task']}",
                identity=MappingProxyType(identity),
                sessions=tuple(MappingProxyType(session) for session in record["sessions"]),
                label=label,
                plan=plan,
                episodes=tuple(episodes),
                pending=tuple(key for key in plan if key not in lines and key.folder not in named),
                damaged=tuple(left_out),
            )
        )
    return tuple(runs)


def read_trace(episode: EpisodeData) -> EpisodeTrace:
    """Open an episode's trace; columns are read on demand.

    Raises:
        DamagedTraceError: It is missing, cannot be read, or does not have one row per step.
    """
    if episode.trace is None:
        raise DamagedTraceError(f"{episode.folder} has no {TRACE_FILE}")
    return EpisodeTrace(episode.trace, steps=episode.steps, subgoals=episode.subgoals)


# --- episodes -------------------------------------------------------------------------------


_IN_BOTH = (*EpisodeKey._fields, "outcome", "steps")
"""Fields that an episode's line must have, equal to its result.json."""


def _plans(identities: Sequence[Mapping[str, Any]]) -> list[tuple[EpisodeKey, ...]]:
    """Return the episodes of a run by task, those of its shard only."""
    whole = [_plan(identity["settings"]) for identity in identities]
    in_order = [key for plan in whole for key in plan]
    mine = set(share(in_order, identities[0]["settings"]["shard"]))
    return [tuple(key for key in plan if key in mine) for plan in whole]


def _plan(settings: Mapping[str, Any]) -> tuple[EpisodeKey, ...]:
    """Return the episodes of a task, in the order of `launch.plan_episodes`."""
    return tuple(
        EpisodeKey(settings["task"], instance, rollout)
        for instance in settings["instances"]
        for rollout in range(settings["rollouts"])
    )


def policy_label(identity: Mapping[str, Any]) -> str:
    """Return `RunData.label` from `policy`, `privileged` and `settings` of an identity."""
    policy = identity["policy"]
    name = policy["name"]
    marks = ["privileged"] if identity["privileged"] else []
    if "checkpoint" in policy:
        contract = policy["contract"]
        name = f"{policy['checkpoint']['origin']}, contract {contract['contract']['name']}"
        # A family of another kind of checkpoint need not know these.
        marks += ["forced"] if policy.get("forced") else []
        for field in ("skill_id", "skill_progress"):
            forced = policy.get(f"forced_{field}")
            marks += [] if forced is None else [f"{field} forced to {forced}"]
    marks += identity["settings"].get("policy_args", [])
    return spelled_out(f"{name} ({', '.join(marks)})" if marks else str(name))


def _lines(
    path: Path, plan: set[EpisodeKey]
) -> tuple[dict[EpisodeKey, dict[str, Any]], list[Damaged]]:
    """Return the usable lines of episodes.jsonl, and what is wrong with the others."""
    lines: dict[EpisodeKey, dict[str, Any]] = {}
    seen: dict[EpisodeKey, int] = {}
    damaged = []
    for number, key, line, problem in read_lines(path, _IN_BOTH):
        if key is not None and key in seen:
            lines.pop(key, None)  # nothing tells which of the two is right
            problem = f"lines {seen[key]} and {number} both list it"
        elif key is not None and key not in plan:
            problem = f"line {number} lists it, and run.json does not"
        if problem or key is None:
            where = f"line {number}" if key is None else key.folder
            damaged.append(Damaged(name=where, why=f"{problem}"))
        else:
            seen[key] = number
            lines[key] = line
    return lines, damaged


def read_episode(path: Path, key: EpisodeKey, line: dict[str, Any]) -> EpisodeData:
    """Combine a line of a run's episodes.jsonl and the episode's folder.

    Raises:
        DamagedRecordError: They contradict each other, or the files cannot be used.
    """
    folder = path / EPISODES_FOLDER / key.folder
    failed = line["outcome"] == "error"
    result: dict[str, Any] | None = None
    try:
        result = parse_object((folder / RESULT_FILE).read_bytes())
    except OSError as error:
        if not failed:
            raise DamagedRecordError(f"{RESULT_FILE} cannot be read ({error.strerror})") from error
    if result is None or (failed and result.get("outcome") != "error"):
        # A retry is replacing the files of the error and has no line yet.
        return EpisodeData(**vars(EpisodeRecord.from_json(line, line=True)), folder=folder)
    for name in _IN_BOTH:
        if result.get(name) != line[name]:
            raise DamagedRecordError(
                f"its line has {name} {line[name]!r}, its {RESULT_FILE} {result.get(name)!r}"
            )
    return EpisodeData(**vars(EpisodeRecord.from_json(result)), folder=folder)


def _present(path: Path) -> Path | None:
    return path if path.is_file() else None
