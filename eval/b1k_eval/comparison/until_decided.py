"""Adding instances until it is decided which of two runs is better.

The new run takes the instances of the other one in a random order. After each complete instance
the anytime-valid test of `comparison.sequential` is evaluated; a p-value for a fixed number of
instances must not be looked at so often.

Only the unbroken beginning of that order counts: with several workers short episodes end first, and
how long an episode takes depends on its outcome.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from b1k_envs.errors import UsageError
from b1k_eval.comparison.comparable import settings_differences
from b1k_eval.comparison.sequential import PairedBetting
from b1k_eval.records.episode import EpisodeKey
from b1k_eval.records.loading import RunData, read_run_data
from b1k_eval.settings import RunSettings

ALPHA = 0.05
"""Level of the test: upper bound of the probability of ever deciding between equal policies."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The present state of a comparison.

    Attributes:
        against: Name of the other run.
        instances: Instances counted so far.
        e_value: Evidence that the two differ; decided at `1 / ALPHA`.
        decided: Whether the e-value has reached that.
        better: `this` or `other`; None while undecided.
    """

    against: str
    instances: int
    e_value: float
    decided: bool
    better: str | None

    def words(self) -> str:
        """Return the state in a sentence."""
        basis = f"e-value {self.e_value:.3g} after {self.instances} instances"
        if not self.decided:
            return f"not decided against {self.against}: {basis}, decided from {1 / ALPHA:g} on"
        word = "better" if self.better == "this" else "worse"
        return f"decided: {word} than {self.against}, {basis}"


class UntilDecided:
    """The comparison of a run with a finished one, evaluated after every episode.

    Raises:
        UsageError: There is no other run, it is a different experiment, or it lacks an instance.
    """

    def __init__(self, settings: RunSettings) -> None:
        other = _other(settings)
        apart = settings_differences(settings.as_json(), other)
        if apart:
            listed = "; ".join(str(difference) for difference in apart)
            raise UsageError(f"--against {other.path}: not the same experiment ({listed})")
        self._name = other.name
        self._order = settings.instances
        self._rollouts = settings.rollouts
        self._task = settings.task
        self._theirs = _rates(other)
        lacking = [number for number in self._order if number not in self._theirs]
        if lacking:
            raise UsageError(
                f"--against {other.path} has no scored episode of instance "
                f"{', '.join(map(str, lacking))}"
            )

    def standing(self, episodes: Mapping[EpisodeKey, Mapping[str, Any]]) -> Standing:
        """Return the present state.

        Args:
            episodes: Lines of the finished episodes of this run. An instance with errors only is
                skipped.
        """
        betting = PairedBetting(ALPHA)  # from all lines each time, so that a resume changes nothing
        for number in unbroken(self._task, self._order, self._rollouts, episodes):
            lines = [episodes[EpisodeKey(self._task, number, r)] for r in range(self._rollouts)]
            scored = [line["outcome"] == "success" for line in lines if line["outcome"] != "error"]
            # Episodes that were under way when it was decided must not change the figures.
            if scored and not betting.decided:
                betting.add(float(np.mean(scored)) - self._theirs[number])
        better = {"a": "this", "b": "other", None: None}[betting.direction]
        return Standing(
            against=self._name,
            instances=betting.n,
            e_value=betting.e_value,
            decided=betting.decided,
            better=better if betting.decided else None,
        )


def unbroken(
    task: str, order: Sequence[int], rollouts: int, done: Container[EpisodeKey]
) -> Iterator[int]:
    """Yield the instances of an order up to the first incomplete one."""
    for number in order:
        if not all(EpisodeKey(task, number, rollout) in done for rollout in range(rollouts)):
            return
        yield number


def drawn_instances(
    against: str,
    given: Sequence[int] | None,
    most: int | None,
    seed: int,
    task: str | None = None,
) -> tuple[int, ...]:
    """Draw the order of the instances.

    Args:
        against: Folder of the other run.
        given: Instances to use; None for all that the other run has scored.
        most: Largest number of instances; None for all.
        seed: Seed of the order.
        task: The task, where the other run has several.

    Raises:
        UsageError: The other run has scored nothing, or `most` is below 1.
    """
    if most is not None and most < 1:
        raise UsageError(f"--max-instances {most} must be at least 1")
    numbers = sorted(_rates(read_run_data(against, task))) if given is None else sorted(given)
    if not numbers:
        raise UsageError(f"--against {against} has no scored episode to compare with")
    order = np.random.default_rng(seed).permutation(np.array(numbers))
    return tuple(int(number) for number in order[:most])


def _other(settings: RunSettings) -> RunData:
    if settings.against is None:
        raise UsageError("--until-decided needs --against RUN")
    return read_run_data(settings.against, settings.task)


def _rates(run: RunData) -> dict[int, float]:
    """Return the success rate by instance, over the scored rollouts."""
    found: dict[int, list[bool]] = {}
    for episode in run.scored:
        found.setdefault(episode.key.instance, []).append(bool(episode.success))
    return {number: float(np.mean(results)) for number, results in found.items()}
