"""The tests of a run against a published score, their level, power and plans."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from scipy import stats

from b1k_envs.errors import UsageError
from b1k_eval.published.compatibility import CORRELATION, mean_against, rate_against


def fisher(a, n, b, m):
    """Two-sided, by its definition: all tables with these margins that are no likelier."""
    total = a + b
    chance = [
        comb(n, k) * comb(m, total - k) / comb(n + m, total)
        for k in range(max(0, total - m), min(n, total) + 1)
    ]
    mine = comb(n, a) * comb(m, b) / comb(n + m, total)
    return sum(p for p in chance if p <= mine * (1 + 1e-9))


@pytest.mark.parametrize(
    ("ours", "scored", "theirs", "trials"),
    [
        (0, 10, 12, 20),
        (5, 10, 12, 20),
        (10, 10, 0, 10),
        (3, 7, 3, 10),
        (0, 10, 0, 10),
        (1, 1, 9, 9),
    ],
)
def test_a_rate_is_held_by_fishers_exact_test(ours, scored, theirs, trials):
    found = rate_against(ours, scored, theirs / trials, trials)
    assert found.p_value == pytest.approx(fisher(ours, scored, theirs, trials))
    assert found.interval.low <= found.difference <= found.interval.high
    assert found.interval.low < found.interval.high


def test_a_rounded_rate_is_that_of_the_nearest_count():
    assert rate_against(1, 3, 0.33, 3).p_value == 1
    assert rate_against(1, 3, 0.33, 3).published == pytest.approx(1 / 3)


def binomial(k, n, rate):
    """Two-sided, by its definition: all counts that are no likelier."""
    chance = [comb(n, j) * rate**j * (1 - rate) ** (n - j) for j in range(n + 1)]
    return sum(p for p in chance if p <= chance[k] * (1 + 1e-7))


@pytest.mark.parametrize(("ours", "scored", "rate"), [(0, 10, 0.2), (7, 10, 0.31), (50, 50, 0.9)])
def test_a_rate_of_unknown_episodes_is_taken_as_exact(ours, scored, rate):
    found = rate_against(ours, scored, rate, None)
    assert found.p_value == pytest.approx(binomial(ours, scored, rate))
    assert found.published_interval is None


@pytest.mark.parametrize("episodes", [10, 40, None])
def test_a_mean_is_held_by_students_test_with_one_spread_for_both(episodes):
    values = np.array([0.1, 0.9, 0.0, 0.8, 0.9, 0.2, 0.0])
    found = mean_against(values, 0.3, episodes, parts=11)
    error = values.std(ddof=1) * np.sqrt(1 / 7 + (0 if episodes is None else 1 / episodes))
    assert found.p_value == pytest.approx(2 * stats.t.sf((values.mean() - 0.3) / error, 6))
    half = stats.t.ppf(0.975, 6) * error
    assert found.interval.high - found.difference == pytest.approx(half)
    if episodes is None:
        assert found.p_value == pytest.approx(stats.ttest_1samp(values, 0.3).pvalue)


def test_ten_equal_results_are_not_taken_for_certainty():
    """A robot that does nothing has 1 of 11 checks each time."""
    still = np.full(10, 1 / 11)
    found = mean_against(still, 0.2727, 10, parts=11)
    mean = (10 / 11 + 2.727 + 0.5) / 21
    least = mean * (1 - mean) * (1 / 11 + CORRELATION * 10 / 11)
    error = np.sqrt(least * (1 / 10 + 1 / 10))
    assert found.p_value == pytest.approx(2 * stats.t.sf((0.2727 - 1 / 11) / error, 9))
    assert found.p_value > 0.05
    assert mean_against(np.full(20, 1 / 11), 0.2727, 10, parts=11).p_value < 0.05
    nothing = mean_against(np.zeros(10), 0.0, 10, parts=11)
    assert nothing.p_value == 1
    assert nothing.interval.low < 0 < nothing.interval.high


def test_figures_outside_their_range_are_refused():
    with pytest.raises(UsageError, match="at least two"):
        mean_against(np.array([0.5]), 0.5, 10, parts=1)
    with pytest.raises(UsageError, match="outside"):
        mean_against(np.array([0.5, 1.5]), 0.5, 10, parts=1)
    with pytest.raises(UsageError, match="outside"):
        rate_against(1, 2, 1.5, 10)
    with pytest.raises(UsageError, match="no episode"):
        rate_against(0, 0, 0.5, 10)
    with pytest.raises(UsageError, match="a test's level"):
        rate_against(1, 2, 0.5, 10, alpha=1.0)


# --- plans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "scored", "rate", "episodes"),
    [
        (5, 10, 0.6, 500),
        (3, 10, 0.6, None),
        (9, 10, 0.9, 100),
        (0, 10, 0.1, 500),
        (1, 2, 0.5, 200),
        (2, 2, 1.0, 100),
        (0, 2, 0.0, None),
    ],
)
def test_the_plan_of_a_rate_has_the_power_counted_out(ours, scored, rate, episodes):
    found = rate_against(ours, scored, rate, episodes)
    below = found.difference < 0 or rate + found.size > 1
    true = rate - found.size if below and rate - found.size >= 0 else rate + found.size

    def power(n):
        if episodes is None:
            hit = [binomial(k, n, rate) < 0.05 for k in range(n + 1)]
        else:
            theirs = round(rate * episodes)
            hit = [fisher(k, n, theirs, episodes) < 0.05 for k in range(n + 1)]
        return float(stats.binom.pmf(np.arange(n + 1), n, true) @ hit)

    planned = scored + found.plan.more
    assert found.power(planned) == pytest.approx(power(planned))
    assert power(planned) >= 0.8
    assert power(planned - 1) < 0.8


def test_the_plan_of_a_mean_keeps_what_it_promises():
    values = np.array([0.0, 0.6, 0.1, 0.8, 0.0, 0.3, 0.0, 0.5, 0.9, 0.2])
    found = mean_against(values, 0.25, 40, parts=11)
    planned = len(values) + found.plan.more
    spread = values.std(ddof=1)
    rng = np.random.default_rng(1)
    drawn = rng.normal(0.25 + found.size, spread, size=(4000, planned))
    error = spread * np.sqrt(1 / planned + 1 / 40)
    told = np.abs(drawn.mean(axis=1) - 0.25) > stats.t.ppf(0.975, planned - 1) * error
    assert told.mean() == pytest.approx(found.power(planned), abs=0.02)
    assert 0.8 <= found.power(planned) < 0.9


def test_a_published_score_of_few_episodes_cannot_be_told_from_whatever_is_done_here():
    found = rate_against(2, 10, 0.2, 10)
    assert found.plan.more is None
    assert found.power(10_000) < 0.8
    # The rates that ten episodes with two successes leave open contain the one looked for.
    assert found.published_interval.low < 0.2 + found.size < found.published_interval.high


# --- level and power ------------------------------------------------------------------------------

# By index in STUDIES: bounds of the power at 20 points below, as docs/statistics.md has it.
FAST = (("success 60 %", 500, 50, 0.72), ("success 60 %", 10, 10, 0.02))


def held(checks, study, repeats):
    return [checks.published_level(study, below, repeats) for below in (0.0, checks.BELOW)]


@pytest.mark.parametrize(("name", "episodes", "instances", "least"), FAST)
def test_the_true_rate_is_called_compatible_and_one_20_points_below_is_found(
    checks, name, episodes, instances, least
):
    (study,) = [
        each
        for each in checks.STUDIES
        if (each.name, each.episodes, each.instances) == (name, episodes, instances)
    ]
    level, power = held(checks, study, 500)
    assert level <= 0.05 + 0.025  # 500 studies: 2.5 standard errors
    assert power >= least


def test_so_is_task_progress(checks):
    studies = [each for each in checks.STUDIES if each.parts > 1 and each.published > checks.BELOW]
    for study in studies:
        level, power = held(checks, study, 500)
        assert level <= 0.05 + 0.025, study.name
        assert power >= (0.25 if study.instances == 10 else 0.42), study.name


@pytest.mark.slow
def test_every_row_of_the_page_keeps_its_level(checks):
    for study in checks.STUDIES:
        # All or nothing at a low rate is where ten results say too little of their spread.
        most = 0.06 if study.published > checks.BELOW else 0.11
        assert checks.published_level(study, 0.0, 2000) <= most, study.name
