"""Task 31, clean_boxing_gloves: its sub-goals, its stages, and the names of its failures.

The sub-goals are those that public progress annotations of the task use. The first of these rules
that holds says why an episode failed:

1.  A glove was in a hand, was let go, and at the end is neither held nor in the washer nor clean.
    The glove that was let go first decides, by its last release:
    `grasp_lost` within `AT_PICK_UP` of where the hand had taken it, so that it lies there again;
    `placed_outside` with the robot near the washer, or the hand within `AT_WASHER` of where a
    hand was when the washer was opened;
    `glove_dropped` anywhere else.
2.  `time_out_while_working`: in the last `WORKING_S` before the time limit a sub-goal other than
    coming near was reached for the first time, and the robot moved until the end.
3.  `never_reached_washer`: the robot was never near it.
4.  `door_not_opened`: the washer was never open.
5.  `never_picked_up`: no glove was ever in a hand.
6.  `not_placed`: at the end a glove is in a hand.
7.  `one_glove_only`: one glove is in the washer or clean, the other was never in a hand.
8.  `not_closed`: every dusty glove is in the washer, and the washer is open.
9.  `not_pressed`: every dusty glove is in the washer, which is closed and does not run.
10. `washed_in_vain`: every dusty glove is in the washer, which is closed and runs.

A trace does not say where the gloves and the button are. A glove that was pushed about and never
held therefore counts as never picked up, the place where a dropped glove lies is not known, and
pressing the button of an open washer, which its toggle ignores, counts as `not_closed`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.r1pro import ARMS, CONTROL_HZ, GRIPPER_OPEN
from b1k_envs.tasks.course import STILL, WORKING, Course, holds_of, last_step, spans
from b1k_envs.tasks.description import Description, FailureFound, Holds, Skill, StageRule, SubGoal

AT_PICK_UP = 0.30
"""A glove let go with the hand this close to where it was taken lies where it lay before [m]."""

AT_WASHER = 0.60
"""A hand this close, horizontally, to where one opened the washer is at the washer [m]."""


def _subgoals() -> tuple[SubGoal, ...]:
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
        SubGoal.of_fact("near_washer", "robot near washer", "move to", "near", agent, washer),
        SubGoal.of_fact(
            "near_countertop", "robot near countertop", "move to", "near", agent, countertop
        ),
        SubGoal.of_fact("washer_opened", "washer opened", "open door", "open", washer),
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
        # The washer is closed at the start, which the policy did not achieve, so "closed" counts
        # only once there is a glove inside.
        SubGoal(
            name="washer_closed",
            label="washer closed",
            skill="close door",
            test=lambda holds: (
                not holds("open", washer) and any(holds("inside", g, washer) for g in gloves)
            ),
        ),
        SubGoal.of_fact(
            "washer_turned_on", "washer turned on", "turn on switch", "toggled_on", washer
        ),
        # The button press cleans the gloves in the same step, so no skill of its own belongs here.
        *per_glove(
            "glove_{}_clean",
            "glove {} clean",
            None,
            lambda holds, glove: not holds("covered", glove, dust),
        ),
    )


def _stages() -> tuple[StageRule, ...]:
    def per_glove(name: str, first: str, second: str) -> tuple[StageRule, StageRule]:
        both = (f"glove_1_{name}", f"glove_2_{name}")
        return (
            StageRule(name=f"first_glove_{name}", label=first, subgoals=both),
            StageRule(name=f"second_glove_{name}", label=second, subgoals=both, needed=2),
        )

    picked = per_glove("picked_up", "first glove picked up", "second glove picked up")
    placed = per_glove("in_washer", "first glove in washer", "second glove in washer")
    clean = per_glove("clean", "first glove clean", "second glove clean")
    single = {
        name: StageRule(name=name, label=label, subgoals=(name,))
        for name, label in (
            ("near_washer", "robot near washer"),
            ("washer_opened", "washer opened"),
            ("near_countertop", "robot near countertop"),
            ("washer_closed", "washer closed on a glove"),
            ("washer_turned_on", "washer turned on"),
        )
    }
    return (
        single["near_washer"],
        single["washer_opened"],
        single["near_countertop"],
        picked[0],
        placed[0],
        picked[1],
        placed[1],
        single["washer_closed"],
        single["washer_turned_on"],
        *clean,
    )


_ACHIEVED = {s.name: s.label for s in _subgoals() if not s.name.startswith("near_")}


class _Gloves:
    """The course of an episode of clean_boxing_gloves."""

    def __init__(self, course: Course) -> None:
        self.course, self.motion, self.truths = course, course.motion, course.truths
        self.steps, self.first = course.steps, course.first
        self.holds = {glove: holds_of(self.truths[f"glove_{glove}_picked_up"]) for glove in (1, 2)}

    # --- the decision -----------------------------------------------------------------------

    def finding(self) -> FailureFound:
        return (
            self._lost()
            or self.course.working(_ACHIEVED)
            or self._before_the_gloves()
            or self._with_the_gloves()
            or self._after_the_gloves()
        )

    def _lost(self) -> FailureFound | None:
        lost = [
            (hold.let_go, hold.taken, glove)
            for glove, holds in self.holds.items()
            for hold in holds[-1:]
            if hold.let_go is not None and not self._safe(glove)
        ]
        if not lost:
            return None
        let_go, taken, glove = min(lost)
        return self._lost_glove(glove, taken, let_go)

    def _lost_glove(self, glove: int, taken: int, let_go: int) -> FailureFound:
        hand = self._hand(taken, let_go)
        seen = f"glove {glove}, taken at step {taken}, was let go at step {let_go}"
        if hand is not None:
            carried = float(np.linalg.norm(hand[let_go - 1] - hand[taken - 1]))
            seen += f", {carried:.2f} m from where it was taken"
            if carried <= AT_PICK_UP:
                return "grasp_lost", let_go, seen
        if self.course.holds_at("near_washer", let_go) or self._at_washer(hand, let_go):
            door = "open" if self.course.holds_at("washer_opened", let_go) else "shut"
            return "placed_outside", let_go, f"{seen}, at the {door} washer"
        return "glove_dropped", let_go, seen

    def _hand(self, taken: int, let_go: int) -> Float64Array | None:
        """Return the path of the hand that held a glove, float64 [steps, 3] [m], or None.

        Only the fully open command releases, so it was the hand whose command stayed below that
        while the glove was held and reached it at the release. None if not exactly one hand fits.
        """
        held_by = [
            arm
            for arm, command in self.course.grippers.items()
            if (command[taken - 1 : let_go - 1] < GRIPPER_OPEN).all()
            and command[let_go - 1] >= GRIPPER_OPEN
        ]
        return self.motion.bodies[f"{held_by[0]}_eef"] if len(held_by) == 1 else None

    def _at_washer(self, hand: Float64Array | None, step: int) -> bool:
        opened = self.first["washer_opened"]
        if hand is None or not opened:
            return False
        places = [self.motion.bodies[f"{arm}_eef"][opened - 1] for arm in ARMS]
        return any(np.hypot(*(hand[step - 1] - place)[:2]) <= AT_WASHER for place in places)

    def _before_the_gloves(self) -> FailureFound | None:
        far = self.course.never_near("near_washer", "the washer", "never_reached_washer")
        if far is not None:
            return far
        if self.first["washer_opened"] is None:
            near = self.truths["near_washer"]
            seen = f"near the washer for {near.sum() / CONTROL_HZ:.1f} s, its door stayed shut"
            return "door_not_opened", last_step(near) or self.steps, seen
        return None

    def _with_the_gloves(self) -> FailureFound | None:
        safe = [glove for glove in self.holds if self._safe(glove)]
        for glove, holds in self.holds.items():
            if glove not in safe and holds:
                taken = holds[-1].taken
                seen = f"glove {glove} in the hand since step {taken}"
                if not self.course.moves_to_the_end():
                    still = self.motion.still_since(STILL)
                    seen += f", standing still since step {still}"
                return "not_placed", taken, seen
        if not safe:
            opened = self.first["washer_opened"]
            return "never_picked_up", self.steps, f"washer opened at step {opened}, no glove taken"
        if len(safe) < len(self.holds):
            done = safe[0]
            how = "clean" if self.course.now(f"glove_{done}_clean") else "in the washer"
            step = last_step(self.truths[f"glove_{done}_picked_up"]) or self.steps
            return "one_glove_only", step, f"glove {done} is {how}, glove {3 - done} was never held"
        return None

    def _after_the_gloves(self) -> FailureFound:
        dusty = [glove for glove in self.holds if not self.course.now(f"glove_{glove}_clean")]
        if not dusty:
            raise ValueError("it ends with both gloves clean, and yet the episode failed")
        opened = spans(self.truths["washer_opened"])
        if self.course.now("washer_opened"):
            since = opened[-1][0]
            last = max(spans(self.truths[f"glove_{glove}_in_washer"])[-1][0] for glove in dusty)
            seen = f"a glove put in at step {last}, the washer open since step {since}"
            return "not_closed", max(last, since), seen
        closed = opened[-1][1] + 1 if opened else 1
        if self.course.now("washer_turned_on"):
            since = spans(self.truths["washer_turned_on"])[-1][0]
            return "washed_in_vain", since, f"on since step {since}, a glove inside is still dusty"
        return "not_pressed", closed, f"gloves inside, shut since step {closed}, not running"

    # --- what was so ------------------------------------------------------------------------

    def _safe(self, glove: int) -> bool:
        """Return whether a glove is clean or lies in the washer, so that no hand is needed."""
        in_hand = self.course.now(f"glove_{glove}_picked_up")
        inside = self.course.now(f"glove_{glove}_in_washer") and not in_hand
        return inside or self.course.now(f"glove_{glove}_clean")


DESCRIPTION = Description(
    subgoals=_subgoals(),
    stages=_stages(),
    failures=MappingProxyType(
        {
            "grasp_lost": "a glove was let go where it was picked up",
            "placed_outside": "a glove was let go at the washer and is not inside",
            "glove_dropped": "a glove was dropped on the way",
            **WORKING,
            "never_reached_washer": "the robot never came near the washer",
            "door_not_opened": "the washer was never opened",
            "never_picked_up": "no glove was ever picked up",
            "not_placed": "a glove was still in the hand at the end",
            "one_glove_only": "only one of the gloves was dealt with",
            "not_closed": "the washer was not closed",
            "not_pressed": "the washer was not switched on",
            "washed_in_vain": "the washer ran and the gloves stayed dusty",
        }
    ),
    find_failure=lambda course: _Gloves(course).finding(),
)
