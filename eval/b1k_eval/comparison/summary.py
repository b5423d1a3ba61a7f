"""A comparison of runs as one JSON document, for `compare` and the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.errors import UsageError
from b1k_eval.comparison import task_progress
from b1k_eval.comparison.comparable import differences, require_comparable, stopped_early
from b1k_eval.comparison.intervals import (
    Interval,
    clopper_pearson,
    rate_interval,
    score_interval,
    wilson,
)
from b1k_eval.comparison.paired import (
    PairedComparison,
    Significance,
    compare_scores,
    compare_success,
    compare_unpaired_success,
    paired_differences,
)
from b1k_eval.comparison.sequential import betting_path, confidence_interval
from b1k_eval.comparison.until_decided import unbroken
from b1k_eval.comparison.verdicts import Unit, holm, verdict
from b1k_eval.records.loading import EpisodeData, RunData

LEVEL = 0.95


def summarise_runs(
    runs: Sequence[RunData],
    *,
    seed: int = 0,
    level: float = LEVEL,
    mix: bool = False,
    names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Summarise each run, and each pair of runs on the instances they share.

    Args:
        runs: One or more; the later of a pair is compared with the earlier.
        seed: Seed of bootstrap and random sign flips.
        level: Coverage of the intervals; 1 - level is the level of the tests.
        mix: Go on if the runs are different experiments.
        names: Names of the runs; None for the shortest that tell them apart.

    Returns:
        `level`, `seed`, `mixed` (bool), `runs` (a row each) and `pairs`.

    Raises:
        UsageError: The runs are not comparable and `mix` is not set.
    """
    if not 0 < level < 1:
        raise UsageError(f"--level {level:g} must lie between 0 and 1, as in 0.95")
    if not mix:
        require_comparable(runs)
    names = names_of(runs) if names is None else names
    pairs = [
        _pair(runs[i], runs[j], names[i], names[j], seed=seed, level=level)
        for j in range(len(runs))
        for i in range(j)
    ]
    judge(pairs, alpha=1 - level)
    return {
        "level": level,
        "seed": seed,
        "mixed": any(pair["differences"]["blocking"] for pair in pairs),
        "runs": [
            _row(run, name, seed=seed, level=level) for run, name in zip(runs, names, strict=True)
        ],
        "pairs": [{k: v for k, v in pair.items() if k != "comparison"} for pair in pairs],
    }


def names_of(runs: Sequence[RunData]) -> list[str]:
    """Name each run by the first of label, folder and path that is unique."""
    for names in ([run.label for run in runs], [run.name for run in runs]):
        if len(set(names)) == len(names):
            return names
    return [str(run.path) for run in runs]


# --- one run ---------------------------------------------------------------------------------


def _row(run: RunData, name: str, *, seed: int, level: float) -> dict[str, Any]:
    successes = results_by_instance(run, "success")
    flat = [value for group in successes.values() for value in group]
    settings = run.identity["settings"]
    return {
        "name": name,
        "label": run.label,
        "path": str(run.path),
        "task": run.task,
        "sim": settings["sim"],
        "protocol": settings["protocol"],
        "privileged": run.privileged,
        "counts": dict(run.counts),
        "scored": len(flat),
        "instances": len(successes),
        "planned": len(run.plan),
        "pending": len(run.pending),
        "until_decided": settings.get("against") is not None,
        "damaged": [asdict(entry) for entry in run.damaged],
        "success": {
            "rate": float(np.mean(flat)) if flat else None,
            "interval": interval_json(rate_interval(successes.values(), seed=seed, level=level)),
            # Over episodes: right with one rollout per instance, too narrow with several.
            "wilson": interval_json(wilson(int(sum(flat)), len(flat), level=level)),
            "exact": interval_json(clopper_pearson(int(sum(flat)), len(flat), level=level)),
            "clustered": any(len(group) > 1 for group in successes.values()),
        },
        "q_score": {
            "mean": _mean(episode.q_score for episode in run.scored),
            "interval": interval_json(
                score_interval(results_by_instance(run, "q_score").values(), seed=seed, level=level)
            ),
        },
        "task_progress": {
            **task_progress.describe(run),
            "interval": interval_json(
                score_interval(
                    results_by_instance(run, "progress").values(), seed=seed, level=level
                )
            ),
        },
        "simulated_s": _mean(episode.simulated_s for episode in run.scored),
        "steps": _mean(episode.steps for episode in run.scored),
        "distance_m": {part: _distance(run, part) for part in ("base", "left", "right")},
        "latency_s": _latency(run),
    }


def results_by_instance(run: RunData, measure: str) -> dict[int, list[float]]:
    """Return scored results by instance, without those that lack the measure (task progress)."""
    found: dict[int, list[float]] = {}
    for episode in run.scored:
        value = getattr(episode, measure)
        if value is not None:
            found.setdefault(episode.key.instance, []).append(float(value))
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(known)) if known else None


def _distance(run: RunData, part: str) -> float | None:
    """Return the mean path length of base or hand over the scored episodes [m]."""

    def way(episode: EpisodeData) -> float | None:
        efficiency = episode.efficiency or {}
        value = efficiency.get("agent_distance", {}).get(part)
        return float(value) if isinstance(value, (int, float)) else None

    return _mean(way(episode) for episode in run.scored)


def _latency(run: RunData) -> float | None:
    """Return the mean time of an inference over the scored episodes, policy resets included [s]."""
    inferences = sum(episode.inferences for episode in run.scored)
    if not inferences:
        return None
    return sum(episode.timing["policy_s"] for episode in run.scored) / inferences


# --- two runs --------------------------------------------------------------------------------


