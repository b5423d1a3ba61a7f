"""The statistics of a study, against simulated studies whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from b1k_eval.comparison.verdicts import holm
from b1k_eval.stress.curves import halving, trend

DOSES = (1.0, 2.0, 4.0, 8.0, 16.0)


def arm(rng, chance):
    return {n: [float(rng.random() < p)] for n, p in enumerate(chance)}


def studies(count, response):
    """Simulated studies of 20 instances: their truth, and whether the interval has it."""
    rng = np.random.default_rng(5)
    for _ in range(count):
        chance = rng.beta(8, 1, 20)
        planted = float(np.exp(rng.uniform(np.log(0.7), np.log(24))))
        base = arm(rng, chance)
        found = halving(base, {d: arm(rng, chance * response(d, planted)) for d in DOSES})
        yield found.low <= planted and (found.high is None or planted <= found.high)


@pytest.mark.slow
def test_where_a_policy_fails_above_a_dose_the_interval_has_it_in_93_of_100_studies():
    assert np.mean(list(studies(200, lambda d, planted: float(d <= planted)))) >= 0.93


@pytest.mark.slow
def test_where_success_falls_slowly_the_interval_has_the_half_in_93_of_100_studies():
    covered = studies(200, lambda d, planted: 1 / (1 + (d / planted) ** 2))
    assert np.mean(list(covered)) >= 0.93


@pytest.mark.slow
def test_where_nothing_matters_an_axis_is_called_significant_in_5_of_100_studies_at_most():
    rng, called = np.random.default_rng(6), 0
    for seed in range(400):
        chance = rng.beta(2, 2, 20)
        base = arm(rng, chance)
        axes = [{dose: arm(rng, chance) for dose in DOSES[:4]} for _ in range(6)]
        p_values = [trend(base, each, seed=seed) for each in axes]
        called += min(holm(p_values)) < 0.05
    # 400 studies at a true level of 0.05 stay below 0.068 in 95 of 100 cases.
    assert called / 400 <= 0.068


def test_a_fall_is_significant_and_a_flat_response_is_not():
    flat = {n: [1.0] for n in range(10)}
    gone = {n: [0.0] for n in range(10)}
    assert trend(flat, {1.0: flat, 2.0: gone, 3.0: gone}, seed=0) < 0.001
    assert trend(flat, {1.0: flat, 2.0: flat}, seed=0) == 1.0


def test_the_estimate_is_where_a_line_crosses_the_half():
    whole = {n: [1.0] for n in range(20)}
    quarter = {n: [float(n < 5)] for n in range(20)}
    found = halving(whole, {1.0: whole, 4.0: quarter})
    assert found.estimate == pytest.approx(3.0)  # 1 at dose 1, 0.25 at dose 4
    assert (found.low, found.high) == (1.0, 4.0)
    none = halving(whole, {1.0: whole})
    assert (none.estimate, none.low, none.high) == (None, 1.0, None)
    assert halving({0: [0.0]}, {1.0: {0: [0.0]}}) is None


def test_a_dip_between_two_doses_that_are_fine_is_smoothed():
    whole, dip = {n: [1.0] for n in range(10)}, {n: [float(n < 4)] for n in range(10)}
    assert halving(whole, {1.0: dip, 2.0: whole}).estimate is None
