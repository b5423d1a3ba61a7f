"""Two runs on the same instances: their difference, its interval, and a two-sided p-value.

Every difference is a minus b, and the unit is the instance (see `intervals`): a pair is an instance
with scored rollouts in both runs, and its difference is that of the two means. Instances that only
one run has scored are left out, so `mean_a` here may differ from the run's own mean.

One rollout each: Tango's interval, and the exact McNemar test (Q. McNemar, Psychometrika 12 (1947)
153). Both use only the discordant pairs and may disagree near the limit: at 0 Tango's is McNemar's
test without the correction that makes it exact, so it can exclude 0 while the exact p-value is
slightly above 0.05. The verdict goes by the p-value.

Several rollouts, and q-scores: `intervals.bounded_mean` of the differences, and a sign-flip test.
Its null hypothesis is that a difference of d is as likely as -d. This holds for equal policies with
equal numbers of rollouts, and nearly for different numbers (docs/statistics.md). With one rollout
each it is McNemar's exact test.

Unpaired: Newcombe's interval, and G. A. Barnard's exact test, Biometrika 34 (1947) 123.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from scipy import stats

from b1k_envs.base import Float64Array
from b1k_envs.errors import UsageError
from b1k_eval.comparison.intervals import (
    Interval,
    bounded_mean,
    check_binary,
    check_within,
    newcombe,
    tango,
)

Measure = Literal["success_rate", "q_score", "task_progress"]
Key = TypeVar("Key", bound=Hashable)

FLIPS = 100_000
"""Random sign patterns of a sign-flip test that cannot be enumerated."""

MAX_SUMS = 200_000
"""Most distinct sums for which a sign-flip test is enumerated: any 17 pairs, or any number of pairs
with differences that are multiples of a common step."""

HALF = 0.5
"""Weight of the bound in the interval of a difference; see `intervals`."""

_SAME = 1e-9
# Sums of scores that differ by less are equal: 1/3 + 1/3 and 2/3 differ in the last bit.


@dataclass(frozen=True, kw_only=True)
class Significance:
    """Result of a two-sided test of "no difference".

    Attributes:
        p_value: In (0, 1].
        method: Name of the test, for display.
    """

    p_value: float
    method: str


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Run a against run b in one measure.

    Attributes:
        measure: The measure.
        mean_a: Mean of a over the shared instances, or over its own if unpaired.
        mean_b: The same for b.
        difference: mean_a - mean_b.
        interval: Interval of the difference; None if there are too few data.
        test: Test of "no difference".
        n_pairs: Instances that both runs scored; 0 if unpaired.
        n_rollouts_a: Scored rollouts of a on those instances.
        n_rollouts_b: Scored rollouts of b on those instances.
        wins_a: Pairs in which a is better.
        wins_b: Pairs in which b is better; the rest are ties.
    """

    measure: Measure
    mean_a: float
    mean_b: float
    difference: float
    interval: Interval | None
    test: Significance
    n_pairs: int
    n_rollouts_a: int
    n_rollouts_b: int
    wins_a: int
    wins_b: int

    @property
    def p_value(self) -> float:
        """The p-value of `test`."""
        return self.test.p_value

    @property
    def ties(self) -> int:
        """Pairs without a winner."""
        return self.n_pairs - self.wins_a - self.wins_b


def compare_success(
    a: Mapping[Key, Collection[float]],
    b: Mapping[Key, Collection[float]],
    *,
    seed: int,
    level: float = 0.95,
) -> PairedComparison | None:
    """Compare success rates on the shared instances.

    Args:
        a: 0 or 1 (False or True) per scored rollout, by instance.
        b: The same for the other run.
        seed: Seed of the bootstrap and of random sign flips; unused with one rollout each.
        level: Nominal coverage of the interval.

    Returns:
        Tango's interval and McNemar's exact test with one rollout each; else the bootstrap's
        interval, None below two pairs, and the sign-flip test. None without a pair.

    Raises:
        UsageError: A result is neither 0 nor 1, or not 0 < level < 1.
    """
    for results in (*a.values(), *b.values()):
        check_binary(results)
    shared = _shared(a, b)
    if any(len(a[key]) > 1 or len(b[key]) > 1 for key in shared):
        return _compare_means("success_rate", a, b, seed=seed, level=level)
    if not shared:
        return None
    differences = _differences(a, b, shared)
    wins_a, wins_b = int(np.sum(differences > 0)), int(np.sum(differences < 0))
    interval = tango(wins_a, wins_b, len(shared), level=level)
    return _comparison("success_rate", a, b, interval, mcnemar(wins_a, wins_b))


