"""Task progress: the public metric that counts, per task, which of a list of checks were reached.

A check is reached once it has been true after any step; the score is checks reached / checks. What
is true from the first step on counts too, so doing nothing scores more than 0 in many tasks. These
are not our sub-goals (`subgoals`), which have other distances and other meanings of "picked up".

Public states of the metric differ in how they decide `near` and "opened", so a variant is named:
`links-fraction`, horizontally within a distance of any link of the object, from the base or a hand,
and opened by half of a joint's range; `roots-symbol`, as in earlier states, from the base's origin
to the object's, and opened as the state `Open` says.

Source: table and semantics of OmniGibson/omnigibson/learning/utils/task_progress_utils.py in
xxxxyu/BEHAVIOR-1K@09c4fd81, transcribed into data/task_progress.txt; that a check counts once it
was true from gr00t/eval/sim/BEHAVIOR/behavior_env.py in NVIDIA/Isaac-GR00T@97187792. One thing is
measured otherwise: where the table asks for the pose of the robot's root link, which OmniGibson's
holonomic robots leave where the scene put them, readers give that of the base, which moves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, Protocol

from b1k_envs.base import Checks, ProgressVariant
from b1k_envs.errors import EnvError
from b1k_envs.tasks.goals import CachedFacts, StateReader
from b1k_envs.tasks.table import get_task

DEFAULT_VARIANT: ProgressVariant = "links-fraction"

Between = Literal["links", "base-links", "roots"]
"""Points of a distance: base or hands to links, the base alone to links, origin to origin."""

NEAR_M = 0.5
"""Distance of `near` where the table gives none [m]."""

OPENED_FRACTION = 0.5
"""Opened from this fraction of a joint's range on."""

_AGENT = "agent.n.01_1"


