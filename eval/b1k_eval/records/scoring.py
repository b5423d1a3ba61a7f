"""The official figures of an episode: success, q-score, time and distances.

Formulas: StanfordVL/BEHAVIOR-1K, `OmniGibson/omnigibson/metrics/task_metric.py` (time) and
`agent_metric.py` (distances); what a policy's fault costs, from the 2026 evaluator. The q-score
itself is the env's (`b1k_envs.tasks.goals`). JSON has no Infinity, which the official files write
where the robot did not move: here that is None, and `notes` says why.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Protocol

from b1k_envs.base import AgentPositions
from b1k_envs.base import Protocol as Generation
from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks.table import TIME_LIMIT_FACTORS
from b1k_eval.loop.events import EpisodeResult, EpisodeStart, StepEvent, Subscriber

BODIES: tuple[str, ...] = ("base", "left", "right")
"""Keys of the distances, as the official files have them; left and right are the hands."""


class HumanFigures(Protocol):
    """What humans needed; `b1k_envs.tasks.table.HumanStats`."""

    @property
    def length(self) -> float:
        """Mean control steps."""

    @property
    def distance_traveled(self) -> float | None:
        """Path length of the base [m]."""

    @property
    def left_eef_displacement(self) -> float | None:
        """Path length of the left hand [m]."""

    @property
    def right_eef_displacement(self) -> float | None:
        """Path length of the right hand [m]."""


class ScoreKeeper(Subscriber):
    """Adds up, over one episode after another, what the official metrics add up.

    Attributes:
        initial_predicates: Truth of the goal predicates before the first action.
        subgoal_steps: First step after which each sub-goal held; 0 at the start, None never.
        distance: Path length by body [m], world frame; a hand's includes the base's motion.
    """

    def __init__(self) -> None:
        self.initial_predicates: dict[str, bool] = {}
        self.subgoal_steps: dict[str, int | None] = {}
        self.distance: dict[str, float] = dict.fromkeys(BODIES, 0.0)
        self._last: tuple[list[float], ...] | None = None

    def on_start(self, start: EpisodeStart) -> None:
        """Forget the last episode."""
        self.initial_predicates = dict(start.goal.predicates)
        self.subgoal_steps = {name: 0 if holds else None for name, holds in start.subgoals.items()}
        self.distance = dict.fromkeys(BODIES, 0.0)
        self._last = None

    def on_step(self, event: StepEvent) -> None:
        """Add one step. The first only sets the positions: its displacement is not counted."""
        for name, holds in event.subgoals.items():
            if holds and self.subgoal_steps[name] is None:
                self.subgoal_steps[name] = event.result.step
        now = _as_lists(event.result.agent)
        if self._last is not None:
            for body, here, there in zip(BODIES, now, self._last, strict=True):
                self.distance[body] += math.dist(here, there)
        self._last = now


def _as_lists(agent: AgentPositions) -> tuple[list[float], ...]:
    return agent.base.tolist(), agent.left_eef.tolist(), agent.right_eef.tolist()


def efficiency(
    steps: int,
    distance: dict[str, float],
    human: HumanFigures,
    *,
    forfeited: Generation | None = None,
) -> dict[str, Any]:
    """Time and distances as the official files have them, and why a figure is missing.

    Args:
        steps: Control steps executed.
        distance: Path lengths by body [m], `ScoreKeeper.distance`.
        human: Means over the human demonstrations.
        forfeited: Protocol, where the policy's fault ended the episode: 2026 then sets the
            normalised figures to 0 and the time to that of the limit; 2025 has no such rule.

    Returns:
        `time` with `simulator_steps`, `simulator_time` [s], `normalized_time`; `agent_distance`
        and `normalized_agent_distance` by body; `notes`.
    """
    notes: list[str] = []
    travelled = {body: way if math.isfinite(way) else None for body, way in distance.items()}
    notes += [
        f"agent_distance.{body} is null: the simulator gave a position that is not finite, "
        "officially NaN, which JSON does not have"
        for body, way in travelled.items()
        if way is None
    ]
    normalized_time = _ratio("normalized_time", human.length, steps, "steps", notes)
    figures = human_distances(human)
    normalized = {
        body: _ratio(
            f"normalized_agent_distance.{body}", figures[body], travelled[body], "motion", notes
        )
        for body in BODIES
    }
    if forfeited == "2026":
        normalized_time = 1.0 / TIME_LIMIT_FACTORS["2026"]
        normalized = dict.fromkeys(BODIES, 0.0)
        notes = ["the policy's fault ended the episode: normalised figures are those of the rules"]
    return {
        "time": {
            "simulator_steps": steps,
            "simulator_time": steps / CONTROL_HZ,
            "normalized_time": normalized_time,
        },
        "agent_distance": travelled,
        "normalized_agent_distance": normalized,
        "notes": notes,
    }


def human_distances(human: HumanFigures) -> dict[str, float | None]:
    """Path lengths of the human demonstrations by body [m]; None where not published."""
    return {
        "base": human.distance_traveled,
        "left": human.left_eef_displacement,
        "right": human.right_eef_displacement,
    }


def _ratio(
    name: str, human: float | None, measured: float | None, what: str, notes: list[str]
) -> float | None:
    if measured is None:
        notes.append(f"{name} is null: {what} was not finite")
        return None
    if human is None:
        notes.append(f"{name} is null: the human figure of this task is not published")
        return None
    if measured == 0:
        notes.append(f"{name} is null: no {what}, officially Infinity, which JSON does not have")
        return None
    return human / measured


def result_record(
    result: EpisodeResult, keeper: ScoreKeeper, human: HumanFigures
) -> dict[str, Any]:
    """The content of result.json, JSON values only; wall times in the block `timing` alone.

    `success` and `q_score` are None for an `error`: it is not scored. A failure by the policy's
    fault scores q = 0 whatever was reached before, as the 2026 rules have it.
    """
    episode = result.episode
    scored = result.outcome != "error"
    at_fault = result.failure_reason is not None
    q_score: float | None = None
    if scored:
        q_score = 0.0 if at_fault or result.goal is None else float(result.goal.q_score)
    return {
        "format": 1,
        "task": episode.task,
        "task_index": episode.task_index,
        "instance": episode.instance,
        "rollout": episode.rollout,
        "seed": episode.seed,
        "outcome": result.outcome,
        "success": result.outcome == "success" if scored else None,
        "q_score": q_score,
        "failure_reason": result.failure_reason,
        "message": result.message,
        "not_finite": None if result.not_finite is None else asdict(result.not_finite),
        "traceback": result.traceback,
        "steps": result.steps,
        "simulated_s": result.time,
        "terminated": result.terminated,
        "truncated": result.truncated,
        "inferences": result.inferences,
        "stalled_steps": result.stalled_steps,
        "privileged": result.privileged,
        "remarks": list(result.remarks),
        "initial_predicates": keeper.initial_predicates,
        "predicates": {} if result.goal is None else dict(result.goal.predicates),
        "subgoals": keeper.subgoal_steps,
        "efficiency": efficiency(
            result.steps,
            keeper.distance,
            human,
            forfeited=episode.protocol if at_fault else None,
        )
        if scored
        else None,
        "timing": {
            name: round(getattr(result.timing, name), 6)
            for name in ("wall_s", "reset_s", "step_s", "observe_s", "policy_s")
        },
    }