def compare_scores(
    a: Mapping[Key, Collection[float]],
    b: Mapping[Key, Collection[float]],
    *,
    seed: int,
    level: float = 0.95,
    measure: Measure = "q_score",
) -> PairedComparison | None:
    """Compare mean scores on the shared instances.

    Args:
        a: Score in [0, 1] per scored rollout, by instance.
        b: The same for the other run.
        seed: Seed of the bootstrap and of random sign flips.
        level: Nominal coverage of the interval.
        measure: What the score is.

    Returns:
        The bootstrap's interval, None below two pairs, and the sign-flip test. None without a
        pair.

    Raises:
        UsageError: A score is outside [0, 1], or not 0 < level < 1.
    """
    for results in (*a.values(), *b.values()):
        check_within(np.asarray(list(results), dtype=np.float64), 0.0, 1.0)
    return _compare_means(measure, a, b, seed=seed, level=level)


def compare_unpaired_success(
    successes_a: int, trials_a: int, successes_b: int, trials_b: int, *, level: float = 0.95
) -> PairedComparison | None:
    """Compare success rates of runs that share no instances; far weaker than a paired comparison.

    Trials must be independent, one rollout per instance. The time of Barnard's test grows with the
    product of the trials (figures in docs/statistics.md).

    Returns:
        Newcombe's hybrid score interval and Barnard's exact test; None if a run has no trial.

    Raises:
        UsageError: A count is not within its trials, or not 0 < level < 1.
    """
    interval = newcombe(successes_a, trials_a, successes_b, trials_b, level=level)
    if interval is None:
        return None
    table = [
        [successes_a, successes_b],
        [trials_a - successes_a, trials_b - successes_b],
    ]
    p_value = float(stats.barnard_exact(table, alternative="two-sided").pvalue)
    return PairedComparison(
        measure="success_rate",
        mean_a=successes_a / trials_a,
        mean_b=successes_b / trials_b,
        difference=interval.estimate,
        interval=interval,
        test=Significance(p_value=min(1.0, p_value), method="Barnard exact"),
        n_pairs=0,
        n_rollouts_a=trials_a,
        n_rollouts_b=trials_b,
        wins_a=0,
        wins_b=0,
    )


# --- tests ----------------------------------------------------------------------------------------


def mcnemar(wins_a: int, wins_b: int) -> Significance:
    """Compute McNemar's exact two-sided test: are the discordant pairs split like fair coins?

    p = 1 without a discordant pair.

    Raises:
        UsageError: A count is negative.
    """
    if min(wins_a, wins_b) < 0:
        raise UsageError(f"wins are counts, got {wins_a} and {wins_b}")
    discordant = wins_a + wins_b
    p_value = stats.binomtest(wins_a, discordant).pvalue if discordant else 1.0
    return Significance(p_value=float(p_value), method="McNemar exact")


