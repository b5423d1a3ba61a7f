"""`b1k-eval compare` for runs of several tasks: a table by task, and the verdict over tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from b1k_eval.cli.console import out_console, print_json, say_remark, show_limits
from b1k_eval.cli.results.pairs import range_text, show_pair
from b1k_eval.comparison.task_summary import summarise_tasks
from b1k_eval.records.loading import RunData


def print_comparison(
    runs: Sequence[Sequence[RunData]], *, seed: int, level: float, mix: bool, json_output: bool
) -> dict[str, Any]:
    """Compare runs, each with an entry per task, print the result (see `compare`) and return it."""
    document = summarise_tasks(runs, seed=seed, level=level, mix=mix)
    for row, run in zip(document["runs"], runs, strict=True):
        for damaged in (entry for part in run for entry in part.damaged):
            say_remark(f"{row['name']}: {damaged.name} is left out: {damaged.why}")
        if row["pending"]:
            planned = sum(len(part.plan) for part in run)
            say_remark(f"{row['name']}: {row['pending']} of {planned} episodes are missing")
    if json_output:
        print_json(document)
        return document
    console = out_console()
    console.print(_table(document))
    for pair in document["pairs"]:
        show_pair(console, pair)
    marked = [row["name"] for row in document["runs"] if row["privileged"]]
    show_limits(console, document["runs"][0]["sim"], marked)
    return document


def _table(document: Mapping[str, Any]) -> Table:
    """Make a table with a row per task and a column per run: success rate, and q-score below."""
    table = Table(
        title=f"Success rate and q-score by task, intervals of {document['level']:.0%}",
        title_justify="left",
    )
    table.add_column("task", overflow="fold")
    names = [row["name"] for row in document["runs"]]
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for each in document["tasks"]:
        known = {row["name"]: row for row in each["runs"]}
        cells = [_cell(known[n], known[n]["success"]["rate"]) if n in known else "" for n in names]
        table.add_row(each["task"], *cells)
    table.add_section()
    table.add_row(
        "mean over tasks", *(_cell(row, row["success"]["mean"]) for row in document["runs"])
    )
    return table


def _cell(row: Mapping[str, Any], rate: float | None) -> str:
    if rate is None:
        return "-"
    success, q_score = row["success"], row["q_score"]
    return (
        f"{100 * rate:.0f} %{range_text(success['interval'], 100, 0, before=' ')}\n"
        f"q {q_score['mean']:.2f}{range_text(q_score['interval'], 1, 2, before=' ')}"
    )
