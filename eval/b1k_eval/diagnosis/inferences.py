"""A policy's self-reports at each inference, beside the state of the task.

There is one value per inference, not per step: between inferences a trace repeats the last report.

The skill called for ("active") is that of the next sub-goal: of those not reached yet, the one that
this episode reaches first; if it reaches no more, the first in the order in which the task has to
be done (`funnel.STAGES`). Sub-goals without a skill (a thing becoming clean) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float64Array
from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks.subgoals import SUBGOALS
from b1k_eval.diagnosis.funnel import STAGES
from b1k_eval.records.loading import EpisodeData, read_trace

Words = npt.NDArray[np.object_]
"""Texts, or None."""


@dataclass(frozen=True, kw_only=True, eq=False)  # eq: arrays have no single truth value
class Inferences:
    """One episode at its n inferences.

    Attributes:
        episode: TASK-INSTANCE-ROLLOUT.
        success: Whether the goal was reached.
        time_s: Simulated time, float64 [n] [s].
        elapsed: Share of the episode's time, float64 [n].
        skill: Reported skill, object [n]: its name, else `skill INDEX`.
        named: Whether all of these are names.
        progress: Reported progress in [0, 1], float64 [n]; NaN where there is none.
        active: The skill called for, object [n]; None if none is left, or the task has no
            sub-goals.
        reached: Share of the task's sub-goals reached so far, float64 [n]; None if it has none.
        achieved: For each sub-goal that was reached after the start: its skill, and the inference
            that the action came from.
    """

    episode: str
    success: bool
    time_s: Float64Array
    elapsed: Float64Array
    skill: Words
    named: bool
    progress: Float64Array
    active: Words
    reached: Float64Array | None
    achieved: tuple[tuple[str, int], ...]


def read_inferences(episode: EpisodeData) -> Inferences:
    """Collect the self-reports of an episode.

    Raises:
        DamagedTraceError: The trace cannot be used.
    """
    trace = read_trace(episode)
    columns = trace.read("inference", "skill", "skill_index", "progress")
    done = np.flatnonzero(columns["inference"])  # steps executed before each inference
    names, indices = columns["skill"][done], columns["skill_index"][done]
    said = [
        f"skill {index}" if name is None and index >= 0 else name
        for name, index in zip(names, indices, strict=True)
    ]
    skilled = _skilled_subgoals(episode)
    total = len(episode.subgoals)
    firsts = np.sort([step for step in episode.subgoals.values() if step is not None])
    return Inferences(
        episode=episode.name,
        success=episode.outcome == "success",
        time_s=done / CONTROL_HZ,
        elapsed=done / max(episode.steps, 1),
        skill=_words(said),
        named=all(name is not None for name, word in zip(names, said, strict=True) if word),
        progress=columns["progress"][done],
        active=_words([_active(skilled, int(steps)) for steps in done]),
        reached=np.searchsorted(firsts, done, side="right") / total if total else None,
        # Step s executes an action of the last inference made after at most s - 1 steps.
        achieved=tuple(
            (skill, int(np.searchsorted(done, step - 1, side="right")) - 1)
            for skill, step in skilled
            if step
        ),
    )


def _skilled_subgoals(episode: EpisodeData) -> list[tuple[str, int | None]]:
    """Return skill and first step of each sub-goal: as reached, then in the task's order."""
    task = episode.key.task
    if not episode.subgoals:
        return []
    skills = {subgoal.name: subgoal.skill for subgoal in SUBGOALS[task]}
    found = []
    for rule in STAGES[task]:
        skill = skills[rule.subgoals[0]]
        if skill is not None:
            found.append((skill, rule.first_step(episode.subgoals)))
    return sorted(found, key=lambda one: np.inf if one[1] is None else one[1])


def _active(skilled: list[tuple[str, int | None]], steps: int) -> str | None:
    """Return the skill of the first sub-goal not reached after so many steps."""
    return next((skill for skill, first in skilled if first is None or first > steps), None)


def _words(values: list[Any]) -> Words:
    words = np.empty(len(values), dtype=object)
    words[:] = values
    return words
