"""The task table of the challenge: 100 activities, their limits, what humans needed.

Sources, repository StanfordVL/BEHAVIOR-1K: names and indices 0-49 from `TASK_NAMES_TO_INDICES` in
`OmniGibson/omnigibson/learning/utils/eval_utils.py` (2025); 50-99, room types and human durations
from `docs/challenge/task_data.json` (2026). Indices 0-49 are the same tasks in both years. The
table is `data/tasks.csv`; an empty cell there means "not published", and nothing fills it in.

Human durations are published in whole seconds. `human_steps` is therefore 30 * seconds, good to
15 steps, except where `human_steps_exact` says that the exact mean is known (task 31: 8235). The
official evaluator reads the exact means from its own metadata: see `load_human_stats`.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, get_args

from b1k_envs.base import ProtocolYear
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import CONTROL_HZ

TIME_LIMIT_FACTORS: Mapping[str, float] = MappingProxyType({"2025": 2.0, "2026": 1.5})
"""Time limit over mean human length; `EVAL_TIMEOUT_MULTIPLIER` of the 2026 evaluator is 1.5."""

_EPISODE_INDEX = "episode_index"
_EPISODES_PER_TASK = 10_000
"""Width of each task's range of `episode_index` in 2025."""

_STATS_FILES: Mapping[ProtocolYear, str] = MappingProxyType(
    {"2025": "episodes.jsonl", "2026": "task.jsonl"}
)
"""The evaluator's file of human demonstration figures, in its folder `metadata`."""

_STATS_KEYS: Mapping[ProtocolYear, tuple[str, ...]] = MappingProxyType(
    {"2025": (_EPISODE_INDEX,), "2026": ("task_name", "task_index")}
)
"""Keys that say which task a line of that file is about."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One activity of the challenge.

    Attributes:
        index: Challenge index, 0 to 99; the `task_id` of the official observation.
        name: BDDL activity name, case-sensitive (`hiding_Easter_eggs`).
        in_2025: Whether the 2025 challenge has it (indices 0-49).
        rooms: Room types the documentation names. Not the set the evaluator loads.
        human_seconds: Mean duration of a human demonstration, rounded to [s].
        human_steps: Mean length of a human demonstration in control steps.
        human_steps_exact: Whether `human_steps` is the exact mean rather than 30 * seconds.
        instruction: The instruction for a language-conditioned policy.
        instruction_exact: Whether that is the sentence checkpoints were trained on; otherwise it
            is a stand-in, the task name with spaces for underscores.
    """

    index: int
    name: str
    in_2025: bool
    rooms: tuple[str, ...]
    human_seconds: int
    human_steps: int
    human_steps_exact: bool
    instruction: str
    instruction_exact: bool

    def max_steps(self, protocol: ProtocolYear) -> int:
        """Return the default time limit as the evaluator computes it, `int(mean * factor)`.

        An episode that never succeeds lasts one action longer, see `base.StepResult.truncated`.

        Args:
            protocol: Challenge generation.

        Raises:
            UsageError: The protocol is unknown or does not have the task.
        """
        check_protocol(self, protocol)
        return int(self.human_steps * TIME_LIMIT_FACTORS[protocol])  # cut off, as upstream does


@dataclass(frozen=True, kw_only=True)
class HumanStats:
    """Means over the human demonstrations of a task, by which the AgentMetric normalises.

    Attributes:
        length: Control steps; a mean, so not always whole.
        distance_traveled: Path length of the base [m]; None if not published.
        left_eef_displacement: Path length of the left hand [m]; None if not published.
        right_eef_displacement: Path length of the right hand [m]; None if not published.
    """

    length: float
    distance_traveled: float | None = None
    left_eef_displacement: float | None = None
    right_eef_displacement: float | None = None


def get_task(index_or_name: int | str) -> Task:
    """Return the task of an index or a name.

    Args:
        index_or_name: `31`, `"31"` or `"clean_boxing_gloves"`.

    Raises:
        UsageError: No such task; the text has the range of indices and the near misses.
    """
    key = str(index_or_name).strip()
    last = len(TASKS) - 1
    if key.removeprefix("-").isdecimal():
        if 0 <= int(key) <= last:
            return TASKS[int(key)]
        raise UsageError(
            f"there is no task {key}: indices run from 0 to {last}; `b1k-eval tasks` lists them"
        )
    if key in _BY_NAME:
        return _BY_NAME[key]
    folded = {name.lower().replace("_", " "): name for name in _BY_NAME}
    wanted = key.lower().replace("_", " ").replace("-", " ")
    near = [folded[match] for match in difflib.get_close_matches(wanted, folded, n=3, cutoff=0.7)]
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(
        f"there is no task {key!r}. {hint}Give a name or an index from 0 to {last}; "
        "`b1k-eval tasks` lists them"
    )


def check_protocol(task: Task, protocol: str) -> None:
    """Check that a challenge generation has a task.

    Raises:
        UsageError: The protocol is unknown, or it is 2025 and the task came in 2026.
    """
    if protocol not in get_args(ProtocolYear):
        raise UsageError(
            f"there is no protocol {protocol!r}: choose one of {', '.join(get_args(ProtocolYear))}"
        )
    if protocol == "2025" and not task.in_2025:
        raise UsageError(
            f"task {task.index} {task.name} is not in the 2025 challenge, which has tasks 0 to "
            "49: use --protocol 2026"
        )


