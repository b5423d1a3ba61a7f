"""Demonstrations of made-up numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from b1k_envs.base import ProtocolYear
from b1k_envs.r1pro import ACTION_DIM, PROPRIO_DIM
from b1k_envs.tasks.table import Task, get_task
from b1k_eval.dataset.choosing import behavior_number
from b1k_eval.qualify.demos import Demo, DemoEntry

TASK = get_task(31)


def made_demo(
    instance: int, *, steps: int = 6, layout: ProtocolYear = "2026", task: Task = TASK
) -> Demo:
    """A demonstration of made-up numbers."""
    rng = np.random.default_rng(instance)
    number = behavior_number(task, instance, 0)
    return Demo(
        entry=DemoEntry(number=number, episode_index=number, instance_id=instance, file=Path()),
        actions=rng.uniform(-1, 1, (steps, ACTION_DIM)).astype(np.float32),
        states=rng.uniform(-1, 1, (steps, PROPRIO_DIM[layout])).astype(np.float32),
        layout=layout,
    )
