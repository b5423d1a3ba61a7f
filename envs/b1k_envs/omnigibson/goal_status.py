"""The BDDL goal as OmniGibson's own task evaluates it, scored as its TaskMetric does.

Source: OmniGibson/omnigibson/metrics/task_metric.py, last 2025 form and v3.9.3. The goal is
compiled and evaluated by the simulator, not by `goals.GoalTracker`; the names of the literals are
the same, so that traces of both simulators compare.
"""

from __future__ import annotations

from collections.abc import Sequence

from b1k_envs.base import GoalStatus
from b1k_envs.errors import EnvError
from b1k_envs.goals import partial_score

Options = Sequence[Sequence[str]]
Truths = Sequence[Sequence[bool]]
"""Per ground goal option, per literal, whether it holds."""


class GoalRecord:
    """One env's goal from the start of an episode on.

    Attributes:
        options: The ground goal options, each the names of its literals.
    """

    def __init__(self, options: Options) -> None:
        """Take the names.

        Raises:
            EnvError: There is no option at all, so nothing could ever be scored.
        """
        self.options = tuple(tuple(option) for option in options)
        if not any(self.options):
            raise EnvError("OmniGibson's task has no ground goal option: nothing could be scored")
        self._initial: dict[str, bool] | None = None

    def start(self, truths: Truths) -> None:
        """Store what is true at the start: it earns nothing from here on.

        Raises:
            EnvError: The truths do not fit the options.
        """
        self._initial = self._by_name(truths)

    def status(self, truths: Truths, success: bool | None) -> GoalStatus:
        """The goal now.

        Args:
            truths: As `dialect.Dialect.option_truths` gives them.
            success: What the termination condition `predicate` said at the last step; None
                before the first, where the task itself refuses to say: then whether every
                literal of an option holds, which means the same.

        Raises:
            EnvError: `start` has not been called, or the truths do not fit the options.
        """
        if self._initial is None:
            raise EnvError("the goal was asked for before the episode started")
        now = self._by_name(truths)
        if success is None:
            success = any(truth and all(truth) for truth in truths)
        gained = {name for name, true in now.items() if true and not self._initial[name]}
        score = 1.0 if success else partial_score(self.options, gained)
        return GoalStatus(predicates=now, q_score=score, success=success)

    def _by_name(self, truths: Truths) -> dict[str, bool]:
        expected, got = [*map(len, self.options)], [*map(len, truths)]
        if expected != got:
            raise EnvError(
                f"the task's ground goal options have {expected} literals, and OmniGibson gave "
                f"the truth of {got}"
            )
        named: dict[str, bool] = {}
        for option, truth in zip(self.options, truths, strict=True):
            named.update(zip(option, map(bool, truth), strict=True))
        return named
