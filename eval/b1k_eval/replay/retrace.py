"""Executing recorded actions again, and finding where the world goes another way.

The twin is deterministic: on the machine of the run everything is equal bit for bit. Another
processor or MuJoCo may round otherwise, which contacts then amplify; the tolerances in
`records.columns` let pass what has not become visible, predicates and sub-goals have to be equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from b1k_envs.base import Env, EnvInfo, Float32Array, StepResult
from b1k_envs.errors import EnvError
from b1k_eval import __version__
from b1k_eval.loop.events import StepEvent
from b1k_eval.records.columns import COMPARED, POSITIONS, truths_of
from b1k_eval.records.loading import RunData
from b1k_eval.records.provenance import this_session
from b1k_eval.replay.recorded import BoolArray, Recorded, WorldStates


@dataclass(frozen=True, kw_only=True, eq=False)
class Replayed:
    """What came of executing the actions again.

    Attributes:
        states: As far as it went.
        broke: Why the world failed in the step after the last one; None if it went to the end.
    """

    states: WorldStates
    broke: str | None


@dataclass(frozen=True, kw_only=True)
class ReplayDifference:
    """One thing that is not as it was.

    Attributes:
        what: Column of the trace, or `world`.
        recorded: What the trace has; a truth, a score, a position [m], None for nothing.
        replayed: What came out now.
    """

    what: str
    recorded: bool | float | str | None
    replayed: bool | float | str | None


@dataclass(frozen=True, kw_only=True)
class ReplayComparison:
    """Whether a replay is the episode again.

    Attributes:
        steps: Steps that were recorded.
        replayed_steps: Steps that were executed; fewer where the world failed.
        first_step: First step that differs, 0 for the state before the first action; None if
            there is none.
        first: What differs there.
        differing_states: How many of the steps + 1 states differ, the one before the first action
            among them, and those that the world did not reach any more.
        largest_position_m: Largest difference of any coordinate over the executed steps [m].
    """

    steps: int
    replayed_steps: int
    first_step: int | None
    first: tuple[ReplayDifference, ...]
    differing_states: int
    largest_position_m: float

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.first_step is None


def execute(
    env: Env,
    recorded: Recorded,
    *,
    watch: Callable[[int], None] = lambda step: None,
) -> Replayed:
    """Reset the world to the episode's initial state and execute its actions.

    Args:
        env: Of the run's settings.
        recorded: The episode.
        watch: Told of every state: 0 before the first action, then the number of each step.

    Raises:
        EnvError: The world cannot be reset.
    """
    key, seed = recorded.episode.key, recorded.episode.seed
    env.reset(key.instance, key.rollout, seed)
    return perform(env, recorded.actions, watch=watch)


def perform(
    env: Env,
    actions: Float32Array,
    *,
    watch: Callable[[int], None] = lambda step: None,
    until: Callable[[StepResult], bool] = lambda result: False,
) -> Replayed:
    """Execute actions in a world that has just been reset.

    Args:
        env: The world.
        actions: float32 [N, 23], one row a control step.
        watch: Told of every state: 0 before the first action, then the number of each step.
        until: Asked after every step; once true, no further action is executed.
    """
    truths = [truths_of(env.goal(), env.subgoals())]
    numbers: list[list[float]] = []
    broke = None
    watch(0)
    for action in actions:
        try:
            result = env.step(action)
        except EnvError as error:
            broke = str(error)
            break
        event = _event(result, action, env)
        truths.append(truths_of(event.goal, event.subgoals))
        numbers.append(_numbers(event))
        watch(result.step)
        if until(result):
            break
    table = np.array(numbers, dtype=np.float64).reshape(-1, len(COMPARED))
    return Replayed(
        states=WorldStates(
            truths={name: np.array([row[name] for row in truths]) for name in truths[0]},
            numbers={
                name: table[:, i].astype(column.kind)
                for i, (name, column) in enumerate(COMPARED.items())
            },
        ),
        broke=broke,
    )


def _event(result: StepResult, action: Float32Array, env: Env) -> StepEvent:
    """What the trace would be told of a step, but for the policy, which is not asked."""
    return StepEvent(
        result=result,
        action=action,
        command=action,
        goal=env.goal(),
        subgoals=env.subgoals(),
        inference=False,
        not_finite=None,
        skill=None,
        progress=None,
        latency_s=None,
    )


def _numbers(event: StepEvent) -> list[float]:
    """Values of `COMPARED`, in its order."""
    values = [np.ravel(column.value(event)) for column in dict.fromkeys(COMPARED.values())]
    return [float(value) for value in np.concatenate(values)]


def compare(recorded: WorldStates, replayed: Replayed) -> ReplayComparison:
    """Find what differs, and from which step on.

    Names that only one side has differ at step 0: the goal is another one.
    """
    was, now = recorded, replayed.states
    steps, done = was.steps, now.steps
    differing: dict[str, BoolArray] = {  # bool [done + 1] by column
        name: _differing_truths(was, now, name, done) for name in {**was.truths, **now.truths}
    }
    apart = {name: np.abs(old[:done] - now.numbers[name]) for name, old in was.numbers.items()}
    for name, by in apart.items():  # not recorded before the first action
        differing[name] = np.concatenate(([False], by > COMPARED[name].tolerance))
    any_differs = np.any(list(differing.values()), axis=0)
    first_step: int | None = None
    first: tuple[ReplayDifference, ...] = ()
    if any_differs.any():
        step = first_step = int(np.argmax(any_differs))
        first = tuple(
            ReplayDifference(
                what=name, recorded=_value(was, name, step), replayed=_value(now, name, step)
            )
            for name, where in differing.items()
            if where[step]
        )
    elif replayed.broke is not None:
        first_step = done + 1
        first = (ReplayDifference(what="world", recorded="a step", replayed=replayed.broke),)
    return ReplayComparison(
        steps=steps,
        replayed_steps=done,
        first_step=first_step,
        first=first,
        differing_states=int(any_differs.sum()) + steps - done,
        largest_position_m=max(float(apart[name].max(initial=0.0)) for name in POSITIONS),
    )


def _differing_truths(was: WorldStates, now: WorldStates, name: str, done: int) -> BoolArray:
    """Where a predicate or sub-goal differs, bool [done + 1]."""
    if name not in was.truths or name not in now.truths:
        return np.asarray(np.arange(done + 1) == 0)
    return np.asarray(was.truths[name][: done + 1] != now.truths[name])


def _value(states: WorldStates, name: str, step: int) -> bool | float | None:
    if name in states.numbers:
        return float(states.numbers[name][step - 1])
    return bool(states.truths[name][step]) if name in states.truths else None


# --- the conditions ------------------------------------------------------------------------------


def other_conditions(run: RunData, info: EnvInfo) -> tuple[str, ...]:
    """What is not as it was in the run and could make a difference, each in a sentence."""
    env = run.identity.get("env", {})
    pairs: list[tuple[str, Any, Any]] = [
        ("b1k-eval", run.identity.get("b1k_eval"), __version__),
        ("MuJoCo", env.get("sim_version"), info.sim_version),
    ]
    settings = env.get("settings", {})
    for name in sorted({*settings, *info.settings}):
        pairs.append((name, settings.get(name), info.settings.get(name)))
    found = [f"{what} was {was}, is {now}" for what, was, now in pairs if was != now]
    here = this_session(())
    processors = {session.get("cpu") for session in run.sessions}
    if here.cpu not in processors:
        known = ", ".join(sorted(str(cpu) for cpu in processors))
        found.append(f"the processor was {known}, is {here.cpu}")
    return tuple(found)
