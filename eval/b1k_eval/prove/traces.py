"""Comparing the traces of two runs of the same episodes, column by column.

Numbers are compared by their bits. Columns of `MEASURED` are left out: they are wall times. A pass
says nothing of what a trace does not hold, such as where objects are that no predicate names and no
picture showed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from b1k_eval.records.columns import CHECKSUMS, MEASURED
from b1k_eval.records.loading import EpisodeData, read_tasks, read_trace
from b1k_eval.records.trace_reading import DamagedTraceError, Values

Verdict = Literal["equal", "rounding", "different"]

ROUNDING = 1e-3
"""Largest difference that counts as rounding where an episode first differs, in the unit of the
column: m, rad, a command or a share of 1."""

GROWN = 0.05
"""To what such a difference may grow, for the world and a policy amplify it: the sums of a batch of
two, of `twin-v17`, differ by 3e-7, and 30 steps later its actions by 7e-4."""

_RESULT = (
    *("seed", "initial_predicates", "terminated", "truncated", "inferences", "stalled_steps"),
    *("failure_reason", "success", "q_score", "predicates", "subgoals", "task_progress"),
)
"""Fields of result.json that equal episodes have in common, besides outcome and steps."""

_AFTER = "result.json "


@dataclass(frozen=True, kw_only=True)
class CellDifference:
    """The first place where an episode differs.

    Attributes:
        episode: TASK-INSTANCE-ROLLOUT.
        step: Control step, from 1; None for a field of result.json.
        column: Column of the trace, or `result.json FIELD`.
        expected: Value of the first run; None for null.
        found: Value of the other run; None for null.
    """

    episode: str
    step: int | None
    column: str
    expected: Any
    found: Any

    def words(self) -> str:
        """Return it as a phrase."""
        at = "" if self.step is None else f", step {self.step}"
        return f"{self.episode}{at}, {self.column}: {self.found} instead of {self.expected}"


@dataclass(frozen=True, kw_only=True)
class EpisodeComparison:
    """Comparison of an episode of two runs.

    Attributes:
        verdict: `equal` to the bit, `rounding` within `ROUNDING` and `GROWN`, or `different`.
        first: The first difference; None if equal.
        largest: Largest difference of a number.
        largest_in: Its column; None if there is none.
    """

    verdict: Verdict
    first: CellDifference | None = None
    largest: float = 0.0
    largest_in: str | None = None


def compare_runs(first: Path, second: Path) -> tuple[EpisodeComparison, ...]:
    """Compare all episodes of the first run with those of the second, in the order of the plan.

    Raises:
        UsageError: A folder is not a run.
    """
    found = {each.key: each for run in read_tasks(second) for each in run.episodes}
    return tuple(
        compare_episodes(each, found.get(each.key))
        for run in read_tasks(first)
        for each in run.episodes
    )


def compare_episodes(first: EpisodeData, second: EpisodeData | None) -> EpisodeComparison:
    """Compare an episode; without a second one it is different."""

    def apart(column: str, expected: Any, found: Any) -> EpisodeComparison:  # noqa: ANN401
        cell = CellDifference(
            episode=first.name, step=None, column=column, expected=expected, found=found
        )
        return EpisodeComparison(verdict="different", first=cell)

    if second is None:
        return apart("result.json", "an episode", None)
    if "error" in (first.outcome, second.outcome) and first.outcome != second.outcome:
        return apart(_AFTER + "outcome", first.outcome, second.message or second.outcome)
    try:
        traced = _compare_traces(first, second)
    except DamagedTraceError as damage:
        return apart("trace.parquet", "a trace", str(damage))
    if traced.verdict == "different":
        return traced
    for name in ("outcome", "steps", *_RESULT):
        old, new = getattr(first, name), getattr(second, name)
        close = name == "q_score" and traced.verdict == "rounding"
        if old != new and not (close and old is not None and abs(old - new) <= GROWN):
            return apart(_AFTER + name, _plain(old), _plain(new))
    return traced


def _compare_traces(first: EpisodeData, second: EpisodeData) -> EpisodeComparison:
    one, two = read_trace(first), read_trace(second)
    names = [name for name in one.names if name not in MEASURED]
    lacking = set(names) ^ {name for name in two.names if name not in MEASURED}
    if lacking:
        raise DamagedTraceError(f"only one has {', '.join(sorted(lacking))}")
    if first.steps == second.steps:
        names = one.unlike(two, names)
        if not names:
            return EpisodeComparison(verdict="equal")
    rows = min(first.steps, second.steps)
    old, new = ({n: v[:rows] for n, v in each.read(*names).items()} for each in (one, two))
    masks = {name: _unequal(old[name], new[name]) for name in names}
    where = {name: int(np.argmax(mask)) for name, mask in masks.items() if mask.any()}
    row = min(where.values(), default=rows)
    column = next((name for name, at in where.items() if at == row), "step")
    cell = CellDifference(
        episode=first.name,
        step=row + 1,
        column=column,
        expected=_plain(old[column][row]) if where else f"{first.steps} steps",
        found=_plain(new[column][row]) if where else f"{second.steps} steps",
    )
    # By column, float64 [rows]; infinite where one has a null.
    apart = {
        name: np.where(masks[name], np.nan_to_num(np.abs(old[name] - new[name]), nan=np.inf), 0.0)
        for name in where
        if old[name].dtype.kind == "f"
    }
    largest_in = max(apart, key=lambda name: float(apart[name].max()), default=None)
    largest = 0.0 if largest_in is None else float(apart[largest_in].max())
    # A checksum may differ once a number has, but never before one.
    rounded = (
        first.steps == second.steps
        and column in apart
        and all(by[row] <= ROUNDING for by in apart.values())
        and largest <= GROWN
        and where.keys() <= apart.keys() | CHECKSUMS
    )
    return EpisodeComparison(
        verdict="rounding" if rounded else "different",
        first=cell,
        largest=largest,
        largest_in=largest_in,
    )


def _unequal(one: Values, two: Values) -> npt.NDArray[np.bool_]:
    if one.dtype.kind == "f":
        one, two = one.view(np.int64), two.view(np.int64)  # by the bits: a null is NaN
    return np.asarray(one != two)


def _plain(value: Any) -> Any:  # noqa: ANN401 - a cell, or a JSON value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return dict(value)
    return None if isinstance(value, float) and value != value else value


def worst(compared: Sequence[EpisodeComparison]) -> EpisodeComparison:
    """Return the first of those with the worst verdict."""
    return max(compared, key=lambda each: get_args(Verdict).index(each.verdict))
