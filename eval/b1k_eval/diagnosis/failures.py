"""Why an episode failed: one label per failed episode, with the step and what was seen there.

Read from result and trace alone; successes and errors get none. Decided in this order, the first
that holds:

1.  `policy_fault`: the policy raised, answered too late, or returned an unusable chunk. The only
    label that needs no trace.
2.  `never_moved`: neither base nor hands got farther than `STILL` from where they were.

For clean_boxing_gloves, next what happened to the gloves, then what was not done:

3.  A glove was in a hand, was let go, and at the end is neither held nor in the washer nor clean.
    The first such glove decides, by its last release:
    `grasp_lost` within `AT_PICK_UP` of where the hand had taken it, so that it lies there again;
    `placed_outside` with the robot near the washer, or the hand within `AT_WASHER` of where a
    hand was when the washer came open;
    `glove_dropped` anywhere else.
4.  `time_out_while_working`: in the last `WORKING_S` before the time limit a sub-goal other than
    coming near was reached for the first time, and the robot moved until the end.
5.  `never_reached_washer`: the robot was never near it.
6.  `door_not_opened`: the washer was never open.
7.  `never_picked_up`: no glove was ever in a hand.
8.  `not_placed`: at the end a glove is in a hand.
9.  `one_glove_only`: one glove is in the washer or clean, the other was never in a hand.
10. `not_closed`: every dusty glove is in the washer, which is open.
11. `not_pressed`: the same, the washer is closed, and it does not run.
12. `washed_in_vain`: the same, it runs, and they are dusty all the same.

For any other task:

3.  `goal_lost`: a predicate of the goal held once and does not at the end.
4.  `partly_done`: some predicates hold at the end that did not at the start.
5.  `nothing_done`: none does.

What a trace does not tell: where the gloves and the button are. A glove that was pushed about and
never held is seen as one that was never picked up, where a dropped glove came to lie is not known,
and pressing the button of an open washer, which its toggle ignores, is seen as `not_closed`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.r1pro import ACTION_SLICES, ARMS, CONTROL_HZ, GRIPPER_OPEN, Arm
from b1k_envs.tasks.subgoals import SUBGOALS
from b1k_eval.diagnosis.signals import Motion, holds_of, last_step, spans
from b1k_eval.records.loading import (
    Damaged,
    DamagedTraceError,
    EpisodeData,
    EpisodeTrace,
    RunData,
    read_trace,
)

Label = Literal[
    "policy_fault",
    "never_moved",
    "grasp_lost",
    "placed_outside",
    "glove_dropped",
    "time_out_while_working",
    "never_reached_washer",
    "door_not_opened",
    "never_picked_up",
    "not_placed",
    "one_glove_only",
    "not_closed",
    "not_pressed",
    "washed_in_vain",
    "goal_lost",
    "partly_done",
    "nothing_done",
]

LABELS: Mapping[Label, str] = MappingProxyType(
    {
        "policy_fault": "the policy failed",
        "never_moved": "the robot never moved",
        "grasp_lost": "a glove was let go where it was picked up",
        "placed_outside": "a glove was let go at the washer and is not inside",
        "glove_dropped": "a glove was dropped on the way",
        "time_out_while_working": "the time ran out while the robot was getting on",
        "never_reached_washer": "the robot never came near the washer",
        "door_not_opened": "the washer was never opened",
        "never_picked_up": "no glove was ever picked up",
        "not_placed": "a glove was still in the hand at the end",
        "one_glove_only": "only one of the gloves was dealt with",
        "not_closed": "the washer was not closed",
        "not_pressed": "the washer was not switched on",
        "washed_in_vain": "the washer ran and the gloves stayed dusty",
        "goal_lost": "a part of the goal was reached and lost again",
        "partly_done": "a part of the goal was not reached",
        "nothing_done": "no part of the goal was reached",
    }
)
"""Each label in words."""

STILL = 0.10
"""A robot whose base and hands stay within this of one place stands still [m]."""

AT_PICK_UP = 0.30
"""A hand this close to where it took a glove lets it go where it had been lying [m]."""

AT_WASHER = 0.60
"""A hand this close to where one opened the washer is at the washer, horizontally [m]."""

WORKING_S = 30.0
"""Who reached something new in this last stretch was getting on [s]."""

MOVING_S = 5.0
"""Who moved in this last stretch moved until the end [s]."""

BOXING_GLOVES = "clean_boxing_gloves"
_APPROACHES = ("near_washer", "near_countertop")
_GRIPPERS: Mapping[Arm, str] = MappingProxyType(
    {arm: f"action_{ACTION_SLICES[f'gripper_{arm}'].start}" for arm in ARMS}
)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why one episode failed.

    Attributes:
        episode: TASK-INSTANCE-ROLLOUT.
        label: See the module header.
        step: Control step to look at, counted from 1 as in the trace; 0 is before the first.
        seen: What was seen there, for people.
    """

    episode: str
    label: Label
    step: int
    seen: str

    @property
    def words(self) -> str:
        """The label for people."""
        return LABELS[self.label]


