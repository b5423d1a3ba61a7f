"""The episode loop.

A fault of the policy (it raises, or returns something other than a finite chunk of the declared
length) is a `failure` with q = 0, as in the 2026 challenge rules (docs/challenge of
StanfordVL/BEHAVIOR-1K). A fault of the simulator, a subscriber or this loop is an `error` and is
not scored. Ctrl-C is neither and passes through.

If an observation has a number that is not finite, the episode goes on and the policy sees it, as
in the official evaluators. Such observations are counted in the result.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any, Literal

import numpy as np

from b1k_envs.base import Env, Float32Array, GoalStatus, Observation, ProgressVariant, Worlds
from b1k_envs.errors import (
    ActionError,
    EndsRunError,
    EnvError,
    HostFaultError,
    PolicyFaultError,
)
from b1k_envs.r1pro import (
    ACTION_SLICES,
    GRIPPER_OPEN,
    JOINT_ORDER,
    RESET_JOINT_POSITION,
    TRUNK_JOINTS,
    hold_action,
    not_finite,
)
from b1k_envs.tasks.task_progress import DEFAULT_VARIANT
from b1k_eval.disturbances.disturber import Disturber
from b1k_eval.loop.asked import Asked
from b1k_eval.loop.chunking import Chunking
from b1k_eval.loop.driver import Infer, Loop, Reset, Step, drive
from b1k_eval.loop.events import (
    EpisodeResult,
    EpisodeStart,
    EpisodeTiming,
    NotFinite,
    Outcome,
    StepEvent,
    Subscriber,
)
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy, PrivilegedPolicy, Query, Skill
from b1k_policies.seeding import inference_seed

Render = Literal["on-demand", "every-step"]
"""`every-step` renders all cameras before every action, as the official evaluator does;
`on-demand` only when the policy is asked, and only if it uses pictures."""


def run_episode(
    env: Env,
    policy: Policy,
    episode: EpisodeInfo,
    chunking: Chunking,
    *,
    subscribers: Sequence[Subscriber] = (),
    disturber: Disturber | None = None,
    render: Render = "on-demand",
    variant: ProgressVariant = DEFAULT_VARIANT,
) -> EpisodeResult:
    """Run one episode in one world; see `episode_loop`."""
    results: list[EpisodeResult] = []
    loop = episode_loop(
        env,
        policy,
        episode,
        chunking,
        subscribers=subscribers,
        disturber=disturber,
        render=render,
        variant=variant,
    )
    drive({0: loop}, Worlds([env]), lambda _, result: results.append(result))
    return results[0]


def episode_loop(
    env: Env,
    policy: Policy,
    episode: EpisodeInfo,
    chunking: Chunking,
    *,
    subscribers: Sequence[Subscriber] = (),
    disturber: Disturber | None = None,
    render: Render = "on-demand",
    variant: ProgressVariant = DEFAULT_VARIANT,
) -> Loop[EpisodeResult]:
    """Run an episode until success, the time limit, or a fault; a generator for `drive`.

    Args:
        env: The env, which counts the steps and has the time limit; only read here.
        policy: Asked when `chunking` says so.
        episode: Instance and rollout, and what the policy is told.
        chunking: Reset first.
        subscribers: Called at start, every step and end, in this order. Not closed here.
        disturber: Stands between env and policy, both ways; reset with the episode's seed.
        render: When to observe.
        variant: How task progress is decided.

    Returns:
        The outcome. Only KeyboardInterrupt, SystemExit and the like are raised, and what a
        subscriber's `on_end` raises.
    """
    loop = _Loop(env, policy, episode, chunking, subscribers, disturber, render, variant)
    started = perf_counter()
    outcome: Outcome
    reason = message = trace = None
    ends_run = False
    try:
        yield from loop.run()
        outcome = "success" if loop.terminated else "failure"
    except PolicyFaultError as fault:
        outcome, reason, message = "failure", fault.reason, str(fault)
        trace = traceback.format_exc()
    except Exception as error:  # noqa: BLE001 - any crash of world or harness is the outcome "error"
        outcome, message = "error", f"{type(error).__name__}: {error}"
        ends_run = isinstance(error, EndsRunError)
        trace = traceback.format_exc()
    strange = loop.not_finite()
    if strange is not None:
        message = "; ".join(text for text in (message, strange.words()) if text)
    result = EpisodeResult(
        episode=episode,
        outcome=outcome,
        steps=loop.steps,
        time=loop.time,
        terminated=loop.terminated,
        truncated=loop.truncated,
        inferences=loop.inferences,
        stalled_steps=chunking.stalled,
        privileged=isinstance(policy, PrivilegedPolicy),
        goal=loop.goal,
        failure_reason=reason,
        message=message,
        not_finite=strange,
        traceback=trace,
        timing=EpisodeTiming(
            wall_s=perf_counter() - started,
            reset_s=loop.reset_s,
            step_s=loop.step_s,
            observe_s=loop.observe_s,
            policy_s=loop.policy_s,
            wait_s=loop.wait_s,
        ),
        remarks=(*policy.episode_remarks, *(() if loop.untold is None else (loop.untold,))),
        ends_run=ends_run,
    )
    for subscriber in subscribers:
        subscriber.on_end(result)
    return result


class _Loop:
    """The loop's state, kept apart so that a broken episode can still report how far it got."""

    def __init__(
        self,
        env: Env,
        policy: Policy,
        episode: EpisodeInfo,
        chunking: Chunking,
        subscribers: Sequence[Subscriber],
        disturber: Disturber | None,
        render: Render,
        variant: ProgressVariant,
    ) -> None:
        self.env = env
        self.policy = policy
        self.episode = episode
        self.chunking = chunking
        self.subscribers = subscribers
        self.disturber = disturber
        self.every_step = render == "every-step"
        self.variant: ProgressVariant | None = variant
        self.untold: str | None = None
        self.steps = 0
        self.time = 0.0
        self.terminated = False
        self.truncated = False
        self.inferences = 0
        self.goal: GoalStatus | None = None
        self.skill: Skill | None = None
        self.progress: float | None = None
        self.strange_at: list[int] = []  # steps before observations that were not all finite
        self.strange_parts: dict[str, None] = {}
        self.reset_s = self.step_s = self.observe_s = self.policy_s = self.wait_s = 0.0

    def run(self) -> Loop[None]:
        """Run from reset to the last step."""
        env, chunking, disturber = self.env, self.chunking, self.disturber
        subscribers = self.subscribers
        yield from self._reset()
        images = self.every_step or self.policy.needs_images
        while not (self.terminated or self.truncated):
            step = self.steps
            inference = chunking.wants_inference(step)
            latency: float | None = None
            waited: float | None = None
            asked: Asked | None = None
            strange: bool | None = None
            if inference or self.every_step:
                begun = perf_counter()
                observation = env.observe(images=images)
                self.observe_s += perf_counter() - begun
                strange = self._strange(step, observation)
                if images:
                    for subscriber in subscribers:
                        subscriber.on_pictures()
                if inference:
                    latency, waited, asked = yield from self._infer(step, observation)
            command = chunking.action(step)
            action = command if disturber is None else disturber.command(command)
            result, took, _ = yield Step(action)
            self.step_s += took
            self.goal = goal = env.goal()
            self.steps, self.time = result.step, result.time
            self.terminated, self.truncated = result.terminated, result.truncated
            # Two sources of one fact: the score uses the goal, the loop ends by `terminated`.
            if result.terminated != goal.success:
                raise EnvError(
                    f"step {result.step}: the env says terminated={result.terminated} and its "
                    f"goal success={goal.success}; this is a bug of the env"
                )
            if not subscribers:
                continue  # sub-goals are evaluated for the event only
            event = StepEvent(
                result=result,
                action=action,
                command=command,
                goal=goal,
                subgoals=env.subgoals(),
                inference=inference,
                not_finite=strange,
                skill=self.skill,
                progress=self.progress,
                latency_s=latency,
                wait_s=waited,
                asked=asked,
                checks=self._checks(),
            )
            for subscriber in subscribers:
                subscriber.on_step(event)

    def not_finite(self) -> NotFinite | None:
        """Summarise the observations so far that were not finite; None if all were."""
        if not self.strange_at:
            return None
        return NotFinite(
            observations=len(self.strange_at),
            first_step=self.strange_at[0],
            parts=tuple(self.strange_parts),
        )

    def _strange(self, step: int, observation: Observation) -> bool:
        """Note the parts of an observation that are not finite; return whether there are any."""
        parts = not_finite(observation)
        if parts:
            self.strange_at.append(step)
            self.strange_parts.update(dict.fromkeys(parts))
        return bool(parts)

    def _reset(self) -> Loop[None]:
        env, policy, episode = self.env, self.policy, self.episode
        had = yield Reset((episode.instance, episode.rollout, episode.seed))
        self.reset_s = had.took_s
        self.chunking.reset()
        if self.disturber is not None:
            self.disturber.reset(episode.seed)
            told = self.disturber.instruction(episode.instruction)
            self.episode = episode = replace(episode, instruction=told)
        self.goal = env.goal()
        checks = self._checks() if self.subscribers else {}
        start = EpisodeStart(
            episode=episode,
            goal=self.goal,
            subgoals=env.subgoals(),
            checks=checks,
            variant=self.variant,
        )
        for subscriber in self.subscribers:
            subscriber.on_start(start)
        begun = perf_counter()
        with _policys_fault():
            if isinstance(policy, PrivilegedPolicy):
                policy.bind(_reader(env))
            policy.reset(episode)
        self.policy_s += perf_counter() - begun

    def _checks(self) -> Mapping[str, bool]:
        """Evaluate task progress; once that is not counted, it is not asked for again."""
        if self.variant is None:
            return {}
        checks = self.env.checks(self.variant)
        if not checks.truths:
            self.variant, self.untold = None, checks.untold
        return checks.truths

    def _infer(
        self, step: int, observation: Observation
    ) -> Loop[tuple[float, float | None, Asked | None]]:
        shown = observation if self.disturber is None else self.disturber.observation(observation)
        query = Query(
            observation=shown,
            instruction=self.episode.instruction,
            seed=inference_seed(self.episode.seed, self.inferences),
            progress=self.progress,
        )
        with _policys_fault():
            chunk, measured, asked = yield Infer(self.policy, query, self.chunking.needs_latency)
        self.policy_s += measured
        self.inferences += 1
        if not isinstance(chunk, ActionChunk):
            raise ActionError(f"infer must return an ActionChunk, got {type(chunk).__name__}")
        # The horizon was checked against the declared length: a shorter chunk would run out.
        if len(chunk.actions) != self.policy.chunk_length:
            raise ActionError(
                f"infer returned {len(chunk.actions)} actions, but the policy declares "
                f"chunk_length {self.policy.chunk_length}"
            )
        latency = measured if chunk.latency_s is None else chunk.latency_s
        if step == 0 and self.chunking.needs_hold:
            self.chunking.hold(_hold(observation))
        if self.disturber is not None and self.disturber.lost(step):
            self.chunking.lost(step)  # nor is its skill or progress heard of
        else:
            self.chunking.add(step, chunk.actions, latency)
            self.skill, self.progress = chunk.skill, chunk.progress
        waited = chunk.wait_s or 0.0
        self.policy_s -= waited
        self.wait_s += waited
        return latency, chunk.wait_s, asked


