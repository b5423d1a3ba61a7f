"""The score of a goal that OmniGibson evaluates, against TaskMetric's formula written out."""

from __future__ import annotations

import itertools
import random
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from omnigibson_bench import PUBLIC, TASK, Double

from b1k_envs.base import ProtocolYear
from b1k_envs.errors import EnvError
from b1k_envs.omnigibson import goal_status
from b1k_envs.omnigibson.dialects import dialect_2026
from b1k_envs.omnigibson.dialects.dialect_2025 import Dialect2025
from b1k_envs.omnigibson.dialects.dialect_2026 import Dialect2026
from b1k_envs.omnigibson.goal_status import GoalRecord
from b1k_envs.omnigibson.world import OmniGibsonWorld
from b1k_envs.tasks.goals import GoalTracker, partial_score

OPTIONS = [["a", "b", "c"], ["a", "d"], ["b", "c"]]


def truths(true: set[str], options: list[list[str]] = OPTIONS) -> dict[str, bool]:
    return {name: name in true for name in sorted(set().union(*options))}


def by_option(true: set[str]) -> list[list[bool]]:
    return [[name in true for name in option] for option in OPTIONS]


def official(start: list[list[bool]], now: list[list[bool]], success: bool) -> float:
    """TaskMetric, written out from the fact that it is a maximum of fractions."""
    if success:
        return 1.0
    best = 0.0
    for at_start, at_end in zip(start, now, strict=True):
        gained = 0
        for before, after in zip(at_start, at_end, strict=True):
            if after and not before:
                gained += 1
        best = max(best, gained / len(at_end))
    return best


def test_every_start_and_end_scores_as_the_official_formula_does():
    names = "abcd"
    subsets = [set(subset) for n in range(5) for subset in itertools.combinations(names, n)]
    for start, now in itertools.product(subsets, subsets):
        goal = GoalRecord(OPTIONS)
        goal.start(truths(start))
        success = any(set(option) <= now for option in OPTIONS)
        status = goal.status(truths(now), success)
        assert status.q_score == official(by_option(start), by_option(now), success)
        assert status.success is success
        assert status.predicates == {name: name in now for name in names}


def test_what_holds_at_the_start_stays_in_the_denominator_and_earns_nothing():
    goal = GoalRecord([["a", "b"]])
    goal.start(truths({"a"}, [["a", "b"]]))
    assert goal.status(truths({"a"}, [["a", "b"]]), False).q_score == 0.0
    assert goal.status(truths({"b"}, [["a", "b"]]), False).q_score == 0.5


def test_a_literal_twice_in_an_option_counts_twice():
    options = [["a", "a", "b"]]
    goal = GoalRecord(options)
    goal.start(truths(set(), options))
    assert goal.status(truths({"a"}, options), False).q_score == 2 / 3


def test_success_is_the_termination_conditions_to_say():
    goal = GoalRecord(OPTIONS)
    goal.start(truths(set()))
    assert goal.status(truths({"a", "d"}), False).success is False
    assert goal.status(truths(set()), True).q_score == 1.0


def test_before_the_first_step_success_is_an_option_that_holds_throughout():
    goal = GoalRecord(OPTIONS)
    goal.start(truths({"b", "c"}))
    assert goal.status(truths({"b", "c"}), None).success is True
    assert goal.status(truths({"b", "d"}), None).success is False
    empty = GoalRecord([[], ["a"]])
    empty.start({"a": False})
    assert empty.status({"a": False}, None).success is False


def test_predicates_are_in_the_order_of_their_first_appearance():
    goal = GoalRecord([["b", "a"], ["c", "a"]])
    goal.start({"a": True, "b": False, "c": False})
    status = goal.status({"c": False, "b": False, "a": True}, False)
    assert list(status.predicates.items()) == [("b", False), ("a", True), ("c", False)]


def test_truths_that_do_not_fit_the_options_are_refused():
    goal = GoalRecord(OPTIONS)
    with pytest.raises(EnvError, match=r"missing \['b', 'd'\], not among them \['e'\]"):
        goal.start({"a": True, "c": True, "e": True})
    goal.start(truths(set()))
    with pytest.raises(EnvError, match=r"missing \['d'\]"):
        goal.status({"a": True, "b": True, "c": True}, False)


def test_a_task_without_a_goal_option_is_refused():
    with pytest.raises(EnvError, match="nothing could be scored"):
        GoalRecord([])


def test_a_status_before_the_start_is_an_error():
    with pytest.raises(EnvError, match="before the episode started"):
        GoalRecord(OPTIONS).status(truths(set()), None)


class NothingHolds:
    def objects(self) -> set[str]:
        return {
            "boxing_glove.n.01_1",
            "boxing_glove.n.01_2",
            "washer.n.03_1",
            "countertop.n.01_1",
            "floor.n.01_1",
            "dust.n.01_1",
            "agent.n.01_1",
        }

    def holds(self, predicate: str, *instances: str) -> bool:
        return predicate == "covered"


def test_the_record_keeps_names_and_options_as_the_twins_goal_does():
    tracker = GoalTracker("clean_boxing_gloves", NothingHolds())
    tracker.start()
    goal = GoalRecord(tracker.options)
    none = dict.fromkeys(tracker.predicates, False)
    goal.start(none)
    mine = goal.status(none, None)
    assert mine == tracker.status()


# --- Very many options of few literals ------------------------------------------------------

DISTINCT = [
    f"{word}{predicate} thing.n.01_{i}"
    for word in ("", "not ")
    for predicate in ("inside", "ontop")
    for i in range(4)
]
CHANCE = random.Random(0)
MANY = [CHANCE.choices(DISTINCT, k=8) for _ in range(20_000)]


