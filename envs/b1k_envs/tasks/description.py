"""What this project knows of a task beyond the challenge's table, as types.

Sub-goals score nothing; BDDL only knows the last ones. Each truth is instantaneous ("the glove is
in the hand now"); who wants "was reached" records the first step at which it held.

They are read through the same `goals.StateReader` as the goal. Besides the BDDL predicates
`grasped(agent, object)`, `open(object)`, `toggled_on(object)`, `inside(object, container)` and
`covered(object, system)` they need one that BDDL does not have: `near(agent, object)`, the robot's
base within reach of the object, where "reach" is the reader's to define.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from b1k_envs.tasks.course import Course

Skill = Literal[
    "move to",
    "turn to",
    "open door",
    "pick up from",
    "place in",
    "close door",
    "turn on switch",
]
"""Skills, in the words of the dataset's annotations."""

Holds = Callable[..., bool]
"""`holds(predicate, *instances)`, as in `StateReader`."""


@dataclass(frozen=True, kw_only=True)
class SubGoal:
    """One step on the way.

    Attributes:
        name: Key in tables and traces, snake_case.
        label: The same for people.
        skill: The skill that achieves it; None where no single one does.
        test: Its truth now, given a `holds(predicate, *instances)`.
    """

    name: str
    label: str
    skill: Skill | None
    test: Callable[[Holds], bool]


@dataclass(frozen=True, kw_only=True)
class StageRule:
    """What a stage is.

    Attributes:
        name: Key in tables, snake_case.
        label: The same for people.
        subgoals: Names of the sub-goals it counts.
        needed: How many of them must have been reached.
    """

    name: str
    label: str
    subgoals: tuple[str, ...]
    needed: int = 1

    def first_step(self, reached: Mapping[str, int | None]) -> int | None:
        """First step after which the stage was reached; None never."""
        steps = sorted(step for name in self.subgoals if (step := reached[name]) is not None)
        return steps[self.needed - 1] if len(steps) >= self.needed else None


Finding = tuple[str, int, str]
"""Why an episode failed: label, step, what was seen there."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """One task.

    Attributes:
        subgoals: In the order of a demonstration.
        stages: In the order in which the task has to be done; together they have all sub-goals.
        failures: The task's own labels of failed episodes, each in words.
        find_failure: Why an episode failed in which the robot moved. None where no label of its
            own fits, and those for any task are to be looked at.
    """

    subgoals: tuple[SubGoal, ...]
    stages: tuple[StageRule, ...]
    failures: Mapping[str, str]
    find_failure: Callable[[Course], Finding | None]
