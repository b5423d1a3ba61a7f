"""Intervals of a run's success rate and mean q-score, and of the difference of two rates.

The sampling unit is the instance. Rollouts on one instance share its layout and mostly fail or
succeed together, so five rollouts on ten instances are ten observations, not fifty. They are
averaged first, and every instance has the same weight.

Rates with one rollout per instance: E. B. Wilson, JASA 22 (1927) 209; C. J. Clopper and
E. S. Pearson, Biometrika 26 (1934) 404. Differences of them: T. Tango, Statistics in Medicine 17
(1998) 891, paired; R. G. Newcombe, Statistics in Medicine 17 (1998) 873, method 10, unpaired.

Everything else is a mean of n independent values with known bounds. The usual bootstraps and
Student's t cover such a mean too rarely when n is 10 to 20 and most values are equal, and have
width 0 when all are (figures in docs/statistics.md). Used here is the Bayesian bootstrap of n + 1
values, where the added value is the upper bound for the upper limit and the lower bound for the
lower limit: no unseen instance can be worse. On zeros and ones this is Clopper and Pearson's
interval. Paired differences are mostly far inside their bounds of -1 and 1, where a whole added
value makes intervals half as wide again as needed; there it has the weight 1/2.
Reference: N. Gaffke, "Three test statistics for a nonparametric one-sided hypothesis on the mean of
a nonnegative variable", Math. Methods of Statistics 14 (2005) 451; E. Learned-Miller and
P. S. Thomas, arXiv:1905.06208 (2019), who conjecture that it covers every distribution. For the
weight 1/2 there is only measured coverage.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy import optimize, stats

from b1k_envs.base import Float64Array
from b1k_envs.errors import UsageError

DRAWS = 20_000
"""Draws of the Bayesian bootstrap; limits of different seeds then differ by 1 % of the width."""

BOOTSTRAP = "Bayesian bootstrap over instances, bounds added"
"""Name of the method of `bounded_mean`."""

Groups = Collection[Collection[float]]
"""Results by instance: one collection per instance, holding its scored rollouts."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval.

    Attributes:
        estimate: Point estimate.
        low: Lower limit.
        high: Upper limit; always above `low`.
        level: Nominal coverage, such as 0.95.
        method: Name of the method, for display.
    """

    estimate: float
    low: float
    high: float
    level: float
    method: str


def wilson(successes: int, trials: int, *, level: float = 0.95) -> Interval | None:
    """Compute Wilson's score interval of a rate; None without a trial.

    Trials must be independent: one rollout per instance.

    Raises:
        UsageError: Not 0 <= successes <= trials, or not 0 < level < 1.
    """
    check_count(successes, trials)
    z = normal_quantile(level)
    if trials == 0:
        return None
    rate = successes / trials
    shrink = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / shrink
    half = z / shrink * np.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return Interval(
        estimate=rate,
        # At 0 and at n the limit is exactly 0 and 1, which rounding would miss by an ulp.
        low=0.0 if successes == 0 else float(centre - half),
        high=1.0 if successes == trials else float(centre + half),
        level=level,
        method="Wilson",
    )


def clopper_pearson(successes: int, trials: int, *, level: float = 0.95) -> Interval | None:
    """Compute the exact interval of a rate, which covers at least `level`, mostly well above.

    Arguments and result as in `wilson`.

    Raises:
        UsageError: Not 0 <= successes <= trials, or not 0 < level < 1.
    """
    check_count(successes, trials)
    check_level(level)
    if trials == 0:
        return None
    failures, tail = trials - successes, (1 - level) / 2
    low = stats.beta.ppf(tail, successes, failures + 1) if successes else 0.0
    high = stats.beta.isf(tail, successes + 1, failures) if failures else 1.0
    return Interval(
        estimate=successes / trials,
        low=float(low),
        high=float(high),
        level=level,
        method="Clopper-Pearson",
    )


def tango(wins_a: int, wins_b: int, n_pairs: int, *, level: float = 0.95) -> Interval | None:
    """Compute Tango's score interval of the difference of two rates on the same instances.

    The limits are the differences D at which the score statistic
    (wins_a - wins_b - n D) / sqrt(n (2 q + D (1 - D))) is z and -z, where q is the likeliest
    share of wins_b given D.

    Args:
        wins_a: Instances that only a solved.
        wins_b: Instances that only b solved.
        n_pairs: All instances, with one rollout of each run; None is returned for 0.
        level: Nominal coverage.

    Raises:
        UsageError: A count is negative, the wins exceed the pairs, or not 0 < level < 1.
    """
    check_count(wins_a, n_pairs)
    check_count(wins_b, n_pairs - wins_a)
    z = normal_quantile(level)
    if n_pairs == 0:
        return None
    return Interval(
        estimate=(wins_a - wins_b) / n_pairs,
        low=-_tango_upper(wins_b, wins_a, n_pairs, z),
        high=_tango_upper(wins_a, wins_b, n_pairs, z),
        level=level,
        method="Tango score",
    )


def _tango_upper(wins_a: int, wins_b: int, n: int, z: float) -> float:
    estimate = (wins_a - wins_b) / n
    if estimate == 1:
        return 1.0

    def excess(difference: float) -> float:
        """Negative inside the interval; squared, as the variance is 0 at both ends."""
        linear = (2 * n - wins_a + wins_b) * difference - wins_a - wins_b
        constant = -wins_b * difference * (1 - difference)
        root = np.sqrt(max(0.0, linear * linear - 8 * n * constant))
        share = (root - linear) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        return float((wins_a - wins_b - n * difference) ** 2 - z * z * variance)

    # At the estimate itself it may be 0: without discordant pairs, and if b wins all of them.
    return float(optimize.brentq(excess, estimate + 1e-9, 1.0, xtol=1e-12))


def newcombe(
    successes_a: int, trials_a: int, successes_b: int, trials_b: int, *, level: float = 0.95
) -> Interval | None:
    """Compute Newcombe's hybrid score interval of the difference of two independent rates.

    It is None if either run has no trial.

    Raises:
        UsageError: A count is not within its trials, or not 0 < level < 1.
    """
    a = wilson(successes_a, trials_a, level=level)
    b = wilson(successes_b, trials_b, level=level)
    if a is None or b is None:
        return None
    difference = a.estimate - b.estimate
    return Interval(
        estimate=difference,
        low=difference - float(np.hypot(a.estimate - a.low, b.high - b.estimate)),
        high=difference + float(np.hypot(a.high - a.estimate, b.estimate - b.low)),
        level=level,
        method="Newcombe hybrid score",
    )


def rate_interval(groups: Groups, *, seed: int, level: float = 0.95) -> Interval | None:
    """Compute the interval of a success rate from results by instance.

    Args:
        groups: 0 or 1 (False or True) per scored rollout, by instance; instances without any are
            left out.
        seed: Seed of the bootstrap.
        level: Nominal coverage.

    Returns:
        Wilson's interval with one rollout per instance, else the bootstrap's around the mean of the
        instances' rates. None without an instance, and with several rollouts on a single one, which
        tell nothing about other instances.

    Raises:
        UsageError: A result is neither 0 nor 1, or not 0 < level < 1.
    """
    for group in groups:
        check_binary(group)
    if all(len(group) <= 1 for group in groups):
        outcomes = [value for group in groups for value in group]
        return wilson(int(sum(outcomes)), len(outcomes), level=level)
    return score_interval(groups, seed=seed, level=level)


def score_interval(groups: Groups, *, seed: int, level: float = 0.95) -> Interval | None:
    """Compute the interval of a mean score in [0, 1], such as the q-score, by the bootstrap.

    Args:
        groups: Scores of the scored rollouts, by instance; instances without any are left out.
        seed: Seed of the bootstrap.
        level: Nominal coverage.

    Returns:
        The interval around the mean of the instances' means, or None below two instances.

    Raises:
        UsageError: A score is outside [0, 1], or not 0 < level < 1.
    """
    means = instance_means(groups)
    if len(means) < 2:
        return None
    return bounded_mean(means, bounds=(0.0, 1.0), seed=seed, level=level)


def bounded_mean(
    values: Float64Array,
    *,
    bounds: tuple[float, float],
    seed: int,
    level: float = 0.95,
    weight: float = 1.0,
    draws: int = DRAWS,
) -> Interval:
    """Compute the interval of the mean of a bounded quantity; see the module's header.

    It is symmetric: if values and bounds change sign, so does the interval, exactly.

    Args:
        values: float64 [n], n >= 1, independent, one per instance, unit as `bounds`.
        bounds: Least and greatest possible value, not observed value.
        seed: Seed of the weights.
        level: Nominal coverage.
        weight: Weight of the added bound, above 0; values have 1.
        draws: See `DRAWS`.

    Raises:
        UsageError: No value, one outside the bounds, or not 0 < level < 1.
    """
    check_level(level)
    low, high = bounds
    if values.ndim != 1 or not len(values):
        raise UsageError(f"an interval needs float64 [n] with n >= 1, got {list(values.shape)}")
    check_within(values, low, high)
    # The lower limit is the upper one of the mirrored values, from the same weights.
    return Interval(
        estimate=float(np.mean(values)),
        low=-_upper_limit(-values, -low, level, weight, draws, seed),
        high=_upper_limit(values, high, level, weight, draws, seed),
        level=level,
        method=BOOTSTRAP,
    )


def _upper_limit(
    values: Float64Array, bound: float, level: float, weight: float, draws: int, seed: int
) -> float:
    distinct, counts = np.unique(values, return_counts=True)
    # Dirichlet(1, ..., 1) weights are normalised gamma variables; those of equal values are summed.
    shape = np.append(counts, weight)
    weights = np.random.default_rng(seed).standard_gamma(shape, size=(draws, len(shape)))
    means = weights @ np.append(distinct, bound) / weights.sum(axis=1)
    return min(bound, float(np.quantile(means, (1 + level) / 2)))


def instance_means(groups: Groups) -> Float64Array:
    """Return the mean of every instance that has a rollout, float64 [n].

    Raises:
        UsageError: A score is outside [0, 1].
    """
    means = np.array([np.mean(list(group)) for group in groups if len(group)], dtype=np.float64)
    for group in groups:
        check_within(np.asarray(list(group), dtype=np.float64), 0.0, 1.0)
    return means


# --- shared with the other modules ---------------------------------------------------------------


def normal_quantile(level: float) -> float:
    """Return the z with P(|Z| < z) = level for a standard normal Z.

    Raises:
        UsageError: Not 0 < level < 1.
    """
    check_level(level)
    return NormalDist().inv_cdf((1 + level) / 2)


def check_level(level: float) -> None:
    """Raise UsageError unless 0 < level < 1, for a confidence level."""
    if not 0 < level < 1:
        raise UsageError(f"a confidence level lies between 0 and 1, such as 0.95; got {level:g}")


def check_alpha(alpha: float) -> None:
    """Raise UsageError unless 0 < alpha < 1, for the level of a test."""
    if not 0 < alpha < 1:
        raise UsageError(f"a test's level lies between 0 and 1, such as 0.05; got {alpha:g}")


def check_count(successes: int, trials: int) -> None:
    """Raise UsageError unless 0 <= successes <= trials."""
    if not 0 <= successes <= trials:
        raise UsageError(f"{successes} of {trials} is not a count: it must be 0 to {trials}")


def check_binary(results: Collection[float]) -> None:
    """Raise UsageError unless all results are 1 (success) or 0 (failure)."""
    for value in results:
        if value not in (0, 1):
            raise UsageError(f"a result is {value}, but success is 1 and failure 0")


def check_within(values: Float64Array, low: float, high: float) -> None:
    """Raise UsageError unless all values, float64 [n], are within [low, high]; NaN is not."""
    wrong = values[~((values >= low) & (values <= high))]
    if len(wrong):
        raise UsageError(f"{wrong[0]:g} is outside [{low:g}, {high:g}]")
