"""The results of a run by task, for the end of `run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.table import Table

from b1k_eval.run.progress.reporter import OUTCOME_STYLES
from b1k_eval.run.session import ReadyRun, summarise


def results_by_task(session: ReadyRun) -> list[dict[str, Any]]:
    """Return `summarise` of each task, with the number of its pending episodes."""
    found = []
    for settings in session.tasks:
        task = settings.task
        episodes = {k: line for k, line in session.store.episodes.items() if k.task == task}
        pending = sum(each.task == task for each in session.plan) - len(episodes)
        found.append({"task": task, "pending": pending, **summarise(episodes)})
    return found


def title_of(session: ReadyRun) -> str:
    """Return what was run, in a line."""
    settings = session.settings
    track = "" if settings.track is None else f", {settings.track} track"
    what = settings.task if len(session.tasks) == 1 else f"{len(session.tasks)} tasks"
    return (
        f"{what}: {session.label}, {settings.sim}, protocol {settings.protocol}, "
        f"{settings.split}{track}"
    )


def tasks_table(session: ReadyRun) -> Table:
    """Return the table of the tasks."""
    table = Table(title=title_of(session))
    table.add_column("task", overflow="fold")
    for name in (*OUTCOME_STYLES, "pending", "rate", "q", "progress"):
        table.add_column(name, justify="right")
    for row in results_by_task(session):
        rate, score, progress = (
            row[name] for name in ("success_rate", "mean_q_score", "mean_task_progress")
        )
        table.add_row(
            row["task"],
            *(str(row["counts"][name]) for name in OUTCOME_STYLES),
            str(row["pending"]),
            "-" if rate is None else f"{rate:.0%}",
            "-" if score is None else f"{score:.2f}",
            "-" if progress is None else f"{progress:.1%}",
        )
    return table


def progress_words(summary: Mapping[str, Any]) -> str:
    """Return the mean of task progress as words for a list; nothing if it was not counted."""
    mean = summary["mean_task_progress"]
    return "" if mean is None else f", task progress {mean:.1%}"


def over_tasks(session: ReadyRun) -> dict[str, Any] | None:
    """Return the means over tasks, with the task as the unit; None for a run of one task."""
    if len(session.tasks) == 1:
        return None
    from b1k_eval.comparison.over_tasks import mean_over_tasks, task_means  # scipy takes a second

    found: dict[str, Any] = {"tasks": len(session.tasks)}
    for name, field in (("success_rate", "success"), ("q_score", "q_score")):
        results: dict[str, dict[int, list[float]]] = {}
        for key, line in session.store.episodes.items():
            if line["outcome"] != "error":
                of_task = results.setdefault(key.task, {})
                of_task.setdefault(key.instance, []).append(float(line[field]))
        groups = {task: list(by_instance.values()) for task, by_instance in results.items()}
        mean, interval = mean_over_tasks(groups, seed=0)
        found["tasks_scored"] = len(task_means(groups))
        found[name] = {"mean": mean, "interval": None if interval is None else asdict(interval)}
    return found


def over_tasks_words(means: Mapping[str, Any]) -> str:
    """Return the means over tasks in a sentence."""
    if not means["tasks_scored"]:
        return "over tasks: none has a scored episode"
    parts = []
    for name, words, style in (("success_rate", "success rate", ".0%"), ("q_score", "q", ".2f")):
        value = means[name]
        ends = value["interval"]
        shown = "" if ends is None else f" ({ends['low']:{style}} to {ends['high']:{style}})"
        parts.append(f"{words} {value['mean']:{style}}{shown}")
    return (
        f"over {means['tasks_scored']} of {means['tasks']} tasks, each with the same weight: "
        f"{', '.join(parts)}"
    )
