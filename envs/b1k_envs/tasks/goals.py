"""The goal of an activity, evaluated at every control step by the installed bddl package.

The score is that of `OmniGibson/omnigibson/metrics/task_metric.py` (TaskMetric, last 2025 form
and 2026) in StanfordVL/BEHAVIOR-1K; earlier 2025 builds divided by other numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np

from b1k_envs.base import GoalStatus
from b1k_envs.errors import EnvError
from b1k_envs.tasks.bddl_problem import Problem, compile_problem


class StateReader(Protocol):
    """The world in BDDL's terms; each simulator has its own reader."""

    def objects(self) -> Collection[str]:
        """Return the scene's BDDL instance names, e.g. `washer.n.03_1`, `agent.n.01_1`."""

    def holds(self, predicate: str, *instances: str) -> bool:
        """Return whether a predicate, e.g. `covered`, is true of these instances now."""


class CachedFacts:
    """A cache before a reader: each fact is asked once, until `forget`."""

    def __init__(self, reader: StateReader) -> None:
        self._reader = reader
        self._known: dict[tuple[str, ...], bool] = {}

    def __call__(self, predicate: str, *instances: str) -> bool:
        """Return the truth of a predicate.

        Raises:
            EnvError: The answer is not a bool. A missing answer must not count as "not satisfied".
        """
        fact = (predicate, *instances)
        known = self._known.get(fact)
        if known is None:
            answer = self._reader.holds(predicate, *instances)
            if not isinstance(answer, (bool, np.bool_)):
                raise EnvError(
                    f"the state reader answered {answer!r} to `{' '.join(fact)}`, expected a bool"
                )
            known = self._known[fact] = bool(answer)
        return known

    def forget(self) -> None:
        """Drop all answers, because the world has moved."""
        self._known.clear()


class GoalTracker:
    """The goal of one activity, evaluated through a reader at every control step.

    Attributes:
        activity: BDDL activity name.
        options: The ground goal options as the package lists them, each as the names of its
            literals; satisfying every literal of one option satisfies the goal.
        predicates: The distinct literals of all options, in order of appearance, e.g.
            `not covered boxing_glove.n.01_1 dust.n.01_1`.
    """

    def __init__(self, activity: str, reader: StateReader, definition: int = 0) -> None:
        """Compile the problem.

        Args:
            activity: BDDL activity name.
            reader: The scene the goal will be evaluated on.
            definition: Number of the problem file.

        Raises:
            UnavailableError: No bddl package is installed.
            UsageError: The package does not define the activity or the definition.
            EnvError: The scene lacks an object of the problem (but one that the initial state
                declares `future`, which comes into being on the way, may be missing), the
                package cannot compile the problem, or it lists only some of its ground options.
        """
        self.activity = activity
        self._facts = CachedFacts(reader)
        problem = compile_problem(activity, definition, self._facts)
        _check_objects(activity, problem, reader.objects())
        self.options = problem.options
        self.predicates = tuple(problem.literals)
        self._literals = tuple(problem.literals.values())
        self._goal = problem.goal
        self._initial: dict[str, bool] | None = None
        # The last gained literals and their score are kept, because most steps change nothing.
        self._scored: tuple[frozenset[str], float] = (frozenset(), 0.0)

    def start(self) -> None:
        """Store the truth of every literal; those that are true now can earn nothing later."""
        self._facts.forget()
        self._initial = {
            name: bool(literal())
            for name, literal in zip(self.predicates, self._literals, strict=True)
        }

    def status(self) -> GoalStatus:
        """Evaluate the goal now; each fact is asked of the reader once.

        `q_score` is 1 on success, else `partial_score`.

        Raises:
            EnvError: `start` has not been called.
        """
        if self._initial is None:
            raise EnvError(f"status of the goal of {self.activity} was asked before start()")
        self._facts.forget()
        initial = self._initial
        now = {
            name: bool(literal())
            for name, literal in zip(self.predicates, self._literals, strict=True)
        }
        # The package judges the whole goal; the options serve the partial score only.
        success = bool(self._goal())
        gained = frozenset(name for name, true in now.items() if true and not initial[name])
        if gained != self._scored[0]:
            self._scored = (gained, partial_score(self.options, gained))
        return GoalStatus(
            predicates=now, q_score=1.0 if success else self._scored[1], success=success
        )


def partial_score(options: Sequence[Sequence[str]], gained: Collection[str]) -> float:
    """Return the score of an episode that did not succeed.

    The maximum over options of (literals false at the start and true now) / (all literals of the
    option). Literals true at the start stay in the denominator and can never earn credit. An
    empty option scores 0, and so does an empty list of options.

    Args:
        options: For each ground goal option, the names of its literals.
        gained: Names of the literals that were false at the start and are true now.
    """
    return max(
        (sum(name in gained for name in option) / len(option) for option in options if option),
        default=0.0,
    )


def _check_objects(activity: str, problem: Problem, present: Collection[str]) -> None:
    missing = [
        name for name in problem.objects if name not in present and name not in problem.future
    ]
    if missing:
        raise EnvError(
            f"the scene lacks {', '.join(missing)} of the BDDL problem of {activity}; it has "
            f"{', '.join(sorted(present)) or 'nothing'}. A goal on objects that are not there "
            "cannot be scored"
        )
