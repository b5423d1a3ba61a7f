"""A run held against published scores, as one JSON document, for `compare` and `qualify`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from b1k_envs.errors import UsageError
from b1k_eval.comparison.comparable import RunDifference
from b1k_eval.comparison.intervals import instance_means
from b1k_eval.comparison.over_tasks import compare_over_tasks
from b1k_eval.comparison.summary import LEVEL, interval_json
from b1k_eval.comparison.verdicts import holm
from b1k_eval.published.compatibility import (
    Compatibility,
    mean_against,
    rate_against,
)
from b1k_eval.published.protocol import ProtocolDifferences, protocol_differences
from b1k_eval.published.table import METRIC_WORDS, Metric, PublishedScore
from b1k_eval.published.words import verdict_against, verdict_over_tasks
from b1k_eval.records.loading import EpisodeData, RunData


@dataclass(frozen=True, kw_only=True)
class _Results:
    """What a run has of a metric.

    Attributes:
        by_instance: Results by task and instance, rollout by rollout.
        parts: Of how many checks, predicates or rollouts an instance's mean is made.
        variants: Variants of task progress.
        missing: Scored episodes without the metric.
    """

    by_instance: dict[tuple[str, int], list[float]]
    parts: int
    variants: frozenset[str] = frozenset()
    missing: int = 0


_Entry = tuple[PublishedScore, _Results, Compatibility | None, ProtocolDifferences]


def compare_with_published(
    run: Sequence[RunData],
    scores: Sequence[PublishedScore],
    *,
    seed: int = 0,
    level: float = LEVEL,
    mix: bool = False,
) -> dict[str, Any]:
    """Hold a run against all scores of a policy that are of its tasks.

    Args:
        run: A run, an entry per task.
        scores: Published scores of one policy.
        seed: Seed of bootstrap and random sign flips over tasks.
        level: Coverage of the intervals; 1 - level is the level of the tests.
        mix: Go on if the run is in another simulator, and use scores that are in doubt.

    Returns:
        `published`, `run`, `level`, `sim`, `privileged`; `comparisons`, one for each score; and
        `over_tasks`, one for each metric of two tasks or more.

    Raises:
        UsageError: No score is of a task of the run, or the simulators differ without `mix`.
    """
    if not 0 < level < 1:
        raise UsageError(f"--level {level:g} must lie between 0 and 1, as in 0.95")
    chosen = _of_its_tasks(run, scores)
    parts = {part.task: part for part in run}
    entries: list[_Entry] = []
    for score in chosen:
        mine = [parts[task] for task in score.tasks]
        results = _results(mine, score)
        apart = _differences(mine, score, results)
        if apart.blocking and not mix:
            listed = "; ".join(map(str, apart.blocking))
            raise UsageError(
                f"{run[0].name} and the published scores of {score.policy} are not comparable "
                f"({listed}); pass --mix to hold them against each other anyway; the output will "
                "say so"
            )
        found = None
        if score.doubt is None or mix:
            found = _judge(score, results, alpha=1 - level)
        entries.append((score, results, found, apart))
    # Fifty tasks at 5 % would make two or three false alarms.
    p_values = [found.p_value for _, _, found, _ in entries if found is not None]
    adjusted = iter(holm(p_values))
    return {
        "published": scores[0].policy,
        "run": run[0].path.resolve().name,
        "path": str(run[0].path),
        "label": run[0].label,
        "sim": run[0].identity["settings"]["sim"],
        "privileged": any(part.privileged for part in run),
        "level": level,
        "comparisons": [
            _document(
                *entry,
                p_adjusted=None if entry[2] is None else next(adjusted),
                alpha=1 - level,
                mix=mix,
            )
            for entry in entries
        ],
        "over_tasks": [
            _over_tasks(metric, judged, seed=seed, level=level)
            for metric in METRIC_WORDS
            if len(judged := _by_task(entries, metric)) > 1
        ],
    }


def _of_its_tasks(run: Sequence[RunData], scores: Sequence[PublishedScore]) -> list[PublishedScore]:
    """Choose the scores whose tasks the run all has, and of two splits the run's.

    Raises:
        UsageError: There is none.
    """
    tasks = {part.task for part in run}
    fitting = [score for score in scores if tasks.issuperset(score.tasks)]
    if not fitting:
        known = ", ".join(dict.fromkeys(score.task for score in scores))
        raise UsageError(
            f"no published score of {scores[0].policy} is of {' or '.join(sorted(tasks))}, but of "
            f"{known}; `b1k-eval published TASK` lists those of a task"
        )
    split = run[0].identity["settings"]["split"]
    here = {(score.tasks, score.metric) for score in fitting if score.split == split}
    return [
        score
        for score in fitting
        if score.split == split or (score.tasks, score.metric) not in here
    ]


def _results(run: Sequence[RunData], score: PublishedScore) -> _Results:
    by_instance: dict[tuple[str, int], list[float]] = {}
    counts, variants, missing = set(), set(), 0
    for part in run:
        for episode in part.scored:
            value = _value(episode, score)
            if value is None:
                missing += 1
                continue
            by_instance.setdefault((part.task, episode.key.instance), []).append(value)
            counts.add(_parts(episode, score))
            if score.metric == "task_progress" and episode.task_progress is not None:
                variants.add(str(episode.task_progress["variant"]))
    rollouts = min((len(group) for group in by_instance.values()), default=1)
    return _Results(
        by_instance=by_instance, parts=rollouts * min(counts, default=1),
        variants=frozenset(variants), missing=missing,
    )  # fmt: skip


def _value(episode: EpisodeData, score: PublishedScore) -> float | None:
    if score.metric == "task_progress":
        return episode.progress
    return float(bool(episode.success)) if score.metric == "success" else episode.q_score


def _parts(episode: EpisodeData, score: PublishedScore) -> int:
    """Return of how many truths an episode's result is made, at least one."""
    if score.metric == "task_progress" and episode.task_progress is not None:
        return max(1, len(episode.task_progress["reached"]))
    return max(1, len(episode.predicates)) if score.metric == "q_score" else 1


