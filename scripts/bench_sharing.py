"""What one model for all workers saves: memory, loads and CPU time against a copy in each worker.

    python scripts/bench_sharing.py CHECKPOINT [--workers 4] [--max-steps 39]

Runs the same episodes of the twin twice, with `--share-policy auto` and with `off`, and samples the
memory of all processes of each run. Memory is the proportional set size: pages that several
processes map count once. CPU time, not wall time, as other processes hardly show in it.

What it does not show: the memory of a GPU, where each copy costs the weights and a context.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

MB = 1e6
PERIOD_S = 0.25


def descendants(pid: int) -> list[int]:
    """Return a process and all processes below it."""
    found = [pid]
    for parent in found:
        children = Path(f"/proc/{parent}/task/{parent}/children")
        try:
            found += [int(child) for child in children.read_text().split()]
        except OSError:  # it has ended
            continue
    return found


def memory(pid: int) -> tuple[float, bool]:
    """Return the proportional set size of a process [MB], and whether it has loaded torch."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return 0.0, False
    pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return pss * 1024 / MB, "libtorch" in maps


def measure(checkpoint: Path, share: str, workers: int, max_steps: int, out: Path) -> dict:
    """Run the episodes, and return what they took."""
    command = [
        sys.executable, "-c", "from b1k_eval.cli.main import main; main()", "run", "--task", "31",
        "--ckpt", str(checkpoint), "--device", "cpu", "--instances", f"0-{2 * workers - 1}",
        "--max-steps", str(max_steps), "--no-video", "--workers", str(workers),
        "--share-policy", share, "--out", str(out), "--json",
    ]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MUJOCO_GL": "egl"},
    )
    most, models = 0.0, 0
    while process.poll() is None:
        found = [memory(pid) for pid in descendants(process.pid)]
        most = max(most, sum(pss for pss, _ in found))
        models = max(models, sum(loaded for _, loaded in found))
        time.sleep(PERIOD_S)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    document = json.loads(process.stdout.read())
    assert document["counts"]["error"] == 0, document
    asked = pd.concat(pd.read_parquet(file) for file in out.glob("episodes/*/trace.parquet"))
    asked = asked[asked["inference"]]
    return {
        "memory_mb": most,
        "models": models,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "wall_s": time.monotonic() - begun,
        "latency_ms": 1e3 * asked["latency_s"].median(),
        "wait_ms": 1e3 * asked["wait_s"].median(),
    }


def largest_difference(one: Path, other: Path) -> float:
    """Return the largest difference of the actions of all episodes."""
    apart = 0.0
    for file in one.glob("episodes/*/trace.parquet"):
        mine, theirs = (
            pd.read_parquet(root / file.relative_to(one)).filter(regex="^action_").to_numpy()
            for root in (one, other)
        )
        apart = max(apart, float(np.abs(mine - theirs).max()))
    return apart


def main() -> None:
    """Measure both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--max-steps", type=int, default=39)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        outs = {share: Path(temp) / share for share in ("auto", "off")}
        found = {
            share: measure(given.checkpoint, share, given.workers, given.max_steps, out)
            for share, out in outs.items()
        }
        apart = largest_difference(outs["auto"], outs["off"])
    one, own = found["auto"], found["off"]
    print(f"| {given.workers} workers | one model | a copy each | ratio |\n|---|---|---|---|")
    for name, words, digits in (
        ("models", "processes with a model at once", 0),
        ("memory_mb", "memory of all processes [MB]", 0),
        ("cpu_s", "CPU time of the run [s]", 1),
        ("wall_s", "wall time of the run [s]", 1),
        ("latency_ms", "latency, median [ms]", 0),
        ("wait_ms", "wait beside it, median [ms]", 0),
    ):
        ratio = "" if np.isnan(own[name]) else f"{one[name] / own[name]:.2f}"
        other = "" if np.isnan(own[name]) else f"{own[name]:.{digits}f}"
        print(f"| {words} | {one[name]:.{digits}f} | {other} | {ratio} |")
    print(f"| largest difference of an action | {apart:.1e} | | |")


if __name__ == "__main__":
    main()
