"""Power of the exact McNemar test against enumeration of every outcome, and published plans."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from b1k_envs.errors import UsageError
from b1k_eval.comparison.power import (
    mcnemar_power,
    more_pairs,
    pairs_needed,
    planning_discordance,
    smallest_detectable,
)

SHARES = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)


@cache
def p_value(wins, discordant):
    """Scipy's own test."""
    return stats.binomtest(wins, discordant).pvalue


def enumerated_power(n, difference, discordance, alpha=0.05):
    """Over all (wins, losses, ties), with scipy's own test."""
    shares = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
    shown = [
        (a, b, n - a - b)
        for a in range(n + 1)
        for b in range(n + 1 - a)
        if a + b and p_value(a, a + b) <= alpha
    ]
    return stats.multinomial.pmf(shown, n, shares).sum() if shown else 0.0


@pytest.mark.parametrize("n", [5, 6, 12, 25])
@pytest.mark.parametrize(
    ("difference", "discordance"), [(0.0, 0.5), (0.2, 0.5), (-0.3, 0.3), (0.5, 0.7), (1.0, 1.0)]
)
def test_power_is_that_of_every_outcome_added_up(n, difference, discordance):
    expected = enumerated_power(n, difference, discordance)
    assert mcnemar_power(n, difference, discordance) == pytest.approx(expected, abs=1e-9)


def test_power_where_one_run_wins_every_discordant_pair_is_the_chance_of_six_of_them():
    for n, share in ((30, 0.3), (2000, 0.002), (100_000, 1e-4)):
        expected = stats.binom.sf(5, n, share)
        assert mcnemar_power(n, share, share) == pytest.approx(expected, abs=1e-12)


def test_power_at_another_level_is_enumerated_too():
    found = mcnemar_power(20, 0.4, 0.6, alpha=0.01)
    assert found == pytest.approx(enumerated_power(20, 0.4, 0.6, alpha=0.01), abs=1e-9)


@given(
    n=st.integers(0, 400),
    discordance=SHARES,
    fraction=st.floats(-1, 1),
)
@settings(max_examples=60, deadline=None)
def test_power_is_symmetric_and_at_no_difference_the_level(n, discordance, fraction):
    difference = discordance * fraction
    power = mcnemar_power(n, difference, discordance)
    assert power == mcnemar_power(n, -difference, discordance)
    assert 0 <= power <= 1
    level = mcnemar_power(n, 0.0, discordance)
    assert level <= 0.05
    assert power >= level - 1e-9


def test_plans_are_a_little_above_connors_normal_approximation():
    # Connor, Biometrics 43 (1987) 207; the exact test is conservative and needs some more.
    z_alpha, z_power = stats.norm.ppf(0.975), stats.norm.ppf(0.8)
    for difference, discordance in ((0.1, 0.3), (0.2, 0.5), (0.05, 0.2)):
        normal = (z_alpha * discordance**0.5 + z_power * (discordance - difference**2) ** 0.5) ** 2
        normal /= difference**2
        assert normal < pairs_needed(difference, discordance) < normal + 3 / difference


@pytest.mark.slow
def test_the_plan_is_the_least_number_with_the_power():
    for difference, discordance in ((0.3, 0.5), (0.5, 0.5), (0.6, 0.8), (0.58, 1.0)):
        n = pairs_needed(difference, discordance)
        assert enumerated_power(n - 1, difference, discordance) < 0.8
        # At a discordance of 1 the power is a saw: 23 pairs have it, 24 have not.
        assert all(enumerated_power(m, difference, discordance) >= 0.8 for m in range(n, n + 3))
        assert all(mcnemar_power(m, difference, discordance) >= 0.8 for m in range(n, n + 11))


def test_a_plan_that_the_normal_approximation_overrates_is_still_the_least():
    n = pairs_needed(0.4, 0.4, alpha=0.01)
    assert enumerated_power(n - 1, 0.4, 0.4, alpha=0.01) < 0.8
    assert enumerated_power(n, 0.4, 0.4, alpha=0.01) >= 0.8


