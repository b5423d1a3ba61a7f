"""The figures of study.json in words, for terminal and page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def share(row: Mapping[str, Any]) -> str:
    """Return the successes of an arm: `17 of 20`."""
    return f"{row['successes']:g} of {row['episodes']}"


def points(row: Mapping[str, Any]) -> str:
    """Return what an arm costs, in points with its interval."""
    if row["difference"] is None:
        return "-"
    if row["interval"] is None:
        return f"{100 * row['difference']:+.0f}"
    low, high = row["interval"]
    return f"{100 * row['difference']:+.0f} [{100 * low:+.0f}, {100 * high:+.0f}]"


def halving_words(curve: Mapping[str, Any]) -> str | None:
    """Return where success halves, as a sentence; None for an axis without doses."""
    half = curve["halving"]
    if half is None:
        return None
    unit = f" {curve['unit']}" if curve["unit"] else ""
    low, high, estimate = half["low"], half["high"], half["estimate"]
    if high is None and estimate is None:
        return f"{curve['name']}: success does not halve within the doses tried"
    said = "not within the doses tried" if estimate is None else f"at {estimate:.2g}{unit}"
    end = "open" if high is None else f"{high:g}"
    return f"{curve['name']}: success halves {said} [{low:g}, {end}]"
