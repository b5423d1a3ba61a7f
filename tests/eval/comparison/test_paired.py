"""Paired comparisons against published data, statsmodels, enumeration and simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar

from b1k_envs.errors import UsageError
from b1k_eval.comparison.intervals import newcombe, tango
from b1k_eval.comparison.paired import (
    compare_scores,
    compare_success,
    compare_unpaired_success,
    mcnemar,
    paired_differences,
    sign_flip,
)

outcomes = st.dictionaries(
    st.integers(0, 30), st.lists(st.booleans(), min_size=1, max_size=1), min_size=1
)
rollouts = st.dictionaries(st.integers(0, 12), st.lists(st.booleans(), max_size=4), min_size=1)


def enumerated(differences):
    """The sign-flip p-value by trying every pattern."""
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    return np.mean(np.array(sums) >= abs(np.sum(differences)) - 1e-9)


@pytest.mark.parametrize(
    ("wins_a", "wins_b", "p_value"),
    [
        (6, 16, 0.052479),  # Cavo 2012, in Fagerland et al., 2017, chapter 8
        (1, 7, 0.0703125),  # Bentur 2009, ibid.: 2 (1 + 8) / 2^8
        (150, 86, 3.716e-5),  # Agresti's approval ratings of 1,600, as in R's ?mcnemar.test
        (0, 6, 0.03125),
        (0, 5, 0.0625),
        (4, 4, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_is_exact_on_published_data(wins_a, wins_b, p_value):
    assert mcnemar(wins_a, wins_b).p_value == pytest.approx(p_value, rel=1e-3)


@given(wins_a=st.integers(0, 60), wins_b=st.integers(0, 60))
@settings(deadline=None)
def test_mcnemar_is_that_of_statsmodels(wins_a, wins_b):
    theirs = their_mcnemar([[0, wins_a], [wins_b, 0]], exact=True)
    assert mcnemar(wins_a, wins_b).p_value == pytest.approx(min(1.0, theirs.pvalue))


@given(wins_a=st.integers(0, 40), wins_b=st.integers(0, 40), ties=st.integers(0, 20))
@settings(deadline=None)
def test_sign_flip_of_single_rollouts_is_mcnemars_exact_test(wins_a, wins_b, ties):
    differences = np.array([1.0] * wins_a + [-1.0] * wins_b + [0.0] * ties)
    found = sign_flip(differences, seed=0)
    assert found.p_value == pytest.approx(mcnemar(wins_a, wins_b).p_value)
    assert found.method == "sign flip over instances, exact"


@given(
    st.lists(
        st.one_of(
            st.sampled_from([0.0, 1 / 3, -1 / 3, 2 / 3, 0.5, -1.0]),
            st.integers(-1000, 1000).map(lambda thousandths: thousandths / 1000),
        ),
        min_size=1,
        max_size=10,
    )
)
@settings(deadline=None)
def test_sign_flip_counts_every_pattern_once(differences):
    array = np.array(differences)
    assert sign_flip(array, seed=0).p_value == pytest.approx(enumerated(array), abs=1e-9)


def test_sums_that_differ_only_by_rounding_are_ties():
    # 1/3 + 1/3 and 2/3 - 0 are the same distance; one of the 8 patterns must not be lost.
    assert sign_flip(np.array([1 / 3, 1 / 3, -2 / 3]), seed=0).p_value == 1.0
    assert sign_flip(np.array([0.1, 0.2, -0.3, 1e-17]), seed=0).p_value == 1.0
    # What is taken for a tie counts nowhere: p would else be 0.
    assert sign_flip(np.array([1 / 3, 1e-9]), seed=0).p_value == 1.0


def test_sign_flip_agrees_with_scipy_on_scores():
    rng = np.random.default_rng(8)
    differences = rng.choice([-0.5, 0.0, 0.25, 0.5, 1.0], size=12)
    theirs = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(differences, seed=0).p_value == pytest.approx(theirs.pvalue)


def test_many_irregular_differences_are_flipped_at_random_with_a_seed():
    differences = np.random.default_rng(1).normal(0.05, 0.3, size=60).clip(-1, 1)
    one, again = sign_flip(differences, seed=1), sign_flip(differences, seed=1)
    other = sign_flip(differences, seed=2)
    assert one == again
    assert one.p_value != other.p_value
    assert "100,000 random patterns" in one.method
    # The sum of many independent flips is nearly normal.
    z = differences.sum() / np.sqrt(np.sum(differences**2))
    assert one.p_value == pytest.approx(2 * stats.norm.sf(abs(z)), rel=0.05)
    extreme = sign_flip(np.linspace(0.5, 1.0, 60) ** 1.7, seed=0, flips=999)
    assert extreme.p_value == 1 / 1000  # never 0


def test_comparison_of_single_rollouts_is_tango_and_mcnemar_on_the_shared_instances():
    a = {0: [True], 1: [True], 2: [True], 3: [False], 4: [True], 7: [True], 8: []}
    b = {0: [False], 1: [False], 2: [True], 3: [True], 4: [False], 8: [True], 9: [False]}
    found = compare_success(a, b, seed=0)
    assert (found.n_pairs, found.n_rollouts_a, found.n_rollouts_b) == (5, 5, 5)
    assert (found.wins_a, found.wins_b, found.ties) == (3, 1, 1)
    assert (found.mean_a, found.mean_b) == (pytest.approx(0.8), pytest.approx(0.4))
    assert found.difference == pytest.approx(0.4)
    assert found.interval == tango(3, 1, 5)
    assert found.test == mcnemar(3, 1)
    assert found.p_value == found.test.p_value


def test_comparison_of_several_rollouts_takes_the_instance_as_the_unit():
    a = {0: [1, 1, 1], 1: [1, 0], 2: [0, 0, 0], 3: [1]}
    b = {0: [0, 0, 1], 1: [0, 1], 2: [0], 3: [0, 0, 0, 0]}
    found = compare_success(a, b, seed=0)
    assert paired_differences(a, b) == pytest.approx({0: 2 / 3, 1: 0.0, 2: 0.0, 3: 1.0})
    assert found.difference == pytest.approx(5 / 12)
    assert found.p_value == pytest.approx(enumerated([2 / 3, 0, 0, 1.0]))
    assert (found.n_pairs, found.n_rollouts_a, found.n_rollouts_b) == (4, 9, 10)
    assert (found.wins_a, found.wins_b, found.ties) == (2, 0, 2)
    assert found.interval.low < 0 < found.difference < found.interval.high


@given(a=outcomes, b=outcomes)
@settings(max_examples=50, deadline=None)
def test_swapping_the_runs_turns_everything_around(a, b):
    one, two = compare_success(a, b, seed=1), compare_success(b, a, seed=1)
    if one is None:
        assert two is None
        assert not a.keys() & b.keys()
        return
    assert two.difference == -one.difference
    assert (two.interval.low, two.interval.high) == (-one.interval.high, -one.interval.low)
    assert two.p_value == pytest.approx(one.p_value)
    assert (two.wins_a, two.wins_b) == (one.wins_b, one.wins_a)


@given(a=rollouts, b=rollouts)
@settings(max_examples=40, deadline=None)
def test_scores_of_zero_and_one_are_compared_as_successes_with_several_rollouts(a, b):
    scores, success = compare_scores(a, b, seed=1), compare_success(a, b, seed=1)
    if scores is None:
        assert success is None
        return
    assert scores.difference == pytest.approx(success.difference)
    assert scores.p_value == pytest.approx(success.p_value)
    swapped = compare_scores(b, a, seed=1)
    assert swapped.p_value == pytest.approx(scores.p_value)
    assert (scores.interval is None) == (scores.n_pairs < 2)
    if scores.interval is not None:
        assert swapped.interval.low == pytest.approx(-scores.interval.high)
        assert scores.interval.low < scores.interval.high


def test_one_more_win_never_weakens_the_evidence():
    for wins_b in range(4):
        p_values = [mcnemar(wins_a, wins_b).p_value for wins_a in range(wins_b, 30)]
        assert p_values == sorted(p_values, reverse=True)
        lows = [tango(wins_a, wins_b, 40).low for wins_a in range(30)]
        assert lows == sorted(lows)


def test_ties_alone_are_no_evidence_and_still_have_an_interval():
    a = {key: [0.5] for key in range(10)}
    found = compare_scores(a, a, seed=0)
    assert (found.difference, found.p_value, found.ties) == (0.0, 1.0, 10)
    assert found.interval.low == -found.interval.high
    # Ten zeros, and half an observation at 1: the weight on 1 is a Beta(1/2, 10) variable.
    assert found.interval.high == pytest.approx(stats.beta.ppf(0.975, 0.5, 10), rel=0.05)


def test_wins_are_counted_however_small_and_rounding_is_none():
    a, b = {0: [0.5], 1: [0.25], 2: [0.1, 0.2, 0.3]}, {0: [0.25], 1: [0.5], 2: [0.2]}
    found = compare_scores(a, b, seed=0)
    assert (found.wins_a, found.wins_b, found.ties) == (1, 1, 1)


def test_one_pair_shows_nothing_and_none_gives_none():
    assert compare_success({0: [1]}, {1: [0]}, seed=0) is None
    assert compare_scores({0: [0.5]}, {0: []}, seed=0) is None
    single = compare_scores({0: [1.0]}, {0: [0.0]}, seed=0)
    assert (single.p_value, single.interval) == (1.0, None)
    assert compare_success({0: [1]}, {0: [0]}, seed=0).interval.low < 0
    assert compare_success({0: [1, 1]}, {0: [0]}, seed=0).interval is None


def test_unpaired_runs_are_compared_by_barnards_test():
    # C. R. Mehta and P. Senchaudhuri (2003): vaccine against placebo, 7 of 15 and 12 of 15.
    one_sided = stats.barnard_exact([[7, 12], [8, 3]], alternative="less").pvalue
    assert one_sided == pytest.approx(0.034, abs=5e-4)
    found = compare_unpaired_success(7, 15, 12, 15)
    assert found.p_value == pytest.approx(2 * one_sided, rel=1e-6)
    assert found.interval == newcombe(7, 15, 12, 15)
    assert (found.n_pairs, found.n_rollouts_a, found.n_rollouts_b) == (0, 15, 15)
    assert compare_unpaired_success(0, 5, 0, 5).p_value == 1.0
    assert compare_unpaired_success(0, 0, 3, 5) is None


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: compare_success({0: [0.5]}, {0: [1]}, seed=0), "a result is 0.5"),
        (lambda: compare_scores({0: [0.5]}, {0: [2.0]}, seed=0), r"2 is outside \[0, 1\]"),
        (lambda: mcnemar(-1, 2), "wins are counts, got -1 and 2"),
        (lambda: sign_flip(np.array([np.inf]), seed=0), "finite differences"),
        (lambda: compare_unpaired_success(6, 5, 0, 5), "6 of 5 is not a count"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, text):
    with pytest.raises(UsageError, match=text):
        call()


def test_exact_coverage_of_the_paired_interval_and_level_of_the_paired_test(checks):
    for rate_a, rate_b in checks.PAIRS.values():
        for n in (10, 20):
            assert checks.tango_coverage(n, rate_a, rate_b) >= 0.935
            if rate_a == rate_b:
                assert checks.mcnemar_level(n, rate_a, rate_b) <= 0.05


@pytest.mark.slow
def test_intervals_of_clustered_differences_cover_and_their_test_keeps_its_level(checks):
    repeats, n = 1000, 10
    margin = 2 * np.sqrt(0.05 * 0.95 / repeats)
    for scenario in checks.DIFFERENCES:
        covered, _ = checks.coverage(scenario, "in use", n, repeats)
        assert covered >= 0.95 - margin, scenario.name
        if scenario.mean == 0 and "lopsided" not in scenario.name:
            assert checks.flip_level(scenario, n, repeats) <= 0.05 + margin, scenario.name
