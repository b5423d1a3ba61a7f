"""The page of runs of several tasks: a table of the tasks, their mean, and a page of each task.

    report.html                    this page
    report-tasks/TASK/report.html  the page of a task, as of a run of it alone

The folder is made anew each time.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from b1k_envs.errors import UsageError
from b1k_envs.tasks.table import get_task
from b1k_eval import __version__, frames
from b1k_eval.comparison.task_summary import summarise_tasks
from b1k_eval.files import spelled_out, write_atomic
from b1k_eval.records.episode import OUTCOMES
from b1k_eval.records.loading import RunData
from b1k_eval.records.store import START_AGAIN, storing
from b1k_eval.report.context import pair_context, share
from b1k_eval.report.figures import letter
from b1k_eval.report.looks import RUN_COLOURS
from b1k_eval.report.page import PAGE, Extras, Written, rendered, write_page
from b1k_eval.report.tables import write_table

FOLDER = "report-tasks"


def write_task_pages(
    runs: Sequence[Sequence[RunData]], out: Path, extras: Extras
) -> tuple[Path, tuple[Path, ...], Mapping[str, Any], tuple[Written, ...]]:
    """Write the page of all tasks, and one of each.

    Args:
        runs: At least one, each with an entry per task.
        out: Folder for the page and `report-tasks`; made if needed.
        extras: What else to write, for each task in its own folder.

    Returns:
        The page, the files of tables and figures, the document of `summarise_tasks`, and what was
        written for each task.

    Raises:
        B1kEvalError: As of `write_page`.
    """
    folder = out / FOLDER
    if folder.exists() and not (folder / "assets").is_dir():
        raise UsageError(f"{folder} is not of an earlier report: move it, or choose another --out")
    document = summarise_tasks(runs, mix=extras.mix)
    with storing(folder, START_AGAIN):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copytree(Path(__file__).parent / "assets", folder / "assets")
    pages = []
    for each in document["tasks"]:
        parts = [part for run in runs for part in run if part.task == each["task"]]
        pages.append(write_page(parts, folder / each["task"], extras, home=f"../../{PAGE}"))
    files = [file for page in pages for file in page.files]
    with storing(out / PAGE, START_AGAIN):
        rows = [row for each in document["tasks"] for row in each["runs"]]
        files += [write_table(folder, "tasks", frames.runs(rows), kind) for kind in extras.tables]
        write_atomic(out / PAGE, spelled_out(_html(document)).encode("utf-8"))
    return out / PAGE, tuple(files), document, tuple(pages)


def _html(document: Mapping[str, Any]) -> str:
    names = [row["name"] for row in document["runs"]]
    return rendered(
        "tasks.html",
        title=", ".join(names),
        version=__version__,
        folder=FOLDER,
        colours=len(RUN_COLOURS),
        level=f"{100 * document['level']:g} %",
        outcomes=OUTCOMES,
        twin=any(row["sim"] == "mujoco" for row in document["runs"]),
        privileged=[row["name"] for row in document["runs"] if row["privileged"]],
        runs=[_run(row, number) for number, row in enumerate(document["runs"])],
        tasks=[_task(each, names) for each in document["tasks"]],
        pairs=[pair_context(pair) for pair in document["pairs"]],
    )


def _run(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {
        "index": number,
        "letter": letter(number),
        "name": row["name"],
        "counts": row["counts"],
        "open": row["pending"],
        "tasks": f"{row['tasks_scored']} of {row['tasks']}",
        **_shares(row["success"]["mean"], row),
    }


def _task(each: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    known = {row["name"]: row for row in each["runs"]}
    return {
        "index": get_task(each["task"]).index,
        "name": each["task"],
        "href": f"{FOLDER}/{quote(each['task'])}/{PAGE}",
        "rows": [
            {
                "index": number,
                "letter": letter(number),
                "counts": known[name]["counts"],
                "open": known[name]["pending"],
                **_shares(known[name]["success"]["rate"], known[name]),
            }
            for number, name in enumerate(names)
            if name in known
        ],
    }


def _shares(rate: float | None, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return success rate, q-score and task progress with their intervals, for the templates."""
    return {
        "success": share(rate, row["success"]["interval"], "{:.0%}"),
        "q_score": share(row["q_score"]["mean"], row["q_score"]["interval"], "{:.2f}"),
        "task_progress": share(
            row["task_progress"]["mean"], row["task_progress"]["interval"], "{:.1%}"
        ),
    }
