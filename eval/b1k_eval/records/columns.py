"""The columns of a trace, declared once.

A new column is an entry in `COLUMNS`: how its value is taken from a `StepEvent`, whether the page
draws it, whether a replay must reproduce it, and where the Rerun file has it. Columns describe the
state after the step unless stated otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from b1k_envs.base import GoalStatus
from b1k_envs.r1pro import ACTION_DIM, ACTION_NAMES
from b1k_eval.loop.events import EpisodeStart, StepEvent

Kind = Literal["bool", "int8", "int32", "float32", "float64", "string"]

PREDICATE_PREFIX = "predicate:"
SUBGOAL_PREFIX = "subgoal:"
CHECK_PREFIX = "check:"
"""Prefixes of the columns of truths."""


def _none(event: StepEvent) -> None:
    """Stand in for the value of truths, which comes from `TraceColumn.truths`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TraceColumn:
    """A column of the trace, or a group of columns.

    Attributes:
        name: Name, or the common prefix of a group.
        kind: Type in the file.
        meaning: Meaning, with unit and frame.
        value: Its value for a step, None for null; for a group, an array.
        ends: Suffixes of a group's names; empty for a single column and for truths.
        called: What the columns of a group stand for, in the file as metadata `name` of each.
        truths: For bool columns named by the episode: truth by name.
        with_noise: Written only in runs with action noise.
        newer: Traces of older versions may lack it; it is then read as nulls.
        checksum: Numbers that differ by rounding make it another one altogether.
        measured: A wall time, which differs between equal runs.
        tolerance: Largest difference of an equal replay; None if not compared.
        curve: Label of its curve on the page, drawn from 0 upwards; None for no curve.
        rerun: Entity below `policy/` in the Rerun file, and the tab that shows it; None if it has
            no entity of its own.
    """

    name: str
    kind: Kind
    meaning: str
    value: Callable[[StepEvent], Any] = _none
    ends: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    truths: Callable[[EpisodeStart | StepEvent], Mapping[str, bool]] | None = None
    with_noise: bool = False
    newer: bool = False
    checksum: bool = False
    measured: bool = False
    tolerance: float | None = None
    curve: str | None = None
    rerun: tuple[str, str] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the file; not for truths, which the episode names."""
        return tuple(f"{self.name}{end}" for end in self.ends) or (self.name,)


_ACTION = tuple(map(str, range(ACTION_DIM)))
_SAME_M = 1e-6
"""Tolerance of positions [m]: a contact that goes another way soon exceeds it."""
_SAME_Q = 1e-6
"""Tolerance of the q-score, a fraction of a few predicates in float32."""

_POSITIONS = tuple(
    TraceColumn(
        name=f"{body}_",
        kind="float64",
        meaning=f"{words}, world frame",
        value=attrgetter(f"result.agent.{body}"),
        ends=("x", "y", "z"),
        tolerance=_SAME_M,
    )
    for body, words in (
        ("base", "the base [m]; what the official AgentMetric integrates, as the hands"),
        ("left_eef", "the left hand [m]"),
        ("right_eef", "the right hand [m]"),
    )
)

COLUMNS: tuple[TraceColumn, ...] = (
    TraceColumn(name="step", kind="int32", meaning="from 1", value=lambda event: event.result.step),
    TraceColumn(
        name="time",
        kind="float64",
        meaning="simulated [s]",
        value=lambda event: event.result.time,
    ),
    TraceColumn(
        name="asked_seed",
        kind="int32",
        meaning="seed of the inference right before the step; null where none was, as in the next "
        "three",
        value=lambda event: None if event.asked is None else event.asked.seed,
        newer=True,
    ),
    TraceColumn(
        name="asked_instruction",
        kind="string",
        meaning="the task in words, as the policy was told it",
        value=lambda event: None if event.asked is None else event.asked.instruction,
        newer=True,
    ),
    TraceColumn(
        name="asked_state",
        kind="int32",
        meaning="checksum of the step, time, proprio and camera poses that the policy was given",
        value=lambda event: None if event.asked is None else event.asked.state,
        newer=True,
        checksum=True,
    ),
    TraceColumn(
        name="asked_pictures",
        kind="int32",
        meaning="the same of pictures and depth; null also where it was given none",
        value=lambda event: None if event.asked is None else event.asked.pictures,
        newer=True,
        checksum=True,
    ),
    TraceColumn(
        name="action_",
        kind="float32",
        meaning="the executed action; units as in `b1k_envs.r1pro`",
        value=lambda event: event.action,
        ends=_ACTION,
        called=ACTION_NAMES,
    ),
    TraceColumn(
        name="command_",
        kind="float32",
        meaning="what the policy asked for; units as in `b1k_envs.r1pro`",
        value=lambda event: event.command,
        ends=_ACTION,
        called=ACTION_NAMES,
        with_noise=True,
    ),
    TraceColumn(
        name="q_score",
        kind="float32",
        meaning="in [0, 1]",
        value=lambda event: event.goal.q_score,
        tolerance=_SAME_Q,
        curve="q-score",
    ),
    TraceColumn(
        name=PREDICATE_PREFIX,
        kind="bool",
        meaning="each predicate of the goal",
        truths=lambda event: event.goal.predicates,
    ),
    TraceColumn(
        name=SUBGOAL_PREFIX,
        kind="bool",
        meaning="whether each sub-goal of the task holds now; it was reached if it ever held",
        truths=lambda event: event.subgoals,
    ),
    TraceColumn(
        name=CHECK_PREFIX,
        kind="bool",
        meaning="whether each check of the public metric task progress holds now; it was reached "
        "if it ever held",
        truths=lambda event: event.checks,
    ),
    TraceColumn(
        name="not_finite",
        kind="int8",  # not bool: truths may not be null, see `EpisodeTrace.read`
        meaning="1 where the observation made right before the step had a NaN or an infinity in "
        "proprio or camera poses, else 0; null where none was made",
        value=lambda event: None if event.not_finite is None else int(event.not_finite),
        newer=True,
    ),
    TraceColumn(
        name="inference",
        kind="bool",
        meaning="the policy was asked right before the step",
        value=lambda event: event.inference,
    ),
    TraceColumn(
        name="skill",
        kind="string",
        meaning="the policy's last word on its skill; null where it has none",
        value=lambda event: None if event.skill is None else event.skill.name,
    ),
    TraceColumn(
        name="skill_index",
        kind="int32",
        meaning="its number, from 0; null where it has none",
        value=lambda event: None if event.skill is None else event.skill.index,
        rerun=("skill_index", "skill index"),
    ),
    TraceColumn(
        name="skill_prob",
        kind="float32",
        meaning="how sure the policy is of it, in [0, 1]; null where it does not say",
        value=lambda event: None if event.skill is None else event.skill.probability,
        rerun=("skill_probability", "policy"),
    ),
    TraceColumn(
        name="progress",
        kind="float32",
        meaning="the policy's last word on its progress, in [0, 1]; null where it has none",
        value=lambda event: event.progress,
        curve="Progress",
        rerun=("progress", "policy"),
    ),
    TraceColumn(
        name="latency_s",
        kind="float32",
        meaning="wall time of the inference [s], null where none was: with `wait_s` the only "
        "column that differs between equal runs",
        value=lambda event: event.latency_s,
        measured=True,
        rerun=("latency", "latency"),
    ),
    TraceColumn(
        name="wait_s",
        kind="float32",
        meaning="time that the question waited for those of other episodes before the inference "
        "[s], not in `latency_s`; null where the model was not shared",
        value=lambda event: event.wait_s,
        newer=True,
        measured=True,
    ),
    *_POSITIONS,
)
"""All columns in the order of the file."""

TRUTHS: tuple[TraceColumn, ...] = tuple(column for column in COLUMNS if column.truths)
POSITIONS: tuple[str, ...] = tuple(name for column in _POSITIONS for name in column.names)
COMPARED: Mapping[str, TraceColumn] = {
    name: column for column in COLUMNS if column.tolerance is not None for name in column.names
}
"""Columns that a replay must reproduce besides the truths, by name in the file."""
CALLED: Mapping[str, str] = {
    name: called
    for column in COLUMNS
    if column.called
    for name, called in zip(column.names, column.called, strict=True)
}
"""What columns with a mere number in their name stand for, by that name."""
CHECKSUMS: frozenset[str] = frozenset(column.name for column in COLUMNS if column.checksum)
MEASURED: frozenset[str] = frozenset(column.name for column in COLUMNS if column.measured)
NEWER: Mapping[str, Kind] = {
    name: column.kind for column in COLUMNS if column.newer for name in column.names
}


def truths_of(goal: GoalStatus, subgoals: Mapping[str, bool]) -> dict[str, bool]:
    """Return the predicates and sub-goals of a state, by column name."""
    named = ((PREDICATE_PREFIX, goal.predicates), (SUBGOAL_PREFIX, subgoals))
    return {f"{prefix}{name}": holds for prefix, truths in named for name, holds in truths.items()}
