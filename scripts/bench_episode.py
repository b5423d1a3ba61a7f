"""Ratios against the floor (physics, pictures, policy), all measured in this one process.

    python scripts/bench_episode.py [--instance 0] [--repeats 3] [--memory-steps 12000]

Times are wall times of a shared machine; only the ratios travel, and they are medians of repeats.
"""

from __future__ import annotations

import gc
import resource
import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.tasks import get_task
from b1k_eval.chunking import RecedingHorizon
from b1k_eval.events import EpisodeResult, Subscriber
from b1k_eval.recording import VideoSubscriber
from b1k_eval.runner import Render, run_episode
from b1k_eval.trace import Trace
from b1k_eval.video import RenderThread
from b1k_policies.base import EpisodeInfo, Policy
from b1k_policies.registry import make_policy

TASK = get_task("clean_boxing_gloves")


class Looking(Policy):
    """The expert, but asking for pictures as a learned policy does."""

    def __init__(self, inner: Policy) -> None:
        self._inner = inner


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
        EpisodeInfo(
            task=TASK.name,
            task_index=TASK.index,
            instruction=TASK.instruction,
            instance=instance,
            rollout=0,
            seed=0,
            protocol="2026",
        ),
        RecedingHorizon(min(10, policy.chunk_length), policy.chunk_length),
        subscribers=subscribers,
        render=render,
    )
    if result.outcome == "error":
        raise SystemExit(result.traceback)
    return result


def overhead_s(result: EpisodeResult) -> float:
    """Wall time that is neither world, pictures nor policy [s]."""
    timing = result.timing
    floor = timing.reset_s + timing.step_s + timing.observe_s + timing.policy_s
    return timing.wall_s - floor


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
