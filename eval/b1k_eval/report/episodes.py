"""One episode for the page: its row of the list, and its own view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from b1k_envs.r1pro import Arm
from b1k_eval.diagnosis.failures import GRIPPERS, LABELS, Failure, label_failure, why
from b1k_eval.records.loading import EpisodeData, read_trace
from b1k_eval.records.trace_reading import DamagedTraceError
from b1k_eval.report.timelines import timeline
from b1k_eval.video.recording import DamagedVideoError, Recording, recording_of


@dataclass(frozen=True, kw_only=True)
class EpisodePage:
    """The page's data on one episode; JSON values.

    Attributes:
        row: For the list and the tables, loaded with the page.
        detail: For the episode's own view, loaded with it; without the video's address.
        failure: Why it failed; None for a success or an error, or if it cannot be told.
        video: None if there is no video, or none that plays.
        openest: Highest command of each gripper in the episode; empty if there is no trace.
    """

    row: dict[str, Any]
    detail: dict[str, Any]
    failure: Failure | None
    video: Recording | None
    openest: Mapping[Arm, float]


def read_episode_page(episode: EpisodeData, *, traces: bool = True) -> EpisodePage:
    """Read trace, result and video of an episode; damaged files are listed and left out.

    Without `traces` the trace is not opened: why it failed is as its result has it.
    """
    problems: list[str] = []
    course = failure = None
    openest: dict[Arm, float] = {}
    try:
        failure = label_failure(episode) if traces else _recorded(episode)
        if traces and episode.steps:
            trace = read_trace(episode)
            course = timeline(episode, trace)
            commands = trace.read(*GRIPPERS.values())
            openest = {arm: float(np.max(commands[name])) for arm, name in GRIPPERS.items()}
    except DamagedTraceError as error:
        problems.append(f"The trace cannot be used: {error}.")
    video = _video(episode, problems)
    efficiency = episode.efficiency or {}
    latency = episode.timing["policy_s"] / episode.inferences if episode.inferences else None
    row = {
        "name": episode.name,
        "instance": episode.key.instance,
        "rollout": episode.key.rollout,
        "outcome": episode.outcome,
        "q": episode.q_score,
        "steps": episode.steps,
        "simulated_s": episode.simulated_s,
        "inferences": episode.inferences,
        "latency_s": latency,
        "wall_s": episode.timing.get("wall_s"),  # an imported result has none
        "distance_m": efficiency.get("agent_distance", {}).get("base"),
        "subgoals": len(episode.subgoals),
        "reached": sorted(step for step in episode.subgoals.values() if step is not None),
        "q_course": [] if course is None else course["curves"]["q_score"]["changes"],
        "label": None if failure is None else failure.label,
        "why": why(episode, None if failure is None else failure.as_json()),
        "video": video is not None,
        "problems": problems,
    }
    detail = {
        "seed": episode.seed,
        "failure": None if failure is None else failure.as_json(),
        "failure_reason": episode.failure_reason,
        "message": episode.message,
        "traceback": episode.traceback,
        "initial_predicates": dict(episode.initial_predicates),
        "final_predicates": dict(episode.predicates),
        "subgoal_steps": dict(episode.subgoals),
        "efficiency": dict(efficiency),
        "timing": dict(episode.timing),
        "course": course,
    }
    return EpisodePage(row=row, detail=detail, failure=failure, video=video, openest=openest)


def _recorded(episode: EpisodeData) -> Failure | None:
    told = episode.diagnosis
    if told is None or told["label"] not in LABELS:
        return None
    label, step, seen = told["label"], told["step"], told["seen"]
    return Failure(episode=episode.name, label=label, step=step, seen=seen)


def _video(episode: EpisodeData, problems: list[str]) -> Recording | None:
    if episode.video is None:
        return None
    try:
        found = recording_of(episode.video, episode.recording)
    except DamagedVideoError as error:
        problems.append(f"The video cannot be shown: {error}.")
        return None
    if not found.fits(episode.steps):
        problems.append(
            f"The video has {found.frames} pictures at {found.fps:g} a second, which does not fit "
            f"{episode.steps} steps: what it shows and the cursor may not agree."
        )
    return found
