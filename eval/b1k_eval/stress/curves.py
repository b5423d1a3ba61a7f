"""Dose and response: what an arm costs, whether an axis matters, where success halves.

All is paired by instance with the undisturbed arm, and an instance's rollouts count as their mean.

- An arm: `comparison.compare_success`.
- An axis: a permutation test of the trend. If nothing mattered, an instance's results could stand
  at any of its doses, 0 included; the trend is the sum over instances of rank of the dose times
  result. The p-values of all axes are corrected together (Holm 1979).
- The dose at which success halves: an interval made of the doses tried. Its lower end is the
  largest dose up to which every dose is shown to leave more than half of the undisturbed success;
  its upper end the smallest from which every dose is shown to leave less. "Shown" is a posterior
  probability of 0.975 with Jeffreys priors, rates taken as independent, which pairing makes
  conservative. It needs a response that does not rise again, and says nothing between doses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from b1k_envs.base import Float64Array

Results = Mapping[int, Sequence[float]]
"""By instance, 1 for success and 0 for failure of each scored rollout."""

PERMUTATIONS = 4999
_SHOWN = 0.975


@dataclass(frozen=True, kw_only=True)
class Halving:
    """The size of the dose at which success is half of the undisturbed.

    Attributes:
        estimate: Where the falling fit of the rates crosses the half; None if it does not.
        low: It is shown to be at least this; 0 if no dose is shown to leave more than half.
        high: It is shown to be at most this; None if no dose is shown to leave less.
    """

    estimate: float | None
    low: float
    high: float | None


def rate(results: Results) -> float:
    """Return the mean over instances."""
    return float(np.mean([np.mean(values) for values in results.values()]))


def halving(base: Results, arms: Mapping[float, Results]) -> Halving | None:
    """Estimate where success halves; None if the undisturbed arm has no success.

    Args:
        base: The undisturbed arm.
        arms: By size of the dose, above 0.
    """
    whole = rate(base)
    if whole == 0:
        return None
    sizes = sorted(arms)
    low, high = 0.0, None
    for size in sizes:
        if _leaves_more_than_half(arms[size], base) < _SHOWN:
            break
        low = size
    for size in reversed(sizes):
        if 1.0 - _leaves_more_than_half(arms[size], base) < _SHOWN:
            break
        high = size
    return Halving(estimate=_crossing(whole, arms), low=low, high=high)


def _leaves_more_than_half(arm: Results, base: Results, points: int = 501) -> float:
    """Return the posterior probability that twice the arm's rate exceeds the undisturbed one."""
    # The mean over the midpoints of equal slices of the one posterior: no random numbers.
    slices = (np.arange(points) + 0.5) / points
    undisturbed = special.betaincinv(*_posterior(base), slices)
    return float(np.mean(1.0 - special.betainc(*_posterior(arm), undisturbed / 2.0)))


def _posterior(results: Results) -> tuple[float, float]:
    """Return the parameters of the beta distribution of a rate; instances count as one each."""
    count, successes = len(results), rate(results) * len(results)
    return successes + 0.5, count - successes + 0.5


def _crossing(whole: float, arms: Mapping[float, Results]) -> float | None:
    sizes = np.array([0.0, *sorted(arms)])
    rates = np.array([whole, *(rate(arms[size]) for size in sorted(arms))])
    falling = _not_rising(rates)
    below = np.nonzero(falling <= whole / 2.0)[0]
    if not len(below):
        return None
    after = int(below[0])
    left, right = falling[after - 1], falling[after]
    share = (left - whole / 2.0) / (left - right)
    return float(sizes[after - 1] + share * (sizes[after] - sizes[after - 1]))


def trend(base: Results, arms: Mapping[float, Results], *, seed: int) -> float:
    """Return the two-sided p-value of "the dose does not matter", in (0, 1].

    Args:
        base: The undisturbed arm.
        arms: By size of the dose, above 0.
        seed: Seed of the permutations.
    """
    doses = [base, *(arms[size] for size in sorted(arms))]
    shared = [key for key in base if all(key in each for each in doses)]
    results = np.array([[np.mean(each[key]) for each in doses] for key in shared])
    if not len(shared):
        return 1.0
    ranks = np.arange(len(doses)) - (len(doses) - 1) / 2.0
    seen = abs(float((results @ ranks).sum()))
    rng = np.random.default_rng(seed)
    moved = np.broadcast_to(results, (PERMUTATIONS, *results.shape))
    sums = np.abs((rng.permuted(moved, axis=2) @ ranks).sum(axis=1))
    return float((np.sum(sums >= seen - 1e-9) + 1) / (PERMUTATIONS + 1))


def _not_rising(rates: Float64Array) -> Float64Array:
    """Return the closest sequence that never rises (least squares, equal weights)."""
    # The closed form of isotonic regression; scipy has it since 1.12 only.
    places = range(len(rates))

    def fitted(at: int) -> float:
        ends = places[at:]
        return float(max(min(rates[a : b + 1].mean() for a in places[: at + 1]) for b in ends))

    return np.array([fitted(place) for place in places])
