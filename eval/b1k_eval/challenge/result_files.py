"""Reading and checking the official evaluator's result files.

Both years: `<log path>/metrics/<task>_<id>_<rollout>.json` (2025) and
`<output dir>/json/<task>_<id>_<rollout>.json` (2026). Each file is checked against its name and
itself, and all files of a task against each other: a figure times its normalised form is the human
figure, which must be the same in all of them (`metrics/{agent,task}_metric.py`, repository
StanfordVL/BEHAVIOR-1K).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b1k_envs.base import ProtocolYear
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks.table import HumanStats, Task, get_task, human_stats
from b1k_eval.challenge.export import EXPORT_FILE, JSON_FOLDER
from b1k_eval.challenge.rules import and_more
from b1k_eval.records.scoring import BODIES

_FOLDERS = (JSON_FOLDER, "metrics")
SUCCESS = 1.0


@dataclass(frozen=True, kw_only=True)
class OfficialFile:
    """One rollout as the evaluator wrote it.

    Attributes:
        path: The file.
        task: The task.
        instance_id: Official number of the instance.
        rollout: Number of the attempt.
        content: Its JSON value.
    """

    path: Path
    task: Task
    instance_id: int
    rollout: int
    content: Mapping[str, Any]


def read_official(source: Path) -> list[OfficialFile]:
    """Read all results in a folder of the evaluator, in the order of task, instance, rollout.

    Raises:
        UsageError: There are none, or a file is not a result; the message names the file.
    """
    places = [source / folder for folder in _FOLDERS if (source / folder).is_dir()]
    folder = places[0] if places else source
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    files = [_read(path) for path in paths if path.name != EXPORT_FILE]
    if not files:
        raise UsageError(
            f"{source} has no results of the official evaluator: give the folder with json/ "
            "(2026) or metrics/ (2025) in it"
        )
    files.sort(key=lambda file: (file.task.index, file.instance_id, file.rollout))
    return files


def _read(path: Path) -> OfficialFile:
    try:
        task, number, rollout = path.stem.rsplit("_", 2)  # from the right: task names have "_" too
        found = get_task(task)
        if not (number.isdecimal() and rollout.isdecimal() and found.name == task):
            raise ValueError
    except (ValueError, UsageError):
        raise UsageError(
            f"{path} is not named <task>_<instance id>_<rollout>.json, with a task of the table"
        ) from None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _check(content)
        _check_name(content, task, int(number), int(rollout))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is not a result of the official evaluator ({type(error).__name__}: {error})"
        ) from error
    return OfficialFile(
        path=path,
        task=found,
        instance_id=int(number),
        rollout=int(rollout),
        content=content,
    )


def _check(content: Any) -> None:  # noqa: ANN401 - whatever JSON was found
    """Check the fields of a result. A distance is NaN if a position was not finite.

    Raises:
        ValueError: A figure is out of range.
        KeyError: A field is missing.
        TypeError: A field has a wrong type.
    """
    q_score, time = content["q_score"]["final"], content["time"]
    if not 0.0 <= q_score <= 1.0:
        raise ValueError(f"q_score {q_score} is not within 0 and 1")
    steps = time["simulator_steps"]
    if type(steps) is not int or steps < 0:
        raise ValueError(f"simulator_steps is {steps!r}")
    if not math.isclose(time["simulator_time"], steps / CONTROL_HZ, rel_tol=1e-6):
        raise ValueError(f"{steps} steps cannot last {time['simulator_time']} s")
    distances = [content["agent_distance"][body] for body in BODIES]
    if not all(0 <= distance < math.inf or math.isnan(distance) for distance in distances):
        raise ValueError("a distance is negative or infinite")
    ratios = [content["normalized_agent_distance"][body] for body in BODIES]
    for ratio, way in zip((time["normalized_time"], *ratios), (0.0, *distances), strict=True):
        unknown = ratio is None or (math.isnan(way) and math.isnan(ratio))
        if not (unknown or ratio >= 0):
            raise ValueError("a ratio is negative or no number")


def _check_name(content: Mapping[str, Any], task: str, number: int, rollout: int) -> None:
    """Check that a 2026 file fits its name, and its figures each other; ValueError if not."""
    steps = content["time"]["simulator_steps"]
    expected = {"task": task, "instance_id": number, "rollout_id": rollout, "steps": steps}
    if content.get("success") is not None:
        expected["success"] = content["q_score"]["final"] == SUCCESS
    for key, value in expected.items():
        if key in content and content[key] != value:
            raise ValueError(f"{key} is {content[key]!r}, expected {value!r}")


def year_of(files: Sequence[OfficialFile]) -> ProtocolYear:
    """Return the year of the evaluator; only that of 2026 writes `instance_id` into its files."""
    years: set[ProtocolYear] = {
        "2026" if "instance_id" in file.content else "2025" for file in files
    }
    if len(years) != 1:
        raise UsageError("the results are of both years' evaluators: import them one by one")
    return years.pop()


# --- human figures ----------------------------------------------------------------------------

_SAME = 1e-4
"""Largest relative difference of equal human figures in two files."""

_FAR = 0.1
"""Largest relative difference from the task table, whose durations are rounded to seconds; those of
2025 are from other demonstrations."""

_FIGURES = {
    "length": "length",
    "base": "distance_traveled",
    "left": "left_eef_displacement",
    "right": "right_eef_displacement",
}
"""Field of `HumanStats` by name of the figure."""


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A figure of a file and its ratio, the human figure divided by it."""

    path: Path
    measured: float
    ratio: float

    @property
    def human(self) -> float:
        return self.ratio * self.measured

    @property
    def upside_down(self) -> float:
        """The human figure if the ratio were inverted."""
        return self.measured / self.ratio


