"""Plot success over the policy's latency, with one realtime run per latency.

    python scripts/plot_latency.py OUT [--latencies 0,100,...] [--instances 0-9] [-- OPTIONS OF RUN]

The policy is the expert unless the OPTIONS name another. A complete run is not run again, so that
an interrupted curve goes on. Bars are Wilson intervals. Needs the extra `report`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from b1k_eval.comparison.intervals import wilson
from b1k_eval.records.loading import RunData, read_run_data


def run_all(out: Path, latencies: list[int], instances: str, options: list[str]) -> list[RunData]:
    """Make or resume one run folder per latency."""
    runs = []
    for latency in latencies:
        folder = out / f"latency-{latency}"
        command = [
            *(str(Path(sys.executable).with_name("b1k-eval")), "run", "--task", "31", "--no-video"),
            *("--mode", "realtime", "--latency", str(latency), "--instances", instances),
            *("--out", str(folder), "--resume", *options),
        ]
        done = subprocess.run(command, check=False)
        if done.returncode != 0:
            raise SystemExit(done.returncode)
        runs.append(read_run_data(folder))
    return runs


def row(run: RunData, latency: int) -> dict[str, Any]:
    """Return the figures of one latency."""
    successes, trials = run.counts["success"], len(run.scored)
    interval = wilson(successes, trials)
    stalled = [
        json.loads((episode.folder / "result.json").read_text())["stalled_steps"] / episode.steps
        for episode in run.scored
    ]
    return {
        "latency_ms": latency,
        "successes": successes,
        "scored": trials,
        "low": 0.0 if interval is None else interval.low,
        "high": 1.0 if interval is None else interval.high,
        "q_score": sum(float(e.q_score or 0.0) for e in run.scored) / trials,
        "stalled": sum(stalled) / trials,
        "steps": sum(e.steps for e in run.scored if e.success) / successes if successes else None,
    }


def draw(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Draw success rate with its interval, mean q-score and the share of stalled steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    at = [r["latency_ms"] for r in rows]
    rates = [r["successes"] / r["scored"] for r in rows]
    low = [rate - r["low"] for rate, r in zip(rates, rows, strict=True)]
    high = [r["high"] - rate for rate, r in zip(rates, rows, strict=True)]
    axes.errorbar(at, rates, [low, high], marker="o", capsize=3, label="success, 95 % Wilson")
    axes.plot(at, [r["q_score"] for r in rows], marker="s", linestyle="--", label="mean q-score")
    axes.plot(at, [r["stalled"] for r in rows], color="0.6", label="share of stalled steps")
    axes.set(xlabel="latency of every inference [ms]", ylim=(-0.03, 1.03), title=title)
    axes.legend(loc="best", frameon=False)
    axes.grid(alpha=0.25)
    figure.savefig(path, dpi=150)


def main(
    out: Annotated[Path, typer.Argument(help="Where the runs and the picture go.")],
    options: Annotated[list[str] | None, typer.Argument(help="Further options of run.")] = None,
    latencies: Annotated[str, typer.Option(help="In ms.")] = "0,100,200,333,500,700,1000",
    instances: Annotated[str, typer.Option(help="As of run.")] = "0-9",
) -> None:
    """Run, draw, and print the figures."""
    wanted = [int(part) for part in latencies.split(",")]
    runs = run_all(out, wanted, instances, options or [])
    rows = [row(run, latency) for run, latency in zip(runs, wanted, strict=True)]
    settings = runs[0].identity["settings"]
    title = f"{runs[0].label}, {settings['sim']}, horizon {settings['horizon']}"
    draw(rows, title, out / "latency.png")
    (out / "latency.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    for found in rows:
        print(found)


if __name__ == "__main__":
    typer.run(main)
