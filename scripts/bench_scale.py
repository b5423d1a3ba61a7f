"""Measure what pictures, videos and workers cost, before and after, in one run.

    python scripts/bench_scale.py [--before TREE] [--episodes 4] [--checkpoint DIR]

TREE is a checkout of an earlier commit; its runs take turns with those of this one. The time of a
core is that of a run with all its processes, in which a busy machine shows less than in wall time;
ratios of wall times hold for idle cores only, and the table says how idle they were.
"""

from __future__ import annotations

import os

os.environ.setdefault("LP_NUM_THREADS", "0")  # llvmpipe on one core, for the pictures drawn here

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, NamedTuple

import mujoco
import numpy as np
import typer
from bench_episode import episode, machine_load, median
from rich.console import Console
from rich.table import Table

from b1k_envs import r1pro
from b1k_envs.base import VIEWS, UInt8Array, View
from b1k_envs.mujoco_twin.engine import GROUP_VISUAL
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.mujoco_twin.rendering.studio import Shown, Studio
from b1k_envs.tasks.table import get_task
from b1k_eval.loop.events import EpisodeStart, StepEvent, Subscriber
from b1k_policies.registry import make_policy

TASK = get_task("clean_boxing_gloves")
HERE = Path(__file__).parents[1]
SIZES = {view: r1pro.CAMERAS[view].size for view in VIEWS}

_MAIN = "from b1k_eval.cli.main import main; raise SystemExit(main())"

Row = tuple[str, str, str]


class Cost(NamedTuple):
    """Wall time and time of all cores [s]."""

    wall_s: float
    cpu_s: float


class States(Subscriber):
    """Keeps every n-th state of an episode, as a picture shows it."""

    def __init__(self, env: TwinEnv, every: int) -> None:
        self._env, self._every = env, every
        self.kept: list[Shown] = []

    def on_start(self, start: EpisodeStart) -> None:
        """Keep the initial state."""
        self.kept.append(self._env.shown())

    def on_step(self, event: StepEvent) -> None:
        """Keep this state if it is due."""
        if event.result.step % self._every == 0:
            self.kept.append(self._env.shown())


def drawing_everything(studio: Studio) -> Iterator[dict[View, UInt8Array]]:
    """Yield native pictures as MuJoCo draws them by itself: every geom, a context a size."""
    option = mujoco.MjvOption()
    option.geomgroup[:] = np.arange(6) == GROUP_VISUAL
    option.sitegroup[:] = 0
    renderers = {size: mujoco.Renderer(studio.model, size, size) for size in SIZES.values()}
    for renderer in renderers.values():
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
    while True:
        pictures: dict[View, UInt8Array] = {}
        for view, size in SIZES.items():
            renderers[size].update_scene(studio.data, view, option)
            pictures[view] = renderers[size].render()
        yield pictures


def picture_rows(every: int) -> list[Row]:
    """Draw states of a whole expert episode in both ways, in turn."""
    env = TwinEnv(TASK, protocol="2026", split="public-test", max_steps=6000)
    policy = make_policy("expert")
    states = States(env, every)
    episode(env, policy, 0, subscribers=(states,))
    env.close()
    policy.close()
    studio = Studio(TASK.name)
    studio.pose(states.kept[0])
    before = drawing_everything(studio)
    next(before), studio.render(SIZES)  # contexts, shaders
    times: dict[str, list[float]] = {"before": [], "now": []}
    pixels = 0
    for shown in states.kept:
        studio.pose(shown)
        begun = process_time()
        everything = next(before)
        between = process_time()
        pictures = studio.render(SIZES)
        times["now"].append(1e3 * (process_time() - between))
        times["before"].append(1e3 * (between - begun))
        pixels += sum(int((everything[v] != pictures[v]).any(axis=2).sum()) for v in VIEWS)
    studio.close()
    was, now = median(times["before"]), median(times["now"])
    ratio = statistics.median(n / b for n, b in zip(times["now"], times["before"], strict=True))
    return [
        ("three native views, every geom drawn", f"{was:.1f} ms", ""),
        ("three native views", f"{now:.1f} ms", ""),
        ("... ratio, median over states", f"{ratio:.2f}", "< 0.61"),
        (f"... pixels that differ in {3 * len(states.kept)} pictures", f"{pixels}", ""),
    ]


def run(tree: Path, *arguments: str) -> Cost:
    """Run the command line of a checkout in processes of its own."""
    roots = os.pathsep.join(str(tree / root) for root in ("eval", "policies", "envs"))
    environment = {k: v for k, v in os.environ.items() if k != "LP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as folder:
        words = ["run", "--sim", "mujoco", "--task", "31", "--out", f"{folder}/run", *arguments]
        begun = perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, *words],
            env={**environment, "PYTHONPATH": roots},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)  # with the processes that it waited for
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(words)} ended with {process.returncode} in {tree}")
        return Cost(perf_counter() - begun, used.ru_utime + used.ru_stime)