@dataclass(frozen=True, kw_only=True)
class RunFailures:
    """Why the episodes of a run failed.

    Attributes:
        failures: One per failed episode, in the order of the run.
        left_out: Failed episodes whose trace cannot be used.
    """

    failures: tuple[Failure, ...]
    left_out: tuple[Damaged, ...]

    @property
    def counts(self) -> Mapping[Label, int]:
        """Episodes by label, the most frequent first, then in the order of `LABELS`."""
        counted = Counter(failure.label for failure in self.failures)
        order = list(LABELS)
        labels = sorted(counted, key=lambda label: (-counted[label], order.index(label)))
        return MappingProxyType({label: counted[label] for label in labels})


def label_failures(run: RunData) -> RunFailures:
    """Label every failed episode of a run."""
    failures, left_out = [], []
    for episode in run.episodes:
        try:
            failure = label_failure(episode)
        except DamagedTraceError as error:
            left_out.append(Damaged(name=episode.name, why=str(error)))
            continue
        if failure is not None:
            failures.append(failure)
    return RunFailures(failures=tuple(failures), left_out=tuple(left_out))


def label_failure(episode: EpisodeData) -> Failure | None:
    """Say why an episode failed; None for a success or an error.

    Raises:
        DamagedTraceError: The trace is needed and cannot be used.
    """
    if episode.outcome != "failure":
        return None
    label: Label
    if episode.failure_reason is not None:
        said = (episode.message or "").strip()
        seen = f"{episode.failure_reason}{': ' if said else ''}{said}"
        label, step = "policy_fault", episode.steps
    else:
        label, step, seen = _from_trace(episode, read_trace(episode))
        if episode.message is not None:  # what the simulator did wrong meanwhile
            seen = f"{seen}; {episode.message}"
    return Failure(episode=episode.name, label=label, step=step, seen=seen)


Finding = tuple[Label, int, str]
"""Label, step, what was seen."""


def _from_trace(episode: EpisodeData, trace: EpisodeTrace) -> Finding:
    motion = Motion(trace)
    reach = motion.reach()
    if reach < STILL:
        return (
            "never_moved",
            episode.steps,
            f"base and hands stayed within {reach:.2f} m of their places in all "
            f"{episode.steps} steps",
        )
    if episode.key.task == BOXING_GLOVES:
        return _Gloves(episode, trace, motion).finding()
    return _any_task(episode, trace)


