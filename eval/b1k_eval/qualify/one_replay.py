"""One replay of a recording: executing its actions, and why it does not go as recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from b1k_envs.base import Env, Float32Array, StepResult
from b1k_envs.errors import UnavailableError, UsageError
from b1k_eval.qualify.alignment import Alignment, align
from b1k_eval.qualify.demos import Demo
from b1k_eval.replay.retrace import Replayed, perform

SEARCH_STEPS = 90
"""Steps by which a recording must agree longer on another state than on the named one."""

Cause = Literal["none", "shifted", "wrong instance", "diverged", "other outcome", "world failed"]


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """A recording and the instance to replay it on.

    Attributes:
        demo: The recording.
        instance: Index of its initial state in the env's split.
    """

    demo: Demo
    instance: int


@dataclass(frozen=True, kw_only=True)
class ReplayOutcome:
    """The result of one replay.

    Attributes:
        name: Name of the recording.
        instance: Index of the instance it was replayed on.
        success: Whether the goal was reached.
        steps: Number of actions executed.
        recorded_steps: Number of actions in the recording.
        shift: See `Alignment`.
        parting: Step, quantity, difference and bound; None if nothing parts.
        found_on: Index of the initial state that fits instead; None unless one was found.
        cause: What explains a failure or a parting.
        words: The cause in a sentence.
    """

    name: str
    instance: int
    success: bool
    steps: int
    recorded_steps: int
    shift: int
    parting: dict[str, Any] | None
    found_on: int | None
    cause: Cause
    words: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Executed:
    """The result of executing actions in a world.

    Attributes:
        measured: Proprioception before each action and after the last, float32 [M + 1, D].
        replayed: What happened in the world.
        success: Whether the goal was reached; no action is executed after that.
    """

    measured: Float32Array
    replayed: Replayed
    success: bool


def execute_and_read(env: Env, actions: Float32Array) -> Executed:
    """Execute actions in a world that was just reset, until the goal is reached or none is left.

    Args:
        env: The world.
        actions: float32 [N, 23].
    """
    rows: list[Float32Array] = []
    ended: list[StepResult] = []

    def until(result: StepResult) -> bool:
        if result.terminated:
            ended.append(result)
        return result.terminated

    replayed = perform(
        env,
        actions,
        watch=lambda _: rows.append(env.observe(images=False).proprio),
        until=until,
    )
    return Executed(measured=np.stack(rows), replayed=replayed, success=bool(ended))


def _on(env: Env, actions: Float32Array, instance: int) -> Executed:
    """Reset to an initial state and execute actions."""
    env.reset(instance, 0, 0)
    return execute_and_read(env, actions)


def replay(env: Env, each: Assigned, candidates: Sequence[int]) -> ReplayOutcome:
    """Replay one recording, and find out why if it does not go as recorded.

    Args:
        env: Any world.
        each: The recording.
        candidates: Indices of initial states that may fit instead, likeliest first.

    Raises:
        EnvError: The world cannot be reset.
    """
    demo = each.demo
    course = _on(env, demo.actions, each.instance)
    alignment = align(demo.states, demo.layout, course.measured, env.info.protocol)
    found_on = None
    broke = course.replayed.broke
    shifted = alignment.shift not in _conventions(env)
    if broke is None and not course.success and not shifted:
        found_on = _search(env, each, alignment, candidates)
    cause: Cause = "none"
    if broke is not None:
        cause = "world failed"
    elif shifted:
        cause = "shifted"
    elif found_on is not None:
        cause = "wrong instance"
    elif not course.success:
        cause = "other outcome" if alignment.parting is None else "diverged"
    return ReplayOutcome(
        name=demo.entry.name,
        instance=each.instance,
        success=course.success,
        steps=course.replayed.states.steps,
        recorded_steps=len(demo.actions),
        shift=alignment.shift,
        parting=None if alignment.parting is None else asdict(alignment.parting),
        found_on=found_on,
        cause=cause,
        words=f"{demo.entry.name} on instance {each.instance}: "
        + _words(cause, course, alignment, found_on),
    )


def _conventions(env: Env) -> tuple[int, ...]:
    """Return the shifts that say nothing.

    Nobody publishes whether a demonstration's states are those before or after its actions; the
    twin's recordings are known to have those before.
    """
    return (0,) if env.info.sim == "mujoco" else (0, 1)


def _words(cause: Cause, course: Executed, alignment: Alignment, found_on: int | None) -> str:
    steps = course.replayed.states.steps
    said = f"success after {steps} steps" if course.success else f"no success in {steps} steps"
    parting = alignment.parting
    parts = "" if parting is None else f"; recorded and measured part at {parting.words()}"
    if cause == "world failed":
        return f"the world failed: {course.replayed.broke}"
    if cause == "shifted":
        steps_away = abs(alignment.shift)
        way = f"step{'' if steps_away == 1 else 's'} "
        way += "later" if alignment.shift > 0 else "earlier"
        return (
            f"{said}; shifted actions: what they do comes {steps_away} {way} "
            f"than in the recording{parts}"
        )
    if cause == "wrong instance":
        return (
            f"{said}; wrong instance: the recording is of what is instance {found_on} here{parts}"
        )
    if cause == "other outcome":
        return (
            f"{said}, though the robot moved as recorded to the end: objects lie elsewhere than in "
            "the recording, or the goal is another"
        )
    return said + (parts if not course.success else "")


def _search(
    env: Env, each: Assigned, alignment: Alignment, candidates: Sequence[int]
) -> int | None:
    """Find the initial state on which the recording succeeds.

    A candidate is given up as soon as it parts no later than the named state.
    """
    demo, parting = each.demo, alignment.parting
    for candidate in candidates:
        try:
            if parting is not None:
                # A few steps beyond the parting tell most candidates apart, without a whole replay.
                first = demo.actions[: parting.step + SEARCH_STEPS]
                tried = _on(env, first, candidate)
                found = align(demo.states, demo.layout, tried.measured, env.info.protocol)
                if found.parting is not None:
                    continue
            if _on(env, demo.actions, candidate).success:
                return candidate
        except (UsageError, UnavailableError):  # the split lacks this instance or its file
            continue
    return None
