"""The result of one check on a simulator, and the tolerances that every simulator must meet.

Shared by the startup checks of OmniGibson and by the checks that need nothing but an `Env`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HOLD_STEPS = 30
"""Control steps during which the robot must stand still under the hold action."""

STILL_BASE, STILL_JOINT = 0.005, 0.01
"""How far the base [m] and the joints of trunk and arms [rad] may move in that time."""

EEF_TOLERANCE = 0.02
"""Largest distance between a hand's position as reported in the base frame and in the world [m]."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        name: What was checked, with the env's number where there are several.
        expected: The value of an official run, in words or as a JSON value.
        found: The value here.
        ok: Whether the two agree.
        fatal: Whether results would be wrong if they do not.
    """

    name: str
    expected: Any
    found: Any
    ok: bool
    fatal: bool = False

    def words(self) -> str:
        """Return the finding as one clause."""
        return f"{self.name}: expected {self.expected}, found {self.found}"