class _Gloves:
    """The course of an episode of clean_boxing_gloves."""

    def __init__(self, episode: EpisodeData, trace: EpisodeTrace, motion: Motion) -> None:
        names = [subgoal.name for subgoal in SUBGOALS[BOXING_GLOVES]]
        if list(episode.subgoals) != names:
            raise DamagedTraceError(
                f"{episode.folder} has the sub-goals {list(episode.subgoals)}, this version of "
                f"b1k-eval {names}: read it with the version that wrote it"
            )
        self.episode, self.motion = episode, motion
        self.truths = trace.subgoals()
        self.steps = episode.steps
        self.grippers = {arm: trace.read(name)[name] for arm, name in _GRIPPERS.items()}
        self.holds = {glove: holds_of(self.truths[f"glove_{glove}_picked_up"]) for glove in (1, 2)}

    # --- the decision -----------------------------------------------------------------------

    def finding(self) -> Finding:
        return (
            self._lost()
            or self._working()
            or self._before_the_gloves()
            or self._with_the_gloves()
            or self._after_the_gloves()
        )

    def _lost(self) -> Finding | None:
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

    def _lost_glove(self, glove: int, taken: int, let_go: int) -> Finding:
        hand = self._hand(taken, let_go)
        seen = f"glove {glove}, taken at step {taken}, was let go at step {let_go}"
        if hand is not None:
            carried = float(np.linalg.norm(hand[let_go - 1] - hand[taken - 1]))
            seen += f", {carried:.2f} m from where it was taken"
            if carried <= AT_PICK_UP:
                return "grasp_lost", let_go, seen
        if self._holds_at("near_washer", let_go) or self._at_washer(hand, let_go):
            door = "open" if self._holds_at("washer_opened", let_go) else "shut"
            return "placed_outside", let_go, f"{seen}, at the {door} washer"
        return "glove_dropped", let_go, seen

    def _hand(self, taken: int, let_go: int) -> Float64Array | None:
        """The hand that held a glove, float64 [steps, 3] [m]; None if both may have.

        Only the fully open command releases, so it was the hand whose command was below it from
        taking on and reached it then.
        """
        held_by = [
            arm
            for arm, command in self.grippers.items()
            if (command[taken - 1 : let_go - 1] < GRIPPER_OPEN).all()
            and command[let_go - 1] >= GRIPPER_OPEN
        ]
        return self.motion.bodies[f"{held_by[0]}_eef"] if len(held_by) == 1 else None

    def _at_washer(self, hand: Float64Array | None, step: int) -> bool:
        opened = self.episode.subgoals["washer_opened"]
        if hand is None or not opened:
            return False
        places = [self.motion.bodies[f"{arm}_eef"][opened - 1] for arm in ARMS]
        return any(np.hypot(*(hand[step - 1] - place)[:2]) <= AT_WASHER for place in places)

    def _working(self) -> Finding | None:
        if not self.episode.truncated or not self._moves_to_the_end():
            return None
        reached = [
            (step, name)
            for name, step in self.episode.subgoals.items()
            if step is not None and name not in _APPROACHES
        ]
        step, name = max(reached, default=(0, ""))
        left_s = (self.steps - step) / CONTROL_HZ
        if step == 0 or left_s > WORKING_S:
            return None
        label = next(s.label for s in SUBGOALS[BOXING_GLOVES] if s.name == name)
        seen = f"'{label}' at step {step}, {left_s:.1f} s before the limit, and moving to the end"
        return "time_out_while_working", step, seen

    def _before_the_gloves(self) -> Finding | None:
        if self.episode.subgoals["near_washer"] is None:
            base = self.motion.bodies["base"]
            far = float(np.linalg.norm(base - base[0], axis=1).max())
            seen = f"the base came {far:.2f} m from its start, never near the washer"
            return "never_reached_washer", self.steps, seen
        if self.episode.subgoals["washer_opened"] is None:
            near = self.truths["near_washer"]
            seen = f"near the washer for {near.sum() / CONTROL_HZ:.1f} s, its door stayed shut"
            return "door_not_opened", last_step(near) or self.steps, seen
        return None

    def _with_the_gloves(self) -> Finding | None:
        safe = [glove for glove in self.holds if self._safe(glove)]
        for glove, holds in self.holds.items():
            if glove not in safe and holds:
                taken = holds[-1].taken
                seen = f"glove {glove} in the hand since step {taken}"
                if not self._moves_to_the_end():
                    still = self.motion.still_since(STILL)
                    seen += f", standing still since step {still}"
                return "not_placed", taken, seen
        if not safe:
            opened = self.episode.subgoals["washer_opened"]
            return "never_picked_up", self.steps, f"washer opened at step {opened}, no glove taken"
        if len(safe) < len(self.holds):
            done = safe[0]
            how = "clean" if self._now(f"glove_{done}_clean") else "in the washer"
            step = last_step(self.truths[f"glove_{done}_picked_up"]) or self.steps
            return "one_glove_only", step, f"glove {done} is {how}, glove {3 - done} was never held"
        return None

    def _after_the_gloves(self) -> Finding:
        dusty = [glove for glove in self.holds if not self._now(f"glove_{glove}_clean")]
        if not dusty:
            raise DamagedTraceError(
                f"{self.episode.trace} ends with both gloves clean, and yet the episode failed"
            )
        opened = spans(self.truths["washer_opened"])
        if self._now("washer_opened"):
            since = opened[-1][0]
            last = max(spans(self.truths[f"glove_{glove}_in_washer"])[-1][0] for glove in dusty)
            seen = f"a glove put in at step {last}, the washer open since step {since}"
            return "not_closed", max(last, since), seen
        closed = opened[-1][1] + 1 if opened else 1
        if self._now("washer_turned_on"):
            since = spans(self.truths["washer_turned_on"])[-1][0]
            return "washed_in_vain", since, f"on since step {since}, a glove inside is still dusty"
        return "not_pressed", closed, f"gloves inside, shut since step {closed}, not running"

    # --- what was so ------------------------------------------------------------------------

    def _holds_at(self, subgoal: str, step: int) -> bool:
        return bool(self.truths[subgoal][step - 1])

    def _now(self, subgoal: str) -> bool:
        return self._holds_at(subgoal, self.steps)

    def _safe(self, glove: int) -> bool:
        """Clean, or lying in the washer: nothing more is to be done with the hand."""
        in_hand = self._now(f"glove_{glove}_picked_up")
        inside = self._now(f"glove_{glove}_in_washer") and not in_hand
        return inside or self._now(f"glove_{glove}_clean")

    def _moves_to_the_end(self) -> bool:
        return self.motion.reach(int(MOVING_S * CONTROL_HZ)) >= STILL


def _any_task(episode: EpisodeData, trace: EpisodeTrace) -> Finding:
    held = trace.read(*(f"predicate:{name}" for name in episode.predicates))
    lost = [
        (step, name)
        for name, now in episode.predicates.items()
        if not now and (step := last_step(held[f"predicate:{name}"])) is not None
    ]
    if lost:
        step, name = max(lost)
        return "goal_lost", step, f"'{name}' held until step {step}"
    gained = [
        n for n, now in episode.predicates.items() if now and not episode.initial_predicates[n]
    ]
    missing = [name for name, now in episode.predicates.items() if not now]
    seen = f"not so at the end: {', '.join(missing)}"
    return ("partly_done" if gained else "nothing_done"), episode.steps, seen
