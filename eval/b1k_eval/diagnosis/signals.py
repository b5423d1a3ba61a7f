"""What the columns of a trace amount to: where the robot went, when things were so.

Steps are counted from 1, as in the trace.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from b1k_envs.base import Float64Array
from b1k_eval.records.trace_columns import Column, EpisodeTrace


class Motion:
    """Where base and hands were.

    Attributes:
        bodies: Position after each step by body (`base`, `left_eef`, `right_eef`), float64
            [steps, 3], world frame [m].
    """

    def __init__(self, trace: EpisodeTrace) -> None:
        """Read the positions.

        Raises:
            DamagedTraceError: They are missing or cannot be read.
        """
        self.bodies: dict[str, Float64Array] = {}
        for body in ("base", "left_eef", "right_eef"):
            columns = trace.read(*(f"{body}_{axis}" for axis in "xyz"))
            self.bodies[body] = np.stack(list(columns.values()), axis=1)

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


def spans(truth: Column) -> list[tuple[int, int]]:
    """First and last step of each time that something was so, from its truth, bool [steps]."""
    edges = np.diff(np.concatenate(([0], truth.astype(np.int8), [0])))
    first, after = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(a) + 1, int(b)) for a, b in zip(first, after, strict=True)]


def holds_of(truth: Column) -> list[Hold]:
    """Each time that something was held, from its truth, bool [steps]."""
    return [
        Hold(taken=first, let_go=last + 1 if last < len(truth) else None)
        for first, last in spans(truth)
    ]


def last_step(truth: Column) -> int | None:
    """Last step after which something was so, from its truth, bool [steps]; None never."""
    rows = np.flatnonzero(truth)
    return int(rows[-1]) + 1 if len(rows) else None