def _pair(
    first: RunData, second: RunData, first_name: str, second_name: str, *, seed: int, level: float
) -> dict[str, Any]:
    stopped = stopped_early(first, second)
    if stopped:
        first, second = _unbroken(first), _unbroken(second)
    one, two = results_by_instance(first, "success"), results_by_instance(second, "success")
    success = compare_success(two, one, seed=seed, level=level)
    if success is None:
        success = _unpaired(two, one, level=level)
    scores = compare_scores(
        results_by_instance(second, "q_score"),
        results_by_instance(first, "q_score"),
        seed=seed,
        level=level,
    )
    by_instance = paired_differences(two, one)
    order = [number for number in _order(first, second) if number in by_instance]
    ordered = np.array([by_instance[number] for number in order], dtype=np.float64)
    steps = betting_path(ordered, 1 - level)
    if success is not None and stopped and by_instance:
        success = _anytime_valid(success, ordered, alpha=1 - level)
    apart = differences(first, second)
    return {
        "first": first_name,
        "second": second_name,
        "shared_instances": len(by_instance),
        "success": comparison_json(success),
        "q_score": comparison_json(scores),
        "task_progress": comparison_json(_progress(first, second, seed=seed, level=level)),
        "sequential": None
        if not by_instance
        else {
            "e_value": float(steps.e_values[-1]),
            "decided_at": int(steps.decided_at) or None,
            "method": "betting on paired differences, anytime-valid",
            "stopped_early": stopped,
        },
        "differences": {
            kind: [{**asdict(entry), "text": str(entry)} for entry in getattr(apart, kind)]
            for kind in ("blocking", "notable", "contract")
        },
        "comparison": success,
    }


def _progress(
    first: RunData, second: RunData, *, seed: int, level: float
) -> PairedComparison | None:
    """Compare task progress; None without shared instances, or if it was decided in other ways."""
    if task_progress.variant(first) != task_progress.variant(second):
        return None
    one, two = (results_by_instance(run, "progress") for run in (first, second))
    return compare_scores(two, one, seed=seed, level=level, measure="task_progress")


def _order(first: RunData, second: RunData) -> list[int]:
    """Return the instances in the order of the run that was stopped, else by number."""
    for run in (second, first):
        settings = run.identity["settings"]
        if settings.get("against") is not None:
            return list(settings["instances"])
    return sorted({episode.key.instance for run in (first, second) for episode in run.scored})


def _unbroken(run: RunData) -> RunData:
    """Drop what a stopped run finished out of its order; see `until_decided`."""
    settings = run.identity["settings"]
    if settings.get("against") is None:
        return run
    done = {episode.key for episode in run.episodes}
    counted = set(unbroken(run.task, settings["instances"], settings["rollouts"], done))
    kept = tuple(episode for episode in run.episodes if episode.key.instance in counted)
    return replace(run, episodes=kept)


def _anytime_valid(
    comparison: PairedComparison, differences: Float64Array, *, alpha: float
) -> PairedComparison:
    """Replace p-value and interval by ones that are valid for a run that was stopped."""
    # The maximum: what was decided once stays decided.
    e_value = float(betting_path(differences, alpha).e_values.max())
    return replace(
        comparison,
        interval=confidence_interval(differences, alpha),
        test=Significance(p_value=min(1.0, 1 / e_value), method="1 / e-value, anytime-valid"),
    )


def _unpaired(
    two: dict[int, list[float]], one: dict[int, list[float]], *, level: float
) -> PairedComparison | None:
    """Compare runs without shared instances; None unless every instance has one rollout."""
    if any(len(group) > 1 for group in (*one.values(), *two.values())):
        return None
    counts = [(int(sum(g[0] for g in groups.values())), len(groups)) for groups in (two, one)]
    return compare_unpaired_success(*counts[0], *counts[1], level=level)


def judge(pairs: list[dict[str, Any]], *, alpha: float, unit: Unit = "instance") -> None:
    """Add the verdicts to pairs with a `comparison`, their p-values adjusted for their number."""
    # Five runs make ten pairs, and ten tests at 5 % raise a false alarm in up to 4 of 10 cases.
    judged = [pair for pair in pairs if pair["comparison"] is not None]
    adjusted = holm([pair["comparison"].p_value for pair in judged])
    for pair, p_value in zip(judged, adjusted, strict=True):
        comparison: PairedComparison = pair["comparison"]
        pair["p_adjusted"] = p_value
        pair["decided"] = p_value < alpha
        pair["verdict"] = verdict(
            comparison, pair["second"], pair["first"], p_value=p_value, alpha=alpha, unit=unit
        )
        if pair["differences"]["blocking"]:
            pair["verdict"] += " (different experiments: see what they differ in)"
    for pair in pairs:
        if pair["comparison"] is None:
            pair |= {
                "p_adjusted": None,
                "decided": False,
                "verdict": "cannot tell: the runs have no scored episode to compare",
            }


def comparison_json(comparison: PairedComparison | None) -> dict[str, Any] | None:
    """Return a comparison as JSON values."""
    if comparison is None:
        return None
    return {
        "mean_first": comparison.mean_b,
        "mean_second": comparison.mean_a,
        "difference": comparison.difference,
        "interval": interval_json(comparison.interval),
        "p_value": comparison.p_value,
        "test": comparison.test.method,
        "pairs": comparison.n_pairs,
        "rollouts_first": comparison.n_rollouts_b,
        "rollouts_second": comparison.n_rollouts_a,
        "first_better": comparison.wins_b,
        "second_better": comparison.wins_a,
        "ties": comparison.ties,
    }


def interval_json(interval: Interval | None) -> dict[str, Any] | None:
    """Return an interval as JSON values."""
    if interval is None:
        return None
    return {"low": interval.low, "high": interval.high, "method": interval.method}
