"""`b1k-eval prove`: does running many at once change a result?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import err_console, out_console, print_json
from b1k_eval.cli.options import JsonOption, Options, Typed
from b1k_eval.execution import Execution
from b1k_eval.files import dated_folder
from b1k_eval.settings import MEASURED, RunSettings

if TYPE_CHECKING:
    from b1k_eval.prove.certificate import WayResult

_STYLES = {"equal": "green", "rounding": "green", "equivalent": "green", "impossible": "dim"}


def prove(
    asked: Annotated[
        Typed,
        Options(
            RunSettings,
            but=("shard", "against"),
            instances={"help": "Initial states, at least two.", "preset": "0-3"},
            max_steps={"help": "Time limit in control steps.", "preset": 90},
        ),
    ],
    ways: Annotated[
        str | None,
        typer.Option(
            help="Of again, workers, lanes, batches, shared, order, resume, shards and ray.",
            show_default="all that are possible here",
        ),
    ] = None,
    at_once: Annotated[int, typer.Option(min=2, help="Workers, worlds and shards at once.")] = 2,
    bound: Annotated[
        float,
        typer.Option(
            help="For a simulator that never does the same twice: the largest difference of "
            "success rates and q-scores that does not matter."
        ),
    ] = 0.1,
    *,
    how: Annotated[Typed, Options(Execution, "gpus")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="For a run folder per way, and certificate.json; given again, what is done there "
            "is not done again.",
            show_default="results/prove-<time>",
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Certify that running many at once changes nothing: the same episodes, compared to the bit.

    Episodes run one by one are held against the same ones under workers, several worlds in a
    process, batches, a shared model, another order, kill and resume, shards, and Ray. Exits with 1
    where a trace differs by more than rounding.
    """
    # Imported here, because importing simulators takes seconds that `--help` should not take.
    from b1k_eval.cli.resolving import resolve_execution
    from b1k_eval.cli.running.preparing import require_policy
    from b1k_eval.cli.task_choice import resolve_tasks
    from b1k_eval.prove import certificate
    from b1k_eval.prove.ways import Trial
    from b1k_eval.run.progress.displays import make_reporter

    if not 0 < bound < 1:
        raise UsageError(f"--bound {bound:g} must lie between 0 and 1")
    names = None if ways is None else [name.strip() for name in ways.split(",")]
    certificate.check_ways(names or ())
    require_policy(asked)
    tasks, _ = resolve_tasks(asked)
    if tasks[0].latency == MEASURED:
        raise UsageError("a measured latency is never the same twice: give --latency MS")
    if sum(len(each.instances) * each.rollouts for each in tasks) < 2:
        raise UsageError("a certificate needs at least two episodes: give more --instances")
    alone = resolve_execution({**how, "workers": 1, "share_policy": "off", "video": False})
    folder = dated_folder("prove") if out is None else out
    trial = Trial(
        tasks=tasks,
        alone=alone,
        at_once=at_once,
        argv=sys.argv,
        reporter=lambda: make_reporter(err_console()),
    )
    results: list[WayResult] = []

    def told(result: WayResult) -> None:
        results.append(result)
        err_console().print(f"{result.way}: {result.verdict}", soft_wrap=True)

    document = certificate.prove(trial, folder, ways=names, bound=bound, told=told)
    path = folder / certificate.CERTIFICATE_FILE
    if json_output:
        print_json({**document, "certificate": str(path)})
    else:
        _show(document, results)
        out_console().print(f"certificate  {path}", soft_wrap=True)
    if not document["proved"]:
        raise typer.Exit(1)


def _show(document: dict[str, Any], results: list[WayResult]) -> None:
    count = len(document["episodes"])
    table = Table(title=f"{count} episodes one by one, and", title_justify="left")
    for name in ("way", "verdict", "equal", "what"):
        table.add_column(name, overflow="fold")
    for each in results:
        table.add_row(
            each.way,
            Text(each.verdict, style=_STYLES.get(each.verdict, "red")),
            f"{each.equal} of {each.episodes}" if each.episodes else "-",
            Text("; ".join(filter(None, (each.words, each.said())))),
        )
    console = out_console()
    console.print(table)
    console.print(
        f"Compared to the bit: every column but {' and '.join(document['not_compared'])}, which "
        f"are wall times. Rounding: at most {document['rounding']:g} where it begins and "
        f"{document['grown']:g} later, with the same outcome.",
        soft_wrap=True,
    )
    said = "nothing that matters differs" if document["proved"] else "not proved"
    console.print(said, style="green" if document["proved"] else "red")