class ProgressReader(StateReader, Protocol):
    """What a simulator tells for this metric; `holds` also knows the states that it names."""

    def named(self, key: str) -> Mapping[str, bool]:
        """Return the instances that an object of the table stands for, and whether they exist now.

        Args:
            key: A BDDL instance; a category, for all of its instances; or a name in the scene.

        Raises:
            EnvError: Nothing of the scene answers to it.
        """

    def distance(self, instance: str, between: Between) -> float:
        """Return the least horizontal distance of the robot to an object [m]."""

    def open_fraction(self, instance: str) -> float:
        """Return how far the widest open joint of an object is within its range, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One fact of a check.

    Attributes:
        predicate: A BDDL predicate, or one of those that the table's header explains.
        objects: Its objects, without the agent.
        expected: Whether it must be true, or false.
        within: Distance of `near` and `base_near` [m].
    """

    predicate: str
    objects: tuple[str, ...]
    expected: bool = True
    within: float = NEAR_M

    @property
    def words(self) -> str:
        """The fact as the table writes it."""
        return f"{'' if self.expected else 'not '}{self.predicate} {' '.join(self.objects)}"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of a task.

    Attributes:
        name: Its name in the public table.
        facts: What it asks for.
        any_of: Whether one of them is enough.
    """

    name: str
    facts: tuple[Fact, ...]
    any_of: bool = False

    @property
    def words(self) -> str:
        """What it asks for, for people."""
        return (" or " if self.any_of else " and ").join(fact.words for fact in self.facts)


@cache
def checks_of(task_name: str) -> tuple[Check, ...]:
    """Return the checks of a task in the table's order; empty if no public table has it.

    Raises:
        UsageError: There is no task of that name.
    """
    get_task(task_name)  # a misspelt task must not pass for one without checks
    return _table().get(task_name, ())


def evaluate(task_name: str, reader: ProgressReader, variant: ProgressVariant) -> Checks:
    """Return the checks of a task now; every fact is asked at every call.

    A check whose object does not exist now is false, whatever it expects, as upstream. A check
    that the reader cannot tell is not: a score with it counted as false would be another metric,
    so the whole task is then untold.

    Args:
        task_name: Any task.
        reader: The scene.
        variant: See the module header.
    """
    ask = _Asked(reader, variant)
    truths: dict[str, bool] = {}
    for check in checks_of(task_name):
        try:
            # One fact is the rule, and this is asked at every control step.
            if len(check.facts) == 1:
                truths[check.name] = ask(check.facts[0])
            else:
                held = [ask(fact) for fact in check.facts]
                truths[check.name] = any(held) if check.any_of else all(held)
        except EnvError as error:
            return Checks(
                {},
                f"task progress is not counted: of its checks {check.name} ({check.words}) cannot "
                f"be told here: {error}",
            )
    return Checks(truths)


class _Asked:
    """Answers the facts of one state."""

    def __init__(self, reader: ProgressReader, variant: ProgressVariant) -> None:
        self._reader = reader
        self._by_links = variant == "links-fraction"
        self._holds = CachedFacts(reader)
        self._named: dict[str, Mapping[str, bool]] = {}

    def __call__(self, fact: Fact) -> bool:
        predicate, objects = fact.predicate, fact.objects
        first = self._instances(objects[0])
        if predicate == "exists":
            return any(first.values()) is fact.expected
        if predicate in ("near", "base_near"):
            between = self._between(predicate)
            distances = [self._reader.distance(n, between) for n, exists in first.items() if exists]
            return min(distances, default=math.inf) < fact.within
        if len(objects) == 1:
            answers = [
                here and self._of_one(predicate, one) is fact.expected
                for one, here in first.items()
            ]
        else:
            second = self._instances(objects[1])
            answers = [
                here and there and self._holds(predicate, one, other) is fact.expected
                for one, here in first.items()
                for other, there in second.items()
            ]
        # Each instance of a category has to be there: any of them is enough where the fact must be
        # true, all must agree where it must be false.
        return any(answers) if fact.expected else all(answers)

    def _instances(self, key: str) -> Mapping[str, bool]:
        known = self._named.get(key)
        if known is None:
            known = self._named[key] = self._reader.named(key)
        return known

    def _between(self, predicate: str) -> Between:
        if not self._by_links:
            return "roots"
        return "links" if predicate == "near" else "base-links"

    def _of_one(self, predicate: str, instance: str) -> bool:
        if predicate == "grasped":
            return self._holds(predicate, _AGENT, instance)
        if predicate == "opened" and self._by_links:
            return self._reader.open_fraction(instance) >= OPENED_FRACTION
        return self._holds("open" if predicate == "opened" else predicate, instance)


@cache
def _table() -> dict[str, tuple[Check, ...]]:
    path = resources.files("b1k_envs").joinpath("data/task_progress.txt")
    tasks: dict[str, list[Check]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            tasks[line[2:]] = found = []
        elif line and not line.startswith("#"):
            found.extend(_parse(line))
    return {name: tuple(checks) for name, checks in tasks.items()}


def _parse(line: str) -> list[Check]:
    """Return the checks of a line; see the table's header."""
    head, _, test = line.partition(": ")
    name, _, numbers = head.partition(" ")
    if not numbers:
        return [_check(name, test)]
    first, last = map(int, numbers.split("-"))
    each = map(str, range(first, last + 1))
    return [_check(name.replace("*", n), test.replace("*", n)) for n in each]


def _check(name: str, test: str) -> Check:
    any_of = " | " in test
    facts = test.split(" | " if any_of else " & ")
    return Check(name=name, facts=tuple(map(_fact, facts)), any_of=any_of)


def _fact(text: str) -> Fact:
    words = text.split()
    expected = words[0] != "not"
    predicate, *objects = words if expected else words[1:]
    within = NEAR_M
    if predicate in ("near", "base_near") and len(objects) > 1:
        within = float(objects.pop())
    return Fact(predicate=predicate, objects=tuple(objects), expected=expected, within=within)
