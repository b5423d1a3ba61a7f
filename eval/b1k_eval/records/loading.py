"""A run folder read for analysis: what is usable is kept, what is damaged is named and left out.

Resuming a run must refuse any damage (`b1k_eval.records.run_files`); looking at one need not. An
episode whose files cannot be trusted is listed under `RunData.damaged` with the reason, everything
else counts. Nothing is repaired, and an `error` stays an error.

Traces are not opened by `read_run_data`: `read_trace` reads one episode's, column by column, on
demand.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from b1k_envs.errors import UsageError
from b1k_eval.files import spelled_out
from b1k_eval.loop.events import Outcome
from b1k_eval.records.run_files import (
    EPISODES_FILE,
    EPISODES_FOLDER,
    RUN_FILE,
    EpisodeKey,
    read_run,
)
from b1k_eval.records.trace_columns import DamagedTraceError, EpisodeTrace
from b1k_eval.run.episode import RESULT_FILE, TRACE_FILE, VIDEO_FILE
from b1k_eval.settings import settled

__all__ = [
    "OUTCOMES",
    "Damaged",
    "DamagedTraceError",
    "EpisodeData",
    "EpisodeTrace",
    "RunData",
    "read_run_data",
    "read_trace",
]

OUTCOMES: tuple[Outcome, ...] = ("success", "failure", "error")


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """What was left out.

    Attributes:
        name: The episode (TASK-INSTANCE-ROLLOUT), or the line of episodes.jsonl where it is not
            known which one that is.
        why: What is wrong with it.
    """

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class EpisodeData:
    """One finished episode; the fields of its result.json, where not said otherwise.

    Attributes:
        key: Task, instance, rollout.
        seed: Seed of the episode.
        outcome: `success`, `failure` or `error`.
        success: None for an error.
        q_score: In [0, 1]; None for an error.
        failure_reason: Machine-readable cause where the policy was at fault, else None.
        message: Fault or error in words, and what the simulator did wrong, else None.
        steps: Control steps executed.
        simulated_s: The same as simulated time [s].
        truncated: The time limit was reached.
        inferences: How often the policy was asked.
        privileged: The policy read the simulator's truth.
        initial_predicates: Truth of the goal's predicates before the first action.
        predicates: The same after the last.
        subgoals: First step after which each sub-goal held, in the task's order; 0 at the start,
            None never. Empty if the task has none.
        efficiency: Official time and distance figures; None for an error.
        timing: Wall times [s].
        folder: The episode's folder.
        trace: trace.parquet; None if it is not there.
        video: video.mp4; None if it is not there.
    """

    key: EpisodeKey
    seed: int
    outcome: Outcome
    success: bool | None
    q_score: float | None
    failure_reason: str | None
    message: str | None
    steps: int
    simulated_s: float
    truncated: bool
    inferences: int
    privileged: bool
    initial_predicates: Mapping[str, bool]
    predicates: Mapping[str, bool]
    subgoals: Mapping[str, int | None]
    efficiency: Mapping[str, Any] | None
    timing: Mapping[str, float]
    folder: Path
    trace: Path | None
    video: Path | None

    @property
    def name(self) -> str:
        """TASK-INSTANCE-ROLLOUT."""
        return self.key.folder


@dataclass(frozen=True, kw_only=True)
class RunData:
    """A run as far as it is finished and undamaged.

    Attributes:
        path: The run folder.
        name: Its name.
        identity: What was run, as run.json has it.
        sessions: When and where, as run.json has it.
        label: The policy for tables: its name, or a checkpoint's origin and contract, and in
            parentheses what its numbers depend on (privileged, forced).
        plan: Every episode of the run, instance by instance, rollout by rollout.
        episodes: The finished ones, in the order of the plan.
        pending: Those of the plan that have no line: the run is still being written, or was
            stopped. An episode whose line cannot even be read counts here as well.
        damaged: What was left out, and why.
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
        """Successes and failures; an error is no evidence either way."""
        return tuple(episode for episode in self.episodes if episode.outcome != "error")

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.identity["settings"]["task"])

    @property
    def privileged(self) -> bool:
        """Whether the policy reads the simulator's truth."""
        return bool(self.identity.get("privileged"))


