"""How far episodes got: how many reached each sub-goal, when, and where most are lost.

Needs results only, no traces. "Reached" means that the sub-goal held after some step or before the
first, even if it was lost again.

The funnel has the sub-goals as stages, in the order in which the task has to be done. If a task has
two things of a kind, either may come first: the stages are then "a first one" and "the second one",
not the one numbered 1 and the one numbered 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from b1k_envs.errors import UsageError
from b1k_envs.tasks.described import DESCRIPTIONS
from b1k_envs.tasks.description import StageRule, SubGoal
from b1k_envs.tasks.subgoals import SUBGOALS
from b1k_eval.records.loading import EpisodeData, RunData

START = "start"
"""The stage before the first, which every episode reaches."""


STAGES: Mapping[str, tuple[StageRule, ...]] = MappingProxyType(
    {task: description.stages for task, description in DESCRIPTIONS.items()}
)
"""Stages by task, in the order in which the task has to be done."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A sub-goal over the scored episodes of a run.

    Attributes:
        name: Key.
        label: Name for display.
        count: Episodes that reached it.
        median_step: Median of the first step in those episodes; None if there are none.
    """

    name: str
    label: str
    count: int
    median_step: float | None


@dataclass(frozen=True, kw_only=True)
class StageReached(Reached):
    """A stage over the scored episodes of a run.

    Attributes:
        came_so_far: Episodes that reached the stage before; all, for the first stage.
        lost: Those of them that did not reach this one.
    """

    came_so_far: int
    lost: int


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """The transition at which most episodes are lost, the earlier of equals.

    Attributes:
        after: Label of the stage that was reached, or `START`.
        before: Label of the stage that was not.
        lost: Episodes that reached `after` and not `before`.
        of: Episodes that reached `after`.
    """

    after: str
    before: str
    lost: int
    of: int

    def __str__(self) -> str:
        who = "" if self.after == START else f" that reached “{self.after}”"
        return f"{self.lost} of {self.of}{who} did not reach “{self.before}”."


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """How far the episodes of a run got.

    Attributes:
        run: Name of the run.
        label: The policy, for tables.
        scored: Episodes counted: successes and failures.
        errors: Episodes not counted.
        subgoals: Sub-goals in the task's own order.
        stages: Stages in the order in which the task has to be done.
        bottleneck: None if no episode is lost.
    """

    run: str
    label: str
    scored: int
    errors: int
    subgoals: tuple[Reached, ...]
    stages: tuple[StageReached, ...]
    bottleneck: Bottleneck | None


def funnel(run: RunData) -> Funnel:
    """Compute the funnel of a run.

    Raises:
        UsageError: The task has no sub-goals, the run was imported without them, or an episode
            has other sub-goals than the task.
    """
    if run.task not in STAGES:
        raise UsageError(
            f"task {run.task} has no sub-goals, so there is no funnel; "
            f"it is there for: {', '.join(STAGES)}"
        )
    if run.identity.get("imported_from") is not None:
        raise UsageError("official results have no sub-goals, so there is no funnel")
    episodes = run.scored
    subgoals = SUBGOALS[run.task]
    names = tuple(subgoal.name for subgoal in subgoals)
    for episode in episodes:
        if tuple(episode.subgoals) != names:
            raise UsageError(
                f"{episode.folder} has the sub-goals {list(episode.subgoals)}, this version of "
                f"b1k-eval {list(names)}: read it with the version that wrote it"
            )
    stages = _stages(STAGES[run.task], episodes)
    return Funnel(
        run=run.name,
        label=run.label,
        scored=len(episodes),
        errors=run.counts["error"],
        subgoals=tuple(_subgoal(subgoal, episodes) for subgoal in subgoals),
        stages=stages,
        bottleneck=_bottleneck(stages),
    )


def _subgoal(subgoal: SubGoal, episodes: Sequence[EpisodeData]) -> Reached:
    steps = [episode.subgoals[subgoal.name] for episode in episodes]
    return Reached(
        name=subgoal.name, label=subgoal.label, count=_count(steps), median_step=_median(steps)
    )


def _stages(
    rules: Sequence[StageRule], episodes: Sequence[EpisodeData]
) -> tuple[StageReached, ...]:
    stages = []
    before = [True] * len(episodes)  # whether each reached the previous stage
    for rule in rules:
        steps = [rule.first_step(episode.subgoals) for episode in episodes]
        here = [step is not None for step in steps]
        stages.append(
            StageReached(
                name=rule.name,
                label=rule.label,
                count=_count(steps),
                median_step=_median(steps),
                came_so_far=sum(before),
                lost=sum(b and not h for b, h in zip(before, here, strict=True)),
            )
        )
        before = here
    return tuple(stages)


def _bottleneck(stages: Sequence[StageReached]) -> Bottleneck | None:
    worst = max(range(len(stages)), key=lambda i: stages[i].lost)  # the first of equals
    stage = stages[worst]
    if stage.lost == 0:
        return None
    return Bottleneck(
        after=stages[worst - 1].label if worst else START,
        before=stage.label,
        lost=stage.lost,
        of=stage.came_so_far,
    )


def _count(steps: Sequence[int | None]) -> int:
    return sum(step is not None for step in steps)


def _median(steps: Sequence[int | None]) -> float | None:
    known = [step for step in steps if step is not None]
    return float(np.median(known)) if known else None


def most_lost(run: RunData) -> str | None:
    """Return between which sub-goals most episodes of a run are lost, in words; None if nowhere."""
    try:
        lost = funnel(run).bottleneck
    except UsageError:  # a task without sub-goals
        return None
    return None if lost is None else str(lost)
