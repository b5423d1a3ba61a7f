"""Why an episode failed: one label per failed episode, with the step to look at.

Labels come from result and trace alone; successes and errors have none. The first that applies:

1.  `policy_fault`: the policy raised, answered too late, or returned an unusable chunk. The only
    label that needs no trace.
2.  `never_moved`: base and hands stayed within `STILL` of where they were.

Then the task's own labels (`b1k_envs.tasks.<task>`). For a task without any:

3.  `goal_lost`: a predicate of the goal held once and does not at the end.
4.  `partly_done`: some predicates hold at the end that did not at the start.
5.  `nothing_done`: none do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from b1k_envs.r1pro import ACTION_SLICES, ARMS, Arm
from b1k_envs.tasks.course import STILL, Course, Motion, last_step
from b1k_envs.tasks.described import DESCRIPTIONS
from b1k_envs.tasks.description import Description, FailureFound
from b1k_eval.records.episode import EpisodeRecord
from b1k_eval.records.loading import Damaged, EpisodeData, RunData, read_trace
from b1k_eval.records.trace_reading import DamagedTraceError, EpisodeTrace

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "policy_fault": "the policy failed",
        "never_moved": "the robot never moved",
        **{
            label: words
            for description in DESCRIPTIONS.values()
            for label, words in description.failures.items()
        },
        "goal_lost": "a part of the goal was reached and lost again",
        "partly_done": "a part of the goal was not reached",
        "nothing_done": "no part of the goal was reached",
    }
)
"""All labels in words, with those of tasks."""

GRIPPERS: Mapping[Arm, str] = MappingProxyType(
    {arm: f"action_{ACTION_SLICES[f'gripper_{arm}'].start}" for arm in ARMS}
)
"""Names of the columns of the trace that hold the grippers' commands."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why one episode failed.

    Attributes:
        episode: TASK-INSTANCE-ROLLOUT.
        label: See the module header.
        step: Control step to look at, from 1 as in the trace; 0 is before the first.
        seen: What was seen there, for display.
    """

    episode: str
    label: str
    step: int
    seen: str

    @property
    def words(self) -> str:
        """The label for display."""
        return LABELS[self.label]

    def as_json(self) -> dict[str, Any]:
        """Return it as `diagnosis` of result.json and for the page, whose episode is known."""
        return {"label": self.label, "words": self.words, "step": self.step, "seen": self.seen}


@dataclass(frozen=True, kw_only=True)
class RunFailures:
    """Why the episodes of a run failed.

    Attributes:
        failures: One per failed episode, in the order of the run.
        left_out: Failed episodes whose trace cannot be used.
    """

    failures: tuple[Failure, ...]
    left_out: tuple[Damaged, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """Episodes by label, the most frequent first, then in the order of `LABELS`."""
        counted = Counter(failure.label for failure in self.failures)
        order = list(LABELS)
        labels = sorted(counted, key=lambda label: (-counted[label], order.index(label)))
        return MappingProxyType({label: counted[label] for label in labels})


def label_failures(run: RunData) -> RunFailures:
    """Label every failed episode of a run."""
    failures, left_out = [], []
    for episode in run.episodes:
        try:
            failure = label_failure(episode)
        except DamagedTraceError as error:
            left_out.append(Damaged(name=episode.name, why=str(error)))
            continue
        if failure is not None:
            failures.append(failure)
    return RunFailures(failures=tuple(failures), left_out=tuple(left_out))


def label_failure(episode: EpisodeData) -> Failure | None:
    """Label an episode; None for a success or an error.

    Raises:
        DamagedTraceError: The trace is needed and cannot be used.
    """
    if episode.outcome != "failure":
        return None
    label: str
    if episode.failure_reason is not None:
        said = (episode.message or "").strip()
        seen = f"{episode.failure_reason}{': ' if said else ''}{said}"
        label, step = "policy_fault", episode.steps
    else:
        label, step, seen = _from_trace(episode, read_trace(episode))
        if episode.message is not None:  # numbers that were not finite
            seen = f"{seen}; {episode.message}"
    return Failure(episode=episode.name, label=label, step=step, seen=seen)


def diagnosed(episode: EpisodeData) -> dict[str, Any] | None:
    """Return `label_failure` as JSON values; None also if the trace cannot be used."""
    try:
        found = label_failure(episode)
    except DamagedTraceError:
        return None
    return None if found is None else found.as_json()


def why(record: EpisodeRecord, diagnosis: Mapping[str, Any] | None) -> str | None:
    """Return a few words on a failure or error, for lists; None for a success."""
    said = (record.failure_reason, record.message)
    if record.outcome == "failure" and record.failure_reason is None:
        # Of a result that is older than diagnoses the time limit is all that is known.
        said = ("time limit" if diagnosis is None else diagnosis["words"], record.message)
    return ": ".join(text for text in said if text) or None


def _from_trace(episode: EpisodeData, trace: EpisodeTrace) -> FailureFound:
    motion = _motion(trace)
    reach = motion.reach()
    if reach < STILL:
        return (
            "never_moved",
            episode.steps,
            f"base and hands stayed within {reach:.2f} m of their places in all "
            f"{episode.steps} steps",
        )
    # A run may be older than the task's sub-goals.
    description = DESCRIPTIONS.get(episode.key.task) if episode.subgoals else None
    found = None
    if description is not None:
        try:
            found = description.find_failure(_course(episode, trace, motion, description))
        except ValueError as error:
            raise DamagedTraceError(f"{episode.trace}: {error}") from error
    return found or _any_task(episode, trace)


def _motion(trace: EpisodeTrace) -> Motion:
    bodies = {}
    for body in ("base", "left_eef", "right_eef"):
        columns = trace.read(*(f"{body}_{axis}" for axis in "xyz"))
        bodies[body] = np.stack(list(columns.values()), axis=1)
    return Motion(bodies)


def _course(
    episode: EpisodeData, trace: EpisodeTrace, motion: Motion, description: Description
) -> Course:
    names = [subgoal.name for subgoal in description.subgoals]
    if list(episode.subgoals) != names:
        raise DamagedTraceError(
            f"{episode.folder} has the sub-goals {list(episode.subgoals)}, this version of "
            f"b1k-eval {names}: read it with the version that wrote it"
        )
    return Course(
        steps=episode.steps,
        truncated=episode.truncated,
        first=episode.subgoals,
        truths=trace.subgoals(),
        motion=motion,
        grippers={arm: trace.read(name)[name] for arm, name in GRIPPERS.items()},
    )


def _any_task(episode: EpisodeData, trace: EpisodeTrace) -> FailureFound:
    held = trace.read(*(f"predicate:{name}" for name in episode.predicates))
    lost = [
        (step, name)
        for name, now in episode.predicates.items()
        if not now and (step := last_step(held[f"predicate:{name}"])) is not None
    ]
    if lost:
        step, name = max(lost)
        return "goal_lost", step, f"'{name}' held until step {step}"
    gained = [
        n for n, now in episode.predicates.items() if now and not episode.initial_predicates[n]
    ]
    missing = [name for name, now in episode.predicates.items() if not now]
    seen = f"not so at the end: {', '.join(missing)}"
    return ("partly_done" if gained else "nothing_done"), episode.steps, seen
