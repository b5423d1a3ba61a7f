"""Task 0, turning_on_radio: its sub-goals, its stages, and the names of its failures.

The first of these rules that holds says why an episode failed:

1.  `time_out_while_working`: see `Course.working`.
2.  `never_reached_table`: the robot was never near the table.
3.  `never_reached_radio`: it was near the table, but never near the radio on it.
4.  `not_switched_on`: it was near the radio, which was never on.

A trace does not say where the radio is. A radio that was pushed off the table therefore counts as
not switched on, and so does a button that was touched for too short a time.
"""

from __future__ import annotations

from types import MappingProxyType

from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks.course import WORKING, Course, last_step
from b1k_envs.tasks.description import Description, FailureFound, StageRule, SubGoal

_AGENT, _RADIO, _TABLE = "agent.n.01_1", "radio_receiver.n.01_1", "table.n.02_1"

_SUBGOALS = (
    SubGoal.of_fact("near_table", "robot near table", "move to", "near", _AGENT, _TABLE),
    SubGoal.of_fact("near_radio", "robot near radio", "move to", "near", _AGENT, _RADIO),
    SubGoal.of_fact("radio_turned_on", "radio turned on", "turn on switch", "toggled_on", _RADIO),
)


def _find_failure(course: Course) -> FailureFound | None:
    found = (
        course.working({"radio_turned_on": "radio turned on"})
        or course.never_near("near_table", "the table", "never_reached_table")
        or course.never_near("near_radio", "the radio", "never_reached_radio")
    )
    if found is not None or course.first["radio_turned_on"] is not None:
        return found  # on and off again is a lost goal, which has a label for any task
    near = course.truths["near_radio"]
    seen = f"near the radio for {near.sum() / CONTROL_HZ:.1f} s, it stayed off"
    return "not_switched_on", last_step(near) or course.steps, seen


DESCRIPTION = Description(
    subgoals=_SUBGOALS,
    stages=tuple(StageRule(name=s.name, label=s.label, subgoals=(s.name,)) for s in _SUBGOALS),
    failures=MappingProxyType(
        {
            **WORKING,
            "never_reached_table": "the robot never came near the table",
            "never_reached_radio": "the robot never came near the radio",
            "not_switched_on": "the radio was not switched on",
        }
    ),
    find_failure=_find_failure,
)