class Head:
    """A literal of either generation; without a function it answers for env 0."""

    def __init__(self, name: str, task: Task) -> None:
        self.terms, self._task = name.split(), task

    def evaluate(self, *functions: Any) -> bool:
        self._task.evaluations += 1
        ask = functions[0] if functions else partial(self._task._evaluate_predicate, 0)
        positive = self.terms[0] != "not"
        return bool(ask(*(self.terms if positive else self.terms[1:]))) == positive


class Task:
    """What holds is by env and fact; every evaluation of a literal is counted."""

    get_goal_option_satisfaction: Any  # of 2026; a test that wants an answer puts one here

    def __init__(self, options: list[list[str]]) -> None:
        self.evaluations = 0
        self.true: dict[int, set[str]] = {0: set(), 1: set()}
        self.ground_goal_state_options = [[Head(name, self) for name in each] for each in options]

    def _evaluate_predicate(self, env_idx: int, predicate_name: str, *entities: str) -> bool:
        return " ".join((predicate_name, *entities)) in self.true[env_idx]

    def holds(self, env: int, name: str) -> bool:
        negated = name.startswith("not ")
        return (name.removeprefix("not ") in self.true[env]) != negated


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["2025", "2026"])
def test_twenty_thousand_options_cost_one_evaluation_per_distinct_literal(protocol: ProtocolYear):
    kind = {"2025": Dialect2025, "2026": Dialect2026}[protocol]
    task, index = Task(MANY), {"2025": 0, "2026": 1}[protocol]
    task.true[index] = {*DISTINCT[:2]}
    task.true[1 - index] = {*DISTINCT[2:4]}
    dialect = kind(SimpleNamespace(), SimpleNamespace(task=task), 1 + index)
    assert dialect.options == tuple(map(tuple, MANY))
    assert len({id(name) for option in dialect.options for name in option}) == 16

    def goal_now(goal: GoalRecord) -> Any:
        task.evaluations = 0
        status = goal.status(dialect.literal_truths(index), False)
        assert task.evaluations == len(DISTINCT) == 16
        return status

    goal = GoalRecord(dialect.options)
    goal.start(dialect.literal_truths(index))
    start = [[task.holds(index, name) for name in option] for option in MANY]
    for count in (0, 1, 4, 8):
        task.true[index] = {*CHANCE.sample(DISTINCT[:8], k=count)}
        now = [[task.holds(index, name) for name in option] for option in MANY]
        status = goal_now(goal)
        assert status.q_score == official(start, now, success=False)
        assert status.predicates == {name: task.holds(index, name) for name in DISTINCT}


def test_the_score_is_computed_anew_when_something_was_gained_or_lost_only(monkeypatch):
    asked = []
    monkeypatch.setattr(
        goal_status, "partial_score", lambda *args: asked.append(args[1]) or partial_score(*args)
    )
    goal = GoalRecord(OPTIONS)
    goal.start(truths({"c"}))
    steps = [set(), {"c"}, {"a"}, {"a", "c"}, {"a"}, {"a", "b"}, {"a"}]
    scores = [goal.status(truths(step), False).q_score for step in steps]
    assert scores == [0.0, 0.0, 0.5, 0.5, 0.5, 2 / 3, 0.5]
    assert asked == [{"a"}, {"a", "b"}, {"a"}]


@pytest.mark.parametrize("given", [[[True]], [[True, False], [True]], []])
def test_truths_of_2026_that_do_not_fit_the_options_are_refused(given: list[list[bool]]):
    task = Task([["open door", "open lid"]])
    dialect = Dialect2026(SimpleNamespace(), SimpleNamespace(task=task), 1)
    task.get_goal_option_satisfaction = lambda env_idx: given
    with pytest.raises(EnvError, match=r"\[2\] literals"):
        dialect.literal_truths(0)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 2])
def test_both_ways_of_2026_give_the_truth_of_every_env(double_2026: Double, monkeypatch, limit):
    """The goal has two literals, so the official method is asked where the limit is 2 only."""
    monkeypatch.setattr(dialect_2026, "MAX_LITERALS_OF_ALL_OPTIONS", limit)
    world = OmniGibsonWorld(
        TASK, protocol="2026", render="on-demand", gpu=None, num_envs=2, **PUBLIC
    )
    world.load({0: 0, 1: 1})
    goals = [world.start_goal(index) for index in (0, 1)]
    for index in (0, 1):  # env 0 gets its second glove clean, env 1 its first
        counts = double_2026.physics(index).states.dust_counts
        counts[list(counts)[1 - index]] = 0
    world.advance({})
    task = world._env.task
    official_truths = [task.get_goal_option_satisfaction(index) for index in (0, 1)]
    asked: list[int] = []
    whole = type(task).get_goal_option_satisfaction
    monkeypatch.setattr(
        type(task),
        "get_goal_option_satisfaction",
        lambda self, index: asked.append(index) or whole(self, index),
    )
    told = [world.goal_status(index, goals[index], None) for index in (0, 1)]
    assert asked == ([0, 1] if limit == 2 else [])
    assert [[[*status.predicates.values()]] for status in told] == official_truths
    gloves = ("boxing_glove.n.01_1", "boxing_glove.n.01_2")
    for index, status in enumerate(told):
        assert status.q_score == 0.5
        assert status.predicates == {
            f"not covered {glove} dust.n.01_1": which != index for which, glove in enumerate(gloves)
        }
