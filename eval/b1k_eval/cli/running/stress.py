"""`b1k-eval stress`: what does a policy use, and how much can it take?"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import err_console, out_console, print_json, shell_word, show_limits
from b1k_eval.cli.options import JsonOption, Options, Typed
from b1k_eval.execution import Execution
from b1k_eval.files import dated_folder
from b1k_eval.records.run_files import STUDY_FILE
from b1k_eval.settings import RunSettings
from b1k_eval.stress.words import halving_words, points, share


def stress(
    asked: Annotated[
        Typed,
        Options(
            RunSettings,
            but=("shard", "against", "disturb"),
            instances={"help": "Initial states of every arm.", "preset": "0-9"},
        ),
    ],
    axes: Annotated[
        str, typer.Option(help="Axes or axes with parts, e.g. blur,light,latency; inputs or all.")
    ] = "inputs",
    doses: Annotated[
        str | None,
        typer.Option(help="Doses of a single axis.", show_default="see --list"),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            help="Most episodes in all; doses are then searched for where success falls.",
            show_default="all doses",
        ),
    ] = None,
    *,
    show_axes: Annotated[bool, typer.Option("--list", help="List the axes and end.")] = False,
    how: Annotated[Typed, Options(Execution)],
    out: Annotated[
        Path | None,
        typer.Option(
            help="For a run per arm, and study.json; given again, what is done is not done again.",
            show_default="results/stress-<time>",
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Disturb a policy along axes and measure what it costs, beside the same episodes undisturbed.

    Examples:
    b1k-eval stress --task 31 --ckpt PATH

    b1k-eval stress --task 31 --ckpt PATH --axes light,blur:head,latency --instances 0-19
    """
    if show_axes:
        _list(json_output=json_output)
        return
    # Imported here, because importing simulators takes seconds that `--help` should not take.
    from b1k_eval.cli.resolving import resolve_execution
    from b1k_eval.cli.running.preparing import require_policy
    from b1k_eval.cli.task_choice import resolve_tasks
    from b1k_eval.run.progress.displays import make_reporter
    from b1k_eval.run.progress.reporter import duration
    from b1k_eval.stress.arms import plan_curves
    from b1k_eval.stress.study import Study, run_study

    require_policy(asked)
    tasks, _ = resolve_tasks(asked)
    if len(tasks) > 1:
        raise UsageError("a study is of one task: give a single --task")
    names = [name.strip() for name in axes.split(",") if name.strip()]
    curves = plan_curves(names, _numbers(doses), sim=tasks[0].sim)
    study = Study(
        settings=tasks[0],
        execution=resolve_execution({"video": False, **how}),
        curves=curves,
        budget=budget,
        argv=sys.argv,
        reporter=lambda: make_reporter(err_console()),
    )
    folder = dated_folder("stress") if out is None else out
    console = err_console()
    begun: list[float] = []

    def told(name: str, number: int, most: int) -> None:
        begun.append(time.monotonic())
        left = ""
        if number > 1:
            each = (begun[-1] - begun[0]) / (number - 1)
            left = f", about {duration(each * (most - number + 1))} left"
        console.print(f"arm {number} of {most}: {name}{left}", soft_wrap=True)

    most = study.most_arms
    console.print(
        f"{most} arms of {study.episodes_per_arm} episodes, {most * study.episodes_per_arm} in all",
        soft_wrap=True,
    )

    def estimated(seconds: float) -> None:
        console.print(
            f"about {duration(seconds)} if every episode lasts to its limit; what is left is said "
            "before each arm",
            soft_wrap=True,
        )

    document = run_study(study, folder, told, estimated)
    path = folder / STUDY_FILE
    if json_output:
        print_json({**document, "study": str(path)})
        return
    _show(document)
    show_limits(out_console(), study.settings.sim, [])
    out_console().print(f"study   {path}", soft_wrap=True)
    out_console().print(f"next    b1k-eval report {shell_word(folder)}", soft_wrap=True)


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--doses {text!r} must be numbers with commas between") from None


def _list(*, json_output: bool) -> None:
    from dataclasses import asdict

    from b1k_eval.disturbances.axes import AXES

    if json_output:
        print_json({"axes": [asdict(axis) for axis in AXES.values()]})
        return
    table = Table(title="Axes of --disturb and --axes; dose 0 is nothing", title_justify="left")
    for name in ("axis", "of", "unit", "range", "what dose d does", "parts"):
        table.add_column(name, overflow="fold")
    for axis in AXES.values():
        table.add_row(
            axis.name, axis.kind, axis.unit, f"{axis.least:g} to {axis.most:g}", axis.meaning,
            " ".join(axis.parts) if axis.kind != "state" else "fields of the proprio",
        )  # fmt: skip
    out_console().print(table)


def _show(document: dict[str, Any]) -> None:
    base = document["undisturbed"]
    table = Table(
        title=f"{document['task']}: {document['label']}, undisturbed {share(base)}",
        title_justify="left",
    )
    for name in ("axis", "dose", "success", "points [95 %]", "p", "most are lost"):
        table.add_column(name, overflow="fold", justify="left")
    for curve in document["curves"]:
        for number, arm in enumerate(curve["arms"]):
            sure = curve["p_corrected"] < 0.05
            table.add_row(
                (curve["input"] or curve["name"]) if number == 0 else "",
                f"{arm['dose']:g} {curve['unit']}".strip(),
                share(arm),
                points(arm),
                Text(f"{curve['p_corrected']:.2g}", style="red" if sure else "")
                if number == 0
                else "",
                arm["lost"] or "",
            )
    console = out_console()
    console.print(table)
    for curve in document["curves"]:
        words = halving_words(curve)
        if words is not None:
            console.print(words, soft_wrap=True)
