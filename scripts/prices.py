"""What something wrong costs: a run with it beside the run without, as a row, table and figure.

Shared by `contract_errors.py` (a client's errors) and `v4_faults.py` (a training's).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from b1k_eval.comparison.summary import summarise_runs
from b1k_eval.diagnosis.failures import label_failure
from b1k_eval.diagnosis.funnel import funnel
from b1k_eval.diagnosis.selfreport import judge
from b1k_eval.records.loading import read_run_data

MAX_STEPS = 1800
"""Successes take 1,200 to 1,500; what is wrong for longer than this stays wrong."""
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
"""A page's table stands between these lines."""

Row = dict[str, Any]


def command(verb: str, *words: str) -> list[str]:
    """The command line of a verb, of this environment."""
    return [str(Path(sys.executable).with_name("b1k-eval")), verb, *words]


def run(folder: Path, words: Sequence[str], workers: int) -> str:
    """Run a checkpoint on task 31, or what of it is missing.

    Returns:
        Why there is no run, which is only said of one that was refused; else nothing.
    """
    note = folder.with_suffix(".refused")
    if note.exists():
        return note.read_text("utf-8")
    limits = ("--max-steps", str(MAX_STEPS), "--no-video", "--workers", str(workers))
    typed = ["--resume"] if folder.exists() else ["--task", "31", *limits, *words]
    done = subprocess.run(
        command("run", "--out", str(folder), *typed), capture_output=True, text=True, check=False
    )
    if done.returncode in (2, 3, 4) and not folder.exists():
        note.write_text(done.stderr.strip().splitlines()[-1], "utf-8")
    elif done.returncode not in (0, 1):
        raise SystemExit(f"{folder.name}: {done.stderr}")
    return note.read_text("utf-8") if note.exists() else ""


def figures(baseline: Path, folder: Path) -> Row:
    """Success, points lost with their interval, where it ends, what its own reports are worth."""
    runs = [read_run_data(baseline), read_run_data(folder)]
    document = summarise_runs(runs, mix=True)
    failures = [label_failure(e) for e in runs[1].episodes if e.outcome == "failure"]
    labels = Counter(f.words for f in failures if f is not None)
    reports = judge(runs[1])
    skill, progress = reports.skill, reports.progress
    reached = funnel(runs[1])
    (pair,), (_, row) = document["pairs"], document["runs"]
    found = {
        # Without names and places, which belong to the machine.
        "run": {
            k: row[k] for k in ("scored", "instances", "counts", "success", "q_score", "steps")
        },
        "pair": {k: pair[k] for k in ("shared_instances", "success", "q_score", "sequential")},
        "failures": dict(labels.most_common()),
        "funnel": {stage.name: stage.count for stage in reached.stages},
        "bottleneck": None if reached.bottleneck is None else asdict(reached.bottleneck),
        "skill_share": None,
        "progress_brier": None,
        "successes": [
            {"instance": e.key.instance, "rollout": e.key.rollout, "success": e.success}
            for e in runs[1].scored
        ],
    }
    if skill is not None and skill.agreement is not None:
        found["skill_share"] = skill.agreement.share
    if progress is not None and progress.against_time is not None:
        found["progress_brier"] = progress.against_time.brier
    return found


def points(value: float) -> str:
    """A difference of rates in points, signed."""
    return f"{100 * value:+.0f}"


def lost(row: Row) -> str:
    """The difference to the run without it, with its interval."""
    success = row["pair"]["success"]
    interval = success["interval"]
    span = "" if interval is None else f" [{points(interval['low'])}, {points(interval['high'])}]"
    return points(success["difference"]) + span


def ends(row: Row) -> str:
    """The transition at which most episodes are lost."""
    where = row["bottleneck"]
    if where is None:
        return ""
    return f"{where['lost']} of {where['of']} between {where['after']} and {where['before']}"


def rate(row: Row) -> str:
    """Successes of the scored episodes."""
    scored = row["run"]["scored"]
    return f"{round(row['run']['success']['rate'] * scored)} of {scored}"


def number(value: float | None) -> str:
    """A number with two digits, or that there is none."""
    return "none" if value is None else f"{value:.2f}"


def publish(
    where: Path,
    name: str,
    title: str,
    rows: Sequence[Row],
    columns: Sequence[str],
    lines: Sequence[Sequence[str]],
) -> None:
    """Renew the table in the page of this name, its figure, and its data beside it."""
    into_page(where / f"{name}.md", columns, lines)
    draw(rows, title, where / f"{name}.png")
    data = where / "data" / f"{name.replace('-', '_')}.json"
    data.parent.mkdir(exist_ok=True)
    data.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def into_page(page: Path, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Put a table between the page's two marks."""
    text = page.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = [columns, ["---"] * len(columns), *lines]
    drawn = "\n".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in table
    )
    page.write_text(f"{before}{BEGIN}\n{drawn}\n{END}{after}", "utf-8")


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw the points lost of every row with its interval; told beforehand in another colour."""
    from matplotlib.figure import Figure

    _, *faulty = rows  # the first is what the others are compared with
    shown = [row for row in faulty if "pair" in row and row["pair"]["success"]["interval"]]
    shown.sort(key=lambda row: row["pair"]["success"]["difference"], reverse=True)
    figure = Figure(figsize=(7.0, 0.6 + 0.26 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for told, colour, mark, label in (
        (True, "#2a7f62", "o", "said by inspect"),
        (False, "#b4472e", "s", "not said"),
    ):
        some = [(i, r) for i, r in enumerate(shown) if bool(r.get("inspect")) is told]
        if not some:
            continue
        at = [i for i, _ in some]
        middle = [100 * r["pair"]["success"]["difference"] for _, r in some]
        spans = [r["pair"]["success"]["interval"] for _, r in some]
        low = [m - 100 * s["low"] for m, s in zip(middle, spans, strict=True)]
        high = [100 * s["high"] - m for m, s in zip(middle, spans, strict=True)]
        marked = label if any("inspect" in r for r in shown) else None
        axes.errorbar(middle, at, xerr=[low, high], fmt=mark, color=colour, capsize=2, label=marked)
    axes.set_yticks(range(len(shown)), [row["words"] for row in shown])
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.set(xlabel="points of success, with 95 % interval", xlim=(-105, 35), title=title)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=130)
