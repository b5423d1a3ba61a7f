"""Sub-goals of task 31, walked through one episode of hand-written facts."""

import pytest

from b1k_envs.errors import EnvError, UsageError
from b1k_envs.tasks.subgoals import SUBGOALS, evaluate

AGENT, WASHER, COUNTERTOP = "agent.n.01_1", "washer.n.03_1", "countertop.n.01_1"
GLOVE_1, GLOVE_2 = "boxing_glove.n.01_1", "boxing_glove.n.01_2"
DUST = "dust.n.01_1"

START = {
    ("covered", GLOVE_1, DUST),
    ("covered", GLOVE_2, DUST),
    ("ontop", GLOVE_1, COUNTERTOP),
    ("ontop", GLOVE_2, COUNTERTOP),
}


class World:
    def __init__(self, facts):
        self.facts = set(facts)
        self.asked = []

    def objects(self):
        return [AGENT, WASHER, COUNTERTOP, GLOVE_1, GLOVE_2, DUST]

    def holds(self, predicate, *instances):
        self.asked.append((predicate, *instances))
        return (predicate, *instances) in self.facts


def true_names(facts):
    truth = evaluate("clean_boxing_gloves", World(facts))
    return [name for name, true in truth.items() if true]


def test_the_eleven_come_in_the_order_of_a_demonstration():
    goals = SUBGOALS["clean_boxing_gloves"]
    assert [goal.label for goal in goals] == [
        "robot near washer",
        "robot near countertop",
        "washer opened",
        "glove 1 picked up",
        "glove 2 picked up",
        "glove 1 in washer",
        "glove 2 in washer",
        "washer closed",
        "washer turned on",
        "glove 1 clean",
        "glove 2 clean",
    ]
    assert [goal.name for goal in goals] == [
        "near_washer",
        "near_countertop",
        "washer_opened",
        "glove_1_picked_up",
        "glove_2_picked_up",
        "glove_1_in_washer",
        "glove_2_in_washer",
        "washer_closed",
        "washer_turned_on",
        "glove_1_clean",
        "glove_2_clean",
    ]
    assert list(evaluate("clean_boxing_gloves", World(START))) == [goal.name for goal in goals]


def test_each_says_the_skill_that_achieves_it():
    skills = {goal.name: goal.skill for goal in SUBGOALS["clean_boxing_gloves"]}
    assert skills["near_countertop"] == "move to"
    assert skills["washer_opened"] == "open door"
    assert skills["glove_2_picked_up"] == "pick up from"
    assert skills["glove_1_in_washer"] == "place in"
    assert skills["washer_closed"] == "close door"
    assert skills["washer_turned_on"] == "turn on switch"
    assert skills["glove_1_clean"] is None


def test_nothing_is_achieved_at_the_start():
    assert true_names(START) == []


@pytest.mark.parametrize(
    ("fact", "name"),
    [
        (("near", AGENT, WASHER), "near_washer"),
        (("near", AGENT, COUNTERTOP), "near_countertop"),
        (("open", WASHER), "washer_opened"),
        (("grasped", AGENT, GLOVE_1), "glove_1_picked_up"),
        (("grasped", AGENT, GLOVE_2), "glove_2_picked_up"),
        (("toggled_on", WASHER), "washer_turned_on"),
    ],
)
def test_one_fact_makes_one_subgoal(fact, name):
    assert true_names(START | {fact}) == [name]


@pytest.mark.parametrize(("glove", "number"), [(GLOVE_1, 1), (GLOVE_2, 2)])
def test_a_glove_without_dust_is_clean(glove, number):
    assert true_names(START - {("covered", glove, DUST)}) == [f"glove_{number}_clean"]


@pytest.mark.parametrize(("glove", "number"), [(GLOVE_1, 1), (GLOVE_2, 2)])
def test_closed_counts_only_with_a_glove_inside(glove, number):
    inside = START | {("inside", glove, WASHER)}
    assert true_names(inside) == [f"glove_{number}_in_washer", "washer_closed"]
    assert true_names(inside | {("open", WASHER)}) == [
        "washer_opened",
        f"glove_{number}_in_washer",
    ]


def test_each_fact_is_asked_once_at_most():
    world = World(START | {("inside", GLOVE_2, WASHER)})
    evaluate("clean_boxing_gloves", world)
    assert len(world.asked) == len(set(world.asked)) == 10


def test_a_task_without_subgoals_has_none():
    world = World(START)
    assert evaluate("make_pizza", world) == {}
    assert world.asked == []


def test_a_misspelt_task_does_not_pass_for_one_without():
    with pytest.raises(UsageError, match="Did you mean clean_boxing_gloves"):
        evaluate("clean_boxing_glove", World(START))


def test_an_answer_that_is_no_bool_is_refused():
    class Mute(World):
        def holds(self, predicate, *instances):
            return None

    with pytest.raises(EnvError, match=f"answered None to `near {AGENT} {WASHER}`"):
        evaluate("clean_boxing_gloves", Mute(START))
