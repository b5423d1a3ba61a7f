"""Sub-goals: what on the way to the goal has been reached, for tables and progress bars.

They score nothing; BDDL only knows the last ones. The list of task 31 is the one public progress
annotations of that task use. Each truth is instantaneous ("the glove is in the hand now"); who
wants "was reached" records the first step at which it held.

They are read through the same `goals.StateReader` as the goal. Besides the BDDL predicates
`grasped(agent, object)`, `open(object)`, `toggled_on(object)`, `inside(object, container)` and
`covered(object, system)` they need one that BDDL does not have: `near(agent, object)`, the robot's
base within reach of the object, where "reach" is the reader's to define.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from b1k_envs.tasks.goals import CachedFacts, StateReader
from b1k_envs.tasks.table import get_task

Skill = Literal[
    "move to",
    "turn to",
    "open door",
    "pick up from",
    "place in",
    "close door",
    "turn on switch",
]
"""The skills of task 31, in the words of the dataset's skill annotations."""

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


def _clean_boxing_gloves() -> tuple[SubGoal, ...]:
    agent, washer, countertop = "agent.n.01_1", "washer.n.03_1", "countertop.n.01_1"
    gloves, dust = ("boxing_glove.n.01_1", "boxing_glove.n.01_2"), "dust.n.01_1"

    def per_glove(
        name: str, label: str, skill: Skill | None, test: Callable[[Holds, str], bool]
    ) -> list[SubGoal]:
        return [
            SubGoal(
                name=name.format(number),
                label=label.format(number),
                skill=skill,
                test=lambda holds, glove=glove: test(holds, glove),  # type: ignore[misc]
            )
            for number, glove in enumerate(gloves, start=1)
        ]

    return (
        SubGoal(
            name="near_washer",
            label="robot near washer",
            skill="move to",
            test=lambda holds: holds("near", agent, washer),
        ),
        SubGoal(
            name="near_countertop",
            label="robot near countertop",
            skill="move to",
            test=lambda holds: holds("near", agent, countertop),
        ),
        SubGoal(
            name="washer_opened",
            label="washer opened",
            skill="open door",
            test=lambda holds: holds("open", washer),
        ),
        *per_glove(
            "glove_{}_picked_up",
            "glove {} picked up",
            "pick up from",
            lambda holds, glove: holds("grasped", agent, glove),
        ),
        *per_glove(
            "glove_{}_in_washer",
            "glove {} in washer",
            "place in",
            lambda holds, glove: holds("inside", glove, washer),
        ),
        # The washer is closed at the start, which is nobody's achievement: closed counts from
        # the moment there is a glove to wash.
        SubGoal(
            name="washer_closed",
            label="washer closed",
            skill="close door",
            test=lambda holds: (
                not holds("open", washer) and any(holds("inside", g, washer) for g in gloves)
            ),
        ),
        SubGoal(
            name="washer_turned_on",
            label="washer turned on",
            skill="turn on switch",
            test=lambda holds: holds("toggled_on", washer),
        ),
        # The press cleans, in the same step; there is no skill of its own for it.
        *per_glove(
            "glove_{}_clean",
            "glove {} clean",
            None,
            lambda holds, glove: not holds("covered", glove, dust),
        ),
    )


SUBGOALS: Mapping[str, tuple[SubGoal, ...]] = MappingProxyType(
    {"clean_boxing_gloves": _clean_boxing_gloves()}
)
"""Sub-goals by task name, in the order of a demonstration; most tasks have none."""


def evaluate(task_name: str, reader: StateReader) -> dict[str, bool]:
    """Give the truth of each sub-goal now, in the order of `SUBGOALS`; empty if there are none.

    Every fact is asked of the reader at most once.

    Raises:
        UsageError: There is no task of that name.
        EnvError: The reader answered with something else than a bool.
    """
    subgoals = SUBGOALS.get(task_name)
    if subgoals is None:
        get_task(task_name)  # a misspelt task must not pass for one without sub-goals
        return {}
    holds = CachedFacts(reader)
    return {subgoal.name: subgoal.test(holds) for subgoal in subgoals}
