"""A comparison of runs of several tasks: task by task, and over tasks.

Verdicts are over tasks only: with a hundred tasks, five would look different at 5 % between equal
policies. The figures of a task are there to see where a difference comes from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from b1k_envs.errors import UsageError
from b1k_eval.comparison.intervals import instance_means
from b1k_eval.comparison.over_tasks import (
    Results,
    compare_over_tasks,
    mean_over_tasks,
    task_means,
)
from b1k_eval.comparison.paired import Measure, PairedComparison
from b1k_eval.comparison.summary import (
    LEVEL,
    comparison_json,
    interval_json,
    judge,
    names_of,
    results_by_instance,
    summarise_runs,
)
from b1k_eval.comparison.task_progress import variant
from b1k_eval.records.episode import OUTCOMES
from b1k_eval.records.loading import RunData

MEASURES = (("success", "success"), ("q_score", "q_score"), ("task_progress", "progress"))
"""Name in the document and field of an episode, of what is averaged."""

_MEASURED: Mapping[str, Measure] = {
    "success": "success_rate",
    "q_score": "q_score",
    "progress": "task_progress",
}
"""What each of those fields measures."""


def summarise_tasks(
    runs: Sequence[Sequence[RunData]], *, seed: int = 0, level: float = LEVEL, mix: bool = False
) -> dict[str, Any]:
    """Summarise runs of several tasks, by task and over tasks.

    Args:
        runs: One or more, each with an entry per task.
        seed: Seed of bootstrap and random sign flips.
        level: Coverage of the intervals; 1 - level is the level of the tests.
        mix: Go on if the runs are different experiments or of different tasks.

    Returns:
        `level`, `seed`, `mixed`; `tasks`, with `task` and what `summarise_runs` says of the runs
        that have it, without verdicts; `runs` and `pairs`, over tasks.

    Raises:
        UsageError: The runs are not comparable and `mix` is not set.
    """
    names = _names(runs)
    tasks = list(dict.fromkeys(part.task for run in runs for part in run))
    if not mix:
        _require_same_tasks(runs, names)
    of_tasks = []
    for task in tasks:
        found = [(name, p) for name, run in zip(names, runs, strict=True) for p in run]
        mine = [(name, part) for name, part in found if part.task == task]
        document = summarise_runs(
            [part for _, part in mine],
            seed=seed,
            level=level,
            mix=mix,
            names=[name for name, _ in mine],
        )
        for pair in document["pairs"]:
            for verdict in ("verdict", "decided", "p_adjusted"):
                del pair[verdict]
        of_tasks.append({"task": task, **{key: document[key] for key in ("runs", "pairs")}})
    pairs = [
        _pair(runs[i], runs[j], names[i], names[j], of_tasks, seed=seed, level=level)
        for j in range(len(runs))
        for i in range(j)
    ]
    judge(pairs, alpha=1 - level, unit="task")
    return {
        "level": level,
        "seed": seed,
        "mixed": any(pair["differences"]["blocking"] for pair in pairs)
        or any({part.task for part in run} != {*tasks} for run in runs),
        "tasks": of_tasks,
        "runs": [
            _row(run, name, seed=seed, level=level) for run, name in zip(runs, names, strict=True)
        ],
        "pairs": [{k: v for k, v in pair.items() if k != "comparison"} for pair in pairs],
    }


def _names(runs: Sequence[Sequence[RunData]]) -> list[str]:
    """Name each run by what tells the runs apart; its folder's name has no task."""
    return names_of([replace(run[0], name=run[0].path.resolve().name) for run in runs])


def _require_same_tasks(runs: Sequence[Sequence[RunData]], names: Sequence[str]) -> None:
    first = [part.task for part in runs[0]]
    for name, run in zip(names[1:], runs[1:], strict=True):
        only = [
            f"only {who} has {', '.join(sorted(more))}"
            for who, more in (
                (names[0], {*first} - {part.task for part in run}),
                (name, {part.task for part in run} - {*first}),
            )
            if more
        ]
        if only:
            raise UsageError(
                f"{names[0]} and {name} are not of the same tasks ({'; '.join(only)}); pass --mix "
                "to compare those that they share"
            )


def _row(run: Sequence[RunData], name: str, *, seed: int, level: float) -> dict[str, Any]:
    counts = Counter(episode.outcome for part in run for episode in part.episodes)
    row: dict[str, Any] = {
        "name": name,
        "label": run[0].label,
        "path": str(run[0].path),
        "sim": run[0].identity["settings"]["sim"],
        "privileged": run[0].privileged,
        "counts": {outcome: counts[outcome] for outcome in OUTCOMES},
        "pending": sum(len(part.pending) for part in run),
        "tasks": len(run),
    }
    for key, field in MEASURES:
        results = _results(run, field)
        if field == "q_score":  # which every scored episode has
            row["tasks_scored"] = len(task_means(results))
        mean, interval = mean_over_tasks(results, seed=seed, level=level)
        row[key] = {"mean": mean, "interval": interval_json(interval)}
    return row


def _results(run: Sequence[RunData], field: str) -> Results:
    return {part.task: list(results_by_instance(part, field).values()) for part in run}


def _pair(
    first: Sequence[RunData],
    second: Sequence[RunData],
    first_name: str,
    second_name: str,
    of_tasks: Sequence[dict[str, Any]],
    *,
    seed: int,
    level: float,
) -> dict[str, Any]:
    found = {key: _compare(first, second, field, seed, level) for key, field in MEASURES}
    success = found["success"]
    mine = [
        pair["differences"]
        for task in of_tasks
        for pair in task["pairs"]
        if (pair["first"], pair["second"]) == (first_name, second_name)
    ]
    return {
        "first": first_name,
        "second": second_name,
        "shared_tasks": 0 if success is None else success.n_pairs,
        **{key: comparison_json(comparison) for key, comparison in found.items()},
        # What tasks have in common is listed once.
        "differences": {
            kind: list({entry["text"]: entry for each in mine for entry in each[kind]}.values())
            for kind in ("blocking", "notable", "contract")
        },
        "comparison": success,
    }


def _compare(
    first: Sequence[RunData], second: Sequence[RunData], field: str, seed: int, level: float
) -> PairedComparison | None:
    """Compare the tasks' means over the instances that both runs have scored."""
    others = {part.task: part for part in first}
    means: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for part in second:
        if part.task not in others:
            continue
        if field == "progress" and variant(part) != variant(others[part.task]):
            continue
        sides = [results_by_instance(p, field) for p in (others[part.task], part)]
        shared = [instance for instance in sides[0] if instance in sides[1]]
        for side, mean in zip(sides, means, strict=True):
            if shared:
                groups = [side[instance] for instance in shared]
                mean[part.task] = float(instance_means(groups).mean())
    one, two = means
    return compare_over_tasks(two, one, measure=_MEASURED[field], seed=seed, level=level)
