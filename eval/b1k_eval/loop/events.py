"""What the episode loop tells those who listen: trace, score, video, progress.

The loop knows nothing of files or screens; a listener is a `Subscriber`. Events are handed on as
they are, without copies: what a subscriber wants to keep beyond the call, it copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from b1k_envs.base import Float32Array, GoalStatus, StepResult
from b1k_policies.base import EpisodeInfo, Skill

Outcome = Literal["success", "failure", "error"]
"""`failure` is the robot's or the policy's, `error` the simulator's or ours and unscored."""


@dataclass(frozen=True, kw_only=True)
class EpisodeStart:
    """The world after reset, before the first action.

    Attributes:
        episode: What the policy was told.
        goal: Goal on the initial state.
        subgoals: Sub-goals on the initial state, name to truth.
    """

    episode: EpisodeInfo
    goal: GoalStatus
    subgoals: Mapping[str, bool]


@dataclass(slots=True, kw_only=True)  # not frozen: one per control step, and that costs 3 us
class StepEvent:
    """One control step: why, what, and what came of it.

    Attributes:
        result: What the env said; `result.step` counts from 1.
        action: float32 [23], what was executed.
        command: float32 [23], what the policy asked for; the same array without action noise.
        goal: Goal after the step.
        subgoals: Sub-goals after the step.
        inference: Whether the policy was asked right before this step.
        not_finite: Whether a number of the observation made right before this step was not
            finite; None where none was made.
        skill: The policy's last word on its skill; None if it has none.
        progress: The policy's last word on its progress in [0, 1]; None if it has none.
        latency_s: Wall time of the inference [s]; None where `inference` is False.
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


@dataclass(frozen=True, kw_only=True)
class NotFinite:
    """Observations with numbers that are not finite, which the world made and the policy saw.

    Attributes:
        observations: How many.
        first_step: Control steps executed before the first of them.
        parts: What was not finite, in the order in which it came up: proprio fields, poses.
    """

    observations: int
    first_step: int
    parts: tuple[str, ...]

    def words(self) -> str:
        """One sentence without a full stop."""
        several = "" if self.observations == 1 else "s"
        return (
            f"the simulator gave numbers that are not finite in {self.observations} "
            f"observation{several}, first after step {self.first_step}: {', '.join(self.parts)}"
        )


@dataclass(frozen=True, kw_only=True)
class EpisodeTiming:
    """Wall time by receiver [s]; never part of a comparison between runs.

    Attributes:
        wall_s: The whole episode, reset included.
        reset_s: `Env.reset`.
        step_s: All `Env.step`.
        observe_s: All `Env.observe`.
        policy_s: All `Policy.reset` and `Policy.infer`.
    """

    wall_s: float
    reset_s: float
    step_s: float
    observe_s: float
    policy_s: float


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
        stalled_steps: Steps at which no action was at hand, as the policy was still thinking.
        privileged: The policy read the simulator's truth.
        goal: Goal at the end; None if the episode did not get as far as a goal.
        failure_reason: Machine-readable cause where the policy is at fault, else None.
        message: The fault or error in words, and what the simulator did wrong, else None.
        not_finite: Numbers that are not finite in observations; None if there were none.
        traceback: Where the fault or error came from, else None.
        timing: Wall times.
        remarks: What a person should read before trusting it.
        ends_run: No further episode would be worth anything, for the reason in `message`.
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
    """Hears of an episode; every hook does nothing until overridden.

    An exception out of a hook ends the episode as an `error`: a run without its trace is no run.
    """

    def on_start(self, start: EpisodeStart) -> None:
        """The world is reset and the goal evaluated."""

    def on_pictures(self) -> None:
        """`Env.observe` has just made the pictures of the present state."""

    def on_step(self, event: StepEvent) -> None:
        """A control step was executed. Called at 30 per simulated second: be quick."""

    def on_end(self, result: EpisodeResult) -> None:
        """The episode is over, whatever its outcome; not called on Ctrl-C."""

    def close(self) -> None:
        """Let go of files and threads, after `on_end` or instead of it; safe to call twice."""
