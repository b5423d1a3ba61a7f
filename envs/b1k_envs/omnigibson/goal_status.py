"""The BDDL goal as OmniGibson's own task evaluates it, scored as its TaskMetric does.

Source: OmniGibson/omnigibson/metrics/task_metric.py, last 2025 form and v3.9.3. The simulator, not
`goals.GoalTracker`, compiles and evaluates the goal; the names of the literals are the same, so
that traces of both simulators can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from b1k_envs.base import GoalStatus
from b1k_envs.errors import EnvError
from b1k_envs.tasks.goals import partial_score

Options = Sequence[Sequence[str]]
Truths = Mapping[str, bool]
"""Whether each distinct literal holds, by its name."""


class GoalRecord:
    """One env's goal from the start of an episode on.

    Attributes:
        options: The ground goal options, each the names of its literals.
    """

    def __init__(self, options: Options) -> None:
        """Take the options.

        Raises:
            EnvError: There is no option, so nothing could ever be scored.
        """
        self.options = tuple(map(tuple, options))
        if not any(self.options):
            raise EnvError("OmniGibson's task has no ground goal option: nothing could be scored")
        self._names = dict.fromkeys(chain.from_iterable(self.options))
        self._initial: dict[str, bool] | None = None
        # The last gained literals and their score are kept, because most steps change nothing.
        self._scored: tuple[frozenset[str], float] = (frozenset(), 0.0)

    def start(self, truths: Truths) -> None:
        """Store what is true at the start and can earn nothing later.

        Raises:
            EnvError: The truths do not fit the options.
        """
        self._initial = self._by_name(truths)

    def status(self, truths: Truths, success: bool | None) -> GoalStatus:
        """Return the status of the goal now.

        Args:
            truths: As `dialect.Dialect.literal_truths` gives them.
            success: The termination condition `predicate` at the last step. None before the first
                step, when the task has no answer; the goal then holds if every literal of an
                option does, which means the same.

        Raises:
            EnvError: `start` has not been called, or the truths do not fit the options.
        """
        if self._initial is None:
            raise EnvError("the goal was asked for before the episode started")
        now, initial = self._by_name(truths), self._initial
        if success is None:
            success = any(option and all(map(now.get, option)) for option in self.options)
        gained = frozenset(name for name, true in now.items() if true and not initial[name])
        if gained != self._scored[0]:
            self._scored = (gained, partial_score(self.options, gained))
        score = 1.0 if success else self._scored[1]
        return GoalStatus(predicates=now, q_score=score, success=success)

    def _by_name(self, truths: Truths) -> dict[str, bool]:
        """Return the truths in the order in which the options first name their literals."""
        if truths.keys() != self._names.keys():
            missing = sorted(self._names.keys() - truths.keys())
            unknown = sorted(truths.keys() - self._names.keys())
            raise EnvError(
                "the truths that OmniGibson gave do not fit the literals of the task's ground goal "
                f"options: missing {missing}, not among them {unknown}"
            )
        return {name: bool(truths[name]) for name in self._names}
