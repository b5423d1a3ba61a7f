"""The course of an episode: where the robot went, and when each sub-goal held.

It is made from a trace. Steps are counted from 1, as in the trace.
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
"""A robot stands still if its base and hands stay within this distance of one place [m]."""

WORKING_S = 30.0
"""A robot that reached a new sub-goal in this last stretch was still making progress [s]."""

WORKING = {"time_out_while_working": "the time ran out while the robot was getting on"}
"""The label that `Course.working` finds, with its words."""

MOVING_S = 5.0
"""A robot that moved in this last stretch moved until the end [s]."""


@dataclass(frozen=True, eq=False)
class Motion:
    """The paths of base and hands.

    Attributes:
        bodies: For each body (`base`, `left_eef`, `right_eef`) its position after each step,
            float64 [steps, 3], world frame [m].
    """

    bodies: Mapping[str, Float64Array]

    def reach(self, last: int | None = None) -> float:
        """Return how far a body came from its first place at most [m]; NaN steps are left out.

        Args:
            last: Look only at this many steps at the end; None looks at all.
        """
        rows = slice(None) if last is None else slice(-last, None)
        return max(
            float(np.nanmax(np.linalg.norm(body[rows] - body[rows][0], axis=1), initial=0.0))
            for body in self.bodies.values()
        )

    def still_since(self, within: float) -> int:
        """Return the first step from which every body stays within a distance [m] of its end."""
        away = np.zeros(len(self.bodies["base"]), dtype=np.bool_)
        for body in self.bodies.values():
            away |= np.linalg.norm(body - body[-1], axis=1) > within
        rows = np.flatnonzero(away)
        return int(rows[-1]) + 2 if len(rows) else 1


@dataclass(frozen=True, kw_only=True)
class Hold:
    """One time that a thing was held.

    Attributes:
        taken: First step at which it was held.
        let_go: First step at which it was no longer held; None if it was held to the end.
    """

    taken: int
    let_go: int | None


def spans(truth: BoolArray) -> list[tuple[int, int]]:
    """Return first and last step of each stretch in which a truth, bool [steps], holds."""
    edges = np.diff(np.concatenate(([0], truth.astype(np.int8), [0])))
    first, after = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(a) + 1, int(b)) for a, b in zip(first, after, strict=True)]


def holds_of(truth: BoolArray) -> list[Hold]:
    """Return each time that a thing was held, from the truth of that, bool [steps]."""
    return [
        Hold(taken=first, let_go=last + 1 if last < len(truth) else None)
        for first, last in spans(truth)
    ]


def last_step(truth: BoolArray) -> int | None:
    """Return the last step after which a truth, bool [steps], holds; None if it never does."""
    rows = np.flatnonzero(truth)
    return int(rows[-1]) + 1 if len(rows) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """The data of an episode that a task's rules may read.

    Attributes:
        steps: Number of control steps.
        truncated: Whether the time limit ended the episode.
        first: For each sub-goal, in the task's order, the first step after which it held; 0 if it
            held at the start, None if never.
        truths: Truth of each sub-goal after each step, bool [steps].
        motion: The paths of base and hands.
        grippers: Gripper command per arm, float [steps].
    """

    steps: int
    truncated: bool
    first: Mapping[str, int | None]
    truths: Mapping[str, BoolArray]
    motion: Motion
    grippers: Mapping[Arm, npt.NDArray[np.floating]]

    def holds_at(self, subgoal: str, step: int) -> bool:
        """Return the truth of a sub-goal after a step."""
        return bool(self.truths[subgoal][step - 1])

    def now(self, subgoal: str) -> bool:
        """Return the truth of a sub-goal at the end."""
        return self.holds_at(subgoal, self.steps)

    def moves_to_the_end(self) -> bool:
        """Return whether the robot moved in the last `MOVING_S`."""
        return self.motion.reach(int(MOVING_S * CONTROL_HZ)) >= STILL

    def working(self, labels: Mapping[str, str]) -> tuple[str, int, str] | None:
        """Find `time_out_while_working`: a sub-goal was reached shortly before the time limit.

        Args:
            labels: The sub-goals that count, each with its words; coming near is not among them.
        """
        # More time can only have helped a robot that ran out of it and was still moving.
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
        """Find a label if the robot never came near something."""
        if self.first[subgoal] is not None:
            return None
        base = self.motion.bodies["base"]
        far = float(np.linalg.norm(base - base[0], axis=1).max())
        return label, self.steps, f"the base came {far:.2f} m from its start, never near {what}"