def _hold(observation: Observation) -> Float32Array:
    """Return the action that keeps the robot as it was reset, with open grippers.

    Where the proprio is not finite the nominal reset posture is used: a bad action from here
    would be counted as the policy's fault.
    """
    action = hold_action(observation.proprio, observation.protocol, GRIPPER_OPEN, GRIPPER_OPEN)
    reset = np.zeros_like(action)  # base and arms are reset to 0
    first = JOINT_ORDER.index(TRUNK_JOINTS[0])
    reset[ACTION_SLICES["trunk"]] = RESET_JOINT_POSITION[first : first + len(TRUNK_JOINTS)]
    return np.where(np.isfinite(action), action, reset)


class _WorldFailedError(Exception):
    """The world failed inside a policy's call: not an EnvError that the policy itself raised."""


def _reader(env: Env) -> Callable[[], Any]:
    """Return the function by which a policy reads the privileged state at any time."""

    def read() -> Any:  # noqa: ANN401 - each simulator has its own type
        try:
            return env.privileged_state()
        except EnvError as error:
            raise _WorldFailedError(str(error)) from error
        except Exception as error:
            raise _WorldFailedError(f"{type(error).__name__}: {error}") from error

    return read


@contextmanager
def _policys_fault() -> Iterator[None]:
    """Guard a call of the policy: an exception is its fault, unless the world failed under it.

    Raises:
        PolicyFaultError: The policy's own, or any other exception wrapped in one.
        EnvError: The simulator failed while its privileged state was read, or the machine failed.
    """
    try:
        yield
    except _WorldFailedError as failed:
        raise EnvError(str(failed)) from failed
    except (PolicyFaultError, HostFaultError):
        raise
    except Exception as error:
        raise PolicyFaultError(f"{type(error).__name__}: {error}") from error
