"""One thing that was looked at in a world, and the bounds that every world is held to.

Shared by the checks at the start of OmniGibson and by those that need nothing but an `Env`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HOLD_STEPS = 30
"""Control steps of standing still under the hold action."""

STILL_BASE, STILL_JOINT = 0.005, 0.01
"""How far base [m] and trunk and arm joints [rad] may move meanwhile."""

EEF_TOLERANCE = 0.02
"""How far the hands' positions in the base frame may be from those in the world [m]."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What; with the env's number where there are several.
        expected: What an official run has, in words or as a JSON value.
        found: What is here.
        ok: Whether that is the same.
        fatal: Whether numbers would be wrong otherwise.
    """

    name: str
    expected: Any
    found: Any
    ok: bool
    fatal: bool = False

    def words(self) -> str:
        """The finding in one clause."""
        return f"{self.name}: expected {self.expected}, found {self.found}"
