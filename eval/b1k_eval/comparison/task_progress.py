"""Task progress over the scored episodes of a run, check by check.

The metric is `b1k_envs.tasks.task_progress`; each episode has its score and the first step of each
check in result.json.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from b1k_envs.tasks.task_progress import checks_of
from b1k_eval.records.loading import RunData


def describe(run: RunData) -> dict[str, Any]:
    """Return the mean, the variant, and how often and when each check was reached.

    Returns:
        `mean` in [0, 1], `variant`, `episodes` it was counted in, and `checks`, a row each: its
        `name`, what it asks for in `words`, `reached` in how many episodes, in how many of them
        `at_once` (held after the first step, so the policy did nothing for it), and the
        `median_step`. Without a score mean and variant are None, and there are no checks.
    """
    told = [e.task_progress for e in run.scored if e.task_progress is not None]
    words = {check.name: check.words for check in checks_of(run.task)}
    rows = []
    for name in told[0]["reached"] if told else ():
        steps = [step for each in told if (step := each["reached"].get(name)) is not None]
        rows.append(
            {
                "name": name,
                "words": words.get(name, ""),
                "reached": len(steps),
                "at_once": sum(step == 1 for step in steps),
                "median_step": float(np.median(steps)) if steps else None,
            }
        )
    return {
        "mean": float(np.mean([each["score"] for each in told])) if told else None,
        "variant": variant(run),
        "episodes": len(told),
        "checks": rows,
    }


def variant(run: RunData) -> str | None:
    """Return how a run's scores were decided; None if no scored episode has one."""
    told = (each.task_progress for each in run.scored)
    return next((str(each["variant"]) for each in told if each is not None), None)