def read_run_data(path: str | Path) -> RunData:
    """Read a run folder, finished or not.

    Args:
        path: The folder, with run.json.

    Raises:
        UsageError: There is no run, or run.json is damaged: then nothing can be said of it.
    """
    path = Path(path)
    record = read_run(path)
    identity = dict(record["identity"])
    try:
        identity["settings"] = settled(identity["settings"])
        plan, label = _plan(identity), _label(identity)
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{path / RUN_FILE} is damaged (in its identity: {type(error).__name__} {error}): "
            "restore the file, or start the run again under another --out"
        ) from error
    lines, damaged = _lines(path, set(plan))
    episodes = []
    for key in plan:
        if key not in lines:
            continue
        try:
            episodes.append(_episode(path, key, lines[key]))
        except _UnusableError as error:
            damaged.append(Damaged(name=key.folder, why=str(error)))
    named = {entry.name for entry in damaged}
    return RunData(
        path=path,
        name=spelled_out(path.resolve().name),
        identity=MappingProxyType(identity),
        sessions=tuple(MappingProxyType(session) for session in record["sessions"]),
        label=label,
        plan=plan,
        episodes=tuple(episodes),
        pending=tuple(key for key in plan if key not in lines and key.folder not in named),
        damaged=tuple(damaged),
    )


def read_trace(episode: EpisodeData) -> EpisodeTrace:
    """Open an episode's trace; its columns are read when they are asked for.

    Raises:
        DamagedTraceError: There is none, it cannot be read, or it has not one row a step.
    """
    if episode.trace is None:
        raise DamagedTraceError(f"{episode.folder} has no {TRACE_FILE}")
    return EpisodeTrace(episode.trace, steps=episode.steps, subgoals=episode.subgoals)


# --- episodes -------------------------------------------------------------------------------


class _UnusableError(Exception):
    """Why an episode or a line is left out."""


_NUMBER = (int, float)
_FIELDS: Mapping[str, tuple[type, ...]] = {
    "seed": (int,),
    "success": (bool, type(None)),
    "q_score": (*_NUMBER, type(None)),
    "failure_reason": (str, type(None)),
    "message": (str, type(None)),
    "steps": (int,),
    "simulated_s": _NUMBER,
    "truncated": (bool,),
    "inferences": (int,),
    "privileged": (bool,),
    "initial_predicates": (dict,),
    "predicates": (dict,),
    "subgoals": (dict,),
    "efficiency": (dict, type(None)),
    "timing": (dict,),
}
"""Fields of result.json that are kept, and what each may be."""

_KEY_FIELDS = (("task", (str,)), ("instance", (int,)), ("rollout", (int,)))

_UNKNOWN_TO_A_LINE: Mapping[str, Any] = {
    "truncated": False,
    "inferences": 0,
    "initial_predicates": {},
    "predicates": {},
    "subgoals": {},
    "efficiency": None,
}
"""What an error is taken to be of which only the line is there; nothing of it is ever scored."""


def _plan(identity: Mapping[str, Any]) -> tuple[EpisodeKey, ...]:
    """The episodes of a run, in the order in which `b1k-eval run` plans them."""
    settings = identity["settings"]
    return tuple(
        EpisodeKey(settings["task"], instance, rollout)
        for instance in settings["instances"]
        for rollout in range(settings["rollouts"])
    )


def _label(identity: Mapping[str, Any]) -> str:
    policy = identity["policy"]
    name = policy["name"]
    marks = ["privileged"] if identity["privileged"] else []
    if "checkpoint" in policy:
        contract = policy["contract"]
        name = f"{policy['checkpoint']['origin']}, contract {contract['contract']['name']}"
        marks += ["forced"] if policy["forced"] else []
        for field in ("skill_id", "skill_progress"):
            forced = policy[f"forced_{field}"]
            marks += [] if forced is None else [f"{field} forced to {forced}"]
    return spelled_out(f"{name} ({', '.join(marks)})" if marks else str(name))


