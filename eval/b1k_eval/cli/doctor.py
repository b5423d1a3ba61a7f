"""`b1k-eval doctor`: what this machine can run, and what to do about the rest."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from b1k_envs.errors import UnavailableError
from b1k_eval.cli.console import out_console, print_json
from b1k_eval.cli.options import JsonOption

if TYPE_CHECKING:
    from b1k_eval.doctor import Check, Verdict

_STYLES = {"ok": "green", "missing": "red", "absent": "dim", "note": "yellow"}
_CARD = "nvidia gpu"
_NAMES = {
    "mujoco": "mujoco twin",
    "omnigibson-2025": "omnigibson, --protocol 2025",
    "omnigibson-2026": "omnigibson, --protocol 2026",
    "checkpoints": "checkpoints",
}


def doctor(
    results: Annotated[
        Path, typer.Option("--out", help="Where runs would land; its disk is looked at.")
    ] = Path("results"),
    json_output: JsonOption = False,
) -> None:
    """Say what this machine can run, and what to do about the rest.

    Exit code 0 when a simulator can run here, 4 when none can.
    """
    # Imported here, so that `--help` does not need the packages with which it looks.
    from b1k_eval.doctor import FORMAT, examine, judge

    checks = examine(results)
    verdicts = judge(checks)
    if json_output:
        print_json(
            {
                "format": FORMAT,
                "checks": [asdict(check) for check in checks],
                "verdicts": [asdict(verdict) for verdict in verdicts],
            }
        )
    else:
        _show(out_console(), checks, verdicts)
    if not any(verdict.ready for verdict in verdicts if verdict.subject != "checkpoints"):
        raise typer.Exit(UnavailableError.exit_code)


def _show(console: Console, checks: tuple[Check, ...], verdicts: tuple[Verdict, ...]) -> None:
    from b1k_eval.doctor.checks import BOTH_YEARS  # with numpy, which `--help` does not need

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("What", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("Found", overflow="fold")
    # Without a card OmniGibson runs nowhere here: that is said once, and its set-up not at all.
    pointless = [] if _has_card(checks) else [c.name for c in checks if _for_omnigibson(c)]
    for check in checks:
        if check.state == "skipped" or check.name in pointless:
            continue
        found = Text(check.detail)
        if check.advice is not None:
            found.append(f"\n{check.advice}", style="dim")
        table.add_row(check.name, Text(check.state, style=_STYLES[check.state]), found)
    console.print(table)
    skipped = [c.name for c in checks if c.state == "skipped" or c.name in pointless]
    if pointless:
        console.print("not told without an NVIDIA GPU: what OmniGibson needs besides", style="dim")
    elif skipped:
        console.print(f"nothing to look at yet: {', '.join(skipped)}", style="dim")
    console.print()
    told: set[str] = set()
    for verdict in verdicts:
        if pointless and verdict.subject in BOTH_YEARS:
            if not told:
                said = next(check.said() for check in checks if check.name == _CARD)
                console.print(f"omnigibson, both years: not here: {said}", soft_wrap=True)
            told.add(verdict.subject)
            continue
        _show_verdict(console, verdict)


def _has_card(checks: tuple[Check, ...]) -> bool:
    return any(check.name == _CARD and check.state in ("ok", "note") for check in checks)


def _for_omnigibson(check: Check) -> bool:
    """Whether a check is of nothing but OmniGibson, and not of the card."""
    from b1k_eval.doctor.checks import BOTH_YEARS

    return check.name != _CARD and bool(check.concerns) and {*check.concerns} <= {*BOTH_YEARS}


def _show_verdict(console: Console, verdict: Verdict) -> None:
    colour = "green" if verdict.ready else "yellow"
    said = Text.assemble((_NAMES[verdict.subject], "bold"), ": ", (verdict.text, colour))
    console.print(said, soft_wrap=True)
