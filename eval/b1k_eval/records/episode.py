"""The record of one episode: the schema of result.json and of its line in episodes.jsonl.

It is built where an episode ends (`b1k_eval.records.scoring.episode_record`) or is imported. The
fields of the dataclass are the schema, with types and order as in the file. Those without a default
are also in the line, and task progress.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple

from b1k_eval.loop.events import Outcome

FORMAT = 1
RESULT_FILE = "result.json"
TRACE_FILE = "trace.parquet"
VIDEO_FILE = "video.mp4"

OUTCOMES: tuple[Outcome, ...] = ("success", "failure", "error")


class EpisodeKey(NamedTuple):
    """Identifies an episode of a run."""

    task: str
    instance: int
    rollout: int

    @property
    def folder(self) -> str:
        """Name of its folder under `episodes/`."""
        return f"{self.task}-{self.instance}-{self.rollout}"


class DamagedRecordError(Exception):
    """A record that cannot be used; the text says why."""


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """One finished episode.

    Attributes:
        task: Task name.
        task_index: Index in the table of tasks.
        instance: Index within the split.
        rollout: Number of the attempt.
        seed: Seed of the episode.
        outcome: `success`, `failure` or `error`.
        success: None for an error.
        q_score: In [0, 1]; None for an error.
        failure_reason: Machine-readable cause where the policy was at fault, else None.
        message: Fault or error in words, and numbers that were not finite; else None.
        not_finite: As JSON values of `loop.events.NotFinite`.
        traceback: Of the fault or error.
        steps: Control steps executed.
        simulated_s: Simulated time [s].
        terminated: The goal was reached.
        truncated: The time limit was reached.
        inferences: How often the policy was asked.
        stalled_steps: Steps with no action ready.
        privileged: The policy read the simulator's state.
        remarks: What a reader should know before trusting the result.
        initial_predicates: Truth of the goal's predicates before the first action.
        predicates: Truth of the goal's predicates after the last action.
        subgoals: First step after which each sub-goal held, in the task's order; 0 for the start,
            None for never. Empty if the task has none.
        task_progress: The public metric: `variant`, `score` in [0, 1], and `reached`, the first
            step after which each check held, None for never; None for an error, without a public
            table of the task, and where a check cannot be told (see `remarks`).
        diagnosis: Why a failure failed, `diagnosis.failures.Failure` as JSON values; None for the
            others, and if it cannot be told.
        efficiency: Official time and distance figures; None for an error.
        recording: `frames`, `fps` and `bytes` of video.mp4; None, and not in result.json, if there
            is no video or an older version made it.
        timing: Wall times [s]; empty if unknown.
    """

    task: str
    task_index: int
    instance: int
    rollout: int
    seed: int
    outcome: Outcome
    success: bool | None
    q_score: float | None
    failure_reason: str | None
    message: str | None
    not_finite: Mapping[str, Any] | None = None
    traceback: str | None = None
    steps: int
    simulated_s: float
    terminated: bool = False
    truncated: bool = False
    inferences: int = 0
    stalled_steps: int = 0
    privileged: bool
    remarks: tuple[str, ...] = ()
    initial_predicates: Mapping[str, bool] = field(default_factory=dict)
    predicates: Mapping[str, bool] = field(default_factory=dict)
    subgoals: Mapping[str, int | None] = field(default_factory=dict)
    task_progress: Mapping[str, Any] | None = None
    diagnosis: Mapping[str, Any] | None = None
    efficiency: Mapping[str, Any] | None = None
    recording: Mapping[str, Any] | None = None
    timing: Mapping[str, float]

    @property
    def key(self) -> EpisodeKey:
        """The key in its run."""
        return EpisodeKey(self.task, self.instance, self.rollout)

    @property
    def name(self) -> str:
        """TASK-INSTANCE-ROLLOUT."""
        return self.key.folder

    @property
    def progress(self) -> float | None:
        """Score of task progress, in [0, 1]; None where it was not counted."""
        return None if self.task_progress is None else float(self.task_progress["score"])

    @property
    def reached(self) -> str | None:
        """How many sub-goals held at some time, in words; None if the task has none."""
        if not self.subgoals:
            return None
        count = sum(step is not None for step in self.subgoals.values())
        return f"{count} of {len(self.subgoals)}"

    def to_json(self) -> dict[str, Any]:
        """Return the content of result.json."""
        values = {each.name: _plain(getattr(self, each.name)) for each in _FIELDS}
        if self.recording is None:
            del values["recording"]
        return {"format": FORMAT, **values}

    def line(self) -> dict[str, Any]:
        """Return the episode's line in episodes.jsonl."""
        return {name: _plain(getattr(self, name)) for name in (*LINE_FIELDS, *_ALSO_IN_LINE)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any], *, line: bool = False) -> EpisodeRecord:
        """Read result.json, or the line of an error whose files a retry is replacing.

        Args:
            record: Its content.
            line: Whether it is a line, which lacks the fields with a default.

        Raises:
            DamagedRecordError: A field is missing or has a wrong type, or fields contradict each
                other.
        """
        values = {}
        for each in _FIELDS:
            if each.name in record:
                values[each.name] = _read(each, record[each.name])
            elif each.name in LINE_FIELDS or not (line or each.name in _NEWER):
                raise DamagedRecordError(f"{each.name!r} is missing")
        read = cls(**values)
        _check_progress(read.task_progress)
        scored, q_score = read.outcome != "error", read.q_score
        if (q_score is not None) != scored or (q_score is not None and not 0.0 <= q_score <= 1.0):
            raise DamagedRecordError(f"q_score {q_score!r} with outcome {read.outcome!r}")
        if read.success is not ((read.outcome == "success") if scored else None):
            raise DamagedRecordError(f"success {read.success!r}, but {read.outcome!r}")
        return read


