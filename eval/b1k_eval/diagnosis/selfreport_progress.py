"""Whether a policy's progress reports mean anything.

Progress should rise, follow the time in successful episodes, tell how much is done, and not be
stuck. The best constant has the Brier score `Calibration.constant`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from b1k_envs.base import Float64Array
from b1k_eval.diagnosis.inferences import Inferences

NEAR_MEDIAN = 0.05
"""A progress value counts as not moved within this distance of its episode's median."""

STUCK_SHARE = 0.95
"""Progress is stuck if at least this share of its values has not moved."""

BINS = 10
"""Bins of a reliability curve, equal parts of [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Spearman's rank correlation.

    Attributes:
        rho: In [-1, 1].
        of: Number of episodes (if a median) or inferences (if pooled).
    """

    rho: float
    of: int


@dataclass(frozen=True, kw_only=True)
class Bin:
    """A point of a reliability curve.

    Attributes:
        low: Lower bound of the bin.
        high: Upper bound, excluded except for 1.
        count: Inferences.
        said: Mean of the reported progress.
        was: Mean of the share it is compared with.
    """

    low: float
    high: float
    count: int
    said: float
    was: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Progress against a share in [0, 1].

    Attributes:
        bins: The bins that are not empty.
        brier: Mean squared difference; 0 is perfect.
        constant: The same for the best constant in hindsight.
        count: Inferences.
    """

    bins: tuple[Bin, ...]
    brier: float
    constant: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Whether progress moves at all.

    Attributes:
        low: Smallest value.
        high: Largest value.
        median: Median of all values.
        deviation: Standard deviation of all values.
        near_median: Share of the values within `NEAR_MEDIAN` of their episode's median.
        stuck: None if the task itself hardly moved, so that it cannot be told.
        verdict: The result in words.
    """

    low: float
    high: float
    median: float
    deviation: float
    near_median: float
    stuck: bool | None
    verdict: str


@dataclass(frozen=True, kw_only=True)
class ProgressReport:
    """Measures of the progress reports.

    Attributes:
        inferences: Number of reports.
        rising: Share of the changes between inferences that are not downwards; None if no episode
            has two.
        with_time: Median over successful episodes of the correlation with time; None if none has
            a progress that moves.
        with_subgoals: Correlation with the share of sub-goals reached, over all inferences of all
            episodes; None if either never moves, or there are no sub-goals.
        against_subgoals: Calibration against the share of sub-goals reached; None if there are
            none.
        against_time: Calibration against the share of time, in successful episodes; None if there
            are none.
        spread: None if no episode has two inferences.
    """

    inferences: int
    rising: float | None
    with_time: Correlation | None
    with_subgoals: Correlation | None
    against_subgoals: Calibration | None
    against_time: Calibration | None
    spread: Spread | None


def judge_progress(told: Sequence[Inferences]) -> ProgressReport | None:
    """Judge the progress reports; None if there are none."""
    series = [one.progress[~np.isnan(one.progress)] for one in told]
    count = sum(map(len, series))
    if not count:
        return None
    steps = [np.diff(values) for values in series]
    changes = np.concatenate(steps)
    succeeded = [one for one in told if one.success]
    against_subgoals = _pooled([(one, one.reached) for one in told if one.reached is not None])
    against_time = _pooled([(one, one.elapsed) for one in succeeded])
    return ProgressReport(
        inferences=count,
        rising=float((changes >= 0).mean()) if len(changes) else None,
        with_time=_with_time(succeeded),
        with_subgoals=_spearman(*against_subgoals),
        against_subgoals=_calibration(*against_subgoals),
        against_time=_calibration(*against_time),
        spread=_spread(told, series),
    )


def _pooled(
    told: Sequence[tuple[Inferences, Float64Array]],
) -> tuple[Float64Array, Float64Array]:
    """Return progress and the share it is compared with, over all inferences with progress."""
    said, was = [np.zeros(0)], [np.zeros(0)]
    for one, share in told:
        given = ~np.isnan(one.progress)
        said.append(one.progress[given])
        was.append(share[given])
    return np.concatenate(said), np.concatenate(was)


def _with_time(succeeded: Sequence[Inferences]) -> Correlation | None:
    rhos = []
    for one in succeeded:
        given = ~np.isnan(one.progress)
        found = _spearman(one.progress[given], one.elapsed[given])
        if found is not None:
            rhos.append(found.rho)
    return Correlation(rho=float(np.median(rhos)), of=len(rhos)) if rhos else None


def _spearman(first: Float64Array, second: Float64Array) -> Correlation | None:
    from scipy.stats import spearmanr

    # The rank correlation of two points is always 1 or -1.
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return Correlation(rho=float(spearmanr(first, second).statistic), of=len(first))


def _calibration(said: Float64Array, was: Float64Array) -> Calibration | None:
    if not len(said):
        return None
    # Rounded, because 0.7 in float32 is slightly less than 0.7 and would fall into the bin below.
    place = np.minimum(np.round(said * BINS, 5).astype(np.int64), BINS - 1)
    bins = []
    for k in range(BINS):
        here = place == k
        if here.any():
            bins.append(
                Bin(
                    low=k / BINS,
                    high=(k + 1) / BINS,
                    count=int(here.sum()),
                    said=float(said[here].mean()),
                    was=float(was[here].mean()),
                )
            )
    return Calibration(
        bins=tuple(bins),
        brier=float(((said - was) ** 2).mean()),
        constant=float(was.var()),
        count=len(said),
    )


def _spread(told: Sequence[Inferences], series: Sequence[Float64Array]) -> Spread | None:
    several = [k for k, values in enumerate(series) if len(values) > 1]
    if not several:
        return None
    values = np.concatenate([series[k] for k in several])
    near = _near_median([series[k] for k in several])
    stuck: bool | None = near >= STUCK_SHARE
    medians = [float(np.median(series[k])) for k in several]
    where = f"near {np.median(values):.2f}"
    if max(medians) - min(medians) > 2 * NEAR_MEDIAN:
        where = f"within each episode, between {min(medians):.2f} and {max(medians):.2f}"
    if not stuck:
        verdict = f"moves between {values.min():.2f} and {values.max():.2f}"
    elif _rightly(values, [share for k in several if (share := told[k].reached) is not None]):
        stuck, verdict = None, f"stays {where}, as the task did: nothing can be told"
    else:
        verdict = f"stuck {where}"
    return Spread(
        low=float(values.min()),
        high=float(values.max()),
        median=float(np.median(values)),
        deviation=float(values.std()),
        near_median=near,
        stuck=stuck,
        verdict=verdict,
    )


def _rightly(values: Float64Array, reached: Sequence[Float64Array]) -> bool:
    """Return whether the task stayed where the stuck progress says it is."""
    if not reached or _near_median(reached) < STUCK_SHARE:
        return False
    return abs(float(np.median(values) - np.median(np.concatenate(reached)))) <= 2 * NEAR_MEDIAN


def _near_median(series: Sequence[Float64Array]) -> float:
    near = np.concatenate([np.abs(values - np.median(values)) <= NEAR_MEDIAN for values in series])
    return float(near.mean())
