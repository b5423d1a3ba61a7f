"""The official figures of an episode: success, q-score, time and distances.

Formulas: StanfordVL/BEHAVIOR-1K, `OmniGibson/omnigibson/metrics/task_metric.py` (time) and
`agent_metric.py` (distances); the penalty for a policy's fault is that of the 2026 evaluator. The
q-score comes from the env (`b1k_envs.tasks.goals`). Where the robot did not move, the official
files have Infinity, which JSON lacks; here it is None, and `notes` says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from b1k_envs.base import AgentPositions, ProgressVariant, ProtocolYear
from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks.table import TIME_LIMIT_FACTORS, HumanStats
from b1k_eval.loop.events import EpisodeResult, EpisodeStart, StepEvent, Subscriber
from b1k_eval.records.episode import EpisodeRecord

BODIES: tuple[str, ...] = ("base", "left", "right")
"""Keys of the distances in the official files; left and right are the hands."""


FAILED = (
    "normalised figures are null: not meaningful, failed: they compare with people who did the task"
)
"""Note of a failure."""

TIPS: Mapping[str, str] = {
    "success_rate": (
        "Share of the scored episodes that reached the goal, in [0, 1]; more is better. An error "
        "is not scored."
    ),
    "q_score": (
        "Official partial score, in [0, 1]; more is better: 1 if the goal was reached, else the "
        "share of its predicates that were false at the start and hold at the end, and 0 after "
        "the policy's own fault."
    ),
    "subgoals": (
        "How many of the task's sub-goals held at some time, even if they were lost again; more "
        "is better. They score nothing."
    ),
    "task_progress": (
        "Public metric, in [0, 1]; more is better: the share of a task's public checks that held "
        "after any step, even if they were lost again. What is true from the first step on counts, "
        "so doing nothing scores too."
    ),
    "steps": (
        "Control steps executed, 30 a simulated second; less is better among successes, and says "
        "nothing in a failure. A limit of N ends after N + 1 steps, as upstream."
    ),
    "distance": (
        "Length of the base's path [m]; less is better among successes, and says nothing in a "
        "failure."
    ),
    "latency": (
        "Wall time of the policy per inference, its resets included [s]; less is better. It "
        "depends on the machine."
    ),
    "wall": (
        "Wall time of the episode's loop, reset included and the making of the video not [s]; it "
        "depends on the machine."
    ),
}
"""What the figures of tables and page mean: range or unit, direction, formula."""


class ScoreKeeper(Subscriber):
    """Accumulates the official metrics of an episode.

    Attributes:
        initial_predicates: Truth of the goal predicates before the first action.
        subgoal_steps: First step after which each sub-goal held; 0 for the start, None for never.
        variant: How task progress is decided; None where it is not counted.
        check_steps: First step after which each of its checks held; None for never. The state
            before the first step does not count, as upstream.
        distance: Path length by body [m], world frame; a hand's includes the base's motion.
    """

    def __init__(self) -> None:
        self.initial_predicates: dict[str, bool] = {}
        self.subgoal_steps: dict[str, int | None] = {}
        self.variant: ProgressVariant | None = None
        self.check_steps: dict[str, int | None] = {}
        self.distance: dict[str, float] = dict.fromkeys(BODIES, 0.0)
        self._last: tuple[list[float], ...] | None = None

    def on_start(self, start: EpisodeStart) -> None:
        """Reset for a new episode."""
        self.initial_predicates = dict(start.goal.predicates)
        self.subgoal_steps = {name: 0 if holds else None for name, holds in start.subgoals.items()}
        self.variant, self.check_steps = start.variant, dict.fromkeys(start.checks)
        self.distance = dict.fromkeys(BODIES, 0.0)
        self._last = None

    def on_step(self, event: StepEvent) -> None:
        """Add one step."""
        for name, holds in event.subgoals.items():
            if holds and self.subgoal_steps[name] is None:
                self.subgoal_steps[name] = event.result.step
        for name, holds in event.checks.items():
            if holds and self.check_steps[name] is None:
                self.check_steps[name] = event.result.step
        now = _as_lists(event.result.agent)
        # As in the official metric, the first step only sets the positions.
        if self._last is not None:
            for body, here, there in zip(BODIES, now, self._last, strict=True):
                self.distance[body] += math.dist(here, there)
        self._last = now

    def task_progress(self) -> dict[str, Any] | None:
        """Return task progress as result.json has it; None where it was not counted."""
        if not self.check_steps:
            return None
        reached = sum(step is not None for step in self.check_steps.values())
        return {
            "variant": self.variant,
            "score": reached / len(self.check_steps),
            "reached": self.check_steps,
        }


def _as_lists(agent: AgentPositions) -> tuple[list[float], ...]:
    return agent.base.tolist(), agent.left_eef.tolist(), agent.right_eef.tolist()


def efficiency(
    steps: int,
    distance: Mapping[str, float],
    human: HumanStats,
    *,
    forfeited: ProtocolYear | None = None,
    failed: bool = False,
) -> dict[str, Any]:
    """Compute time and distances as in the official files, in JSON values.

    Args:
        steps: Control steps executed.
        distance: Path lengths by body [m], `ScoreKeeper.distance`.
        human: Means over the human demonstrations.
        forfeited: Protocol, if the policy's fault ended the episode; see `official_figures`.
        failed: The task was not done. A robot that stands still would beat every human, so the
            normalised figures are then None; official files get them all the same.

    Returns:
        `official_figures` with None for NaN and infinities, and `notes` that say why.
    """
    known = {body: way if math.isfinite(way) else math.nan for body, way in distance.items()}
    figures = official_figures(steps, known, human, forfeited=forfeited == "2026")
    notes: list[str] = []
    for body, way in known.items():
        if math.isnan(way):
            notes.append(
                f"agent_distance.{body} is null: the simulator gave a position that is not finite, "
                "officially NaN, which JSON does not have"
            )
            figures["agent_distance"][body] = None
    _without_infinity(figures["time"], "normalized_time", "normalized_time", "steps", notes)
    for body in BODIES:
        name = f"normalized_agent_distance.{body}"
        _without_infinity(figures["normalized_agent_distance"], body, name, "motion", notes)
    if failed and forfeited != "2026":
        figures["time"]["normalized_time"] = None
        figures["normalized_agent_distance"] = dict.fromkeys(BODIES)
        notes = [note for note in notes if not note.startswith("normalized_")] + [FAILED]
    if forfeited == "2026":
        notes = ["the policy's fault ended the episode: normalised figures are those of the rules"]
    return {**figures, "notes": notes}


def official_figures(
    steps: int, distance: Mapping[str, float], human: HumanStats, *, forfeited: bool
) -> dict[str, dict[str, Any]]:
    """Compute the figures as the evaluator does, in the order of its files.

    Args:
        steps: Control steps executed.
        distance: Path lengths by body [m]; NaN if a position was not finite.
        human: Means over the human demonstrations.
        forfeited: The policy's fault ended the episode: the rules of 2026 then set the normalised
            distances to 0 and the time to that of the limit; 2025 has no such rule.

    Returns:
        `agent_distance` and `normalized_agent_distance` by body and `time`, with
        `simulator_steps`, `simulator_time` [s] and `normalized_time`. A normalised figure is
        infinite if the robot did not move and None if the human one is not published.
    """
    theirs = (human.distance_traveled, human.left_eef_displacement, human.right_eef_displacement)
    normalized = {
        body: _ratio(figure, distance[body]) for body, figure in zip(BODIES, theirs, strict=True)
    }
    time = _ratio(human.length, steps)
    if forfeited:
        normalized = dict.fromkeys(BODIES, 0.0)
        time = 1.0 / TIME_LIMIT_FACTORS["2026"]
    return {
        "time": {
            "simulator_steps": steps,
            "simulator_time": steps / CONTROL_HZ,
            "normalized_time": time,
        },
        "agent_distance": dict(distance),
        "normalized_agent_distance": normalized,
    }


def _ratio(human: float | None, measured: float) -> float | None:
    if math.isnan(measured):
        return measured
    if human is None:
        return None
    return human / measured if measured != 0 else math.inf


def _without_infinity(
    block: dict[str, Any], key: str, name: str, what: str, notes: list[str]
) -> None:
    """Replace NaN or an infinity by None, and add a note that says why."""
    value = block[key]
    if value is None:
        notes.append(f"{name} is null: the human figure of this task is not published")
    elif math.isnan(value):
        notes.append(f"{name} is null: {what} was not finite")
    elif math.isinf(value):
        notes.append(f"{name} is null: no {what}, officially Infinity, which JSON does not have")
    else:
        return
    block[key] = None


def episode_record(
    result: EpisodeResult,
    keeper: ScoreKeeper,
    human: HumanStats,
    recording: Mapping[str, Any] | None = None,
) -> EpisodeRecord:
    """Build the record of an episode.

    An `error` is not scored: `success` and `q_score` are None. A failure by the policy's fault
    scores q = 0 whatever was reached before, as in the 2026 rules.

    Args:
        result: Its result.
        keeper: Its accumulated metrics.
        human: Means over the human demonstrations.
        recording: `frames`, `fps` and `bytes` of its video; None if it has none.
    """
    episode, goal = result.episode, result.goal
    scored = result.outcome != "error"
    at_fault = result.failure_reason is not None
    q_score = figures = None
    if scored:
        q_score = 0.0 if at_fault or goal is None else float(goal.q_score)
        forfeited = episode.protocol if at_fault else None
        failed = result.outcome == "failure"
        figures = efficiency(
            result.steps, keeper.distance, human, forfeited=forfeited, failed=failed
        )
    return EpisodeRecord(
        task=episode.task,
        task_index=episode.task_index,
        instance=episode.instance,
        rollout=episode.rollout,
        seed=episode.seed,
        outcome=result.outcome,
        success=result.outcome == "success" if scored else None,
        q_score=q_score,
        failure_reason=result.failure_reason,
        message=result.message,
        not_finite=None if result.not_finite is None else asdict(result.not_finite),
        traceback=result.traceback,
        steps=result.steps,
        simulated_s=result.time,
        terminated=result.terminated,
        truncated=result.truncated,
        inferences=result.inferences,
        stalled_steps=result.stalled_steps,
        privileged=result.privileged,
        remarks=tuple(result.remarks),
        initial_predicates=keeper.initial_predicates,
        predicates={} if goal is None else dict(goal.predicates),
        subgoals=keeper.subgoal_steps,
        task_progress=keeper.task_progress() if scored else None,
        efficiency=figures,
        recording=recording,
        timing={name: round(value, 6) for name, value in asdict(result.timing).items()},
    )