def human_stats(task: Task) -> HumanStats:
    """Return the published figures about the human demonstrations of a task.

    The base distance of task 31 comes from the 2026 challenge material; hand distances are not
    published for any task, nor base distances of the others. They stay None.
    """
    known = {31: 28.6}
    return HumanStats(length=float(task.human_steps), distance_traveled=known.get(task.index))


def load_human_stats(path: str | Path, task: Task, protocol: ProtocolYear) -> HumanStats:
    """Read the exact means of one task from the official metadata.

    Args:
        path: 2025: `metadata/episodes.jsonl` of the challenge's instances, one JSON object per
            demonstration with its `episode_index`, which is the task's index times 10,000 and
            more; the means over the task's lines count. 2026: `metadata/task.jsonl`, one JSON
            object a task, with `task_name` or `task_index`. Both have `length` [steps],
            `distance_traveled` [m], `left_eef_displacement` [m], `right_eef_displacement` [m].
        task: The task.
        protocol: The year whose figures are wanted.

    Raises:
        UsageError: The file is missing or of the other year, a line is not a JSON object or
            contradicts the task table, the task has no line (2026: or more than one), or a figure
            is missing or not a positive finite number. The text names file and line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read human statistics from {path}: {error}") from error
    found: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        record = _parse_record(line, where)
        _check_year(record, protocol, where)
        is_about = _is_demonstration if protocol == "2025" else _is_of_task
        if is_about(record, task, where):
            found.append((where, record))
    if protocol == "2025" and not found:
        raise UsageError(f"{path} has no demonstration of task {task.index} {task.name}")
    if protocol == "2026" and len(found) != 1:
        raise UsageError(
            f"{path} has {len(found)} lines for task {task.index} {task.name}, expected one "
            "with its task_name or task_index"
        )
    names = [field.name for field in fields(HumanStats)]
    if protocol == "2026":
        ((where, record),) = found
        return HumanStats(**{name: _figure(record, name, where) for name in names})
    # A hand that was not used counts as 0 in the mean, as it does upstream.
    means = {
        name: fmean(_figure(r, name, where, least=0.0) for where, r in found) for name in names
    }
    return HumanStats(**{name: _figure(means, name, f"{path}, the mean") for name in names})


def _parse_record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise UsageError(f"{where} must hold a JSON object, got {type(record).__name__}")
    return record


def _check_year(record: Mapping[str, Any], protocol: ProtocolYear, where: str) -> None:
    """Refuse the other year's file, whose means are of other demonstrations."""
    if any(key in record for key in _STATS_KEYS[protocol]):
        return
    for year, keys in _STATS_KEYS.items():
        if any(key in record for key in keys):
            raise UsageError(
                f"{where} is of the human statistics of {year} ({_STATS_FILES[year]}): protocol "
                f"{protocol} takes {_STATS_FILES[protocol]}; give that, or --protocol {year}"
            )
    wanted = " or ".join(map(repr, _STATS_KEYS[protocol]))
    raise UsageError(f"{where} lacks {wanted}; it has {', '.join(sorted(record)) or 'nothing'}")


def _is_demonstration(record: Mapping[str, Any], task: Task, where: str) -> bool:
    """Return whether a line of 2025 is a demonstration of the task."""
    index = record[_EPISODE_INDEX]
    if type(index) is not int or index < 0:
        raise UsageError(f"{where}: {_EPISODE_INDEX!r} must be a whole number, got {index!r}")
    return index // _EPISODES_PER_TASK == task.index


def _is_of_task(record: Mapping[str, Any], task: Task, where: str) -> bool:
    """Return whether a line of 2026 is about the task; its name and index must agree."""
    verdicts = {
        key: record[key] == expected
        for key, expected in (("task_name", task.name), ("task_index", task.index))
        if key in record
    }
    if len(set(verdicts.values())) == 2:
        raise UsageError(
            f"{where} has task_name {record['task_name']!r} and task_index "
            f"{record['task_index']!r}, but task {task.index} is {task.name}"
        )
    return any(verdicts.values())


def _figure(
    record: Mapping[str, Any], key: str, where: str, *, least: float | None = None
) -> float:
    """Return a finite number of a line that is positive, or equal to `least`."""
    if key not in record:
        raise UsageError(f"{where} lacks {key!r}; it has {', '.join(sorted(record))}")
    value = record[key]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not (value > 0 or value == least):
        kind = "a positive number" if least is None else f"a number from {least:g} on"
        raise UsageError(f"{where}: {key!r} must be {kind}, got {value!r}")
    return float(value)


def _load_table() -> tuple[Task, ...]:
    table = resources.files("b1k_envs").joinpath("data/tasks.csv").read_text(encoding="utf-8")
    return tuple(
        Task(
            index=int(row["index"]),
            name=row["name"],
            in_2025=row["in_2025"] == "yes",
            rooms=tuple(row["rooms"].split()),
            human_seconds=int(row["human_seconds"]),
            human_steps=int(row["human_steps"] or int(row["human_seconds"]) * CONTROL_HZ),
            human_steps_exact=bool(row["human_steps"]),
            instruction=row["instruction"] or row["name"].replace("_", " "),
            instruction_exact=bool(row["instruction"]),
        )
        for row in csv.DictReader(table.splitlines())
    )


TASKS: tuple[Task, ...] = _load_table()
"""All tasks, in the order of their indices."""

_BY_NAME: Mapping[str, Task] = MappingProxyType({task.name: task for task in TASKS})