def video_rows(trees: dict[str, Path], episodes: int) -> list[Row]:
    """Run expert episodes with and without videos, the checkouts in turn."""
    rows: list[Row] = []
    some = ("--policy", "expert", "--instances", f"0-{episodes - 1}")
    for name, tree in trees.items():
        plain, filmed = run(tree, *some, "--no-video"), run(tree, *some)
        label = f"{episodes} expert episodes, {name}"
        rows += [
            (f"{label}: wall", f"{plain.wall_s:.0f} s, filmed {filmed.wall_s:.0f} s", ""),
            (f"{label}: cores", f"{plain.cpu_s:.0f} s, filmed {filmed.cpu_s:.0f} s", ""),
            (f"{label}: filmed / not, wall", f"{filmed.wall_s / plain.wall_s:.1f}", "< 4"),
            (f"{label}: filmed / not, cores", f"{filmed.cpu_s / plain.cpu_s:.1f}", ""),
        ]
    return rows


def worker_rows(trees: dict[str, Path], checkpoint: Path, episodes: int) -> list[Row]:
    """Run a checkpoint with one and two workers, the checkouts in turn."""
    rows: list[Row] = []
    some = ("--ckpt", str(checkpoint), "--instances", f"0-{episodes - 1}", "--max-steps", "400")
    for name, tree in trees.items():
        one, two = (run(tree, *some, "--no-video", "--workers", n) for n in ("1", "2"))
        label = f"{episodes} episodes of the checkpoint, {name}"
        rows += [
            (f"{label}: wall", f"{one.wall_s:.0f} s, two workers {two.wall_s:.0f} s", ""),
            (f"{label}: two workers / one, wall", f"{two.wall_s / one.wall_s:.2f}", "< 0.65"),
            (f"{label}: two workers / one, cores", f"{two.cpu_s / one.cpu_s:.2f}", ""),
        ]
    return rows


def scale_rows(checkpoint: Path, episodes: int, *, ray: bool) -> list[Row]:
    """Run a checkpoint with workers and lanes, one copy of the model or several, and with Ray."""
    steps = 400
    ways: dict[str, tuple[str, ...]] = {
        f"{workers} x {lanes}": ("--workers", str(workers), "--num-envs", str(lanes))
        for workers in (1, 2)
        for lanes in (1, 4, 8)
    }
    for lanes in (1, 4):
        ways[f"2 x {lanes}, a model each"] = (*ways[f"2 x {lanes}"], "--share-policy", "off")
    if ray:
        ways["2 x 1, Ray"] = ("--ray", "auto", "--workers", "2")
    some = ("--ckpt", str(checkpoint), "--instances", f"0-{episodes - 1}", "--no-video")
    rows: list[Row] = []
    rates: list[float] = []
    for name, way in ways.items():
        cost = run(HERE, *some, "--max-steps", str(steps - 1), *way)
        rates.append(3600 * episodes / cost.wall_s)
        seen = episodes * steps / 10 / cost.wall_s
        figure = f"{rates[-1]:.0f} episodes an hour, {seen:.1f} observations a second"
        wanted = "> 1.7" if name == "2 x 4" else ""
        rows.append((f"workers x lanes {name}", f"{figure}, {rates[-1] / rates[0]:.2f}", wanted))
    return rows


def main(
    before: Annotated[Path | None, typer.Option(help="Checkout of an earlier commit.")] = None,
    every: Annotated[int, typer.Option(help="Steps between the states drawn.")] = 20,
    episodes: Annotated[int, typer.Option(help="Filmed expert episodes; 0: none.")] = 20,
    checkpoint: Annotated[Path | None, typer.Option(help="A tiny checkpoint.")] = None,
    ray: Annotated[bool, typer.Option(help="With Ray too; after `ray start --head`.")] = False,
    write: Annotated[Path | None, typer.Option(help="Also as Markdown, into this file.")] = None,
) -> None:
    trees = {} if before is None else {"before": before.resolve()}
    trees["now"] = HERE
    rows = [("load of the machine, 1 and 5 min; its cores", machine_load(), "")]
    rows += picture_rows(every)
    if episodes:
        rows += video_rows(trees, episodes)
    if checkpoint is not None:
        rows += worker_rows(trees, checkpoint.resolve(), 6)
        rows += scale_rows(checkpoint.resolve(), 16, ray=ray)
    rows.append(("load at the end", machine_load(), ""))
    table = Table("figure", "measured", "wanted")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if write is not None:
        lines = ["| figure | measured | wanted |", "|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        write.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
