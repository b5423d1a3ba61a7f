"""`b1k-eval tasks`: the task table."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks.table import TASKS, Task
from b1k_eval.cli.console import out_console, print_json
from b1k_eval.run.simulators import has_twin_scene


def tasks(
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List the challenge's tasks: human time, step limit, and whether the twin has a scene."""
    if json_output:
        print_json({"tasks": [_record(task) for task in TASKS]})
        return
    table = Table(title="BEHAVIOR-1K challenge tasks")
    for name in ("index", "task", "human", "limit 2025", "limit 2026", "mujoco twin"):
        table.add_column(name, justify="left" if name in ("task", "mujoco twin") else "right")
    for task in TASKS:
        record = _record(task)
        limits = record["max_steps"]
        table.add_row(
            str(task.index),
            task.name,
            f"{task.human_seconds} s",
            str(limits["2025"] or "-"),
            str(limits["2026"]),
            "yes" if record["twin_scene"] else "",
        )
    console = out_console()
    console.print(table)
    console.print(
        f"Limits in control steps of 1/{CONTROL_HZ:g} s. "
        "Tasks without a twin scene run in OmniGibson: --sim omnigibson."
    )


def _record(task: Task) -> dict[str, Any]:
    return {
        "index": task.index,
        "name": task.name,
        "human_seconds": task.human_seconds,
        "human_steps": task.human_steps,
        "human_steps_exact": task.human_steps_exact,
        "max_steps": {
            "2025": task.max_steps("2025") if task.in_2025 else None,
            "2026": task.max_steps("2026"),
        },
        "rooms": list(task.rooms),
        "instruction": task.instruction,
        "twin_scene": has_twin_scene(task),
    }