def human_of(
    files: Sequence[OfficialFile], stated: Mapping[str, float | None] | None = None
) -> HumanStats:
    """Compute the human figures from the files of a task, as far as they give them.

    Args:
        files: Files of one task.
        stated: Expected figures, by field of `HumanStats`; None if there are none.

    Raises:
        UsageError: A figure and its ratio are impossible, files contradict each other or `stated`,
            or the ratios are inverted.
    """
    task = files[0].task
    found: dict[str, float | None] = {}
    for name, field in _FIGURES.items():
        pairs = list(_pairs(files, name))
        known = None if stated is None else stated.get(field)
        _check_pairs(name, pairs, known, getattr(human_stats(task), field))
        found[field] = known if known is not None or not pairs else pairs[0].human
    length = found.pop("length")
    human = HumanStats(length=float(task.human_steps) if length is None else length, **found)
    if human.length < 1.0:
        raise UsageError(
            f"{files[0].path}: its normalized_time makes a human length of {human.length:g} steps, "
            "with which there is no time limit: the file is damaged"
        )
    return human


def remarks_on(files: Sequence[OfficialFile], human: HumanStats, max_steps: int) -> Iterator[str]:
    """Yield remarks on what is odd about the files of a task, but possible.

    Args:
        files: Files of one task.
        human: See `human_of`.
        max_steps: The official time limit.
    """
    task = files[0].task
    published = human_stats(task)
    for name, field in _FIGURES.items():
        ours, theirs = getattr(published, field), getattr(human, field)
        if ours is not None and theirs is not None and _is_far(theirs, ours):
            yield (
                f"{task.name}: the human mean of {name} is {theirs:g} in these results and "
                f"{ours:g} in the task table; time limit and ratios follow the results"
            )
    steps = {file.path.name: file.content["time"]["simulator_steps"] for file in files}
    longer = [name for name, count in steps.items() if count > max_steps + 1]
    if longer:
        yield (
            f"{task.name}: {and_more(longer)}: {steps[longer[0]]} steps, more than the official "
            f"limit of {max_steps}: the evaluator was given a limit of its own"
        )
    early = [
        file.path.name
        for file in files
        if file.content["q_score"]["final"] != SUCCESS
        and file.content.get("failure_reason") is None
        and steps[file.path.name] <= max_steps
    ]
    if early:
        yield (
            f"{task.name}: {and_more(early)}: a failure after {steps[early[0]]} steps, before the "
            f"official limit of {max_steps}: the evaluator was given a limit of its own"
        )


def _pairs(files: Sequence[OfficialFile], name: str) -> Iterator[_Pair]:
    """Yield a figure with its ratio for each file that has both.

    Raises:
        UsageError: The two contradict each other.
    """
    for file in files:
        content = file.content
        if content.get("failure_reason") is not None:  # its ratios are fixed by the rules
            continue
        if name == "length":
            measured = content["time"]["simulator_steps"]
            ratio = content["time"]["normalized_time"]
        else:
            measured = content["agent_distance"][name]
            ratio = content["normalized_agent_distance"][name]
        if ratio is None or math.isnan(measured):
            continue
        if (measured == 0) != math.isinf(ratio) or ratio == 0:
            raise UsageError(
                f"{file.path}: {name} is {measured:g} and {ratio:g} relative to the human figure, "
                "which no human figure gives; the file is damaged"
            )
        if measured:
            yield _Pair(path=file.path, measured=measured, ratio=ratio)


def _check_pairs(
    name: str, pairs: Sequence[_Pair], stated: float | None, published: float | None
) -> None:
    if not pairs:
        return
    first = pairs[0]
    turned = all(_is_near(pair.upside_down, first.upside_down) for pair in pairs)
    for pair in pairs[1:]:
        if not _is_near(pair.human, first.human):
            hint = _TURNED if turned else ""
            raise UsageError(
                f"{first.path} and {pair.path} do not agree on the human {name}: their figures and "
                f"ratios make {first.human:g} and {pair.human:g}{hint}"
            )
    if stated is not None and not _is_near(first.human, stated):
        raise UsageError(
            f"{first.path}: its figure and ratio make a human {name} of {first.human:g}, "
            f"{EXPORT_FILE} says {stated:g}: one of the two was changed"
        )
    far = published is not None and _is_far(first.human, published)
    if far and turned and not _is_far(first.upside_down, published or 0.0):
        raise UsageError(
            f"{first.path}: its figure and ratio make a human {name} of {first.human:g}, and "
            f"the task table has {published:g}{_TURNED}"
        )


_TURNED = (
    ": the ratios are the wrong way round, policy over human; the official ones are human over "
    "policy"
)


def _is_near(one: float, two: float) -> bool:
    return math.isclose(one, two, rel_tol=_SAME)


def _is_far(one: float, two: float) -> bool:
    return not math.isclose(one, two, rel_tol=_FAR)
