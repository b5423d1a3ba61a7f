"""`b1k-eval record RUN [RUN...] --to DIR`: rollouts as a LeRobot data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, get_args

import typer

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import err_console, out_console, print_json
from b1k_eval.cli.options import JsonOption
from b1k_eval.execution import RecordOnly


def record(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN [RUN...]", help="Run folders, finished or not, or merged."),
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="The data set's folder.", show_default=False)
    ],
    record_only: Annotated[str, typer.Option(help="all or success.")] = "all",
    json_output: JsonOption = False,
) -> None:
    """Write runs' rollouts as one LeRobotDataset v3, with the pictures of every step.

    Episodes of a run with --record are taken as they are. Others are executed again in the twin,
    which takes as long as rendering every step does.
    """
    from b1k_eval.records.loading import read_tasks
    from b1k_eval.replay.rollouts import write_rollouts

    words: tuple[RecordOnly, ...] = get_args(RecordOnly)
    only = next((word for word in words if word == record_only), None)
    if only is None:
        raise UsageError(
            f"--record-only {record_only!r} is unknown: choose one of {', '.join(words)}"
        )
    found = [run for path in dict.fromkeys(runs) for run in read_tasks(path)]
    console = err_console()
    written = write_rollouts(
        found, to.absolute(), only, lambda text: console.print(text, soft_wrap=True)
    )
    if json_output:
        print_json({**asdict(written), "path": str(written.path)})
        return
    out_console().print(written.words(), soft_wrap=True)
