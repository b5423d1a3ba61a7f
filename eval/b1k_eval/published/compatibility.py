"""Whether results can be those of a policy with a published score.

Of the published run nothing is known but its score and, mostly, its number of episodes, so nothing
can be paired. Rates: Fisher's exact test and Newcombe's interval, or against a rate with an unknown
number of episodes the binomial test.

Means: if both are of one policy, both have one spread, so the spread here stands for the published
one as well, and the test is Student's t with the standard error s * sqrt(1 / n + 1 / m) of n
instances here and m published episodes. Ten results are often nearly equal, and then s is too
small: it is taken as no less than that of an episode's parts (checks, predicates) which are reached
with a correlation of `CORRELATION`. docs/statistics.md has the level and power measured.

The tests are conditional on nothing but the score: other instances, limits or evaluators move it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from b1k_envs.base import Float64Array
from b1k_envs.errors import UsageError
from b1k_eval.comparison.intervals import (
    Interval,
    check_alpha,
    check_count,
    check_within,
    newcombe,
    wilson,
)
from b1k_eval.comparison.verdicts import USEFUL_DIFFERENCE

CORRELATION = 0.2
"""Least correlation between the parts of an episode that the spread of a mean is taken from."""

POWER = 0.8
MOST_INSTANCES = 10_000
"""Largest plan: who cannot tell with so many cannot tell at all."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What more instances would show.

    Attributes:
        difference: The difference to look for, above 0.
        more: Instances to add to those there are for a power of `POWER`; None if no number of them
            would do, because the published score is too uncertain itself.
    """

    difference: float
    more: int | None


@dataclass(frozen=True, kw_only=True)
class Compatibility:
    """Results here against a published score.

    Attributes:
        mean: The score here.
        units: Independent results behind it: instances.
        published: The published score.
        episodes: Published episodes; None if not known, and the score is taken as exact.
        published_interval: Interval of the published score, as far as its episodes tell; None if
            their number is not known.
        difference: mean - published.
        interval: Interval of the difference.
        p_value: Of the test that both are of one policy, in [0, 1].
        test: Name of the test.
        size: The difference to look for, above 0: the observed one, or the smallest useful one if
            that is larger.
        power: Returns the probability that so many instances would show a difference of `size`.
    """

    mean: float
    units: int
    published: float
    episodes: int | None
    published_interval: Interval | None
    difference: float
    interval: Interval
    p_value: float
    test: str
    size: float
    power: Callable[[int], float]

    @cached_property
    def plan(self) -> Plan:
        """What more instances would show; takes up to a tenth of a second."""
        return Plan(difference=self.size, more=_more(self.units, self.power))


def rate_against(
    successes: int, trials: int, rate: float, episodes: int | None, *, alpha: float = 0.05
) -> Compatibility:
    """Hold a success rate against a published one.

    Args:
        successes: Successful episodes here.
        trials: Scored episodes here, one an instance, at least one.
        rate: The published rate.
        episodes: Published episodes; `rate` is then that of the nearest number of successes.
        alpha: Level of the test; the interval's is 1 - alpha.

    Raises:
        UsageError: A figure is outside its range.
    """
    check_alpha(alpha)
    check_count(successes, trials)
    check_within(np.array([rate]), 0.0, 1.0)
    own = wilson(successes, trials, level=1 - alpha)
    if own is None:
        raise UsageError("a rate of no episode cannot be held against another")
    here, theirs = successes / trials, None
    interval: Interval | None = Interval(
        estimate=here - rate, low=own.low - rate, high=own.high - rate, level=own.level,
        method="Wilson, published rate taken as exact",
    )  # fmt: skip
    if episodes is not None:
        counted = round(rate * episodes)
        rate = counted / episodes
        theirs = wilson(counted, episodes, level=1 - alpha)
        interval = newcombe(successes, trials, counted, episodes, level=1 - alpha)
    if interval is None:
        raise RuntimeError("an interval of at least one trial each")

    def p_value_of(count: int, number: int) -> float:
        if episodes is None:
            return float(stats.binomtest(count, number, rate).pvalue)
        return _fisher(count, number, round(rate * episodes), episodes)

    def rejects(count: int, number: int) -> bool:
        return p_value_of(count, number) < alpha

    size, true = _to_look_for(here, rate)
    return Compatibility(
        mean=here, units=trials, published=rate, episodes=episodes, published_interval=theirs,
        difference=here - rate, interval=interval,
        p_value=min(1.0, p_value_of(successes, trials)),
        test="binomial" if episodes is None else "Fisher exact",
        size=size, power=lambda n: _rate_power(n, true, rate, rejects),
    )  # fmt: skip


def mean_against(
    values: Float64Array,
    published: float,
    episodes: int | None,
    *,
    parts: int,
    alpha: float = 0.05,
) -> Compatibility:
    """Hold a mean score against a published one; see the module's header.

    Args:
        values: float64 [n], n >= 2, scores in [0, 1], one an instance.
        published: The published mean.
        episodes: Published episodes.
        parts: Of how many checks, predicates or rollouts a value is made, at least one.
        alpha: Level of the test; the interval's is 1 - alpha.

    Raises:
        UsageError: There are less than two values, or a figure is outside its range.
    """
    check_alpha(alpha)
    check_within(np.append(values, published), 0.0, 1.0)
    count = len(values)
    if count < 2:
        raise UsageError("a mean of one instance has no spread: run at least two")
    mean = float(np.mean(values))
    variance = _variance(values, published, episodes, parts)
    uncertainty = 0.0 if episodes is None else variance / episodes
    scale = math.sqrt(variance / count + uncertainty)
    difference = mean - published
    quantile = float(stats.t.ppf(1 - alpha / 2, count - 1))

    def around(centre: float, half: float, low: float) -> Interval:
        return Interval(
            estimate=centre, low=max(low, centre - half), high=min(1.0, centre + half),
            level=1 - alpha, method="Student's t, spread of this run for both",
        )  # fmt: skip

    size, _ = _to_look_for(mean, published)
    return Compatibility(
        mean=mean, units=count, published=published, episodes=episodes,
        published_interval=None
        if episodes is None
        else around(published, quantile * math.sqrt(uncertainty), 0.0),
        difference=difference, interval=around(difference, quantile * scale, -1.0),
        p_value=2 * float(stats.t.sf(abs(difference) / scale, count - 1)), test="Student's t",
        size=size, power=lambda n: _mean_power(n, size, variance, uncertainty, alpha),
    )  # fmt: skip


def _fisher(ours: int, scored: int, theirs: int, trials: int) -> float:
    table = [[ours, scored - ours], [theirs, trials - theirs]]
    return float(stats.fisher_exact(table).pvalue)


def _variance(values: Float64Array, published: float, episodes: int | None, parts: int) -> float:
    """Return the variance of a result, that both runs share if they are of one policy."""
    count = len(values)
    total, known = count * published, count
    if episodes is not None:
        total, known = float(np.sum(values)) + episodes * published, count + episodes
    # The mean of both, or an exact published one, and half a result more: where all are 0 another
    # policy of the same kind need not be.
    pooled = (total + 0.5) / (known + 1)
    least = pooled * (1 - pooled) * (1 / parts + CORRELATION * (1 - 1 / parts))
    return max(float(np.var(values, ddof=1)), least)


# --- plans ----------------------------------------------------------------------------------------


def _to_look_for(here: float, published: float) -> tuple[float, float]:
    """Return the difference to plan for, and the true score that makes it."""
    sign = -1.0 if here < published else 1.0
    size = max(USEFUL_DIFFERENCE, abs(here - published))
    if not 0 <= published + sign * size <= 1:
        sign = -sign
    if not 0 <= published + sign * size <= 1:  # a useful one, on neither side
        sign = 1.0 if published < 0.5 else -1.0
        size = max(published, 1 - published)
    return size, published + sign * size


def _more(count: int, power: Callable[[int], float]) -> int | None:
    """Return how many more instances than `count` have the power, found by halving."""
    if power(count) >= POWER:
        return 0
    low, high = count, max(2 * count, 2)
    while power(high) < POWER:
        if high >= MOST_INSTANCES:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high - count


def _rate_power(
    count: int, true: float, published: float, rejects: Callable[[int, int], bool]
) -> float:
    """Return the probability that a rate is told from the published one.

    The counts that are rejected are those at either end, so each end is found by halving.
    """
    middle = round(published * count)

    def last(end: int, step: int) -> int:
        """Return the rejected count next to the middle on a side; one beyond the end for none."""
        if end == middle or not rejects(end, count):
            return end + step
        near, far = 0, abs(end - middle)
        while far - near > 1:
            between = (near + far) // 2
            if rejects(middle + step * between, count):
                far = between
            else:
                near = between
        return middle + step * far

    low, high = last(0, -1), last(count, 1)
    return float(stats.binom.cdf(low, count, true) + stats.binom.sf(high - 1, count, true))


def _mean_power(
    count: int, size: float, variance: float, uncertainty: float, alpha: float
) -> float:
    """Return the probability that a mean is told from the published one, nearly normal."""
    own = math.sqrt(variance / count)
    quantile = float(stats.t.ppf(1 - alpha / 2, count - 1))
    critical = quantile * math.sqrt(variance / count + uncertainty)
    return float(stats.norm.sf((critical - size) / own))
