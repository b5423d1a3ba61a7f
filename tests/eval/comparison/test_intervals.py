"""Intervals against published examples, statsmodels, enumeration and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from b1k_envs.errors import UsageError
from b1k_eval.comparison.intervals import (
    BOOTSTRAP,
    bounded_mean,
    clopper_pearson,
    newcombe,
    rate_interval,
    score_interval,
    tango,
    wilson,
)

counts = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
scores = st.lists(st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]), min_size=2, max_size=15)


def limits(interval):
    return interval.low, interval.high


@pytest.mark.parametrize(
    ("successes", "trials", "score", "exact"),
    [  # R. G. Newcombe, Stat. Med. 17 (1998) 857, table I, methods 3 and 5
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_rate_intervals_are_newcombes_table(successes, trials, score, exact):
    assert limits(wilson(successes, trials)) == pytest.approx(score, abs=5e-5)
    assert limits(clopper_pearson(successes, trials)) == pytest.approx(exact, abs=5e-5)


@given(count=counts, level=st.floats(0.5, 0.999))
@settings(deadline=None)
def test_rate_intervals_are_those_of_statsmodels(count, level):
    for ours, theirs in ((wilson, "wilson"), (clopper_pearson, "beta")):
        expected = proportion_confint(*count, alpha=1 - level, method=theirs)
        assert limits(ours(*count, level=level)) == pytest.approx(expected, abs=1e-9)


@given(count=counts)
@settings(deadline=None)
def test_rate_intervals_of_failures_are_those_of_successes_mirrored(count):
    successes, trials = count
    for method in (wilson, clopper_pearson):
        low, high = limits(method(successes, trials))
        mirrored = limits(method(trials - successes, trials))
        assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)
        assert 0 <= low < high <= 1


def test_limits_at_no_success_and_at_none_but_successes_are_exactly_0_and_1():
    for n in range(1, 200):
        for method in (wilson, clopper_pearson):
            assert method(0, n).low == 0.0
            assert method(n, n).high == 1.0


@pytest.mark.parametrize("method", [wilson, clopper_pearson])
def test_one_trial_has_a_wide_interval_and_none_has_none(method):
    assert method(0, 0) is None
    low, high = limits(method(0, 1))
    assert low == 0.0
    assert high > 0.75


@pytest.mark.parametrize(
    ("counted", "expected"),
    [  # R. G. Newcombe, Stat. Med. 17 (1998) 873, table II, method 10
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((6, 7, 2, 7), (0.0582, 0.8062)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((0, 10, 0, 20), (-0.1611, 0.2775)),
        ((0, 10, 0, 10), (-0.2775, 0.2775)),
        ((10, 10, 0, 20), (0.6791, 1.0)),
        ((10, 10, 0, 10), (0.6075, 1.0)),
    ],
)
def test_unpaired_interval_is_newcombes_table(counted, expected):
    assert limits(newcombe(*counted)) == pytest.approx(expected, abs=5e-5)


@given(a=counts, b=counts)
@settings(deadline=None)
def test_unpaired_interval_is_that_of_statsmodels(a, b):
    expected = confint_proportions_2indep(*a, *b, method="newcomb", compare="diff")
    assert limits(newcombe(*a, *b)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("wins_a", "wins_b", "n_pairs", "level", "expected"),
    [
        (0, 1, 44, 0.90, (-0.096, 0.037)),  # Tango, Stat. Med. 17 (1998) 891: contact lenses
        (9, 3, 32, 0.95, (-0.027, 0.390)),  # Tango, Stat. Med. 18 (1999) 3511
        (6, 16, 161, 0.95, (-0.124, -0.005)),  # Cavo 2012, in Fagerland et al., 2017, ch. 8
        (1, 7, 21, 0.95, (-0.517, -0.026)),  # Bentur 2009, in Fagerland et al., 2014
    ],
)
def test_paired_interval_is_that_of_the_published_examples(
    wins_a, wins_b, n_pairs, level, expected
):
    interval = tango(wins_a, wins_b, n_pairs, level=level)
    assert limits(interval) == pytest.approx(expected, abs=6e-4)
    assert interval.estimate == pytest.approx((wins_a - wins_b) / n_pairs)


wins = st.integers(1, 80).flatmap(
    lambda n: st.integers(0, n).flatmap(
        lambda a: st.tuples(st.just(a), st.integers(0, n - a), st.just(n))
    )
)


@pytest.mark.slow
@given(pair=wins)
@settings(max_examples=40, deadline=None)
def test_paired_limits_solve_the_score_equation_with_a_searched_nuisance_share(pair):
    wins_a, wins_b, n = pair
    for limit in limits(tango(*pair)):
        if abs(limit) == 1:
            continue
        # The likeliest share of b's wins given the difference, found by search over a grid.
        share = np.linspace(max(0.0, -limit), (1 - limit) / 2, 400_001)[1:-1]
        chance = (
            wins_a * np.log(share + limit)
            + wins_b * np.log(share)
            + (n - wins_a - wins_b) * np.log1p(-2 * share - limit)
        )
        likeliest = share[np.argmax(chance)]
        variance = n * (2 * likeliest + limit * (1 - limit))
        score = (wins_a - wins_b - n * limit) / np.sqrt(variance)
        assert abs(score) == pytest.approx(1.959964, rel=1e-3)


@given(pair=wins)
@settings(deadline=None)
def test_swapping_the_runs_turns_the_paired_interval_around(pair):
    wins_a, wins_b, n = pair
    low, high = limits(tango(wins_a, wins_b, n))
    assert limits(tango(wins_b, wins_a, n)) == (-high, -low)
    assert -1 <= low < (wins_a - wins_b) / n + 1e-9
    assert low < high <= 1


def test_ties_alone_leave_a_paired_interval_that_narrows_with_their_number():
    z2 = 1.959964**2  # closed form without discordant pairs: z^2 / (n + z^2)
    for n in (1, 10, 100):
        assert limits(tango(0, 0, n)) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), abs=1e-6)
    assert tango(0, 0, 0) is None


@given(count=st.integers(2, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=30, deadline=None)
def test_bootstrap_of_zeros_and_ones_is_clopper_and_pearsons(count):
    successes, trials = count
    groups = [[1.0]] * successes + [[0.0]] * (trials - successes)
    expected = limits(clopper_pearson(successes, trials))
    assert limits(score_interval(groups, seed=3)) == pytest.approx(expected, abs=0.012)


def test_bootstrap_limits_are_quantiles_of_the_weighted_mean_worked_out_by_integration():
    """Values 0, 1/2 and the bound 1: the mean of Dirichlet(1, 1, 1) weights has a known law."""
    # P(w1 / 2 + w2 <= t) for t >= 1/2 is 1 - 2 (1 - t)^2, a triangle's area cut off a triangle.
    upper = 1 - np.sqrt(0.025 / 2)
    # Bound 0 instead: weights (2, 1) on 0 and 1/2, so half a Beta(1, 2) variable.
    lower = stats.beta.ppf(0.025, 1, 2) / 2
    found = bounded_mean(np.array([0.0, 0.5]), bounds=(0.0, 1.0), seed=1, draws=400_000)
    assert limits(found) == pytest.approx((lower, upper), abs=1.5e-3)


@given(values=scores, seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_bootstrap_is_seeded_and_mirrors_and_has_width_whatever_the_values(values, seed):
    interval = score_interval([[v] for v in values], seed=seed)
    assert interval == score_interval([[v] for v in values], seed=seed)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.high - interval.low > 0.05
    array = np.array(values)
    mirrored = bounded_mean(-array, bounds=(-1.0, 0.0), seed=seed)
    assert limits(mirrored) == (-interval.high, -interval.low)


def test_rollouts_of_an_instance_count_as_one_observation():
    single = score_interval([[0.0], [0.5], [1.0]], seed=0)
    several = score_interval([[0.0] * 9, [0.0, 1.0], [1.0], []], seed=0)
    assert several == single


def test_intervals_of_rates_use_wilson_for_single_rollouts_and_the_bootstrap_for_several():
    assert rate_interval([[True], [False], [], [True]], seed=0) == wilson(2, 3)
    several = rate_interval([[1, 0], [1, 1], [0, 0]], seed=0)
    assert several.method == BOOTSTRAP
    assert several.estimate == pytest.approx(0.5)


def test_too_little_gives_none():
    assert rate_interval([], seed=0) is None
    assert rate_interval([[]], seed=0) is None
    assert rate_interval([[1, 0, 1]], seed=0) is None
    assert score_interval([[0.5]], seed=0) is None
    assert score_interval([[0.5], []], seed=0) is None


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: wilson(3, 2), "3 of 2 is not a count: it must be 0 to 2"),
        (lambda: clopper_pearson(-1, 2), "-1 of 2"),
        (lambda: wilson(1, 2, level=95), "such as 0.95; got 95"),
        (lambda: tango(3, 3, 5), "3 of 2 is not a count"),
        (lambda: rate_interval([[0.5]], seed=0), "a result is 0.5, but success is 1"),
        (lambda: score_interval([[0.5], [1.5]], seed=0), r"1.5 is outside \[0, 1\]"),
        (lambda: score_interval([[0.5], [float("nan")]], seed=0), r"nan is outside \[0, 1\]"),
        (
            lambda: bounded_mean(np.array([]), bounds=(0.0, 1.0), seed=0),
            r"needs float64 \[n\] with n >= 1, got \[0\]",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, text):
    with pytest.raises(UsageError, match=text):
        call()


def test_exact_coverage_of_rate_intervals(checks):
    for n in (10, 15, 20, 30, 50):
        assert checks.rate_coverage(clopper_pearson, n).min() >= 0.95
        assert checks.rate_coverage(wilson, n).mean() >= 0.945  # on average; less at single rates


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 20])
def test_bootstrap_covers_means_of_scores_where_the_percentile_bootstrap_does_not(checks, n):
    for scenario in checks.SCORES:
        assert checks.coverage(scenario, "in use", n, 2000)[0] >= 0.935, scenario.name
    assert checks.coverage(checks.SCORES[0], "percentile", 15, 2000)[0] < 0.9
