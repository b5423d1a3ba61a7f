"""The truth of a task's sub-goals now, for tables and progress bars."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from b1k_envs.tasks.described import DESCRIPTIONS
from b1k_envs.tasks.description import SubGoal
from b1k_envs.tasks.goals import CachedFacts, StateReader
from b1k_envs.tasks.table import get_task

SUBGOALS: Mapping[str, tuple[SubGoal, ...]] = MappingProxyType(
    {task: description.subgoals for task, description in DESCRIPTIONS.items()}
)
"""Sub-goals by task name, in the order of a demonstration; most tasks have none."""


def evaluate(task_name: str, reader: StateReader) -> dict[str, bool]:
    """Return the truth of each sub-goal now, in the order of `SUBGOALS`; empty if there are none.

    The reader is asked for each fact at most once.

    Raises:
        UsageError: There is no task of that name.
        EnvError: The reader's answer is not a bool.
    """
    subgoals = SUBGOALS.get(task_name)
    if subgoals is None:
        get_task(task_name)  # raises: a misspelt task must not pass for one without sub-goals
        return {}
    holds = CachedFacts(reader)
    return {subgoal.name: subgoal.test(holds) for subgoal in subgoals}
