"""The ladder's rungs and verdicts.

Each rung relies on those below it, so the fault of the lowest failed one is to be mended first. The
order is that of `docs/reproductions/behavior1k.md` in allenai/vla-evaluation-harness: a no-op
floor, the replay of a demonstration, a policy with a known score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Verdict = Literal["pass", "fail", "not done"]

NAMES: Mapping[int, str] = MappingProxyType(
    {
        1: "startup checks",
        2: "hold does nothing",
        3: "pictures current and in place",
        4: "demonstrations replayed",
        5: "known policy",
    }
)
"""The rungs by number, lowest first."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """The result of one rung.

    Attributes:
        number: Its number; see `NAMES`.
        verdict: Whether it holds.
        finding: What was found, in words; the first clause names the fault if there is one.
        advice: What to do; None if there is nothing to do.
        details: The figures behind the finding, JSON values.
        remarks: What else a person should read.
    """

    number: int
    verdict: Verdict
    finding: str
    advice: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the rung."""
        return NAMES[self.number]

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "rung": self.number,
            "name": self.name,
            "verdict": self.verdict,
            "finding": self.finding,
            "advice": self.advice,
            "remarks": list(self.remarks),
            "details": dict(self.details),
        }


def not_done(number: int, why: str, advice: str | None = None) -> Rung:
    """Return the result of a rung that was not tried.

    Args:
        number: Number of the rung.
        why: The reason, in words.
        advice: What to do so that it can be tried.
    """
    return Rung(number=number, verdict="not done", finding=why, advice=advice)


def verdict_in_words(rungs: tuple[Rung, ...]) -> str:
    """Say in a sentence what the whole ladder shows."""
    failed = [rung for rung in rungs if rung.verdict == "fail"]
    if failed:
        first = failed[0]
        return f"not right: put rung {first.number} ({first.name}) right first"
    missing = [str(rung.number) for rung in rungs if rung.verdict == "not done"]
    if missing:
        return f"nothing is wrong as far as it was climbed; not done: rung {', '.join(missing)}"
    return "right: what a policy scores here is its own"
