"""Types that describe a task: sub-goals, stages and failures, which the challenge does not have.

Sub-goals score nothing; BDDL knows only the last ones. Each truth is instantaneous ("the glove is
in the hand now"); whether a sub-goal was reached follows from the first step at which it held.

They are read through the same `goals.StateReader` as the goal. Besides the BDDL predicates
`grasped(agent, object)`, `open(object)`, `toggled_on(object)`, `inside(object, container)` and
`covered(object, system)` they need one that BDDL does not have: `near(agent, object)`, the robot's
base within reach of the object. Each reader defines its own "reach".
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
"""Names of skills, in the words of the dataset's annotations."""

Holds = Callable[..., bool]
"""`holds(predicate, *instances)`, as in `StateReader`."""


@dataclass(frozen=True, kw_only=True)
class SubGoal:
    """One step on the way to the goal.

    Attributes:
        name: Key in tables and traces, snake_case.
        label: The name for people.
        skill: The skill that achieves it; None where no single skill does.
        test: Evaluates it now, given a `holds(predicate, *instances)`.
    """

    name: str
    label: str
    skill: Skill | None
    test: Callable[[Holds], bool]

    @classmethod
    def of_fact(cls, name: str, label: str, skill: Skill | None, *fact: str) -> SubGoal:
        """Return a sub-goal that holds while one fact does: a predicate and its instances."""
        return cls(name=name, label=label, skill=skill, test=lambda holds: holds(*fact))


@dataclass(frozen=True, kw_only=True)
class StageRule:
    """The rule that says when a stage was reached.

    Attributes:
        name: Key in tables, snake_case.
        label: The name for people.
        subgoals: Names of the sub-goals it counts.
        needed: How many of them must have been reached.
    """

    name: str
    label: str
    subgoals: tuple[str, ...]
    needed: int = 1

    def first_step(self, reached: Mapping[str, int | None]) -> int | None:
        """Return the first step after which the stage was reached; None if it never was."""
        steps = sorted(step for name in self.subgoals if (step := reached[name]) is not None)
        return steps[self.needed - 1] if len(steps) >= self.needed else None


FailureFound = tuple[str, int, str]
"""Why an episode failed: label, step, and what the trace shows there."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """The description of one task.

    Attributes:
        subgoals: The sub-goals in the order of a demonstration.
        stages: The stages in the order in which the task has to be done; together they have all
            sub-goals.
        failures: The task's own labels of failed episodes, each with its words.
        find_failure: Finds why an episode failed in which the robot moved. None where no label of
            the task fits; the labels for any task are tried then.
    """

    subgoals: tuple[SubGoal, ...]
    stages: tuple[StageRule, ...]
    failures: Mapping[str, str]
    find_failure: Callable[[Course], FailureFound | None]
