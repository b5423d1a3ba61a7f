"""What differs between a run and the run behind a published score, as far as it is stated.

Only another simulator makes the two incomparable. All else moves a score, and published scores are
seldom of the instances and limits at hand, so it is listed beside the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from b1k_envs.r1pro import BASE_MASS, CAMERAS
from b1k_envs.tasks.table import get_task
from b1k_eval.comparison.comparable import RunDifference, ranges
from b1k_eval.published.table import PublishedScore
from b1k_eval.records.loading import RunData
from b1k_eval.settings import UNKNOWN

_LIMIT = "time limit in steps"
_LIMIT_TOLERANCE = 30
# Human means are published in whole seconds, good to 15 steps, so twice a mean is good to 30.

_PERTURBED: Mapping[str, str] = {"action_noise_resolved": "action noise", "disturb": "disturbance"}
"""Settings that a published run does not have."""


class ProtocolDifferences(NamedTuple):
    """How a run differs from a published one; the published value is the `second`.

    Attributes:
        blocking: What makes the scores incomparable.
        notable: What moves them.
        unknown: Names of what is not stated of the published score.
    """

    blocking: tuple[RunDifference, ...]
    notable: tuple[RunDifference, ...]
    unknown: tuple[str, ...]


def protocol_differences(
    run: RunData, score: PublishedScore, variants: frozenset[str] = frozenset()
) -> ProtocolDifferences:
    """Hold a run's settings against what is stated of a published score.

    Args:
        run: The run, or its part of one task.
        score: The published score.
        variants: The variants of task progress that the run's episodes name.
    """
    settings = run.identity["settings"]
    pairs: dict[str, tuple[Any, Any]] = {
        "protocol": (settings["protocol"], score.protocol),
        "split": (settings["split"], score.split),
        "instances scored": (
            ranges(sorted({episode.key.instance for episode in run.scored})),
            None if score.instances is None else ranges(score.instances),
        ),
        _LIMIT: (settings["max_steps"], _limit(score, run.task)),
        "base": (
            _base(settings),
            None if score.base_mass_kg is None else f"{score.base_mass_kg:g} kg",
        ),
        "pictures rendered": (
            _pixels(*(camera.size for camera in CAMERAS.values())),
            None if score.picture_px is None else _pixels(score.picture_px),
        ),
        "evaluator": (
            f"b1k-eval {run.identity['b1k_eval']} with simulator "
            f"{run.identity['env']['sim_version']}",
            score.evaluator,
        ),
    }
    if score.metric == "task_progress":
        pairs["variant of task progress"] = (" and ".join(sorted(variants)), score.variant)
    notable = [
        RunDifference(name=name, first=ours, second=theirs)
        for name, (ours, theirs) in pairs.items()
        if theirs is not None and not _same(name, ours, theirs)
    ]
    notable += [
        RunDifference(name=words, first=settings[name], second=None)
        for name, words in _PERTURBED.items()
        if settings.get(name)
    ]
    unknown = [name for name, (_, theirs) in pairs.items() if theirs is None]
    if score.episodes is None:
        unknown.insert(0, "number of episodes")
    blocking = [
        RunDifference(name="simulator", first=settings["sim"], second=score.sim)
        for _ in range(settings["sim"] != score.sim)
    ]
    return ProtocolDifferences(tuple(blocking), tuple(notable), tuple(unknown))


def _limit(score: PublishedScore, task: str) -> int | None:
    """Return the published time limit in control steps; None if it is not stated."""
    if score.time_limit is None:
        return None
    if score.time_limit.endswith("x"):
        return int(float(score.time_limit[:-1]) * get_task(task).human_steps)
    return int(score.time_limit)


def _base(settings: Mapping[str, Any]) -> str:
    if settings["heavy_base"] == UNKNOWN:
        return UNKNOWN
    of_2025 = (settings["sim"], settings["protocol"]) == ("omnigibson", "2025")
    return (
        f"{BASE_MASS:g} kg" if settings["heavy_base"] or not of_2025 else "of the robot's own mass"
    )


def _pixels(*widths: int) -> str:
    return " and ".join(f"{width} px" for width in sorted({*widths}, reverse=True))


def _same(name: str, ours: Any, theirs: Any) -> bool:  # noqa: ANN401 - any value
    if name == _LIMIT:
        return bool(abs(ours - theirs) <= _LIMIT_TOLERANCE)
    return bool(ours == theirs)
