"""Draw one episode of the twin at eight moments, and what the task changes, before and after.

    python scripts/contact_sheet.py [--task 31] [--instance 0] [--ckpt twin-v17] [--out docs]

Writes episode.jpg (overview, head, left and right wrist in each row) and closeup.jpg (as the
scene's close-up camera sees it before and after, side by side).

The moments are the start, every step at which sub-goals were first reached, and the end. If there
are more than eight, those of coming near something are dropped, and of the rest eight are chosen
at even distances.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from b1k_envs.base import VIEWS, UInt8Array
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.mujoco_twin.rendering.cameras import CameraRig, RenderQuality
from b1k_envs.tasks.table import get_task
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.events import EpisodeResult, EpisodeStart, StepEvent, Subscriber
from b1k_eval.loop.runner import run_episode
from b1k_eval.run.launch import plan_episodes
from b1k_eval.video.layout import BACKGROUND
from b1k_eval.video.text import draw_text, import_cv2, readable
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.registry import make_policy
from b1k_policies.xvla.policy import XVLAPolicy

MOMENTS = 8
SIDE = 300
"""Height of a row, and width and height of a robot's picture [px]."""

OVERVIEW_WIDTH = 400
CAPTION = 26
GAP = 6
WIDTH = 2000
"""Greatest width of the saved sheet [px]."""

_INK = (229, 233, 240)


class Moments(Subscriber):
    """Takes pictures at every step at which a sub-goal is reached for the first time."""

    def __init__(self, env: TwinEnv, rig: CameraRig) -> None:
        self._env = env
        self._rig = rig
        self._reached: set[str] = set()
        self._last = -1
        self.rows: list[tuple[bool, UInt8Array]] = []

    def on_start(self, start: EpisodeStart) -> None:
        """Take the initial state."""
        self._reached = {name for name, holds in start.subgoals.items() if holds}
        self._take(0, "start")

    def on_step(self, event: StepEvent) -> None:
        """Take a row if something was reached."""
        new = [
            name for name, holds in event.subgoals.items() if holds and name not in self._reached
        ]
        if new:
            self._reached.update(new)
            only_near = all(name.startswith("near") for name in new)
            self._take(event.result.step, ", ".join(readable(name) for name in new), only_near)

    def on_end(self, result: EpisodeResult) -> None:
        """Take the last state, unless it has just been taken."""
        if result.outcome != "error" and self._last != result.steps:
            self._take(result.steps, result.outcome)

    def _take(self, step: int, what: str, only_near: bool = False) -> None:
        pictures = self._env.observe().images
        overview = self._rig.render(self._env._data, "overview", SIDE, OVERVIEW_WIDTH)
        cv2 = import_cv2()
        gap = np.full((SIDE, GAP, 3), BACKGROUND, np.uint8)
        parts: list[UInt8Array] = [overview]
        for view in VIEWS:
            scaled = cv2.resize(pictures[view], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            parts += [gap, scaled]
        strip = np.concatenate([*parts, gap], axis=1)
        row = np.full((SIDE + CAPTION, strip.shape[1], 3), BACKGROUND, np.uint8)
        row[CAPTION:] = strip
        draw_text(row, f"{step / self._env.info.control_hz:.1f} s   {what}", 8, 18, 0.44, _INK)
        self.rows.append((only_near, row))
        self._last = step


def main(
    task_name: Annotated[str, typer.Option("--task", help="Index or name.")] = "31",
    instance: Annotated[int, typer.Option(help="Public-test instance.")] = 0,
    policy: Annotated[str, typer.Option(help="As for b1k-eval run.")] = "expert",
    ckpt: Annotated[str, typer.Option(help="Instead, as for b1k-eval run.")] = "",
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("docs"),
    max_steps: Annotated[int, typer.Option(help="Time limit.")] = 6000,
) -> None:
    task = get_task(task_name)
    # A checkpoint is shown what runs show it.
    quality: RenderQuality = "fast" if ckpt else "high"
    env = TwinEnv(
        task, protocol="2026", split="public-test", max_steps=max_steps, render_quality=quality
    )
    rig = CameraRig(env._model, quality)
    acting = XVLAPolicy(CheckpointRequest(ckpt=ckpt)) if ckpt else make_policy(policy)
    moments = Moments(env, rig)
    out.mkdir(parents=True, exist_ok=True)
    try:
        save(out / "closeup.jpg", before_and_after(env, rig, instance))
        result = run_episode(
            env,
            acting,
            plan_episodes(task, [instance], 1, seed=0, protocol="2026")[0],
            RecedingHorizon(10, acting.chunk_length),
            subscribers=[moments],
        )
    finally:
        rig.close()
        env.close()
        acting.close()
    if result.outcome == "error":
        raise SystemExit(result.traceback)
    fewer = len(moments.rows) > MOMENTS
    rows = [row for only_near, row in moments.rows if not (fewer and only_near)]
    if len(rows) > MOMENTS:
        chosen = np.linspace(0, len(rows) - 1, MOMENTS).round().astype(int)
        rows = [rows[index] for index in chosen]
    half = -(-len(rows) // 2)
    columns = [np.concatenate(rows[:half]), np.concatenate(rows[half:])]
    height = max(column.shape[0] for column in columns)
    padded = []
    for column in columns:
        canvas = np.full((height, column.shape[1], 3), BACKGROUND, np.uint8)
        canvas[: column.shape[0]] = column
        padded.append(canvas)
    save(out / "episode.jpg", np.concatenate(padded, axis=1))
    Console().print(f"{result.outcome} after {result.steps} steps; {len(rows)} moments in {out}")


def before_and_after(env: TwinEnv, rig: CameraRig, instance: int) -> UInt8Array:
    env.reset(instance, 0, 0)
    halves = []
    camera, *looks = env._scene.closeup
    for look in looks:
        env._dresser.show(look)
        halves.append(rig.render(env._data, camera, 360, 640))
    return np.concatenate(halves, axis=1)


def save(path: Path, picture: UInt8Array) -> None:
    cv2 = import_cv2()
    scale = min(1.0, WIDTH / picture.shape[1])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if not cv2.imwrite(str(path), small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise SystemExit(f"{path} cannot be written")


if __name__ == "__main__":
    typer.run(main)
