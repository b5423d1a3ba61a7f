"""The table of task progress, and its evaluation against one written from its text alone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import bddl
import pytest
from progress_worlds import NOT_BDDL, World, expected, lines_of, objects_of, tasks

from b1k_envs.base import Checks
from b1k_envs.errors import EnvError, UsageError
from b1k_envs.tasks.table import TASKS
from b1k_envs.tasks.task_progress import checks_of, evaluate

COUNTS = """3 15 20 15 20 15 13 15 10 21 17 21 16 12 10 9 12 8 11 13 18 21 21 13 20
13 21 17 14 24 18 11 11 18 4 5 3 5 8 8 8 15 11 18 19 13 14 16 19 25"""
"""Checks of tasks 0 to 49, counted in the source's own text."""

OTHER_PROBLEM = {"sorting_household_items", "cook_hot_dogs"}
"""Tasks whose problem in PyPI's bddl has other objects than the challenge's."""

DEFINITIONS = Path(bddl.__file__).parent / "activity_definitions"


class Told:
    """A reader that answers from a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def objects(self) -> list[str]:
        return [name for name, there in self.world.exists.items() if there]

    def named(self, key: str) -> dict[str, bool]:
        found = {name: self.world.exists[name] for name in self.world.of(key)}
        if not found:
            raise EnvError(f"no {key} here")
        return found

    def holds(self, predicate: str, *instances: str) -> bool:
        if predicate == "open":
            return self.world.is_open(*instances)
        if predicate == "grasped":
            instances = instances[1:]
        return self.world.holds(predicate, *instances)

    def distance(self, instance: str, between: str) -> float:
        ours = [self.world.base, *(self.world.hands if between == "links" else ())]
        theirs = self.world.links[instance][: 1 if between == "roots" else None]
        return min(((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5 for a in ours for b in theirs)

    def open_fraction(self, instance: str) -> float:
        return self.world.opened[instance]


def test_it_has_the_50_tasks_of_2025_in_their_order_and_no_other():
    assert tasks() == [task.name for task in TASKS if task.in_2025]
    assert [bool(checks_of(task.name)) for task in TASKS] == [task.in_2025 for task in TASKS]


def test_each_task_has_as_many_checks_as_the_source():
    counts = [int(word) for word in COUNTS.split()]
    assert [len(checks_of(name)) for name in tasks()] == counts
    assert sum(counts) == 707
    for name in tasks():
        assert max(Counter(check.name for check in checks_of(name)).values()) == 1
        assert [check.name for check in checks_of(name)] == [*lines_of(name)]


def test_the_documentation_counts_the_checks_as_they_are():
    text = (Path(__file__).parents[3] / "docs" / "yardsticks.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (\d+) \| ", text, re.M)
    assert len(rows) == 12
    for task, count in rows:
        assert len(checks_of(task)) == int(count)
    assert "50 tasks of 2025, 707 checks" in text


def test_the_checks_of_task_31_are_those_that_the_metric_publishes():
    assert {check.name: check.words for check in checks_of("clean_boxing_gloves")} == {
        "robot_near_washer": "near washer.n.03_1",
        "robot_near_countertop": "near countertop.n.01_1",
        "washer_opened": "opened washer.n.03_1",
        "glove_1_picked_up": "not ontop boxing_glove.n.01_1 countertop.n.01_1",
        "glove_2_picked_up": "not ontop boxing_glove.n.01_2 countertop.n.01_1",
        "glove_1_in_washer": "inside boxing_glove.n.01_1 washer.n.03_1",
        "glove_2_in_washer": "inside boxing_glove.n.01_2 washer.n.03_1",
        "washer_closed": "not open washer.n.03_1",
        "washer_turned_on": "toggled_on washer.n.03_1",
        "glove_1_clean": "not covered boxing_glove.n.01_1 dust.n.01_1",
        "glove_2_clean": "not covered boxing_glove.n.01_2 dust.n.01_1",
    }


@pytest.mark.parametrize("task", sorted({*tasks()} - OTHER_PROBLEM))
def test_every_object_is_one_of_the_tasks_bddl_problem(task):
    declared = (DEFINITIONS / task / "problem0.bddl").read_text().split("(:init")[0]
    instances = set(re.findall(r"\S+\.n\.\d+_\d+", declared))
    known = instances | {name.rpartition("_")[0] for name in instances}
    assert objects_of(task) - known - NOT_BDDL == set()


@pytest.mark.parametrize("task", tasks())
def test_no_check_differs_from_what_its_line_says_in_100_random_states_of_each_task(task):
    both: Counter[tuple[str, bool]] = Counter()
    # Six facts at once are rarely true.
    for seed in range(500 if task == "putting_shoes_on_rack" else 100):
        world = World(task, seed)
        variant = ("links-fraction", "roots-symbol")[seed % 2]
        found = evaluate(task, Told(world), variant)
        assert found.untold is None
        assert dict(found.truths) == expected(task, world, variant), (task, seed)
        both.update(found.truths.items())
    # A state in which every check of the task is always false would prove nothing.
    assert all(both[name, True] and both[name, False] for name in lines_of(task)), both


def test_a_task_without_a_table_has_no_checks():
    assert evaluate(TASKS[50].name, Told(World("turning_on_radio", 0)), "roots-symbol") == Checks(
        {}
    )


def test_a_misspelt_task_does_not_pass_for_one_without():
    with pytest.raises(UsageError, match="Did you mean clean_boxing_gloves"):
        checks_of("clean_boxing_glove")


def test_a_check_that_cannot_be_told_makes_the_whole_task_untold_and_is_named():
    class WithoutTree(Told):
        def named(self, key: str) -> dict[str, bool]:
            if key == "tree.n.01":
                raise EnvError("the scene has no tree.n.01")
            return super().named(key)

    found = evaluate(
        "hiding_Easter_eggs", WithoutTree(World("hiding_Easter_eggs", 0)), "roots-symbol"
    )
    assert dict(found.truths) == {}
    assert found.untold == (
        "task progress is not counted: of its checks robot_near_tree (near tree.n.01) cannot be "
        "told here: the scene has no tree.n.01"
    )


def test_an_object_that_does_not_exist_fulfils_no_check_whatever_it_expects():
    world = World("cook_cabbage", 1)
    world.exists["head_cabbage.n.02_1"] = False
    world.facts["inside", "head_cabbage.n.02_1", "electric_refrigerator.n.01_1"] = False
    truths = evaluate("cook_cabbage", Told(world), "links-fraction").truths
    assert not truths["cabbage_picked_up"]  # "not inside the fridge"
    assert truths["cabbage_diced"]  # it is gone
