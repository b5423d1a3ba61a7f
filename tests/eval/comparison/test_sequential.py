"""The sequential test against its closed form, hand-multiplied wealth, enumeration, simulation."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from b1k_envs.errors import UsageError
from b1k_eval.comparison.power import pairs_needed
from b1k_eval.comparison.sequential import PairedBetting, betting_path, confidence_interval

differences = st.lists(
    st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1)), min_size=1, max_size=40
)


def bet(values, alpha=0.05):
    betting = PairedBetting(alpha)
    for value in values:
        betting.add(value)
    return betting


def wealth(values, mean=0.0):
    """The e-value of "the mean is `mean`", by quadrature of numpy and plain products."""
    stakes, weights = np.polynomial.chebyshev.chebgauss(128)
    shrunk = [x / (1 + mean) if x > 0 else x / (1 - mean) for x in stakes]
    return sum(
        w * prod(1 + x * (value - mean) for value in values)
        for x, w in zip(shrunk, weights / np.pi, strict=True)
    )


@given(wins=st.integers(0, 120), losses=st.integers(0, 120), ties=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_e_value_of_single_rollouts_is_the_krichevsky_trofimov_formula(wins, losses, ties):
    expected = (wins + losses) * np.log(2)
    expected += betaln(wins + 0.5, losses + 0.5) - betaln(0.5, 0.5)
    found = bet([1] * wins + [0] * ties + [-1] * losses).e_value
    assert np.log(found) == pytest.approx(expected, abs=1e-9)


@given(values=differences)
@settings(deadline=None)
def test_e_value_of_fractions_is_the_mean_wealth_over_the_stakes(values):
    assert bet(values).e_value == pytest.approx(wealth(values), rel=1e-9)


def test_e_value_has_mean_one_under_the_null_whatever_the_law_of_the_differences():
    # All 3^6 sequences of a lopsided law with mean 0: -1/2 (40 %), 0 (40 %), 1 (20 %).
    law = {-0.5: 0.4, 0.0: 0.4, 1.0: 0.2}
    total = sum(
        prod(law[value] for value in values) * bet(values).e_value
        for values in product(law, repeat=6)
    )
    assert total == pytest.approx(1.0)


@given(values=differences)
@settings(deadline=None)
def test_adding_one_by_one_is_the_vectorised_path(values):
    path = betting_path(np.array([values, values[::-1]]))
    betting, e_values = PairedBetting(), []
    for value in values:
        betting.add(value)
        e_values.append(betting.e_value)
    assert path.e_values[0] == pytest.approx(e_values, rel=1e-9)
    assert path.decided_at[0] == (betting.decided_at or 0)
    assert path.e_values[1, -1] == pytest.approx(e_values[-1], rel=1e-9)


@given(values=differences)
@settings(deadline=None)
def test_swapping_the_runs_keeps_the_evidence_and_turns_the_direction(values):
    one, two = bet(values), bet([-value for value in values])
    assert two.e_value == pytest.approx(one.e_value, rel=1e-9)
    assert (one.decided_at, one.n) == (two.decided_at, two.n)
    assert {one.direction, two.direction} in ({None}, {"a", "b"})


def test_seven_wins_in_a_row_decide_and_ties_change_nothing():
    betting = bet([1, 0, 1, 1, 0, 0, 1, 1, 1])
    assert not betting.decided
    assert betting.direction is None
    betting.add(1)
    assert betting.e_value == pytest.approx(26.8125)  # 2^7 B(7.5, 0.5) / pi = 2^7 (13!! / 14!!)
    assert (betting.decided, betting.decided_at, betting.direction) == (True, 10, "a")
    assert bet([-1] * 7).direction == "b"


def test_a_decision_stays_when_later_instances_contradict_it():
    betting = bet([1] * 7 + [-1] * 30)
    assert (betting.decided, betting.decided_at, betting.direction) == (True, 7, "a")
    assert betting.interval().high < 0  # the sequence tells what it makes of all 37


def test_the_level_moves_the_line():
    # n wins in a row are worth binomial(2n, n) / 2^n: 95 after nine, 180 after ten.
    assert bet([1] * 9, alpha=0.01).decided is False
    assert bet([1] * 10, alpha=0.01).decided is True
    assert betting_path(np.ones((1, 12)), alpha=0.01).decided_at[0] == 10


@given(values=differences)
@settings(max_examples=40, deadline=None)
def test_confidence_limits_are_where_the_mean_wealth_reaches_the_line(values):
    interval = confidence_interval(np.array(values))
    assert -1 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.low < interval.high
    assert interval.estimate == pytest.approx(np.mean(values))
    for limit, outward in ((interval.low, -1e-6), (interval.high, 1e-6)):
        if abs(limit) < 1 - 1e-5:
            assert wealth(values, limit - outward) < 20 < wealth(values, limit + outward)
    if abs(wealth(values) - 20) > 1e-3:
        assert (interval.low <= 0 <= interval.high) == (wealth(values) < 20)


def test_few_instances_leave_a_wide_interval_and_none_leaves_none():
    assert PairedBetting().interval() is None
    assert confidence_interval(np.array([])) is None
    single = bet([1]).interval()
    assert (single.low < -0.9, single.high) == (True, 1.0)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: PairedBetting(alpha=0), "such as 0.05; got 0"),
        (lambda: PairedBetting().add(1.5), r"1.5 is outside \[-1, 1\]"),
        (lambda: PairedBetting().add(float("nan")), "nan is outside"),
        (lambda: betting_path(np.array([[0.0, 2.0]])), "2 is outside"),
    ],
)
def test_what_cannot_be_bet_on_is_refused(call, text):
    with pytest.raises(UsageError, match=text):
        call()


def test_a_refused_difference_leaves_the_test_as_it_was():
    betting = bet([1, 1])
    with pytest.raises(UsageError):
        betting.add(-1.01)
    assert (betting.n, betting.e_value) == (2, pytest.approx(1.5))


@pytest.mark.slow
def test_looking_after_every_one_of_200_instances_keeps_the_level(checks):
    for scenario in checks.FAIR:
        assert np.mean(checks.decisions(scenario, 200, 1000) > 0) <= 0.05, scenario.name
    for scenario in checks.UNEVEN:
        assert checks.refuted_ever(scenario, 200, 1000) <= 0.05, scenario.name


@pytest.mark.slow
def test_the_direction_is_seldom_wrong_where_the_difference_is_small(checks):
    rows = checks.independent(0.45, 0.5).draw(np.random.default_rng(5), 300, 200)
    wrong = sum(bet(row).direction == "a" for row in rows)
    assert wrong / 300 <= 0.05


@pytest.mark.slow
def test_a_clear_difference_needs_fewer_instances_than_the_fixed_plan_and_a_small_one_more(checks):
    plan = pairs_needed(0.2, 0.5)
    clear = checks.decisions(checks.independent(0.8, 0.3), 200, 500)
    assert (clear > 0).all()
    assert clear.mean() < plan / 3
    planned_for = checks.decisions(checks.independent(0.7, 0.5), 600, 1000)
    assert planned_for[planned_for > 0].mean() > plan
