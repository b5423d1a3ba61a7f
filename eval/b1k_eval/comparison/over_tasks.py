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
