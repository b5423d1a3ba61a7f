"""Results by task, and their mean over tasks with the task as the unit.

Each task has the same weight, whatever its number of episodes: its rate is the mean over its
instances, and the mean is over the tasks' rates. Its interval takes the tasks for a sample of the
tasks that a policy might be given. It is the Bayesian bootstrap of `intervals` over the tasks'
rates, with the bounds added, so that it contains both how tasks differ and how well each is known.
It says nothing narrower about exactly these tasks, whose own intervals do that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from b1k_eval.comparison.intervals import Interval, instance_means, score_interval
from b1k_eval.comparison.paired import Measure, PairedComparison, compare_scores

METHOD = "Bayesian bootstrap over tasks, bounds added"

Results = Mapping[str, Collection[Collection[float]]]
"""By task: the results of its scored rollouts, by instance."""


def task_means(results: Results) -> dict[str, float]:
    """Return the mean over the instances of each task that has a scored episode."""
    means = {task: instance_means(groups) for task, groups in results.items()}
    return {task: float(np.mean(values)) for task, values in means.items() if len(values)}


def mean_over_tasks(
    results: Results, *, seed: int, level: float = 0.95
) -> tuple[float | None, Interval | None]:
    """Return the mean of the tasks' means, and its interval.

    Args:
        results: In [0, 1]; a task without a scored episode is left out.
        seed: Seed of the bootstrap.
        level: Nominal coverage.

    Returns:
        The mean, None without a task; the interval, None below two tasks.

    Raises:
        UsageError: A result is outside [0, 1], or not 0 < level < 1.
    """
    means = task_means(results)
    if not means:
        return None, None
    interval = score_interval([[mean] for mean in means.values()], seed=seed, level=level)
    found = None if interval is None else replace(interval, method=METHOD)
    return float(np.mean(list(means.values()))), found


def compare_over_tasks(
    a: Mapping[str, float], b: Mapping[str, float], *, measure: Measure, seed: int, level: float
) -> PairedComparison | None:
    """Compare the means by task of two policies, with the task as the unit.

    Args:
        a: Mean in [0, 1] by task.
        b: The same for the other policy; tasks that only one has are left out.
        measure: What the mean is of.
        seed: Seed of the bootstrap and of random sign flips.
        level: Nominal coverage of the interval.

    Returns:
        As `compare_scores`.

    Raises:
        UsageError: A mean is outside [0, 1], or not 0 < level < 1.
    """
    means = [{task: [mean] for task, mean in each.items()} for each in (a, b)]
    found = compare_scores(means[0], means[1], seed=seed, level=level, measure=measure)
    if found is None:
        return None
    test = replace(found.test, method=found.test.method.replace("over instances", "over tasks"))
    interval = found.interval and replace(found.interval, method=METHOD)
    return replace(found, interval=interval, test=test)
