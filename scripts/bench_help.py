"""Measure how long `b1k-eval --help` takes, in turn with a Python that does nothing.

    python scripts/bench_help.py [--repeats 15] [--write FILE]

Times are medians of wall times of whole processes. A busy machine stretches both, so only the ratio
holds elsewhere. The first round, which reads files from disk and compiles them, is not counted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from b1k_eval.cli.main import VERBS

CLI = (sys.executable, "-c", "from b1k_eval.cli.main import main; main()")
WANTED_S = 0.5
Row = tuple[str, str, str]


def wall_s(command: Sequence[str]) -> float:
    started = perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return perf_counter() - started


def in_turn(commands: dict[str, Sequence[str]], repeats: int) -> dict[str, list[float]]:
    """Return the times of each command [s], by name; every round runs each command once."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for counted in (False, *[True] * repeats):
        for name, command in commands.items():
            took = wall_s(command)
            if counted:
                times[name].append(took)
    return times


def measure(repeats: int) -> list[Row]:
    verbs: dict[str, Sequence[str]] = {verb: (*CLI, verb, "--help") for verb in VERBS}
    times = in_turn(
        {"python": (sys.executable, "-c", "pass"), "help": (*CLI, "--help"), **verbs}, repeats
    )
    middle = {name: statistics.median(values) for name, values in times.items()}
    ratios = [mine / bare for mine, bare in zip(times["help"], times["python"], strict=True)]
    slowest = max(VERBS, key=lambda verb: middle[verb])
    one, five, _ = os.getloadavg()
    return [
        (
            "load of the machine, 1 and 5 min; its cores",
            f"{one:.1f}, {five:.1f}; {os.cpu_count()}",
            "",
        ),
        ("`python -c pass`", f"{middle['python'] * 1e3:.0f} ms", ""),
        ("`b1k-eval --help`", f"{middle['help'] * 1e3:.0f} ms", f"< {WANTED_S * 1e3:.0f} ms"),
        ("... longest of the repeats", f"{max(times['help']) * 1e3:.0f} ms", ""),
        ("... in bare Pythons, run in turn", f"{statistics.median(ratios):.0f}", ""),
        (f"`--help` of the slowest verb, `{slowest}`", f"{middle[slowest] * 1e3:.0f} ms", ""),
    ]


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Counted rounds.")] = 15,
    write: Annotated[Path | None, typer.Option(help="Also as Markdown, into this file.")] = None,
) -> None:
    """Measure, and print the table."""
    rows = measure(repeats)
    heads = ("figure", "measured", "wanted")
    table = Table(*heads, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if write is not None:
        lines = [heads, ("---",) * len(heads), *rows]
        write.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
