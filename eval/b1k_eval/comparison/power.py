"""How many instances a comparison needs, and what a given number can show.

This is for the exact McNemar test with one rollout per instance, computed by enumeration: the
number of discordant pairs is binomial, and so is the number of those that one run wins. Differences
are shares (0.2 is 20 points), in either direction. Approximate start of the search: R. J. Connor,
Biometrics 43 (1987) 207.

Besides the difference, the discordance matters: the share of instances that exactly one run solves.
The more the runs disagree, the noisier is their difference. From data, the upper end of its
interval is used (`planning_discordance`), so that a plan is rather too large.

A plan is for one test at its end. Adding instances after a look at the p-value, and testing again,
raises false alarms above 5 %; `sequential` has the test that allows it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from scipy import stats

from b1k_envs.errors import UsageError
from b1k_eval.comparison.intervals import check_alpha, check_count

UNKNOWN_DISCORDANCE = 0.5
"""Without data: that of two independent policies that solve half of the instances."""

CAUTION = 0.8
"""Probability that the planned discordance is not too low."""


def planning_discordance(discordant: int, n_pairs: int) -> float:
    """Return the share of discordant pairs to plan with, in (0, 1]; 0.5 without a pair.

    It is the one-sided 80 % Clopper-Pearson limit, as R. H. Browne (Statistics in Medicine 14
    (1995) 1933) takes the 80 % limit of a pilot's variance: a plan with the observed share is too
    small half of the time. It is above 0 even if no pair was discordant (0.149 for 0 of 10).

    Raises:
        UsageError: Not 0 <= discordant <= n_pairs.
    """
    check_count(discordant, n_pairs)
    if n_pairs == 0:
        return UNKNOWN_DISCORDANCE
    if discordant == n_pairs:
        return 1.0
    return float(stats.beta.ppf(CAUTION, discordant + 1, n_pairs - discordant))


def mcnemar_power(
    n_pairs: int, difference: float, discordance: float, *, alpha: float = 0.05
) -> float:
    """Return the probability that the two-sided exact McNemar test is significant.

    Args:
        n_pairs: Pairs, one rollout each.
        difference: True difference of the success rates, in [-1, 1].
        discordance: True share of discordant pairs, in [|difference|, 1].
        alpha: Level of the test.

    Raises:
        UsageError: A figure is outside its range.
    """
    check_alpha(alpha)
    if n_pairs < 0:
        raise UsageError(f"{n_pairs} pairs: there cannot be fewer than 0")
    if not abs(difference) <= discordance <= 1:
        raise UsageError(
            f"a discordance of {discordance:g} cannot be: it lies between the difference, "
            f"{abs(difference):g}, and 1"
        )
    if n_pairs == 0 or discordance == 0:
        return 0.0
    # Eight standard deviations around the mean, and 40 more for small ones: what is left out is
    # below 1e-15.
    spread = 8 * math.sqrt(n_pairs * discordance * (1 - discordance)) + 40
    first = max(0, math.floor(n_pairs * discordance - spread))
    last = min(n_pairs, math.ceil(n_pairs * discordance + spread))
    discordant = np.arange(first, last + 1)
    critical = _critical(first, last, alpha)
    win = min(1.0, (discordance + abs(difference)) / (2 * discordance))  # of a discordant pair
    chance = stats.binom.cdf(critical, discordant, win)
    chance += stats.binom.sf(discordant - critical - 1, discordant, win)
    return float(min(1.0, stats.binom.pmf(discordant, n_pairs, discordance) @ chance))


@lru_cache(maxsize=64)
def _critical(
    first: int, last: int, alpha: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the most wins of the loser that are still significant, int64, by discordant pairs.

    -1 if even no win is not significant.
    """
    discordant = np.arange(first, last + 1)
    # The least k with P(X <= k) >= alpha / 2; k itself is significant only if they are equal.
    least = stats.binom.ppf(alpha / 2, discordant, 0.5)
    # The factor makes a p-value that equals alpha but for rounding significant.
    fits = 2 * stats.binom.cdf(least, discordant, 0.5) <= alpha * (1 + 1e-12)
    critical: np.ndarray[tuple[int, ...], np.dtype[np.int64]] = np.where(
        fits, least, least - 1
    ).astype(np.int64)
    return critical


def pairs_needed(
    difference: float, discordance: float, *, power: float = 0.8, alpha: float = 0.05
) -> int:
    """Return the number of pairs from which the exact McNemar test has a power.

    Power is not quite monotonic in the number of pairs: this is the least number such that it and
    the next ten have the power.

    Args:
        difference: True difference of the success rates, not 0, in [-1, 1].
        discordance: True share of discordant pairs; raised to |difference| if less.
        power: Probability of finding the difference.
        alpha: Level of the test.

    Raises:
        UsageError: A figure is outside its range.
    """
    check_alpha(alpha)
    _check_power(power)
    size = abs(difference)
    if not 0 < size <= 1:
        raise UsageError(f"a difference to look for is above 0 and at most 1, got {difference:g}")
    share = max(size, discordance)
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)
    spread = z_alpha * math.sqrt(share) + max(0.0, z_power) * math.sqrt(share - size * size)
    guess = max(1, math.ceil((spread / size) ** 2))

    def enough(pairs: int) -> bool:
        return mcnemar_power(pairs, size, share, alpha=alpha) >= power

    low, high = int(0.9 * guess), guess
    if enough(low):
        low = 0
    while not enough(high):
        low, high = high, math.ceil(1.1 * high) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    needed = pairs = high
    while pairs < needed + 10:
        pairs += 1
        if not enough(pairs):
            needed = pairs + 1
    return needed


def more_pairs(
    difference: float,
    discordant: int,
    n_pairs: int,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
) -> int:
    """Return how many more instances would show a difference; 0 if there are enough.

    Args:
        difference: Difference of the success rates to look for, not 0, in [-1, 1].
        discordant: Pairs so far that exactly one run solved.
        n_pairs: All pairs so far.
        power: Probability of finding the difference.
        alpha: Level of the test.

    Raises:
        UsageError: A figure is outside its range.
    """
    share = planning_discordance(discordant, n_pairs)
    return max(0, pairs_needed(difference, share, power=power, alpha=alpha) - n_pairs)


def smallest_detectable(
    n_pairs: int, discordance: float, *, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """Return the smallest difference of two success rates that the test finds with a power.

    Args:
        n_pairs: Pairs, one rollout each.
        discordance: True share of discordant pairs; raised to the difference if less.
        power: Probability of finding the difference.
        alpha: Level of the test.

    Returns:
        In (0, 1], rounded up to 0.001; None if not even a difference of 1 is found, as below six
        pairs at alpha = 0.05.

    Raises:
        UsageError: A figure is outside its range.
    """
    _check_power(power)
    if not 0 <= discordance <= 1:
        raise UsageError(f"a discordance lies between 0 and 1, got {discordance:g}")

    def enough(thousandths: int) -> bool:
        size = thousandths / 1000
        return mcnemar_power(n_pairs, size, max(size, discordance), alpha=alpha) >= power

    if not enough(1000):
        return None
    low, high = 0, 1000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high / 1000


def _check_power(power: float) -> None:
    if not 0 < power < 1:
        raise UsageError(f"a power lies between 0 and 1, such as 0.8; got {power:g}")