def _judge(score: PublishedScore, results: _Results, *, alpha: float) -> Compatibility | None:
    """Hold results against a score; None if there are too few."""
    groups = list(results.by_instance.values())
    if score.metric == "success" and groups and all(len(group) == 1 for group in groups):
        flat = [value for group in groups for value in group]
        return rate_against(int(sum(flat)), len(flat), score.value, score.episodes, alpha=alpha)
    if len(groups) < 2:
        return None
    return mean_against(
        instance_means(groups), score.value, score.episodes, parts=results.parts, alpha=alpha
    )


def _by_task(entries: Sequence[_Entry], metric: Metric) -> dict[str, Compatibility]:
    """Return what was judged of single tasks."""
    return {
        score.tasks[0]: found
        for score, _, found, _ in entries
        if score.metric == metric and len(score.tasks) == 1 and found is not None
    }


def _over_tasks(
    metric: Metric, judged: Mapping[str, Compatibility], *, seed: int, level: float
) -> dict[str, Any]:
    """Compare the scores of several tasks at once: whatever each is uncertain by is in them."""
    found = compare_over_tasks(
        {task: each.mean for task, each in judged.items()},
        {task: each.published for task, each in judged.items()},
        measure="success_rate" if metric == "success" else metric,
        seed=seed,
        level=level,
    )
    if found is None:
        raise RuntimeError("tasks that both have, and none")
    return {
        "metric": metric,
        "tasks": found.n_pairs,
        "mean": found.mean_a,
        "published": found.mean_b,
        "difference": found.difference,
        "interval": interval_json(found.interval),
        "p_value": found.p_value,
        "test": found.test.method,
        "compatible": found.p_value >= 1 - level,
        "verdict": verdict_over_tasks(metric, found, alpha=1 - level),
    }


def _differences(
    run: Sequence[RunData], score: PublishedScore, results: _Results
) -> ProtocolDifferences:
    """Return the differences of a run of several tasks, what they share once."""
    of_each = [protocol_differences(part, score, results.variants) for part in run]

    def once(found: Iterable[RunDifference]) -> tuple[RunDifference, ...]:
        return tuple({str(difference): difference for difference in found}.values())

    return ProtocolDifferences(
        once(entry for each in of_each for entry in each.blocking),
        once(entry for each in of_each for entry in each.notable),
        of_each[0].unknown,
    )


def _document(
    score: PublishedScore,
    results: _Results,
    found: Compatibility | None,
    apart: ProtocolDifferences,
    *,
    p_adjusted: float | None,
    alpha: float,
    mix: bool,
) -> dict[str, Any]:
    episodes = sum(map(len, results.by_instance.values()))
    verdict = verdict_against(
        score, found, p_adjusted=p_adjusted, alpha=alpha, missing=results.missing, mix=mix
    )
    if apart.blocking:
        verdict += " (different experiments: see what they differ in)"
    return {
        "task": score.task,
        "metric": score.metric,
        "score": score.as_json(),
        "mean": float(np.mean(instance_means(results.by_instance.values()))) if episodes else None,
        "episodes": episodes,
        "instances": len(results.by_instance),
        "without_metric": results.missing,
        "difference": None if found is None else found.difference,
        "interval": interval_json(None if found is None else found.interval),
        "published_interval": interval_json(None if found is None else found.published_interval),
        "p_value": None if found is None else found.p_value,
        "p_adjusted": p_adjusted,
        "test": None if found is None else found.test,
        "compatible": None if p_adjusted is None else p_adjusted >= alpha,
        "plan": None if found is None else asdict(found.plan),
        "verdict": verdict,
        "differences": {
            kind: [{**asdict(entry), "text": str(entry)} for entry in getattr(apart, kind)]
            for kind in ("blocking", "notable")
        },
        "not_stated": list(apart.unknown),
        "metric_name": METRIC_WORDS[score.metric],
    }
