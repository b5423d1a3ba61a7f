"""The events of the episode loop, for its subscribers: trace, score, video, progress.

The loop knows nothing of files or screens. Events are passed without copies: a subscriber copies
what it keeps beyond the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from b1k_envs.base import Float32Array, GoalStatus, ProgressVariant, StepResult
from b1k_eval.loop.asked import Asked
from b1k_policies.base import EpisodeInfo, Skill

Outcome = Literal["success", "failure", "error"]
"""`failure` is the fault of robot or policy; `error` that of simulator or harness, not scored."""


@dataclass(frozen=True, kw_only=True)
class EpisodeStart:
    """The world after reset, before the first action.

    Attributes:
        episode: What the policy was told.
        goal: Goal in the initial state.
        subgoals: Truth of each sub-goal in the initial state.
        checks: Truth of each check of task progress there; empty where it is not counted.
        variant: How the checks are decided; None where they are not counted.
    """

    episode: EpisodeInfo
    goal: GoalStatus
    subgoals: Mapping[str, bool]
    checks: Mapping[str, bool] = field(default_factory=dict)
    variant: ProgressVariant | None = None


@dataclass(slots=True, kw_only=True)  # not frozen: one per control step, and that costs 3 us
class StepEvent:
    """One control step.

    Attributes:
        result: The env's result; `result.step` counts from 1.
        action: float32 [23], as executed.
        command: float32 [23], as the policy gave it; the same array if there is no action noise.
        goal: Goal after the step.
        subgoals: Sub-goals after the step.
        checks: Checks of task progress after the step; empty where it is not counted.
        inference: Whether the policy was asked right before this step.
        not_finite: Whether the observation made right before this step had a number that is not
            finite; None if none was made.
        skill: The policy's latest skill report; None if it has none.
        progress: The policy's latest progress report in [0, 1]; None if it has none.
        latency_s: Wall time of the inference [s]; None where `inference` is False.
        wait_s: What the question waited for others' before that [s]; None where it did not.
        asked: What the policy was asked; None where `inference` is False.
    """

    result: StepResult
    action: Float32Array
    command: Float32Array
    goal: GoalStatus
    subgoals: Mapping[str, bool]
    inference: bool
    not_finite: bool | None
    skill: Skill | None
    progress: float | None
    latency_s: float | None
    wait_s: float | None = None
    asked: Asked | None = None
    checks: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NotFinite:
    """Observations with numbers that are not finite, as the policy saw them.

    Attributes:
        observations: How many.
        first_step: Control steps executed before the first of them.
        parts: Proprio fields and poses that were not finite, in order of appearance.
    """

    observations: int
    first_step: int
    parts: tuple[str, ...]

    def words(self) -> str:
        """Return a sentence without a full stop."""
        several = "" if self.observations == 1 else "s"
        return (
            f"the simulator gave numbers that are not finite in {self.observations} "
            f"observation{several}, first after step {self.first_step}: {', '.join(self.parts)}"
        )


@dataclass(frozen=True, kw_only=True)
class EpisodeTiming:
    """Wall times [s]; never part of a comparison between runs.

    Attributes:
        wall_s: The whole episode, reset included.
        reset_s: `Env.reset`.
        step_s: All `Env.step`.
        observe_s: All `Env.observe`.
        policy_s: All `Policy.reset` and `Policy.infer`, without `wait_s`.
        wait_s: What their questions waited for those of others.
    """

    wall_s: float
    reset_s: float
    step_s: float
    observe_s: float
    policy_s: float
    wait_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """How an episode ended.

    Attributes:
        episode: What the policy was told.
        outcome: See `Outcome`.
        steps: Control steps executed.
        time: Simulated time at the end [s].
        terminated: The goal was reached.
        truncated: The time limit was reached.
        inferences: How often the policy was asked.
        stalled_steps: Steps with no action ready, as the policy had not answered yet.
        privileged: The policy read the simulator's state.
        goal: Goal at the end; None if it was never evaluated.
        failure_reason: Machine-readable cause where the policy is at fault, else None.
        message: The fault or error in words, and numbers that were not finite; else None.
        not_finite: Observations that were not finite; None if there were none.
        traceback: Of the fault or error, else None.
        timing: Wall times.
        remarks: What a reader should know before trusting the result.
        ends_run: No further episode can succeed, for the reason in `message`.
    """

    episode: EpisodeInfo
    outcome: Outcome
    steps: int
    time: float
    terminated: bool
    truncated: bool
    inferences: int
    stalled_steps: int = 0
    privileged: bool
    goal: GoalStatus | None
    failure_reason: str | None
    message: str | None
    not_finite: NotFinite | None = None
    traceback: str | None
    timing: EpisodeTiming
    remarks: tuple[str, ...] = ()
    ends_run: bool = False


class Subscriber:
    """Receives the events of an episode; every hook does nothing until overridden.

    An exception in a hook ends the episode as an `error`, as its trace would be incomplete.
    """

    def on_start(self, start: EpisodeStart) -> None:
        """The world is reset and the goal evaluated."""

    def on_pictures(self) -> None:
        """`Env.observe` has just made the pictures of the present state."""

    def on_step(self, event: StepEvent) -> None:
        """A control step was executed; called 30 times per simulated second, so be quick."""

    def on_end(self, result: EpisodeResult) -> None:
        """The episode is over, whatever its outcome; not called on Ctrl-C."""

    def close(self) -> None:
        """Release files and threads, after `on_end` or instead of it; safe to call twice."""
