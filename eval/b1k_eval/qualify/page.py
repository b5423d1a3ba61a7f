"""The ladder's result: on a terminal, as a JSON document, and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from b1k_eval import __version__
from b1k_eval.files import to_json, write_atomic
from b1k_eval.qualify.ladder import Plan
from b1k_eval.qualify.replays import ISSUE_2344
from b1k_eval.qualify.rungs import Rung, verdict_in_words
from b1k_eval.records.provenance import this_session
from b1k_eval.records.store import storing

JSON_FILE, PAGE_FILE = "qualify.json", "qualify.md"
FORMAT = 1
"""Version of the JSON form; it rises when a field changes its meaning."""

_STYLES = {"pass": "green", "fail": "red", "not done": "dim"}


def document(plan: Plan, rungs: Sequence[Rung], argv: Sequence[str]) -> dict[str, Any]:
    """Return the whole result as JSON values."""
    settings = plan.settings
    made: dict[str, Any] = {
        "format": FORMAT,
        "b1k_eval": __version__,
        "sim": settings.sim,
        "protocol": settings.protocol,
        "task": settings.task,
        "split": settings.split,
        "instance": plan.instance,
        "verdict": verdict_in_words(tuple(rungs)),
        "passed": not any(rung.verdict == "fail" for rung in rungs),
        "rungs": [rung.as_json() for rung in rungs],
        "notes": [ISSUE_2344],
        "session": this_session(argv).as_json(),
    }
    # A simulator's figures may not be JSON values; NaN becomes a word.
    plain: dict[str, Any] = json.loads(json.dumps(made, default=str), parse_constant=str)
    return plain


def save(made: dict[str, Any], out: Path) -> None:
    """Write the JSON and the Markdown file.

    Raises:
        StorageError: They cannot be written.
    """
    with storing(out):
        write_atomic(out / JSON_FILE, to_json(made).encode())
        write_atomic(out / PAGE_FILE, _markdown(made).encode())


def _markdown(made: dict[str, Any]) -> str:
    lines = [
        "# Is this installation right?",
        "",
        f"{made['sim']}, protocol {made['protocol']}, task {made['task']}, {made['split']}, "
        f"b1k-eval {made['b1k_eval']}, {made['session']['started_at']}",
        "",
        f"**{made['verdict']}**",
        "",
        "| rung | | verdict | finding |",
        "|---|---|---|---|",
    ]
    for rung in made["rungs"]:
        finding = rung["finding"].replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {rung['rung']} | {rung['name']} | {rung['verdict']} | {finding} |")
    advice = [
        f"- rung {rung['rung']}: {rung['advice']}" for rung in made["rungs"] if rung["advice"]
    ]
    remarks = [f"- {remark}" for rung in made["rungs"] for remark in rung["remarks"]]
    remarks += [f"- {note}" for note in made["notes"] if f"- {note}" not in remarks]
    for title, items in (("What to do", advice), ("To know", remarks)):
        if items:
            lines += ["", f"## {title}", "", *items]
    return "\n".join([*lines, ""])


def show(console: Console, made: dict[str, Any], out: Path) -> None:
    """Print the result."""
    title = f"{made['sim']}, protocol {made['protocol']}, task {made['task']}, {made['split']}"
    table = Table(title=title, title_justify="left")
    for column in ("", "rung", "verdict", "finding"):
        table.add_column(column, overflow="fold")
    for rung in made["rungs"]:
        finding = Text(rung["finding"])
        if rung["advice"]:
            finding.append(f"\n{rung['advice']}", style="dim")
        verdict = Text(rung["verdict"], style=_STYLES[rung["verdict"]])
        table.add_row(str(rung["rung"]), Text(rung["name"]), verdict, finding)
    console.print(table)
    said = [remark for rung in made["rungs"] for remark in rung["remarks"]]
    for remark in dict.fromkeys([*said, *made["notes"]]):
        console.print(f"note: {remark}", style="dim", markup=False, highlight=False)
    console.print(made["verdict"], markup=False, highlight=False, soft_wrap=True)
    console.print(f"page    {out / PAGE_FILE}", markup=False, highlight=False, soft_wrap=True)
