"""What is known of a run before its first episode: what limits its meaning, and what forbids it."""

from __future__ import annotations

import os
from functools import partial

from b1k_envs.errors import UsageError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tracks import FORBIDDEN_PROPRIO, mask
from b1k_eval.execution import Execution
from b1k_eval.loop.realtime import delay_steps
from b1k_eval.run.episode import is_privileged
from b1k_eval.settings import MEASURED, RunSettings
from b1k_policies.base import Policy

PRIVILEGED = "Reads the simulator's state, which no robot can."
"""What the mark `privileged` says, for every summary."""

ONLY_SEEN = frozenset({"light", "colours", "camera-turn", "camera-shift"})
"""Axes of the world that only pictures show."""


def run_remarks(settings: RunSettings, execution: Execution, policy: Policy) -> tuple[str, ...]:
    """Return all remarks, a sentence each; those of the policy first."""
    return (
        *policy.remarks,
        *_horizon_remark(settings, policy),
        *_track_remark(settings),
        *_render_remark(settings, execution),
        *_scene_remark(settings),
        *_mode_remark(settings, policy),
        *(f"disturbed: {each.words}" for each in settings.disturbances() if each.dose),
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


def check_lent(policy: Policy, settings: RunSettings, execution: Execution) -> None:
    """Refuse what needs a policy in another process, or several of one that keeps state."""
    if settings.policy_args:
        raise UsageError(
            f"--policy-arg {settings.policy_args[0]} is for a policy that is a class: not for the "
            f"policy object {policy.name}"
        )
    otherwise = "name the policy or its checkpoint instead, or serve it and give ws://HOST:PORT"
    if settings.sim != "mujoco":
        raise UsageError(
            f"the policy object {policy.name} is in this process, and --sim {settings.sim} runs in "
            f"others: take --sim mujoco; or {otherwise}"
        )
    if execution.workers != 1 or execution.ray is not None:
        raise UsageError(
            f"the policy object {policy.name} is in this process, which is one worker: leave out "
            f"--workers and --ray; or {otherwise}"
        )
    if execution.num_envs > 1 and not policy.stateless:
        raise UsageError(
            f"--num-envs {execution.num_envs} needs a policy for each world, and the policy object "
            f"{policy.name} is one: leave it out, or set `stateless` if an answer depends on its "
            f"Query alone; or {otherwise}"
        )


def check_track(settings: RunSettings, policy: Policy) -> None:
    """Refuse a policy that needs hidden proprioception, before its first observation."""
    if settings.track == "standard":
        policy.check_masked(partial(mask, protocol=settings.protocol))


def check_disturbances(settings: RunSettings, policy: Policy) -> None:
    """Refuse to disturb what the policy is not shown."""
    for each in settings.disturbances():
        name = each.axis.name
        unseen = name in ONLY_SEEN or each.axis.kind == "picture"
        if unseen and not policy.needs_images:
            raise UsageError(
                f"--disturb {name} changes pictures, and the policy {policy.name} is shown none: "
                "leave it out"
            )
        if is_privileged(policy) and each.axis.kind in ("pose", "state"):
            raise UsageError(
                f"--disturb {name} changes what a policy is shown, and {policy.name} reads the "
                "simulator's state instead: leave it out"
            )


def check_privileges(settings: RunSettings, policy: Policy, *, rated: bool) -> None:
    """Refuse a policy that reads the simulator's state where that is not meant or not there."""
    if not is_privileged(policy):
        return
    if rated and settings.track != "privileged":
        raise UsageError(
            f"--fail-under: the policy {policy.name} reads the simulator's state, so its rate says "
            "nothing about a policy for a robot: leave that out, or say --track privileged if it "
            "is meant"
        )
    if settings.track == "standard":
        raise UsageError(
            f"--track standard: the policy {policy.name} reads the simulator's state, which this "
            "track forbids: choose another policy, or --track privileged"
        )
    if settings.sim == "omnigibson":
        raise UsageError(
            f"the policy {policy.name} reads the simulator's state, which only the MuJoCo "
            "twin gives: --sim mujoco"
        )
