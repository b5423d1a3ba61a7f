"""Remarks on a run that are known before its first episode: what limits its meaning."""

from __future__ import annotations

import os

from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tracks import FORBIDDEN_PROPRIO
from b1k_eval.execution import Execution
from b1k_eval.loop.realtime import delay_steps
from b1k_eval.settings import MEASURED, RunSettings
from b1k_policies.base import Policy

PRIVILEGED = "Reads the simulator's state, which no robot can."
"""What the mark `privileged` says, for every summary."""


def run_remarks(settings: RunSettings, execution: Execution, policy: Policy) -> tuple[str, ...]:
    """Return all remarks, a sentence each; those of the policy first."""
    return (
        *policy.remarks,
        *_horizon_remark(settings, policy),
        *_track_remark(settings),
        *_render_remark(settings, execution),
        *_scene_remark(settings),
        *_mode_remark(settings, policy),
        *_batch_remark(settings, execution, policy),
        *_sharing_remark(policy),
        *_threads_remark(execution, policy),
    )


def _horizon_remark(settings: RunSettings, policy: Policy) -> tuple[str, ...]:
    if settings.horizon is None or settings.horizon <= policy.chunk_length:
        return ()
    return (
        f"--horizon {settings.horizon} counts the first {policy.skipped_rows} of the model's rows, "
        f"which are not to be executed: {policy.chunk_length} actions a chunk",
    )


def _batch_remark(settings: RunSettings, execution: Execution, policy: Policy) -> tuple[str, ...]:
    if execution.num_envs == 1 or not policy.stateless or settings.latency == MEASURED:
        return ()
    return (
        f"--num-envs {execution.num_envs}: the policy answers several episodes in one call, whose "
        "sums may round differently than for one alone; --num-envs 1 repeats a run to the bit",
    )


def _sharing_remark(policy: Policy) -> tuple[str, ...]:
    copies = policy.describe_here().get("shared_copies")
    if copies is None:
        return ()
    return (
        "the workers share one copy of the model per GPU, which answers what waits in one call, "
        "and sums may round differently than for one alone; --share-policy off gives each its own",
    )


def _threads_remark(execution: Execution, policy: Policy) -> tuple[str, ...]:
    # At a load of 10 on two cores an inference of the tiny checkpoint took 130 ms with one thread
    # of torch and 1000 ms with two (docs/performance.md).
    here = policy.describe_here()
    threads = None if "shared_copies" in here else here.get("torch_threads")
    cores = len(os.sched_getaffinity(0))
    if threads is None or execution.workers == 1 or threads * execution.workers <= cores:
        return ()
    return (
        f"{execution.workers} workers with {threads} threads of torch each share {cores} cores and "
        f"wait for each other: OMP_NUM_THREADS={max(1, cores // execution.workers)} is faster",
    )


def _track_remark(settings: RunSettings) -> tuple[str, ...]:
    if settings.track is None:
        return ()
    if settings.track == "privileged":
        return ("--track privileged: nothing is hidden from the policy",)
    forbidden = FORBIDDEN_PROPRIO[settings.protocol]
    if not forbidden:
        return (
            f"--track standard: the proprioception of protocol {settings.protocol} has nothing "
            "that is forbidden, so nothing is hidden",
        )
    return (f"--track standard: the policy sees zeros as {'; '.join(forbidden)}",)


def _render_remark(settings: RunSettings, execution: Execution) -> tuple[str, ...]:
    if settings.sim != "omnigibson":
        return ()
    if settings.render != "every-step":
        return (
            "--render on-demand is not the official protocol, which renders and observes every "
            "step: a score to be reported needs --render every-step, a submission --official",
        )
    if not execution.video or execution.video_fps != CONTROL_HZ:
        return (
            f"a submission has a video of every rollout with a picture per step (--video-fps "
            f"{CONTROL_HZ:g}), and export refuses others; --official sets all that it needs",
        )
    return ()


def _scene_remark(settings: RunSettings) -> tuple[str, ...]:
    if not settings.partial_scene:
        return ()
    return (
        "--partial-scene is not the official protocol of 2025, which has the whole house: a score "
        "to be reported needs that",
    )


def _mode_remark(settings: RunSettings, policy: Policy) -> tuple[str, ...]:
    if settings.mode == "sync":
        return ()
    if settings.latency == MEASURED:
        return (
            "--mode realtime: the world goes on for as long as each inference is measured to take "
            "on this machine; no other machine, or load, gives the same run",
        )
    words = f"--mode realtime: the world goes on for {settings.latency} ms at every inference"
    if delay_steps(settings.latency_s() or 0.0) >= policy.chunk_length:
        words += (
            f", longer than a chunk of {policy.chunk_length} actions lasts: every chunk comes too "
            "late, and the robot will not move"
        )
    return (words,)
