"""For a simulator that never does the same twice: are success rate and q-score the same?

A paired equivalence test, one episode one by one and the same in the other way: two one-sided tests
at 5 % each, which is whether the 90 % interval of the difference lies within the bound (D. J.
Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987) 657). The intervals are those of
`compare`. Too few episodes never give `equivalent`; they give a number of episodes to add.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from b1k_eval.comparison.intervals import Interval
from b1k_eval.comparison.paired import PairedComparison, compare_scores, compare_success
from b1k_eval.comparison.power import planning_discordance

_LEVEL = 0.9
_Z_LEVEL, _Z_POWER = 1.645, 1.282
"""Quantiles of 95 % and 90 %: level 5 % on either side, power 80 % where there is no difference."""

Key = TypeVar("Key", bound=Hashable)
Results = Mapping[Key, Collection[float]]


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Result of the test.

    Attributes:
        verdict: `equivalent`: both intervals lie within the bound; `apart`: one lies outside of it;
            else `undecided`.
        bound: The bound.
        pairs: Instances that both runs have scored.
        success: Difference of the success rates, with its 90 % interval; None without a pair.
        q_score: The same of mean q-scores.
        more: Instances to add, so that 80 in 100 such tests find `equivalent` if nothing differs; 0
            unless undecided.
    """

    verdict: Literal["equivalent", "apart", "undecided"]
    bound: float
    pairs: int
    success: PairedComparison | None
    q_score: PairedComparison | None
    more: int

    def words(self) -> str:
        """Return it as a phrase."""
        parts = [f"bound {self.bound:g} over {self.pairs} instances"]
        for name, each in (("success", self.success), ("q-score", self.q_score)):
            if each is not None and each.interval is not None:
                low, high = each.interval.low, each.interval.high
                parts.append(f"{name} {each.difference:+.2f} ({low:+.2f} to {high:+.2f})")
        if self.more:
            parts.append(f"{self.more} more instances would show it, if nothing differs")
        return ", ".join(parts)


def equivalence(
    success: tuple[Results[Key], Results[Key]],
    q_score: tuple[Results[Key], Results[Key]],
    *,
    bound: float,
) -> Equivalence:
    """Test two runs.

    Args:
        success: 0 or 1 per scored rollout, by instance, of either run.
        q_score: The same of q-scores in [0, 1].
        bound: Largest difference that does not matter, in (0, 1).
    """
    first = compare_success(*success, seed=0, level=_LEVEL)
    second = compare_scores(*q_score, seed=0, level=_LEVEL)
    intervals = [None if each is None else each.interval for each in (first, second)]
    if all(_within(interval, bound) for interval in intervals):
        verdict: Literal["equivalent", "apart", "undecided"] = "equivalent"
    elif any(_outside(interval, bound) for interval in intervals):
        verdict = "apart"
    else:
        verdict = "undecided"
    pairs = 0 if first is None else first.n_pairs
    more = 0
    if verdict == "undecided":
        discordant = 0 if first is None else first.wins_a + first.wins_b
        more = max(1, pairs_for(planning_discordance(discordant, pairs), bound) - pairs)
    return Equivalence(
        verdict=verdict, bound=bound, pairs=pairs, success=first, q_score=second, more=more
    )


def pairs_for(discordance: float, bound: float) -> int:
    """Return the pairs that show equivalence with 80 % power, if the rates are equal.

    The normal approximation: the difference has the variance discordance / n.
    """
    return math.ceil(discordance * ((_Z_LEVEL + _Z_POWER) / bound) ** 2)


def _within(interval: Interval | None, bound: float) -> bool:
    return interval is not None and -bound < interval.low and interval.high < bound


def _outside(interval: Interval | None, bound: float) -> bool:
    return interval is not None and (interval.low > bound or interval.high < -bound)