_FIELDS: tuple[Field[Any], ...] = fields(EpisodeRecord)
LINE_FIELDS: tuple[str, ...] = tuple(
    each.name for each in _FIELDS if each.default is each.default_factory is MISSING
)
"""Fields of result.json that an episode's line must repeat."""

_ALSO_IN_LINE = ("task_progress",)
"""Fields that lines of older versions lack."""

_NEWER = (*_ALSO_IN_LINE, "not_finite", "stalled_steps", "remarks", "diagnosis", "recording")
"""Fields that result.json of older versions, and of imported results, may lack."""

_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "Outcome": (str,),
    "Mapping": (dict,),
    "tuple": (list,),
    "None": (type(None),),
}
"""Types of the JSON values of a field, by the first word of its annotation."""


def _read(each: Field[Any], value: Any) -> Any:  # noqa: ANN401 - a JSON value
    words = str(each.type).split("[")[0].split(" | ")
    if str(each.type).endswith("| None"):
        words.append("None")
    kinds = [kind for word in words for kind in _KINDS[word]]
    # Not `isinstance`, for which true and false are integers.
    if type(value) not in kinds or (each.type == "Outcome" and value not in OUTCOMES):
        raise DamagedRecordError(f"{each.name!r} is {value!r}")
    if isinstance(value, dict):
        return MappingProxyType(value)
    return tuple(value) if isinstance(value, list) else value


def _check_progress(found: Mapping[str, Any] | None) -> None:
    """Refuse task progress whose score is not that of what was reached."""
    if found is None:
        return
    steps = [*found["reached"].values()] if isinstance(found.get("reached"), dict) else []
    known = all(step is None or type(step) is int for step in steps) and bool(steps)
    share = sum(step is not None for step in steps) / len(steps) if known else None
    if share is None or found.get("score") != share or not isinstance(found.get("variant"), str):
        raise DamagedRecordError(f"'task_progress' is {dict(found)!r}")


def _plain(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
