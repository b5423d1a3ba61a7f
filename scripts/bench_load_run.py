"""Measure how long `b1k_eval.load_run` takes, against reading the same files with `json` alone.

    python scripts/bench_load_run.py [--episodes 1000] [--repeats 5] [--write FILE]

The run is made from one real episode of the expert (task 31), whose result.json and line are copied
under the names of the others. Times are medians of CPU time of this process, in turn; imports are
measured apart, in processes of their own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import b1k_eval

WANTED_S = 1.0
IMPORTS = (
    "import b1k_eval; b1k_eval.load_run; import pandas; import time; print(time.process_time())"
)


def make_run(folder: Path, episodes: int) -> Path:
    """A run folder of that many equal episodes, from one that the expert has really done."""
    rollouts = -(-episodes // 20)  # public-test has 20 instances
    run = b1k_eval.evaluate("expert", task=31, video=False, out=folder / "run")
    record = json.loads((run.path / "run.json").read_text())
    record["identity"]["settings"] |= {"instances": list(range(20)), "rollouts": rollouts}
    (run.path / "run.json").write_text(json.dumps(record))
    (line,) = map(json.loads, (run.path / "episodes.jsonl").read_text().splitlines())
    result = json.loads(
        (run.path / "episodes" / run.episodes.episode[0] / "result.json").read_text()
    )
    lines = []
    for number in range(episodes):
        own = {"instance": number % 20, "rollout": number // 20}
        place = run.path / "episodes" / f"{line['task']}-{own['instance']}-{own['rollout']}"
        place.mkdir(exist_ok=True)  # the first is there
        (place / "result.json").write_text(json.dumps(result | own, indent=2))
        lines.append(json.dumps(line | own) + "\n")
    (run.path / "episodes.jsonl").write_text("".join(lines))
    return run.path


def plain(run: Path) -> None:
    """The floor: the same files, parsed and forgotten."""
    json.loads((run / "run.json").read_text())
    for line in (run / "episodes.jsonl").open():
        json.loads(line)
    for file in (run / "episodes").glob("*/result.json"):
        json.loads(file.read_bytes())


def cpu_s(call: Callable[[], object]) -> float:
    started = process_time()
    call()
    return process_time() - started


def measure(run: Path, repeats: int) -> list[tuple[str, str, str]]:
    steps: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(run),
        "load": lambda: b1k_eval.load_run(run),
        "table": lambda: b1k_eval.load_run(run).episodes,
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for counted in (False, *[True] * repeats):
        for name, call in steps.items():
            took = cpu_s(call)
            if counted:
                times[name].append(took)
    middle = {name: statistics.median(values) for name, values in times.items()}
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, check=True)
    episodes = len(b1k_eval.load_run(run).episodes)
    load = "{:.1f}, {:.1f}".format(*os.getloadavg()[:2])
    return [
        (
            "load of the machine, 1 and 5 min; its cores",
            f"{load}; {os.cpu_count()}",
            "",
        ),
        ("episodes", str(episodes), ""),
        ("the files by `json` alone", f"{middle['plain']:.2f} s", ""),
        ("`load_run`", f"{middle['load']:.2f} s", f"< {WANTED_S:g} s"),
        ("... in readings by `json`", f"{middle['load'] / middle['plain']:.1f}", ""),
        ("`load_run(...).episodes`", f"{middle['table']:.2f} s", f"< {WANTED_S:g} s"),
        ("the imports of both, once", f"{float(done.stdout):.2f} s", ""),
    ]


def main(
    episodes: Annotated[int, typer.Option()] = 1000,
    repeats: Annotated[int, typer.Option()] = 5,
    write: Annotated[Path | None, typer.Option(help="File for the table in Markdown.")] = None,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(make_run(Path(folder), episodes), repeats)
    table = Table("figure", "measured", "wanted")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if write is not None:
        lines = [f"| {' | '.join(row)} |\n" for row in [("figure", "measured", "wanted"), *rows]]
        write.write_text("".join([lines[0], "|---|---|---|\n", *lines[1:]]), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