def test_a_p_value_equal_to_the_level_is_significant():
    assert mcnemar_power(5, 1.0, 1.0, alpha=0.0625) == pytest.approx(1.0)  # 2 / 2^5


def test_six_pairs_show_a_difference_of_one_and_five_show_nothing():
    assert pairs_needed(1.0, 1.0) == 6  # 2 / 2^6 = 0.03, 2 / 2^5 = 0.06
    assert smallest_detectable(5, 0.5) is None
    assert smallest_detectable(0, 0.5) is None
    # All six must be won: power 0.8 needs a difference of the sixth root of 0.8.
    assert smallest_detectable(6, 0.0) == pytest.approx(0.8 ** (1 / 6), abs=1e-3)


@given(n=st.integers(6, 120), discordance=SHARES)
@settings(max_examples=40, deadline=None)
def test_the_smallest_detectable_difference_has_the_power_and_a_smaller_one_has_not(n, discordance):
    size = smallest_detectable(n, discordance)
    assert 0 < size <= 1
    assert mcnemar_power(n, size, max(size, discordance)) >= 0.8
    below = size - 0.0011
    assert mcnemar_power(n, below, max(below, discordance)) < 0.8


def test_more_pairs_smaller_differences_and_less_discordance_do_as_they_should():
    sizes = [smallest_detectable(n, 0.4) for n in (10, 20, 40, 80, 160)]
    assert sizes == sorted(sizes, reverse=True)
    plans = [pairs_needed(size, 0.6) for size in (0.6, 0.4, 0.2, 0.1, 0.05)]
    assert plans == sorted(plans)
    plans = [pairs_needed(0.2, share) for share in (0.2, 0.3, 0.5, 0.8, 1.0)]
    assert plans == sorted(plans)


def test_discordance_is_planned_with_at_its_one_sided_80_percent_limit():
    for discordant, n in ((0, 10), (3, 10), (5, 60), (40, 60)):
        expected = proportion_confint(discordant, n, alpha=0.4, method="beta")[1]
        assert planning_discordance(discordant, n) == pytest.approx(expected)
    assert planning_discordance(0, 10) == pytest.approx(1 - 0.2**0.1)
    assert planning_discordance(7, 7) == 1.0
    assert planning_discordance(0, 0) == 0.5


def test_more_instances_are_the_plan_less_those_there_are():
    plan = pairs_needed(0.2, planning_discordance(4, 10))
    assert more_pairs(0.2, 4, 10) == plan - 10
    assert more_pairs(-0.2, 4, 10) == plan - 10
    assert more_pairs(0.9, 40, 100) == 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: mcnemar_power(10, 0.5, 0.4), "lies between the difference, 0.5, and 1"),
        (lambda: mcnemar_power(-1, 0.1, 0.4), "-1 pairs"),
        (lambda: mcnemar_power(10, 0.1, 0.4, alpha=5), "such as 0.05; got 5"),
        (lambda: pairs_needed(0.0, 0.4), "above 0 and at most 1, got 0"),
        (lambda: pairs_needed(20, 0.4), "above 0 and at most 1, got 20"),
        (lambda: pairs_needed(0.2, 0.4, power=80), "such as 0.8; got 80"),
        (lambda: smallest_detectable(10, 1.2), "got 1.2"),
        (lambda: planning_discordance(3, 2), "3 of 2"),
    ],
)
def test_what_cannot_be_planned_is_refused(call, text):
    with pytest.raises(UsageError, match=text):
        call()


@pytest.mark.slow
def test_the_plans_power_is_found_by_simulation(checks):
    rng = np.random.default_rng(9)
    for difference, discordance in ((0.2, 0.5), (0.1, 0.3)):
        n = pairs_needed(difference, discordance)
        wins = rng.binomial(n, discordance, size=2000)
        won = rng.binomial(wins, (discordance + difference) / (2 * discordance))
        seen = [w > 0 and p_value(k, w) <= 0.05 for k, w in zip(won, wins, strict=True)]
        error = 3 * np.sqrt(0.8 * 0.2 / 2000)
        assert np.mean(seen) == pytest.approx(mcnemar_power(n, difference, discordance), abs=error)
