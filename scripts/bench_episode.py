"""Measure an episode's costs as ratios to the floor (physics, pictures, policy), in one process.

    python scripts/bench_episode.py [--repeats 3] [--memory-steps 12000] [--write FILE]

Times are wall times of a shared machine, so only the ratios hold elsewhere; they are medians.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.tasks.table import get_task
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.events import EpisodeResult, StepEvent, Subscriber
from b1k_eval.loop.runner import Render, run_episode
from b1k_eval.records.scoring import ScoreKeeper
from b1k_eval.records.trace import Trace
from b1k_eval.run.launch import plan_episodes
from b1k_eval.video.render_thread import RenderThread
from b1k_eval.video.subscriber import VideoSubscriber
from b1k_policies.base import Policy
from b1k_policies.registry import make_policy

TASK = get_task("clean_boxing_gloves")


def episode(
    env: TwinEnv,
    policy: Policy,
    instance: int,
    *,
    render: Render = "on-demand",
    subscribers: tuple[Subscriber, ...] = (),
) -> EpisodeResult:
    result = run_episode(
        env,
        policy,
        plan_episodes(TASK, [instance], 1, seed=0, protocol="2026")[0],
        RecedingHorizon(min(10, policy.chunk_length), policy.chunk_length),
        subscribers=subscribers,
        render=render,
    )
    if result.outcome == "error":
        raise SystemExit(result.traceback)
    return result


def overhead_s(result: EpisodeResult) -> float:
    """Return the wall time that is neither world, pictures nor policy [s]."""
    timing = result.timing
    floor = timing.reset_s + timing.step_s + timing.observe_s + timing.policy_s
    return timing.wall_s - floor


def machine_load() -> str:
    one, five, _ = os.getloadavg()
    return f"{one:.1f}, {five:.1f}; {os.cpu_count()}"


def median(values: list[float]) -> float:
    return statistics.median(values)


def main(
    instance: Annotated[int, typer.Option(help="Public-test instance.")] = 0,
    repeats: Annotated[int, typer.Option(help="Episodes per figure.")] = 3,
    memory_steps: Annotated[int, typer.Option(help="Memory episode's length; 0: none.")] = 12_000,
    write: Annotated[Path | None, typer.Option(help="Also as Markdown, into this file.")] = None,
) -> None:
    env = TwinEnv(TASK, protocol="2026", split="public-test", max_steps=6000)
    policy = make_policy("expert")
    policy.needs_images = True  # it looks every ten steps, like a learned policy
    thread = RenderThread()
    episode(env, policy, instance, subscribers=(Trace(),))  # warm-up: contexts, caches, imports
    sparse, dense, filmed, filmed_dense = [], [], [], []
    waits: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats):  # interleaved, so that a busy neighbour affects all alike
            sparse.append(episode(env, policy, instance, subscribers=(Trace(),)))
            dense.append(
                episode(env, policy, instance, render="every-step", subscribers=(Trace(),))
            )
            path = Path(folder) / f"{number}.mp4"
            video = VideoSubscriber(path, env, fps=30, title="bench", thread=thread)
            filmed.append(episode(env, policy, instance, subscribers=(Trace(), video)))
            begun = perf_counter()
            video.finish()
            waits.append(perf_counter() - begun)
            video = VideoSubscriber(
                path, env, fps=30, title="bench", render="every-step", thread=thread
            )
            filmed_dense.append(
                episode(env, policy, instance, render="every-step", subscribers=(Trace(), video))
            )
            video.finish()
    thread.close()
    wall = median([r.timing.wall_s for r in sparse])
    dense_wall = median([r.timing.wall_s for r in dense])
    rows = [
        ("steps", f"{sparse[0].steps}", ""),
        ("load of the machine, 1 and 5 min; its cores", machine_load(), ""),
        (
            "harness overhead per step",
            f"{median([1e3 * overhead_s(r) / r.steps for r in sparse]):.3f} ms",
            "< 0.15 ms",
        ),
        (
            "harness overhead, share of the episode",
            f"{median([overhead_s(r) / r.timing.wall_s for r in sparse]):.1%}",
            "< 2 %",
        ),
        (
            "observing every step / every 10 steps",
            f"{dense_wall / wall:.1f}",
            "> 5",
        ),
        (
            "video at 30 fps, added to the loop, observing every 10 steps",
            f"{median([r.timing.wall_s for r in filmed]) / wall - 1:.0%}",
            "< 15 %",
        ),
        (
            "... and the wait for it after the loop, in loops",
            f"{median(waits) / wall:.1f}",
            "",
        ),
        (
            "video at 30 fps, added to the loop, observing every step",
            f"{median([r.timing.wall_s for r in filmed_dense]) / dense_wall - 1:.0%}",
            "< 15 %",
        ),
    ]
    env.close()
    policy.close()
    if memory_steps:
        # In a new process, because this one has already grown by what the episodes above needed.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            growth = fresh.submit(memory_growth_mb, memory_steps).result()
        rows.append(
            (f"memory growth over {memory_steps} steps, filmed", f"{growth:.0f} MB", "< 50 MB")
        )
    table = Table("figure", "measured", "wanted")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if write is not None:
        lines = ["| figure | measured | wanted |", "|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        write.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Memory(Subscriber):
    """Notes the memory of this and the video's process after a warm-up and at the end [MB]."""

    def __init__(self, env: TwinEnv, warm_up: int) -> None:
        self._env, self._warm_up = env, warm_up
        self.before: list[float] = []
        self.after: list[float] = []

    def on_step(self, event: StepEvent) -> None:
        """Note the memory once, after the warm-up."""
        if event.result.step == self._warm_up:
            self.before = self._now()

    def on_end(self, result: EpisodeResult) -> None:
        """Note the memory at the end."""
        self.after = self._now()

    def _now(self) -> list[float]:
        processes = [os.getpid(), self._env._video.process_id]
        return [resident_mb(process) for process in processes if process is not None]


def resident_mb(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory_growth_mb(steps: int) -> float:
    """Return the growth over an episode of `steps` steps, observed, traced and filmed [MB]."""
    policy = make_policy("hold")
    policy.needs_images = True
    env = TwinEnv(TASK, protocol="2026", split="public-test", max_steps=steps - 1)
    thread = RenderThread()
    memory = Memory(env, warm_up=900)
    with tempfile.TemporaryDirectory() as folder:
        video = VideoSubscriber(Path(folder) / "v.mp4", env, fps=15, title="bench", thread=thread)
        episode(env, policy, 0, subscribers=(Trace(), ScoreKeeper(), video, memory))
        video.finish()
    thread.close()
    env.close()
    return sum(memory.after) - sum(memory.before)


if __name__ == "__main__":
    typer.run(main)
