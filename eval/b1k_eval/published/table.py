"""The table of published scores, and reading rows that a user adds.

`scores.csv` has what was read at the source that each row names; an empty cell there means "not
stated", and nothing fills it in. A user's file has the same columns, those of `COLUMNS`, of which
only the first four and `source` must be there.

Values are as printed, in per cent or as shares. `doubt` says why one should not be held against
another: of the 50 values of Isaac-GR00T, 12 fit another number of checks than the public table has,
and two fit none as they are printed (docs/yardsticks.md).
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

from b1k_envs.base import ProtocolYear, Sim, Split
from b1k_envs.errors import UsageError
from b1k_envs.tasks.selection import select_tasks
from b1k_eval.selection import parse_instances

Metric = Literal["task_progress", "success", "q_score"]
Value = TypeVar("Value")

METRIC_WORDS: Mapping[Metric, str] = {
    "task_progress": "task progress",
    "success": "success rate",
    "q_score": "q-score",
}
"""Each metric as it is shown."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_NUMBER = re.compile(r"\d*\.?\d+")
_LIMIT = re.compile(r"(\d*\.?\d+)x|(\d+)")


@dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """One published score.

    Attributes:
        task: The tasks as written: the name of one, or several whose mean this is, as `0-49`.
        tasks: Names of the tasks.
        policy: Name of the policy, which `published:NAME` asks for.
        metric: What was measured.
        value: The score, in [0, 1].
        rounding: How far the exact value may be from it: half of its last printed digit.
        sim: The simulator.
        episodes: Number of episodes behind it; None if not stated, as in all that follow.
        variant: Variant of task progress.
        protocol: Challenge generation.
        split: Which initial states.
        instances: Their indices.
        time_limit: In control steps, or with an x as a multiple of the mean human length.
        base_mass_kg: Mass of the robot's base [kg].
        picture_px: Width of the rendered pictures [px].
        evaluator: What ran the episodes, with its version.
        source: Where it was published.
        note: What a reader should know.
        doubt: Why no run should be held against it; None if nothing speaks against that.
    """

    task: str
    tasks: tuple[str, ...]
    policy: str
    metric: Metric
    value: float
    rounding: float
    sim: Sim
    episodes: int | None
    variant: str | None
    protocol: ProtocolYear | None
    split: Split | None
    instances: tuple[int, ...] | None
    time_limit: str | None
    base_mass_kg: float | None
    picture_px: int | None
    evaluator: str | None
    source: str
    note: str | None
    doubt: str | None

    @property
    def successes(self) -> int | None:
        """Number of successful episodes of a success rate; None if not known."""
        if self.metric != "success" or self.episodes is None:
            return None
        return round(self.value * self.episodes)

    def shown(self) -> str:
        """Return the value in words: per cent, or a q-score in [0, 1]."""
        return f"{self.value:.3g}" if self.metric == "q_score" else f"{100 * self.value:.4g} %"

    def as_json(self) -> dict[str, Any]:
        """Return JSON values, without what only reading needs."""
        return {name: getattr(self, name) for name in COLUMNS}


# --- cells ----------------------------------------------------------------------------------------


def _value(text: str) -> tuple[float, float]:
    number = text.removesuffix("%").strip()
    if _NUMBER.fullmatch(number):
        scale = 0.01 if text.endswith("%") else 1.0
        digits = len(number.partition(".")[2])
        if float(number) * scale <= 1:
            # Rounded, for 26.3 * 0.01 is not 0.263.
            return round(float(number) * scale, digits + 2), 0.5 * scale * 10.0**-digits
    raise ValueError("a share in [0, 1] such as 0.2727, or per cent such as 27.27%")


def _one_of(choices: Iterable[str]) -> Callable[[str], str]:
    known = tuple(choices)

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"one of {', '.join(known)}")
        return text

    return read


