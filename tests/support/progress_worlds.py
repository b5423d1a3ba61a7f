"""Task progress told from the text of its table alone, in worlds drawn at random.

Nothing here imports the code under test. `expected` reads a task's lines anew and decides each
check from the numbers of a `World`; `DrawnDialect` shows the same world in OmniGibson's shapes.
"""

from __future__ import annotations

import math
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import b1k_envs

TEXT = (Path(b1k_envs.__file__).parent / "data" / "task_progress.txt").read_text()
AGENT = "agent.n.01_1"
NOT_BDDL = {"door_bexenl_0", "toilet.n.01_1", "toilet.n.01"}
"""Objects of the table that are in the scene, and not in the BDDL problem."""


def lines_of(task: str) -> dict[str, str]:
    """The checks of a task by name, numbers written out, in the table's order."""
    block = re.search(rf"^= {task}\n(.*?)(?:^= |\Z)", TEXT, re.M | re.S)
    assert block is not None
    found: dict[str, str] = {}
    for line in filter(None, block[1].splitlines()):
        head, test = line.split(": ")
        match = re.fullmatch(r"(\S+) (\d+)-(\d+)", head)
        if match is None:
            found[head] = test
            continue
        for number in range(int(match[2]), int(match[3]) + 1):
            found[match[1].replace("*", f"{number}")] = test.replace("*", f"{number}")
    return found


def tasks() -> list[str]:
    return re.findall(r"^= (\S+)$", TEXT, re.M)


def objects_of(task: str) -> set[str]:
    """All objects that a task's lines name: instances, categories, names of the scene."""
    words = " ".join(lines_of(task).values()).split()
    return {word for word in words if ".n." in word or word == "door_bexenl_0"}


class World:
    """A state of a task's scene: who exists and where, what holds, how far things are open."""

    def __init__(self, task: str, seed: int) -> None:
        self.draw = random.Random(f"{task} {seed}")
        self.names: list[str] = []
        for word in sorted(objects_of(task)):
            numbered = re.search(r"_\d+$", word) is not None
            self.names += [word] if numbered else [f"{word}_{n}" for n in (1, 2)]
        self.names = sorted(set(self.names))
        often = self.draw.choice((1.0, 0.9))
        self.exists = {n: n in NOT_BDDL or self.draw.random() < often for n in self.names}
        self.facts: dict[tuple[str, ...], bool] = {}
        self.bias = self.draw.choice((0.2, 0.5, 0.8))
        self.opened = {n: self.draw.choice((0.0, 0.3, 0.5, 0.7, 1.0)) for n in self.names}
        self.base = self.place()
        self.hands = [self.place(), self.place()]
        self.links = {n: [self.place() for _ in range(self.draw.randint(1, 3))] for n in self.names}

    def place(self) -> tuple[float, float, float]:
        return tuple(self.draw.uniform(0.0, 1.5) for _ in range(3))  # type: ignore[return-value]

    def holds(self, *fact: str) -> bool:
        if fact not in self.facts:
            self.facts[fact] = self.draw.random() < self.bias
        return self.facts[fact]

    def is_open(self, name: str) -> bool:
        return self.opened[name] > 0.05

    def of(self, word: str) -> list[str]:
        """The instances that a word of the table stands for."""
        numbered = re.search(r"_\d+$", word) is not None
        return [
            n for n in self.names if n == word or (not numbered and re.sub(r"_\d+$", "", n) == word)
        ]


