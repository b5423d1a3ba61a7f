"""A comparison in plain words, and a plan where it cannot tell."""

from __future__ import annotations

from typing import Literal

from b1k_eval.comparison.intervals import Interval
from b1k_eval.comparison.paired import PairedComparison
from b1k_eval.comparison.power import more_pairs, planning_discordance, smallest_detectable

Unit = Literal["instance", "task"]

USEFUL_DIFFERENCE = 0.25
"""Smallest difference in success rate that a plan is made for: 25 points."""


def verdict(
    comparison: PairedComparison,
    name_a: str,
    name_b: str,
    *,
    p_value: float,
    alpha: float,
    unit: Unit = "instance",
) -> str:
    """Say in a sentence how the success rates compare.

    Args:
        comparison: a against b.
        name_a: Name of a.
        name_b: Name of b.
        p_value: The comparison's p-value, adjusted if there are several comparisons.
        alpha: Level of the test.
        unit: What a pair is; a plan is made for instances only.
    """
    pairs = comparison.n_pairs
    basis = f"{pairs} paired {unit}{'s' if pairs != 1 else ''}"
    if not pairs:
        basis = f"{comparison.n_rollouts_a} and {comparison.n_rollouts_b} unpaired episodes"
    if p_value < alpha:
        winner, by = (name_a, comparison) if comparison.difference > 0 else (name_b, comparison)
        size = _points(abs(by.difference))
        interval = _interval(by.interval, turned=comparison.difference < 0)
        return f"{winner} better: +{size} points{interval}, {_p(p_value)}, {basis}"
    plan = _plan(comparison, alpha) if unit == "instance" else ""
    seen = f"{name_a} {_signed(comparison.difference)} points{_interval(comparison.interval)}"
    return f"cannot tell: {seen}, {_p(p_value)}, {basis}{plan}"


def _plan(comparison: PairedComparison, alpha: float) -> str:
    """Say what more instances would show; nothing unless each pair has one rollout per run."""
    pairs = comparison.n_pairs
    if not pairs or comparison.n_rollouts_a != pairs or comparison.n_rollouts_b != pairs:
        return ""
    discordant = comparison.wins_a + comparison.wins_b
    size = max(USEFUL_DIFFERENCE, abs(comparison.difference))
    more = more_pairs(size, discordant, pairs, alpha=alpha)
    shown = smallest_detectable(pairs, planning_discordance(discordant, pairs), alpha=alpha)
    if more:
        text = f"; {more} more instance{'s' if more != 1 else ''} would show a difference of "
        return f"{text}{_points(size)} points with 80 % power"
    return f"; {pairs} show a difference of {_points(shown or 1.0)} points with 80 % power"


def holm(p_values: list[float]) -> list[float]:
    """Adjust p-values for their number (S. Holm, Scand. J. Statist. 6 (1979) 65)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _points(share: float) -> str:
    return f"{100 * share:.0f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.0f}"


def _interval(interval: Interval | None, *, turned: bool = False) -> str:
    if interval is None:
        return ""
    low, high = (-interval.high, -interval.low) if turned else (interval.low, interval.high)
    return f" [{100 * low:.0f}, {100 * high:.0f}]"


def _p(p_value: float) -> str:
    return f"p = {p_value:.2g}" if p_value >= 0.001 else "p < 0.001"
