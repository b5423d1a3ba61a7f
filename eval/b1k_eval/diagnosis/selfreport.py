"""Whether a policy's reports of its skill and progress are right.

Over the scored episodes of a run, one value per inference; scores do not depend on it. See
`selfreport_skill` and `selfreport_progress` for the measures.
"""

from __future__ import annotations

from dataclasses import dataclass

from b1k_eval.diagnosis.inferences import read_inferences
from b1k_eval.diagnosis.selfreport_progress import (
    NEAR_MEDIAN,
    Bin,
    Calibration,
    Correlation,
    ProgressReport,
    Spread,
    judge_progress,
)
from b1k_eval.diagnosis.selfreport_skill import (
    Agreement,
    Association,
    SkillReport,
    judge_skill,
)
from b1k_eval.records.loading import Damaged, RunData
from b1k_eval.records.trace_reading import DamagedTraceError

__all__ = [
    "NEAR_MEDIAN",
    "Agreement",
    "Association",
    "Bin",
    "Calibration",
    "Correlation",
    "ProgressReport",
    "SelfReport",
    "SkillReport",
    "Spread",
    "judge",
]


@dataclass(frozen=True, kw_only=True)
class SelfReport:
    """Measures of the self-reports of a run's policy.

    Attributes:
        episodes: Number of scored episodes.
        skill: None if it never reports one.
        progress: None if it never reports one.
        left_out: Scored episodes whose trace cannot be used.
    """

    episodes: int
    skill: SkillReport | None
    progress: ProgressReport | None
    left_out: tuple[Damaged, ...]


def judge(run: RunData, *, seed: int = 0) -> SelfReport:
    """Judge the self-reports of a run's policy; `seed` is for the chance level."""
    told, left_out = [], []
    for episode in run.scored:
        try:
            told.append(read_inferences(episode))
        except DamagedTraceError as error:
            left_out.append(Damaged(name=episode.name, why=str(error)))
    return SelfReport(
        episodes=len(told),
        skill=judge_skill(told, seed=seed),
        progress=judge_progress(told),
        left_out=tuple(left_out),
    )
