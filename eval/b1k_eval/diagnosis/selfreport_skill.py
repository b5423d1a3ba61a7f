"""Whether a policy reports the skill that is called for.

Its reports are compared with the skill called for (`inferences`) at every inference, and at the
moments when a sub-goal was reached. The first measure counts a policy as wrong that says "move to"
on its way, or still says "open door" while it pulls an open door wider; the second does not, but
has few cases. Chance is the score of the same reports at other times: the mean over all cyclic
shifts in time within the episode. A policy that always says the same agrees exactly by chance.

If only indices are known there is no agreement. Index and skill called for can still be associated:
normalised mutual information and Cramer's V are 0 for independence and 1 for a one-to-one relation.
Neither is 0 by chance, so their values for shifted reports are given too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from b1k_envs.tasks.description import Skill
from b1k_eval.diagnosis.inferences import Inferences, Words

Int64Array = npt.NDArray[np.int64]

SHIFTS = 100
"""Random shifts for the chance level of an association."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often the reported skill was the one called for.

    Attributes:
        agreed: Cases that agreed.
        of: All cases.
        chance: Share expected for the same reports at other times.
    """

    agreed: int
    of: int
    chance: float

    @property
    def share(self) -> float:
        """Share of the cases that agreed."""
        return self.agreed / self.of


@dataclass(frozen=True, kw_only=True)
class Association:
    """Association of two labels.

    Attributes:
        mutual_information: Normalised by the geometric mean of both entropies, in [0, 1].
        mutual_information_chance: Its mean for shifted reports.
        cramers_v: In [0, 1].
        cramers_v_chance: Its mean for shifted reports.
    """

    mutual_information: float
    mutual_information_chance: float
    cramers_v: float
    cramers_v_chance: float


@dataclass(frozen=True, kw_only=True, eq=False)  # eq: arrays have no single truth value
class SkillReport:
    """Measures of the skill reports.

    Attributes:
        inferences: Number of reports.
        said: Reported skills, columns of `table`.
        active: Skills called for, rows of `table`.
        table: Inferences by both, int64 [active, said]; without those where none was called for.
        agreement: At every inference in `table`; None if not all are named.
        at_achievement: When a sub-goal was reached; None like `agreement`, or if none was.
        no_agreement: Why there is no `agreement`, else None.
        association: None if only one skill was reported or called for.
        switches_per_s: Changes between inferences, per simulated second; None if no episode has
            two.
    """

    inferences: int
    said: tuple[str, ...]
    active: tuple[str, ...]
    table: Int64Array
    agreement: Agreement | None
    at_achievement: Agreement | None
    no_agreement: str | None
    association: Association | None
    switches_per_s: float | None


def judge_skill(told: Sequence[Inferences], *, seed: int = 0) -> SkillReport | None:
    """Judge the skill reports; None if there are none. `seed` is for the random shifts."""
    count = sum(_given(one.skill).sum() for one in told)
    if not count:
        return None
    said = _ordered({word for one in told for word in one.skill if word is not None})
    active = _ordered({word for one in told for word in one.active if word is not None})
    pairs = [(_codes(one.active, active), _codes(one.skill, said)) for one in told]
    table = sum(
        (_table(*pair, (len(active), len(said))) for pair in pairs),
        start=np.zeros((len(active), len(said)), dtype=np.int64),
    )
    why = None
    if not active:
        why = "no skill was ever called for: the task has no sub-goals"
    elif not all(one.named for one in told):
        why = "the checkpoint's files do not name its skills, and an index alone cannot be right"
    return SkillReport(
        inferences=int(count),
        said=said,
        active=active,
        table=table,
        agreement=None if why else _agreement(told),
        at_achievement=None if why else _at_achievement(told),
        no_agreement=why,
        association=_association(pairs, table, seed),
        switches_per_s=_switches(told),
    )


def _given(words: Words) -> npt.NDArray[np.bool_]:
    return np.array([word is not None for word in words], dtype=np.bool_)


def _ordered(words: set[str]) -> tuple[str, ...]:
    """Sort skills: those of the task in its order, then others by name, then by index."""
    known = [skill for skill in get_args(Skill) if skill in words]
    others = words.difference(known)
    return (*known, *sorted(others, key=lambda word: (len(word), word)))


def _codes(words: Words, order: Sequence[str]) -> Int64Array:
    """Return the index of each word in the order, -1 for none."""
    places = {word: place for place, word in enumerate(order)}
    return np.array([places.get(word, -1) for word in words], dtype=np.int64)


def _table(active: Int64Array, said: Int64Array, shape: tuple[int, int]) -> Int64Array:
    both = (active >= 0) & (said >= 0)
    flat = active[both] * shape[1] + said[both]
    return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape).astype(np.int64)


def _agreement(told: Sequence[Inferences]) -> Agreement | None:
    agreed, of = 0, 0
    agreed_shifted = of_shifted = 0.0
    for one in told:
        both = _given(one.skill) & _given(one.active)
        agreed += int((one.skill[both] == one.active[both]).sum())
        of += int(both.sum())
        # Over all shifts every report meets every moment once.
        said, active = one.skill[_given(one.skill)], one.active[_given(one.active)]
        meetings = sum(
            int((said == word).sum()) * int((active == word).sum()) for word in set(said)
        )
        agreed_shifted += meetings / max(len(one.skill), 1)
        of_shifted += len(said) * len(active) / max(len(one.skill), 1)
    if not of:
        return None
    return Agreement(agreed=agreed, of=of, chance=agreed_shifted / of_shifted)


def _at_achievement(told: Sequence[Inferences]) -> Agreement | None:
    agreed, chances = 0, []
    for one in told:
        said = one.skill[_given(one.skill)]
        for skill, place in one.achieved:
            if one.skill[place] is not None:
                agreed += int(one.skill[place] == skill)
                chances.append(float((said == skill).mean()))
    if not chances:
        return None
    return Agreement(agreed=agreed, of=len(chances), chance=float(np.mean(chances)))


def _association(
    pairs: Sequence[tuple[Int64Array, Int64Array]], table: Int64Array, seed: int
) -> Association | None:
    here = _strengths(table)
    if here is None:
        return None
    random = np.random.default_rng(seed)
    shifted = []
    for _ in range(SHIFTS):
        drawn = np.zeros_like(table)
        for active, said in pairs:
            if len(said):
                drawn += _table(active, np.roll(said, random.integers(len(said))), table.shape)
        strengths = _strengths(drawn)  # None: the shift left one label only, hence no association
        shifted.append((0.0, 0.0) if strengths is None else strengths)
    information, v = np.mean(shifted, axis=0).tolist()
    return Association(
        mutual_information=here[0],
        mutual_information_chance=information,
        cramers_v=here[1],
        cramers_v_chance=v,
    )


def _strengths(table: Int64Array) -> tuple[float, float] | None:
    """Return normalised mutual information and Cramer's V; None if a label never changes."""
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    if min(table.shape) < 2:
        return None
    joint = table / table.sum()
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    expected = np.outer(rows, columns)
    there = joint > 0
    information = float((joint[there] * np.log(joint[there] / expected[there])).sum())
    entropies = [-float((p * np.log(p)).sum()) for p in (rows, columns)]
    chi2 = float(((joint - expected) ** 2 / expected).sum())  # per inference
    v = np.sqrt(chi2 / (min(table.shape) - 1))
    return information / float(np.sqrt(entropies[0] * entropies[1])), float(v)


def _switches(told: Sequence[Inferences]) -> float | None:
    changes, seconds = 0, 0.0
    for one in told:
        given = _given(one.skill)
        said, time_s = one.skill[given], one.time_s[given]
        if len(said) > 1:
            changes += int((said[1:] != said[:-1]).sum())
            seconds += float(time_s[-1] - time_s[0])
    return changes / seconds if seconds else None