def _matching(pattern: re.Pattern[str], form: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(form)
        return text

    return read


def _tasks(text: str) -> tuple[str, ...]:
    try:
        return tuple(task.name for task in select_tasks(text))
    except UsageError as error:
        raise ValueError(f"tasks that there are ({error})") from error


def _instances(text: str) -> tuple[int, ...]:
    try:
        return parse_instances(text)
    except UsageError as error:
        raise ValueError("instances such as 0-9,12") from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ValueError("a whole number above 0")
    return int(text)


def _mass(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError("a mass in kg such as 250")
    return float(text)


COLUMNS: Mapping[str, Callable[[str], Any]] = {
    "task": _tasks,
    "policy": _matching(_NAME, "a name of letters, digits and . _ + -, such as gr00t-n1.6"),
    "metric": _one_of(get_args(Metric)),
    "value": _value,
    "episodes": _count,
    "variant": str,
    "sim": _one_of(get_args(Sim)),
    "protocol": _one_of(get_args(ProtocolYear)),
    "split": _one_of(get_args(Split)),
    "instances": _instances,
    "time_limit": _matching(_LIMIT, "control steps such as 8000, or 2x the human mean"),
    "base_mass_kg": _mass,
    "picture_px": _count,
    "evaluator": str,
    "source": str,
    "note": str,
    "doubt": str,
}
"""The columns of a file of published scores, and what reads a cell that is not empty."""

REQUIRED = ("task", "policy", "metric", "value", "sim", "source")
"""Those that must not be empty."""


# --- files ----------------------------------------------------------------------------------------


def shipped_scores() -> tuple[PublishedScore, ...]:
    """Return the table of this package."""
    file = resources.files("b1k_eval.published").joinpath("scores.csv")
    return _read(file.read_text(encoding="utf-8"), "scores.csv")


def published_scores(file: Path | None) -> tuple[PublishedScore, ...]:
    """Return the table of this package, with a user's rows below it.

    Raises:
        UsageError: The file cannot be read, or a row is not usable; the text names the line.
    """
    shipped = shipped_scores()
    if file is None:
        return shipped
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--published-file {file} cannot be read ({error})") from error
    return (*shipped, *_read(text, str(file), shipped))


def _read(
    text: str, name: str, others: Sequence[PublishedScore] = ()
) -> tuple[PublishedScore, ...]:
    lines = csv.DictReader(io.StringIO(text))
    columns = [column.strip() for column in lines.fieldnames or ()]
    _check_columns(columns, name)
    lines.fieldnames = columns
    known = {_key(score): "the table of this package" for score in others}
    scores = []
    for cells in lines:
        where = f"{name}, line {lines.line_num}"
        if None in cells or None in cells.values():
            raise UsageError(f"{where}: it does not have {len(columns)} cells, as the first line")
        score = _score({column: cell.strip() for column, cell in cells.items()}, where)
        if _key(score) in known:
            raise UsageError(
                f"{where}: {known[_key(score)]} has {score.policy}'s {score.metric} on "
                f"{score.task} already: give the policy another name"
            )
        known[_key(score)] = where
        scores.append(score)
    return tuple(scores)


def _check_columns(columns: Sequence[str], name: str) -> None:
    missing = [column for column in REQUIRED if column not in columns]
    wrong = [column for column in columns if column not in COLUMNS]
    twice = [column for column in COLUMNS if columns.count(column) > 1]
    for column in wrong:
        near = difflib.get_close_matches(column, COLUMNS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"{name}: there is no column {column!r}: {hint}the first line names columns of "
            f"{', '.join(COLUMNS)}, separated by commas"
        )
    if missing or twice:
        what = f"no column {missing[0]}" if missing else f"two columns {twice[0]}"
        raise UsageError(f"{name} has {what}: {', '.join(REQUIRED)} are needed, each once")


def _score(cells: Mapping[str, str], where: str) -> PublishedScore:
    read: dict[str, Any] = dict.fromkeys(COLUMNS)
    for column, cell in cells.items():
        if not cell:
            if column in REQUIRED:
                raise UsageError(f"{where}: {column} is empty")
            continue
        try:
            read[column] = COLUMNS[column](cell)
        except ValueError as error:
            raise UsageError(f"{where}: {column} is {cell!r}: give {error}") from error
    read["tasks"] = read["task"]
    read["task"] = read["tasks"][0] if len(read["tasks"]) == 1 else cells["task"]
    read["value"], read["rounding"] = read["value"]
    score = PublishedScore(**read)
    if score.variant is not None and score.metric != "task_progress":
        raise UsageError(f"{where}: a variant is of task_progress, not of {score.metric}")
    if score.successes is not None:
        check_whole(score, where)
    return score


def check_whole(score: PublishedScore, where: str) -> None:
    """Check that a success rate gives a whole number of successes, within its rounding.

    Raises:
        UsageError: It does not.
    """
    episodes, successes = cast(int, score.episodes), cast(int, score.successes)
    # A little more than half a digit, for the arithmetic.
    if abs(score.value * episodes - successes) > 1.001 * score.rounding * episodes + 1e-9:
        raise UsageError(
            f"{where}: {score.shown()} of {episodes} episodes is {score.value * episodes:g} "
            "successes, no whole number"
        )


def _key(score: PublishedScore) -> tuple[Any, ...]:
    return (
        score.tasks, score.policy, score.metric, score.variant, score.sim, score.protocol,
        score.split,
    )  # fmt: skip


# --- choosing -------------------------------------------------------------------------------------


def scores_of(scores: Sequence[PublishedScore], policy: str) -> tuple[PublishedScore, ...]:
    """Return the scores of a policy.

    Raises:
        UsageError: There is none; the text has the names that there are.
    """
    found = tuple(score for score in scores if score.policy == policy)
    if found:
        return found
    names = list(dict.fromkeys(score.policy for score in scores))
    near = difflib.get_close_matches(policy, names, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"no score of {policy!r} is known. {hint}There are scores of {', '.join(names)}; "
        "--published-file FILE adds others"
    )
