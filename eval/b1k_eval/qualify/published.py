"""Rung 5: comparing a policy's score here with a published one.

Both are rates of independent trials. Fisher's exact test (two-sided) says whether they can be of
one policy, and Newcombe's interval how far apart they may be. The instances of the published run
are not known, so trials cannot be paired. On other instances, with another time limit or by another
evaluator, a policy has another score.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from b1k_envs.errors import UsageError
from b1k_eval.comparison.intervals import check_count, newcombe, wilson
from b1k_eval.qualify.rungs import Rung

ALPHA = 0.05
"""Level of the test: at most one good installation in twenty is called incompatible."""

_COUNT = re.compile(r"(\d+)/(\d+)")
_RATE = re.compile(r"(\d*\.?\d+)(%?)@(\d+)")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published score.

    Attributes:
        successes: Number of successful trials.
        trials: Number of all trials, at least one.
    """

    successes: int
    trials: int


def parse_published(text: str) -> Published:
    """Read `12/20`, `0.6@20` or `60%@20`.

    Raises:
        UsageError: The text has another form, there is no trial, or the rate does not give a whole
            number of successes.
    """
    form = "give SUCCESSES/TRIALS such as 12/20, or RATE@TRIALS such as 0.6@20 or 60%@20"
    count, rate = _COUNT.fullmatch(text.strip()), _RATE.fullmatch(text.strip())
    if count is not None:
        successes, trials = int(count[1]), int(count[2])
    elif rate is not None:
        trials = int(rate[3])
        exact = float(rate[1]) * (0.01 if rate[2] else 1.0) * trials
        successes = round(exact)
        if abs(exact - successes) > 0.5 * 0.01 * trials:
            raise UsageError(
                f"--published {text!r}: that rate of {trials} trials is {exact:g} successes, no "
                f"whole number: {form}"
            )
    else:
        raise UsageError(f"--published {text!r}: {form}")
    if trials == 0:
        raise UsageError(f"--published {text!r} has no trial: {form}")
    try:
        check_count(successes, trials)
    except UsageError as error:
        raise UsageError(f"--published {text!r}: {error}") from error
    return Published(successes=successes, trials=trials)


def published_rung(
    counts: Mapping[str, int], published: Published, policy: str, where: str
) -> Rung:
    """Run rung 5: judge a run's outcomes.

    Args:
        counts: Number of episodes by outcome: `success`, `failure`, `error`.
        published: The score to compare them with.
        policy: Name of the policy.
        where: The run folder.
    """
    ours, scored = counts["success"], counts["success"] + counts["failure"]
    details: dict[str, Any] = {
        "run": where,
        "counts": dict(counts),
        "published": asdict(published),
        "alpha": ALPHA,
    }
    if scored == 0:
        return Rung(
            number=5,
            verdict="not done",
            finding=f"no episode of {policy} was scored: {counts['error']} ended in an error",
            advice=f"see the errors in {where}, then call qualify again",
            details=details,
        )
    p_value = float(
        stats.fisher_exact(
            [
                [ours, scored - ours],
                [published.successes, published.trials - published.successes],
            ]
        ).pvalue
    )
    here = wilson(ours, scored)
    difference = newcombe(ours, scored, published.successes, published.trials)
    if here is None or difference is None:
        raise RuntimeError("intervals of at least one trial each")
    details |= {
        "p_value": p_value,
        "interval": asdict(here),
        "difference": asdict(difference),
    }
    compatible = p_value >= ALPHA
    theirs = f"{published.successes} of {published.trials}"
    said = (
        f"{policy}: {ours} of {scored} here [{here.low:.0%}, {here.high:.0%}], published {theirs}; "
        f"difference {100 * difference.estimate:+.0f} points "
        f"[{100 * difference.low:.0f}, {100 * difference.high:.0f}], Fisher's exact test p = "
        f"{p_value:.2g}"
    )
    remarks = [f"{counts['error']} episodes ended in an error"] if counts["error"] else []
    if compatible:
        return Rung(
            number=5,
            verdict="pass",
            finding=f"compatible: {said}",
            details=details,
            remarks=tuple(remarks),
        )
    return Rung(
        number=5,
        verdict="fail",
        finding=f"not compatible: {said}",
        advice="with the rungs below passed, hold the policy's inputs against its contract "
        "(b1k-eval inspect CKPT), and instances, time limit and protocol against the published run",
        details=details,
        remarks=tuple(remarks),
    )
