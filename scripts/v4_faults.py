#!/usr/bin/env python3
"""What each of v4's faults costs: the policy of the twin, trained with one of them at a time.

    python scripts/twin_demos.py DATA/demos --instances 0-99 --workers 2
    python scripts/twin_demos.py DATA/on_policy --instances 0-59 --seed 1000 --policy twin-v17
    ... and with the seeds 1001 to 1003
    python scripts/twin_snapshots.py DATA/demos DATA/snapshots --count 18000
    python scripts/v4_faults.py DATA OUT [--minutes 15] [--only NAME ...] [--jobs 2]

Each recipe of `twin_policy.recipe` (none of the faults, each alone, and v4 with all of them) is
trained for the same time on the same data, with the eyes of twin-v17, since all but one fault leave
what the eyes learn as it is; with the poses in the wrong order the eyes go on learning for as long
again. Then each runs on the instances, twice, and is compared with the one that has no
fault, instance by instance. OUT/v4_faults.json has the figures; the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import prices
from twin_policy.recipe import FAULTS

from b1k_policies.xvla.files.folder import SHIPPED

RECIPES: dict[str, tuple[str, ...]] = {
    "none": (),
    **{name: ("--fault", name) for name in FAULTS},
    "v4": ("--version", "v4"),
}
"""Names of the runs, and what the training's command line has for each."""
UNSEEN = frozenset({"pose-order", "v4"})
"""Those whose eyes are shown something else than the others'."""


def train(name: str, arguments: argparse.Namespace) -> Path:
    """Train a recipe, or what is missing of it, and give its checkpoint."""
    out = arguments.out / "train" / name
    if (out / "ckpt" / "model.safetensors").exists():
        return out / "ckpt"
    script = Path(__file__).with_name("train_twin_policy.py")
    phases = ["head", "wrist", "joint", "save"] if name in UNSEEN else ["joint", "save"]
    for phase in phases:
        done = subprocess.run(
            [
                *(sys.executable, str(script), str(arguments.data), str(out), *RECIPES[name]),
                *(
                    "--only",
                    phase,
                    "--minutes",
                    str(arguments.minutes),
                    "--adopt",
                    str(arguments.eyes),
                ),
                *("--seed", str(arguments.seed), "--instances", ""),
            ],
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{name}: {phase} ended with {done.returncode}")
    return out / "ckpt"


def page(rows: Sequence[prices.Row], where: Path) -> None:
    """Put table, figure and data under docs."""
    lines = [
        [
            row["words"], prices.rate(row), prices.lost(row), prices.ends(row),
            prices.number(row["skill_share"]), prices.number(row["progress_brier"]),
        ]
        for row in rows
    ]  # fmt: skip
    columns = ("trained with", "success", "points [95 %]", "most are lost",
               "skill right", "Brier score of progress")  # fmt: skip
    title = "One fault of the training at a time"
    prices.publish(where, "v4-faults", title, rows, columns, lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="as for train_twin_policy.py")
    parser.add_argument("out", type=Path)
    parser.add_argument("--eyes", type=Path, default=SHIPPED / "twin-v17", help="a checkpoint's")
    parser.add_argument("--minutes", type=float, default=15.0, help="of CPU a phase (default 15)")
    parser.add_argument("--instances", default="0-19", help="of public-test (default 0-19)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="trainings or workers at once")
    parser.add_argument("--docs", type=Path, help="folder whose page, figure and data are renewed")
    parser.add_argument("--only", nargs="*", choices=RECIPES, help="beside the one without faults")
    arguments = parser.parse_args(argv)
    names = [n for n in RECIPES if not arguments.only or n in {"none", *arguments.only}]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        folders = dict(zip(names, pool.map(lambda n: train(n, arguments), names), strict=True))
    runs, rows = arguments.out / "runs", []
    runs.mkdir(exist_ok=True)
    for name, ckpt in folders.items():
        words = ["--ckpt", str(ckpt), "--instances", arguments.instances, "--rollouts", "2"]
        why = prices.run(runs / name, words, arguments.jobs)
        if why:
            raise SystemExit(f"{name}: {why}")
        wrong = FAULTS.get(name, "all of them, as v4" if name == "v4" else "none of v4's faults")
        rows.append({"name": name, "words": wrong, **prices.figures(runs / "none", runs / name)})
        print(f"{name:16} {prices.rate(rows[-1])}  {prices.lost(rows[-1])}", flush=True)
        (arguments.out / "v4_faults.json").write_text(json.dumps(rows, indent=1), "utf-8")
    if arguments.docs:
        page(rows, arguments.docs)


if __name__ == "__main__":
    main()
