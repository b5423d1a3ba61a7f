"""Executing recorded actions again, and finding where the world takes another course.

The twin is deterministic: on the machine of the run everything is equal bit for bit. Another
processor or MuJoCo may round otherwise, which contacts then amplify; `POSITION_TOLERANCE_M` lets
pass what has not become visible, predicates and sub-goals have to be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from b1k_envs.base import Env, EnvInfo, Float32Array, GoalStatus, StepResult
from b1k_envs.errors import EnvError
from b1k_eval import __version__
from b1k_eval.records.loading import RunData
from b1k_eval.records.provenance import this_session
from b1k_eval.records.trace import POSITION_COLUMNS, PREDICATE_PREFIX, SUBGOAL_PREFIX
from b1k_eval.replay.recorded import Course, Recorded

POSITION_TOLERANCE_M = 1e-6
"""Positions may differ by this much [m]; a contact that goes another way soon makes it more."""

Q_TOLERANCE = 1e-6
"""The q-score is a fraction of a few predicates; the trace has it as float32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Replayed:
    """What came of executing the actions again.

    Attributes:
        course: As far as it went.
        broke: Why the world failed in the step after the last one; None if it went to the end.
    """

    course: Course
    broke: str | None


@dataclass(frozen=True, kw_only=True)
class Difference:
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
class Comparison:
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
    first: tuple[Difference, ...]
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
    truths = [_truths(env.goal(), env.subgoals())]
    results: list[StepResult] = []
    q_score: list[float] = []
    broke = None
    watch(0)
    for action in actions:
        try:
            result = env.step(action)
        except EnvError as error:
            broke = str(error)
            break
        goal = env.goal()
        truths.append(_truths(goal, env.subgoals()))
        results.append(result)
        q_score.append(goal.q_score)
        watch(result.step)
        if until(result):
            break
    agents = [result.agent for result in results]
    positions = [np.concatenate((a.base, a.left_eef, a.right_eef)) for a in agents]
    return Replayed(
        course=Course(
            truths={name: np.array([row[name] for row in truths]) for name in truths[0]},
            q_score=np.array(q_score, dtype=np.float32),
            positions=np.array(positions, dtype=np.float64).reshape(-1, len(POSITION_COLUMNS)),
        ),
        broke=broke,
    )


def _truths(goal: GoalStatus, subgoals: Mapping[str, bool]) -> dict[str, bool]:
    return {
        **{PREDICATE_PREFIX + name: holds for name, holds in goal.predicates.items()},
        **{SUBGOAL_PREFIX + name: holds for name, holds in subgoals.items()},
    }


def compare(recorded: Course, replayed: Replayed) -> Comparison:
    """Find what differs, and from which step on.

    Names that only one side has differ at step 0: the goal is another one.
    """
    was, now = recorded, replayed.course
    steps, done = len(was.q_score), len(now.q_score)
    apart = np.abs(was.positions[:done] - now.positions)  # (done, 9)
    differing: dict[str, Any] = {  # bool [done + 1] by column
        name: _differing_truths(was, now, name, done) for name in {**was.truths, **now.truths}
    }
    differing["q_score"] = _after_start(np.abs(was.q_score[:done] - now.q_score) > Q_TOLERANCE)
    for column, name in enumerate(POSITION_COLUMNS):
        differing[name] = _after_start(apart[:, column] > POSITION_TOLERANCE_M)
    any_differs = np.any(list(differing.values()), axis=0)
    first_step: int | None = None
    first: tuple[Difference, ...] = ()
    if any_differs.any():
        step = first_step = int(np.argmax(any_differs))
        first = tuple(
            Difference(
                what=name, recorded=_value(was, name, step), replayed=_value(now, name, step)
            )
            for name, where in differing.items()
            if where[step]
        )
    elif replayed.broke is not None:
        first_step = done + 1
        first = (Difference(what="world", recorded="a step", replayed=replayed.broke),)
    return Comparison(
        steps=steps,
        replayed_steps=done,
        first_step=first_step,
        first=first,
        differing_states=int(any_differs.sum()) + steps - done,
        largest_position_m=float(apart.max(initial=0.0)),
    )


def _differing_truths(was: Course, now: Course, name: str, done: int) -> Any:  # noqa: ANN401
    """Where a predicate or sub-goal differs, bool [done + 1]."""
    if name not in was.truths or name not in now.truths:
        return np.arange(done + 1) == 0
    return was.truths[name][: done + 1] != now.truths[name]


def _after_start(differs: Any) -> Any:  # noqa: ANN401 - bool [done] to bool [done + 1]
    """Scores and positions are not recorded before the first action."""
    return np.concatenate(([False], differs))


def _value(course: Course, name: str, step: int) -> bool | float | None:
    if name == "q_score":
        return float(course.q_score[step - 1])
    if name in POSITION_COLUMNS:
        return float(course.positions[step - 1, POSITION_COLUMNS.index(name)])
    return bool(course.truths[name][step]) if name in course.truths else None


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
