#!/usr/bin/env python3
"""What the axes of `--disturb` that can be seen look like: a row per axis, a picture per dose.

    python scripts/stress_sheet.py [--out docs/stress-axes.jpg] [--view head] [--steps 420]

The twin's task 31, public-test 0, after so many steps of the expert, and at its start where that is
disturbed; the first column is undisturbed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from b1k_envs.base import Observation, UInt8Array, View
from b1k_eval.cli.resolving import resolve_settings
from b1k_eval.disturbances.axes import AXES, Axis, Disturbance
from b1k_eval.disturbances.shown import Shown
from b1k_eval.run.remarks import ONLY_SEEN
from b1k_eval.run.simulators import make_env, prepare_pictures
from b1k_eval.settings import RunSettings

EDGE, LABEL, SEED = 200, 18, 7


def at_step(settings: RunSettings, actions: Sequence[np.ndarray]) -> Observation:
    """What is seen after these actions in a world, changed or not."""
    env = make_env(settings)
    env.reset(0, 0, SEED)
    for action in actions:
        env.step(action)
    seen = env.observe()
    env.close()
    return seen


def expert_actions(settings: RunSettings, steps: int) -> list[np.ndarray]:
    """The expert's actions from the start."""
    from b1k_eval.run.launch import plan_episodes
    from b1k_policies.registry import make_policy

    env = make_env(settings)
    task = settings.task_entry()
    policy = make_policy("expert", None, settings.protocol, task.instruction, ())
    env.reset(0, 0, SEED)
    policy.bind(env.privileged_state)
    policy.reset(plan_episodes(task, [0], 1, 0, settings.protocol)[0])
    actions = []
    while len(actions) < steps:
        for action in policy.infer(env.observe(images=False)).actions[: steps - len(actions)]:
            env.step(action)
            actions.append(action)
    env.close()
    return actions


def tile(picture: UInt8Array, words: str) -> UInt8Array:
    """A small picture with words above it."""
    small = cv2.resize(picture, (EDGE, EDGE), interpolation=cv2.INTER_AREA)
    strip = np.full((LABEL, EDGE, 3), 255, np.uint8)
    cv2.putText(strip, words, (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([strip, small])


def row(
    axis: Axis, settings: RunSettings, actions: Sequence[np.ndarray], seen: Observation, view: View
) -> UInt8Array:
    """An axis's pictures, beside each other."""
    if axis.name in ("start", "places"):  # where an episode begins
        seen, actions = at_step(settings, []), []
    tiles = [tile(seen.images[view], axis.name)]
    for dose in axis.doses:
        each = Disturbance(axis=axis, dose=dose)
        if axis.kind == "world":
            world = replace(settings, disturb=(str(each),))
            shown = at_step(world, actions).images
        else:
            disturber = Shown([each])
            disturber.reset(SEED)
            shown = disturber.observation(seen).images
        tiles.append(tile(shown[view], f"{dose:g} {axis.unit}".strip()))
    blank = np.full_like(tiles[0], 255)
    return np.hstack([*tiles, *[blank] * (5 - len(tiles))])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/stress-axes.jpg"))
    parser.add_argument("--view", default="head")
    parser.add_argument("--steps", type=int, default=420)
    arguments = parser.parse_args()
    prepare_pictures()
    settings = resolve_settings({"task": "31", "policy": "hold", "sim": "mujoco"})
    actions = expert_actions(settings, arguments.steps)
    seen = at_step(settings, actions)
    visible = [
        axis
        for axis in AXES.values()
        if axis.name not in ("frozen", "swapped")
        and (axis.kind == "picture" or axis.name in {*ONLY_SEEN, "start", "places"})
    ]
    rows = [row(axis, settings, actions, seen, arguments.view) for axis in visible]
    half = -(-len(rows) // 2)
    columns = [np.vstack(rows[:half]), np.vstack(rows[half:])]
    if len(rows) % 2:
        columns[1] = np.vstack([columns[1], np.full_like(rows[0], 255)])
    gap = np.full((columns[0].shape[0], 24, 3), 255, np.uint8)
    sheet = np.hstack([columns[0], gap, columns[1]])
    cv2.imwrite(str(arguments.out), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f"{len(visible)} axes: {arguments.out}")


if __name__ == "__main__":
    main()
