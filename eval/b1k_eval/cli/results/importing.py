"""`b1k-eval import DIR`: official evaluator results as a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import out_console, print_json, say_remark
from b1k_eval.cli.options import JsonOption


def importing(
    source: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder with json/ (2026) or metrics/ (2025) in it."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The run folder; with several tasks a folder of them.",
            show_default="results/imported-<DIR's name>",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="2025 or 2026: refuse the other year's files.", show_default="either"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of what produced them.", show_default="DIR's name")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Make a run of official evaluator results, to compare and report them.

    What the files do not have stays unknown: there are no traces, predicates or sub-goals.
    """
    from b1k_eval.challenge.importing import import_results
    from b1k_eval.records.loading import read_run_data

    if protocol not in (None, "2025", "2026"):
        raise UsageError(f"--protocol {protocol!r} is unknown: choose one of 2025, 2026")
    where = out or Path("results") / f"imported-{source.resolve().name}"
    remarks: list[str] = []
    folders = import_results(
        source,
        where,
        protocol=protocol,  # type: ignore[arg-type]  # just checked
        name=name,
        argv=sys.argv,
        remark=remarks.append,
    )
    runs = [read_run_data(folder) for folder in folders]
    for text in remarks:
        say_remark(text)
    if json_output:
        listed = [
            {
                "folder": str(run.path),
                "task": run.task,
                "counts": {str(name): count for name, count in run.counts.items()},
            }
            for run in runs
        ]
        print_json({"runs": listed, "remarks": remarks})
        return
    for run in runs:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in run.counts.items())
        out_console().print(f"{run.path}: {counts}")
