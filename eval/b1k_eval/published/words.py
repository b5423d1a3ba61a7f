"""The verdict of a run against a published score, in words."""

from __future__ import annotations

from b1k_eval.comparison.intervals import Interval
from b1k_eval.comparison.paired import PairedComparison
from b1k_eval.published.compatibility import POWER, Compatibility
from b1k_eval.published.table import METRIC_WORDS, Metric, PublishedScore


def verdict_against(
    score: PublishedScore,
    found: Compatibility | None,
    *,
    p_adjusted: float | None,
    alpha: float,
    missing: int = 0,
    mix: bool = False,
) -> str:
    """Say in a sentence whether results are compatible with a published score.

    Args:
        score: The published score.
        found: What the results say; None if there are too few.
        p_adjusted: The p-value, adjusted for the number of comparisons.
        alpha: Level of the test.
        missing: Scored episodes of the run that have no such metric.
        mix: Whether a score in doubt is used all the same.
    """
    metric, words = score.metric, METRIC_WORDS[score.metric]
    if score.doubt is not None and not mix:
        return f"not compared: the published {words} is in doubt: {score.doubt}"
    if found is None or p_adjusted is None:
        if missing:
            return (
                f"cannot tell: this run has no {words}: it was made before b1k-eval counted it, "
                "or its task has no public table of checks"
            )
        return f"cannot tell: {words} of less than two scored instances says nothing of others"
    behind = "unknown episodes" if score.episodes is None else f"{score.episodes} episodes"
    sizes = (
        f"{words} {_shown(found.mean, metric)} here ({found.units} "
        f"instance{'s' if found.units != 1 else ''}) against {_shown(found.published, metric)} "
        f"({behind}): {_signed(found.difference, metric)}{_range(found.interval, metric)}, "
        f"{found.test}, p = {p_adjusted:.2g}"
    )
    if missing:
        sizes += f"; {missing} scored episodes have no {words}"
    if p_adjusted < alpha:
        return f"not compatible: {sizes}"
    return f"compatible: {sizes}; {_plan(score, found)}"


def verdict_over_tasks(metric: Metric, found: PairedComparison, *, alpha: float) -> str:
    """Say in a sentence whether the scores of many tasks are compatible with published ones."""
    verdict = "compatible" if found.p_value >= alpha else "not compatible"
    interval = "" if found.interval is None else _range(found.interval, metric)
    return (
        f"{verdict} over {found.n_pairs} tasks: {METRIC_WORDS[metric]} "
        f"{_shown(found.mean_a, metric)} here against {_shown(found.mean_b, metric)}: "
        f"{_signed(found.difference, metric)}{interval}, {found.test.method}, "
        f"p = {found.p_value:.2g}"
    )


def _plan(score: PublishedScore, found: Compatibility) -> str:
    size = _size(found.plan.difference, score.metric)
    power = f"with {POWER:.0%} power"
    more = found.plan.more
    if more is None:
        known = found.published_interval
        why = (
            "" if known is None else f", which is itself known to{_range(known, score.metric)} only"
        )
        return f"no number of instances would show a difference of {size} from this score{why}"
    if more:
        what = f"{more} more instance{'s' if more != 1 else ''}"
        return f"{what} would show a difference of {size} {power}"
    return f"a difference of {size} would have shown {power}"


def _scale(metric: Metric) -> tuple[float, int, str]:
    return (1, 2, "") if metric == "q_score" else (100, 1, " %")


def _shown(value: float, metric: Metric) -> str:
    scale, digits, unit = _scale(metric)
    return f"{scale * value:.{digits}f}{unit}"


def _size(value: float, metric: Metric) -> str:
    return f"{value:.2f}" if metric == "q_score" else f"{100 * value:.0f} points"


def _signed(value: float, metric: Metric) -> str:
    return f"{value:+.2f}" if metric == "q_score" else f"{100 * value:+.0f} points"


def _range(interval: Interval, metric: Metric) -> str:
    if metric == "q_score":
        return f" [{interval.low:.2f}, {interval.high:.2f}]"
    return f" [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"
