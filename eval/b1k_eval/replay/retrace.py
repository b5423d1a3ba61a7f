"""Executing recorded actions again, and finding the first difference.

The twin is deterministic: on the machine of the run all states are equal bit for bit. Another
processor or MuJoCo version may round differently, which contacts amplify. Positions may differ by
the tolerances in `records.columns`; predicates and sub-goals must be equal.
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
    """Result of executing the actions again.

    Attributes:
        states: The states reached.
        broke: Why the world failed in the step after the last one; None if it did not.
    """

    states: WorldStates
    broke: str | None


@dataclass(frozen=True, kw_only=True)
class ReplayDifference:
    """One difference between trace and replay.

    Attributes:
        what: Column of the trace, or `world`.
        recorded: Value in the trace: a truth, a score, a position [m]; None if missing.
        replayed: Value in the replay.
    """

    what: str
    recorded: bool | float | str | None
    replayed: bool | float | str | None


@dataclass(frozen=True, kw_only=True)
class ReplayComparison:
    """Comparison of a replay with its trace.

    Attributes:
        steps: Recorded steps.
        replayed_steps: Executed steps; fewer if the world failed.
        first_step: First step that differs, 0 for the state before the first action; None if
            none does.
        first: What differs there.
        differing_states: How many of the steps + 1 states differ or were not reached.
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
        env: A world with the run's settings.
        recorded: The episode.
        watch: Called for every state with the number of steps so far, 0 first.

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
        actions: float32 [N, 23], one row per control step.
        watch: Called for every state with the number of steps so far, 0 first.
        until: Called after every step; once true, no further action is executed.
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
    """Build the event of a step, without what comes from the policy."""
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
    """Return the values of `COMPARED`, in its order."""
    values = [np.ravel(column.value(event)) for column in dict.fromkeys(COMPARED.values())]
    return [float(value) for value in np.concatenate(values)]


def compare(recorded: WorldStates, replayed: Replayed) -> ReplayComparison:
    """Find the first step that differs, and what differs there.

    Names that only one side has differ at step 0, as the goal is then another one.
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
    """Return where a predicate or sub-goal differs, bool [done + 1]."""
    if name not in was.truths or name not in now.truths:
        return np.asarray(np.arange(done + 1) == 0)
    return np.asarray(was.truths[name][: done + 1] != now.truths[name])


def _value(states: WorldStates, name: str, step: int) -> bool | float | None:
    if name in states.numbers:
        return float(states.numbers[name][step - 1])
    return bool(states.truths[name][step]) if name in states.truths else None


# --- the conditions ------------------------------------------------------------------------------


def other_conditions(run: RunData, info: EnvInfo) -> tuple[str, ...]:
    """List, in a sentence each, what is different from the run and could explain a difference."""
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
