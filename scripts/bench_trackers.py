"""Measure what a tracker costs a run, against the same run without one.

    python scripts/bench_trackers.py [--trackers wandb,tensorboard] [--instances 0-19] [--repeats 3]

Unfilmed episodes of the expert (task 31), the quickest that there are, so that a tracker has the
most to do a minute. The runs take turns. No tracker can be reached: wandb and MLflow have an
address at which nothing answers, the others write files. Apart: the time of the episodes, from the
first one's end to the last one's, and what the command then takes to end.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

WANTED = 1.02
"""Times the episodes' time without a tracker."""
NOWHERE = "http://127.0.0.1:9"
ABSENT = {
    "WANDB_MODE": "online",
    "WANDB_BASE_URL": NOWHERE,
    "WANDB_API_KEY": "0" * 40,
    "MLFLOW_TRACKING_URI": NOWHERE,
}


def run(folder: Path, instances: str, tracker: str | None) -> tuple[float, float, str]:
    """The time of the episodes and of the end [s], and the run's remarks."""
    out = folder / f"{tracker}-{time.monotonic_ns()}"
    words = ["run", "--task", "31", "--policy", "expert", "--no-video", "--instances", instances]
    words += [] if tracker is None else ["--log-to", tracker]
    environment = {**os.environ, **ABSENT, "TRACKIO_DIR": str(folder)}
    command = [str(Path(sys.executable).with_name("b1k-eval")), *words, "--out", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    ended = time.time()
    written = sorted(file.stat().st_mtime for file in out.glob("episodes/*/result.json"))
    said = [line for line in done.stderr.splitlines() if tracker and tracker in line.lower()]
    return written[-1] - written[0], ended - written[-1], " ".join(said)


def main(
    trackers: Annotated[str, typer.Option()] = "wandb,tensorboard",
    instances: Annotated[str, typer.Option()] = "0-19",
    repeats: Annotated[int, typer.Option()] = 3,
) -> None:
    names = [None, *trackers.split(",")]
    times: dict[str | None, list[tuple[float, float]]] = {name: [] for name in names}
    remarks: dict[str | None, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            for name in names:
                episodes, end, remarks[name] = run(Path(folder), instances, name)
                times[name].append((episodes, end))
    middle = {
        name: [statistics.median(each) for each in zip(*took, strict=True)]
        for name, took in times.items()
    }
    table = Table("tracker", "episodes [s]", f"times none (wanted {WANTED})", "end [s]", "remark")
    for name, (episodes, end) in middle.items():
        ratio = f"{episodes / middle[None][0]:.3f}"
        table.add_row(name or "none", f"{episodes:.1f}", ratio, f"{end:.1f}", remarks[name])
    Console(width=160).print(table)
    print("load of the machine, 1 and 5 min: {:.1f}, {:.1f}".format(*os.getloadavg()[:2]))


if __name__ == "__main__":
    typer.run(main)