def _apart(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    return math.sqrt((one[0] - two[0]) ** 2 + (one[1] - two[1]) ** 2)


def _fact(world: World, text: str, *, links: bool) -> bool:
    wanted = not text.startswith("not ")
    predicate, *words = text.removeprefix("not ").split()
    if predicate in ("near", "base_near"):
        limit = float(words[1]) if len(words) == 2 else 0.5
        ours = [world.base] + (world.hands if links and predicate == "near" else [])
        reached = False
        for name in world.of(words[0]):
            theirs = world.links[name] if links else world.links[name][:1]
            close = any(_apart(a, b) < limit for a in ours for b in theirs)
            reached = reached or (world.exists[name] and close)
        return reached
    if predicate == "exists":
        return any(world.exists[name] for name in world.of(words[0])) == wanted
    answers = []
    for name in world.of(words[0]):
        if predicate == "grasped":
            answers.append(world.exists[name] and world.holds("grasped", name) == wanted)
        elif predicate in ("opened", "open"):
            wide = (
                world.opened[name] >= 0.5
                if predicate == "opened" and links
                else world.is_open(name)
            )
            answers.append(world.exists[name] and wide == wanted)
        elif len(words) == 1:
            answers.append(world.exists[name] and world.holds(predicate, name) == wanted)
        for other in world.of(words[1]) if len(words) == 2 else ():
            there = world.exists[name] and world.exists[other]
            answers.append(there and world.holds(predicate, name, other) == wanted)
    return any(answers) if wanted else all(answers)


def expected(task: str, world: World, variant: str) -> dict[str, bool]:
    """Each check of a task, from its line alone."""
    links = variant == "links-fraction"
    found = {}
    for name, line in lines_of(task).items():
        if " | " in line:
            found[name] = any(_fact(world, part, links=links) for part in line.split(" | "))
        else:
            found[name] = all(_fact(world, part, links=links) for part in line.split(" & "))
    return found


# --- the same world in OmniGibson's shapes --------------------------------------------------------


def _tensor(values: Any) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float64)


class _State:
    def __init__(self, world: World, thing: Any, predicate: str) -> None:
        self.world, self.thing, self.predicate = world, thing, predicate

    def get_value(self, *others: Any) -> bool:
        if self.predicate == "open":
            return self.world.is_open(self.thing.bddl_name)
        names = (self.thing.bddl_name, *(other.bddl_name for other in others))
        return self.world.holds(self.predicate, *names)

    @property
    def relevant_joints_info(self) -> tuple[bool, list[Any], list[int]]:
        """Two joints, one of them opening downwards and shut."""
        share = self.world.opened[self.thing.bddl_name]
        wide = SimpleNamespace(lower_limit=-1.0, upper_limit=2.0)
        wide.get_state = lambda: (_tensor([-1.0 + 3.0 * share]),)
        shut = SimpleNamespace(lower_limit=0.0, upper_limit=0.4)
        shut.get_state = lambda: (_tensor([0.4]),)
        return False, [shut, wide], [-1, 1]


class DrawnDialect:
    """The calls of `dialect.Dialect` that a state reader makes, answered by a world.

    Objects that are not in the BDDL problem have another name in the scene.
    """

    def __init__(self, world: World, states: dict[str, type]) -> None:
        self.world = world
        self._in_scene: dict[str, Any] = {}
        self._scope: dict[str, Any] = {AGENT: SimpleNamespace()}
        for name in world.names:
            thing = SimpleNamespace(bddl_name=name, name=name)
            thing.links = {
                f"link_{i}": self._link(place) for i, place in enumerate(world.links[name])
            }
            thing.get_position_orientation = self._link(
                world.links[name][0]
            ).get_position_orientation
            thing.states = {state: _State(world, thing, p) for p, state in states.items()}
            if name in NOT_BDDL or name.startswith("toilet"):
                thing.name = name.replace(".n.01", "_white")
                self._in_scene[thing.name] = thing
            else:
                self._scope[name] = thing if world.exists[name] else None

    @staticmethod
    def _link(place: tuple[float, ...]) -> Any:
        at = _tensor(place)
        return SimpleNamespace(get_position_orientation=lambda: (at, _tensor((0.0, 0.0, 0.0, 1.0))))

    def scope(self, index: int) -> dict[str, Any]:
        return self._scope

    def entity(self, index: int, instance: str) -> Any:
        return self._scope[instance]

    def scene_object(self, index: int, name: str) -> Any:
        return self._in_scene.get(name)

    def scene_names(self, index: int, category: str) -> list[str]:
        return sorted(name for name in self._in_scene if name.split("_")[0] == category)

    def base_pose(self, index: int) -> Any:
        pose = np.eye(4)
        pose[:3, 3] = self.world.base
        return pose

    def eef_position(self, index: int, arm: str) -> Any:
        return np.array(self.world.hands[arm == "right"])

    def is_grasping(self, index: int, arm: str, entity: Any) -> bool:
        return arm == "right" and self.world.holds("grasped", entity.bddl_name)