def sign_flip(differences: Float64Array, *, seed: int, flips: int = FLIPS) -> Significance:
    """Compute the two-sided sign-flip permutation test of the mean.

    p is the share of the 2^n sign patterns whose |sum| is at least the observed one. All patterns
    are counted if their distinct sums stay below `MAX_SUMS`; else `flips` random ones, and p is
    (hits + 1) / (flips + 1), which keeps the level. p = 1 if all differences are 0.

    Args:
        differences: float64 [n], a - b, one per instance.
        seed: Seed of the random flips.
        flips: Number of random flips.

    Raises:
        UsageError: A difference is not finite.
    """
    if not np.isfinite(differences).all():
        raise UsageError("a sign-flip test needs finite differences")
    counted = differences[np.abs(differences) > _SAME]
    sizes = np.abs(counted)
    seen = abs(float(np.sum(counted))) - _SAME * len(counted)  # for the rounding below
    sums, shares = np.zeros(1), np.ones(1)
    for size in sizes:
        both = np.concatenate([sums - size, sums + size])
        # Rounded, so that equal sums that differ in the last bit become one.
        sums, where = np.unique(np.round(both, 10), return_inverse=True)
        if len(sums) > MAX_SUMS:
            return Significance(
                p_value=_random_flips(sizes, seen, seed, flips),
                method=f"sign flip over instances, {flips:,} random patterns",
            )
        shares = np.bincount(where, weights=np.tile(shares / 2, 2)).astype(np.float64)
    p_value = float(shares[np.abs(sums) >= seen].sum())
    return Significance(p_value=min(1.0, p_value), method="sign flip over instances, exact")


def _random_flips(sizes: Float64Array, seen: float, seed: int, flips: int) -> float:
    rng = np.random.default_rng(seed)
    hits, done, batch = 0, 0, max(1, 4_000_000 // len(sizes))  # 4 MB of signs at a time
    while done < flips:
        count = min(batch, flips - done)
        signs = rng.integers(0, 2, size=(count, len(sizes)), dtype=np.int8) * 2 - 1
        hits += int(np.sum(np.abs(signs @ sizes) >= seen))
        done += count
    return (hits + 1) / (flips + 1)


# --- pairs ----------------------------------------------------------------------------------------


def _shared(a: Mapping[Key, Collection[float]], b: Mapping[Key, Collection[float]]) -> list[Key]:
    return [key for key in a if key in b and len(a[key]) and len(b[key])]


def _differences(
    a: Mapping[Key, Collection[float]], b: Mapping[Key, Collection[float]], keys: list[Key]
) -> Float64Array:
    return np.array([np.mean(list(a[key])) - np.mean(list(b[key])) for key in keys])


def paired_differences(
    a: Mapping[Key, Collection[float]], b: Mapping[Key, Collection[float]]
) -> dict[Key, float]:
    """Return mean of a minus mean of b for every instance that both have scored, in a's order."""
    keys = _shared(a, b)
    return dict(zip(keys, _differences(a, b, keys).tolist(), strict=True))


def _compare_means(
    measure: Measure,
    a: Mapping[Key, Collection[float]],
    b: Mapping[Key, Collection[float]],
    *,
    seed: int,
    level: float,
) -> PairedComparison | None:
    keys = _shared(a, b)
    if not keys:
        return None
    differences = _differences(a, b, keys)
    interval = None
    if len(keys) > 1:
        interval = bounded_mean(
            differences, bounds=(-1.0, 1.0), seed=seed, level=level, weight=HALF
        )
    return _comparison(measure, a, b, interval, sign_flip(differences, seed=seed))


def _comparison(
    measure: Measure,
    a: Mapping[Key, Collection[float]],
    b: Mapping[Key, Collection[float]],
    interval: Interval | None,
    test: Significance,
) -> PairedComparison:
    keys = _shared(a, b)
    differences = _differences(a, b, keys)
    return PairedComparison(
        measure=measure,
        mean_a=float(np.mean([np.mean(list(a[key])) for key in keys])),
        mean_b=float(np.mean([np.mean(list(b[key])) for key in keys])),
        difference=float(np.mean(differences)),
        interval=interval,
        test=test,
        n_pairs=len(keys),
        n_rollouts_a=sum(len(a[key]) for key in keys),
        n_rollouts_b=sum(len(b[key]) for key in keys),
        wins_a=int(np.sum(differences > _SAME)),
        wins_b=int(np.sum(differences < -_SAME)),
    )