def _lines(
    path: Path, plan: set[EpisodeKey]
) -> tuple[dict[EpisodeKey, dict[str, Any]], list[Damaged]]:
    """The usable lines of episodes.jsonl; a torn last one is an episode that has none yet."""
    file = path / EPISODES_FILE
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    lines: dict[EpisodeKey, dict[str, Any]] = {}
    seen: dict[EpisodeKey, int] = {}
    damaged = []
    for number, raw in enumerate(data.split(b"\n")[:-1], start=1):
        where = f"line {number}"
        try:
            line = _json(raw)
            key = EpisodeKey(*(_field(line, *field) for field in _KEY_FIELDS))
            where = key.folder
            if key not in plan:
                raise _UnusableError(f"line {number} lists it, and run.json does not")
            if line.get("outcome") not in OUTCOMES:
                raise _UnusableError(f"line {number} has the outcome {line.get('outcome')!r}")
            if key in seen:
                lines.pop(key, None)
                raise _UnusableError(f"lines {seen[key]} and {number} both list it")
            seen[key] = number
            lines[key] = line
        except _UnusableError as error:
            damaged.append(Damaged(name=where, why=str(error)))
    return lines, damaged


def _episode(path: Path, key: EpisodeKey, line: dict[str, Any]) -> EpisodeData:
    """What a line and its folder say together."""
    folder = path / EPISODES_FOLDER / key.folder
    outcome = line["outcome"]
    try:
        result = _json((folder / RESULT_FILE).read_bytes())
    except OSError as error:
        if outcome != "error":
            raise _UnusableError(f"{RESULT_FILE} cannot be read ({error.strerror})") from error
        result = {**_UNKNOWN_TO_A_LINE, **line}  # a retry is taking the files' place
    if outcome == "error" and result.get("outcome") != "error":
        result = {**_UNKNOWN_TO_A_LINE, **line}  # a retry's files, whose line is not there yet
    for name, value in (*key._asdict().items(), ("outcome", outcome), ("steps", line.get("steps"))):
        if result.get(name) != value:
            raise _UnusableError(
                f"its line has {name} {value!r}, its {RESULT_FILE} {result.get(name)!r}"
            )
    fields = {name: _field(result, name, kinds) for name, kinds in _FIELDS.items()}
    scored = outcome != "error"
    q_score = fields["q_score"]
    if (q_score is not None) != scored or (q_score is not None and not 0.0 <= q_score <= 1.0):
        raise _UnusableError(f"{RESULT_FILE} has q_score {q_score!r} with outcome {outcome!r}")
    if fields["success"] is not ((outcome == "success") if scored else None):
        raise _UnusableError(f"{RESULT_FILE} has success {fields['success']!r}, but {outcome!r}")
    for name, value in fields.items():
        if isinstance(value, dict):
            fields[name] = MappingProxyType(value)
    return EpisodeData(
        key=key,
        outcome=outcome,
        folder=folder,
        trace=_present(folder / TRACE_FILE),
        video=_present(folder / VIDEO_FILE),
        **fields,
    )


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except ValueError as error:
        raise _UnusableError(f"it is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise _UnusableError("it holds no JSON object")
    return value


def _refuse(constant: str) -> None:
    """NaN and the infinities, which Python reads and JSON does not have."""
    raise ValueError(f"it has {constant}")


def _field(record: Mapping[str, Any], name: str, kinds: tuple[type, ...]) -> Any:  # noqa: ANN401
    if name not in record:
        raise _UnusableError(f"{name!r} is missing")
    value = record[name]
    if type(value) not in kinds:  # exactly: true and false are no numbers
        raise _UnusableError(f"{name!r} is {value!r}")
    return value


def _present(path: Path) -> Path | None:
    return path if path.is_file() else None
