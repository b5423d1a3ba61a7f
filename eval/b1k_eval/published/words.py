"""The verdict of a run against a published score, in words."""

from __future__ import annotations

from b1k_eval.comparison.intervals import Interval
from b1k_eval.published.compatibility import POWER, Compatibility
from b1k_eval.published.table import METRIC_WORDS, PublishedScore


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
    metric = METRIC_WORDS[score.metric]
    if score.doubt is not None and not mix:
        return f"not compared: the published {metric} is in doubt: {score.doubt}"
    if found is None or p_adjusted is None:
        if missing:
            return (
                f"cannot tell: this run has no {metric}: it was made before b1k-eval counted it, "
                "or its task has no public table of checks"
            )
        return f"cannot tell: {metric} of less than two scored instances says nothing of others"
    behind = "unknown episodes" if score.episodes is None else f"{score.episodes} episodes"
    sizes = (
        f"{metric} {_shown(found.mean, score)} here ({found.units} "
        f"instance{'s' if found.units != 1 else ''}) against {_shown(found.published, score)} "
        f"({behind}): {_signed(found.difference, score)}{_range(found.interval, score)}, "
        f"{found.test}, p = {p_adjusted:.2g}"
    )
    if missing:
        sizes += f"; {missing} scored episodes have no {metric}"
    if p_adjusted < alpha:
        return f"not compatible: {sizes}"
    return f"compatible: {sizes}; {_plan(score, found)}"


def _plan(score: PublishedScore, found: Compatibility) -> str:
    size = _size(found.plan.difference, score)
    power = f"with {POWER:.0%} power"
    more = found.plan.more
    if more is None:
        known = found.published_interval
        why = "" if known is None else f", which is itself known to{_range(known, score)} only"
        return f"no number of instances would show a difference of {size} from this score{why}"
    if more:
        what = f"{more} more instance{'s' if more != 1 else ''}"
        return f"{what} would show a difference of {size} {power}"
    return f"a difference of {size} would have shown {power}"


def _scale(score: PublishedScore) -> tuple[float, int, str]:
    return (1, 2, "") if score.metric == "q_score" else (100, 1, " %")


def _shown(value: float, score: PublishedScore) -> str:
    scale, digits, unit = _scale(score)
    return f"{scale * value:.{digits}f}{unit}"


def _size(value: float, score: PublishedScore) -> str:
    return f"{value:.2f}" if score.metric == "q_score" else f"{100 * value:.0f} points"


def _signed(value: float, score: PublishedScore) -> str:
    return f"{value:+.2f}" if score.metric == "q_score" else f"{100 * value:+.0f} points"


def _range(interval: Interval, score: PublishedScore) -> str:
    if score.metric == "q_score":
        return f" [{interval.low:.2f}, {interval.high:.2f}]"
    return f" [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"
