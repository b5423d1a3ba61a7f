"""`b1k-eval check-policy`: does a policy keep the promises of the interface?"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from b1k_envs.errors import UsageError
from b1k_eval.cli.console import out_console, print_json, say_remark
from b1k_eval.cli.options import JsonOption, Options, Typed
from b1k_eval.cli.resolving import resolve_checkpoint
from b1k_eval.settings import RunSettings
from b1k_policies.checkpoint import CheckpointRequest

if TYPE_CHECKING:
    from b1k_policies.inspection.conformance import Check

EXIT_BROKEN = 3
STYLES = {"holds": "green", "fails": "bold red", "note": "yellow", "skipped": "dim"}


def check_policy(
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="[SPEC]",
            help="A policy as for run --policy, such as my_policy.py:MyPolicy.",
            show_default="see --ckpt",
        ),
    ] = None,
    *,
    world: Annotated[
        Typed,
        Options(
            RunSettings,
            *("policy_args", "task", "protocol"),
            task={"help": "The task that it is told, by index or name.", "preset": "31"},
            protocol={"help": "Layout of the proprio: 2025 or 2026.", "preset": "2026"},
        ),
    ],
    ckpt: Annotated[
        Typed,
        Options(
            CheckpointRequest, "ckpt", ckpt={"help": "In place of SPEC: a checkpoint, as for run."}
        ),
    ],
    json_output: JsonOption = False,
    asked: Annotated[Typed, Options(CheckpointRequest, but=("ckpt",))],
) -> None:
    """Check whether a policy keeps the interface's promises, without a simulator.

    Exits with 3 where a check fails.
    """
    request = resolve_checkpoint({**ckpt, **asked}, None, spec)
    if spec is None and request is None:
        raise UsageError("which policy? Give it as for run --policy, or --ckpt")
    from b1k_envs.tasks.table import check_protocol, get_task
    from b1k_eval.run.launch import plan_episodes
    from b1k_policies.inspection import conformance
    from b1k_policies.registry import CHECKPOINT, make_policy, source

    task, year = get_task(world["task"]), world["protocol"]
    if year not in ("2025", "2026"):
        raise UsageError(f"--protocol {year!r} is unknown: choose 2025 or 2026")
    check_protocol(task, year)
    (episode,) = plan_episodes(task, (0,), 1, 0, year)
    spec, words = spec or CHECKPOINT, tuple(world.get("policy_args", ()))
    make = partial(make_policy, spec, request, year, task.instruction, words)
    with redirect_stdout(sys.stderr):  # of what the policy prints
        checks = conformance.check_policy(make, episode)
    found = source(spec, words)
    broken = [check for check in checks if check.verdict == "fails"]
    if json_output:
        print_json(
            {
                "policy": spec if request is None else request.ckpt,
                "passed": not broken,
                "source": None if found is None else {**found.identity(), **found.here()},
                "checks": [asdict(check) for check in checks],
            }
        )
    else:
        _show(checks)
    if broken:
        raise typer.Exit(EXIT_BROKEN)


def _show(checks: tuple[Check, ...]) -> None:
    console = out_console()
    said = ""
    for check in checks:
        console.print(f"{check.verdict:<8}", style=STYLES[check.verdict], end="")
        console.print(f"{check.name:<18}{check.sentence}", soft_wrap=True, highlight=False)
        found, said = "" if check.found == said else check.found, check.found
        for text in filter(None, (found, check.advice)):
            console.print(f"{'':<26}{text}", soft_wrap=True, highlight=False, markup=False)
    counts = {verdict: sum(each.verdict == verdict for each in checks) for verdict in STYLES}
    console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if counts["skipped"]:
        say_remark("what was skipped says why beside it; a run has it all")
