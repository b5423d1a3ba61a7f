"""The course of an episode: where the robot went, when things were so.

Made from a trace. Steps are counted from 1, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float64Array
from b1k_envs.r1pro import CONTROL_HZ, Arm

BoolArray = npt.NDArray[np.bool_]

STILL = 0.10
"""A robot whose base and hands stay within this of one place stands still [m]."""

WORKING_S = 30.0
"""Who reached something new in this last stretch was getting on [s]."""

WORKING = {"time_out_while_working": "the time ran out while the robot was getting on"}
"""What `Course.working` finds, in words."""

MOVING_S = 5.0
"""Who moved in this last stretch moved until the end [s]."""


@dataclass(frozen=True, eq=False)
class Motion:
    """Where base and hands were.

    Attributes:
        bodies: Position after each step by body (`base`, `left_eef`, `right_eef`), float64
            [steps, 3], world frame [m].
    """

    bodies: Mapping[str, Float64Array]

    def reach(self, last: int | None = None) -> float:
        """Farthest that a body came from its first place [m]; steps with no number are left out.

        Args:
            last: Look at that many steps at the end; None at all.
        """
        rows = slice(None) if last is None else slice(-last, None)
        return max(
            float(np.nanmax(np.linalg.norm(body[rows] - body[rows][0], axis=1), initial=0.0))
            for body in self.bodies.values()
        )

    def still_since(self, within: float) -> int:
        """First step from which every body stays within a distance [m] of its last place."""
        away = np.zeros(len(self.bodies["base"]), dtype=np.bool_)
        for body in self.bodies.values():
            away |= np.linalg.norm(body - body[-1], axis=1) > within
        rows = np.flatnonzero(away)
        return int(rows[-1]) + 2 if len(rows) else 1


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A thing in a hand.

    Attributes:
        taken: First step at which it was held.
        let_go: First step at which it was no longer; None if it is held at the end.
    """

    taken: int
    let_go: int | None


def spans(truth: BoolArray) -> list[tuple[int, int]]:
    """First and last step of each time that something was so, from its truth, bool [steps]."""
    edges = np.diff(np.concatenate(([0], truth.astype(np.int8), [0])))
    first, after = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(a) + 1, int(b)) for a, b in zip(first, after, strict=True)]


def holds_of(truth: BoolArray) -> list[Hold]:
    """Each time that something was held, from its truth, bool [steps]."""
    return [
        Hold(taken=first, let_go=last + 1 if last < len(truth) else None)
        for first, last in spans(truth)
    ]


def last_step(truth: BoolArray) -> int | None:
    """Last step after which something was so, from its truth, bool [steps]; None never."""
    rows = np.flatnonzero(truth)
    return int(rows[-1]) + 1 if len(rows) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """What a task's rules may read of an episode.

    Attributes:
        steps: How many there were.
        truncated: Whether the time limit ended it.
        first: First step after which each sub-goal held, in the task's order; 0 at the start,
            None never.
        truths: Truth of each sub-goal after each step, bool [steps].
        motion: Where base and hands were.
        grippers: Gripper command per arm, float [steps].
    """

    steps: int
    truncated: bool
    first: Mapping[str, int | None]
    truths: Mapping[str, BoolArray]
    motion: Motion
    grippers: Mapping[Arm, npt.NDArray[np.floating]]

    def holds_at(self, subgoal: str, step: int) -> bool:
        """Truth of a sub-goal after a step."""
        return bool(self.truths[subgoal][step - 1])

    def now(self, subgoal: str) -> bool:
        """Its truth at the end."""
        return self.holds_at(subgoal, self.steps)

    def moves_to_the_end(self) -> bool:
        """Whether the robot moved in the last stretch."""
        return self.motion.reach(int(MOVING_S * CONTROL_HZ)) >= STILL

    def working(self, labels: Mapping[str, str]) -> tuple[str, int, str] | None:
        """`time_out_while_working`: something was reached shortly before the limit.

        Args:
            labels: Of the sub-goals that count, for people; coming near is none of them.
        """
        if not self.truncated or not self.moves_to_the_end():
            return None
        reached = [
            (step, name) for name, step in self.first.items() if step is not None and name in labels
        ]
        step, name = max(reached, default=(0, ""))
        left_s = (self.steps - step) / CONTROL_HZ
        if step == 0 or left_s > WORKING_S:
            return None
        seen = f"'{labels[name]}' at step {step}, {left_s:.1f} s before the limit, "
        return next(iter(WORKING)), step, f"{seen}and moving to the end"

    def never_near(self, subgoal: str, what: str, label: str) -> tuple[str, int, str] | None:
        """That label if the robot never came near something."""
        if self.first[subgoal] is not None:
            return None
        base = self.motion.bodies["base"]
        far = float(np.linalg.norm(base - base[0], axis=1).max())
        return label, self.steps, f"the base came {far:.2f} m from its start, never near {what}"
