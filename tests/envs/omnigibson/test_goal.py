"""The score of a goal that OmniGibson evaluates, against TaskMetric's formula written out."""

from __future__ import annotations

import itertools

import pytest

from b1k_envs.errors import EnvError
from b1k_envs.goals import GoalTracker
from b1k_envs.omnigibson.goal_status import GoalRecord

OPTIONS = [["a", "b", "c"], ["a", "d"], ["b", "c"]]


def truths(true: set[str], options: list[list[str]] = OPTIONS) -> list[list[bool]]:
    return [[name in true for name in option] for option in options]


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
        assert status.q_score == official(truths(start), truths(now), success)
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
    empty.start([[], [False]])
    assert empty.status([[], [False]], None).success is False


def test_predicates_are_in_the_order_of_their_first_appearance():
    goal = GoalRecord([["b", "a"], ["c", "a"]])
    goal.start([[False, True], [False, True]])
    assert list(goal.status([[False, True], [False, True]], False).predicates) == ["b", "a", "c"]


def test_truths_that_do_not_fit_the_options_are_refused():
    goal = GoalRecord(OPTIONS)
    with pytest.raises(EnvError, match=r"\[3, 2, 2\] literals.*\[3\]"):
        goal.start([[True, True, True]])


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
    goal.start([[False] * len(option) for option in tracker.options])
    mine = goal.status([[False] * len(option) for option in tracker.options], None)
    assert mine == tracker.status()
