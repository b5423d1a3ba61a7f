"""Goals against a hand-written world of facts; expected literals and scores written out by hand."""

import itertools
import random
import re
import subprocess
import sys

import bddl_callback_double
import numpy as np
import pytest

from b1k_envs.errors import EnvError, UnavailableError, UsageError
from b1k_envs.tasks import bddl_problem
from b1k_envs.tasks.goals import GoalTracker, partial_score

GLOVES = ("boxing_glove.n.01_1", "boxing_glove.n.01_2")
DUST = "dust.n.01_1"
CLEAN = tuple(f"not covered {glove} {DUST}" for glove in GLOVES)
BOXING_SCENE = (
    *GLOVES,
    DUST,
    "washer.n.03_1",
    "countertop.n.01_1",
    "floor.n.01_1",
    "agent.n.01_1",
)

BOXING_PROBLEM = """
(define (problem clean_boxing_gloves-0)
    (:domain behavior-1k)
    (:objects
        boxing_glove.n.01_1 boxing_glove.n.01_2 - boxing_glove.n.01
        dust.n.01_1 - dust.n.01
        washer.n.03_1 - washer.n.03
        countertop.n.01_1 - countertop.n.01
        floor.n.01_1 - floor.n.01
        agent.n.01_1 - agent.n.01
    )
    (:init
        (ontop boxing_glove.n.01_1 countertop.n.01_1)
        (ontop boxing_glove.n.01_2 countertop.n.01_1)
        (covered boxing_glove.n.01_1 dust.n.01_1)
        (covered boxing_glove.n.01_2 dust.n.01_1)
        (inroom washer.n.03_1 utility_room)
        (inroom countertop.n.01_1 utility_room)
        (inroom floor.n.01_1 utility_room)
        (ontop agent.n.01_1 floor.n.01_1)
    )
    (:goal
        (and
            (forall
                (?boxing_glove.n.01 - boxing_glove.n.01)
                (not (covered ?boxing_glove.n.01 ?dust.n.01_1))
            )
        )
    )
)
"""


class World:
    """A reader over a set of true facts that counts what it is asked."""

    def __init__(self, objects, facts=()):
        self._objects = objects
        self.facts = set(facts)
        self.asked = []

    def objects(self):
        return self._objects

    def holds(self, predicate, *instances):
        self.asked.append((predicate, *instances))
        return (predicate, *instances) in self.facts


class Everything:
    """A scene that has whatever object one asks for."""

    def __contains__(self, name):
        return True

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0


def dusty_world():
    return World(BOXING_SCENE, {("covered", glove, DUST) for glove in GLOVES})


def started(activity, world):
    tracker = GoalTracker(activity, world)
    tracker.start()
    return tracker


def test_the_goal_of_the_boxing_gloves_is_one_option_of_two_literals():
    tracker = GoalTracker("clean_boxing_gloves", dusty_world())
    assert tracker.options == (CLEAN,)
    assert tracker.predicates == CLEAN


def test_the_score_of_the_boxing_gloves_goes_from_nothing_over_a_half_to_one():
    world = dusty_world()
    tracker = started("clean_boxing_gloves", world)
    status = tracker.status()
    assert (status.q_score, status.success) == (0.0, False)
    assert status.predicates == {CLEAN[0]: False, CLEAN[1]: False}
    world.facts.remove(("covered", GLOVES[1], DUST))
    status = tracker.status()
    assert (status.q_score, status.success) == (0.5, False)
    assert status.predicates == {CLEAN[0]: False, CLEAN[1]: True}
    world.facts.remove(("covered", GLOVES[0], DUST))
    status = tracker.status()
    assert (status.q_score, status.success) == (1.0, True)
    world.facts.add(("covered", GLOVES[0], DUST))
    assert tracker.status().q_score == 0.5


def test_a_literal_true_at_the_start_earns_nothing_but_still_counts_below_the_line():
    world = World(BOXING_SCENE, {("covered", GLOVES[0], DUST)})
    tracker = started("clean_boxing_gloves", world)
    assert tracker.status().q_score == 0.0
    world.facts = {("covered", GLOVES[1], DUST)}  # one cleaned, the other soiled
    assert tracker.status().q_score == 0.5


def test_success_scores_one_even_if_part_of_it_was_true_at_the_start():
    world = World(BOXING_SCENE, {("covered", GLOVES[0], DUST)})
    tracker = started("clean_boxing_gloves", world)
    world.facts.clear()
    assert tracker.status().q_score == 1.0


def test_start_again_forgets_the_last_episode():
    world = dusty_world()
    tracker = started("clean_boxing_gloves", world)
    world.facts.discard(("covered", GLOVES[0], DUST))
    assert tracker.status().q_score == 0.5
    tracker.start()
    assert tracker.status().q_score == 0.0


def test_a_status_asks_each_fact_once():
    world = dusty_world()
    tracker = started("clean_boxing_gloves", world)
    world.asked.clear()
    tracker.status()
    assert sorted(world.asked) == sorted(("covered", glove, DUST) for glove in GLOVES)


def test_status_before_start_is_refused():
    tracker = GoalTracker("clean_boxing_gloves", dusty_world())
    with pytest.raises(EnvError, match=r"clean_boxing_gloves was asked before start\(\)"):
        tracker.status()


def test_a_missing_object_is_an_error_that_names_it_and_what_is_there():
    world = World([name for name in BOXING_SCENE if name not in (GLOVES[1], "washer.n.03_1")])
    with pytest.raises(EnvError) as caught:
        GoalTracker("clean_boxing_gloves", world)
    assert str(caught.value) == (
        "the scene lacks boxing_glove.n.01_2, washer.n.03_1 of the BDDL problem of "
        "clean_boxing_gloves; it has agent.n.01_1, boxing_glove.n.01_1, countertop.n.01_1, "
        "dust.n.01_1, floor.n.01_1. A goal on objects that are not there cannot be scored"
    )
    assert world.asked == []


def test_an_object_that_comes_into_being_later_may_be_missing_at_the_start():
    at_the_start = [
        "chopping_board.n.01_1",
        "sink.n.01_1",
        "vidalia_onion.n.01_1",
        "parer.n.02_1",
        "countertop.n.01_1",
        "bowl.n.01_1",
        "floor.n.01_1",
        "agent.n.01_1",
    ]  # and, `future`, diced__vidalia_onion.n.01_1
    tracker = started("chop_an_onion", World(at_the_start))
    assert tracker.status().predicates["real diced__vidalia_onion.n.01_1"] is False
    with pytest.raises(EnvError, match=r"the scene lacks bowl\.n\.01_1 of"):
        GoalTracker("chop_an_onion", World([n for n in at_the_start if n != "bowl.n.01_1"]))


def test_an_answer_that_is_no_bool_is_not_read_as_unsatisfied():
    class Mute(World):
        def holds(self, predicate, *instances):
            return None

    tracker = GoalTracker("clean_boxing_gloves", Mute(BOXING_SCENE))
    with pytest.raises(
        EnvError, match=f"answered None to `covered {GLOVES[0]} {DUST}`, expected a bool"
    ):
        tracker.start()


def test_a_numpy_bool_is_a_bool():
    class Numpy(World):
        def holds(self, predicate, *instances):
            return np.bool_(False)

    status = started("clean_boxing_gloves", Numpy(BOXING_SCENE)).status()
    assert status.predicates[CLEAN[0]] is True
    assert status.success is True


def test_an_unknown_activity_is_a_usage_error_with_near_misses():
    with pytest.raises(
        UsageError,
        match=r"defines \d+ activities, and 'clean_boxing_glove' is not one of them; "
        r"did you mean .*clean_boxing_gloves",
    ):
        GoalTracker("clean_boxing_glove", dusty_world())


def test_an_unknown_definition_is_a_usage_error_with_the_range():
    with pytest.raises(
        UsageError, match="clean_boxing_gloves has no definition 7: the installed bddl package has"
    ):
        GoalTracker("clean_boxing_gloves", dusty_world(), definition=7)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "bddl.activity", None)
    with pytest.raises(UnavailableError, match=r"pip install 'bddl>=3\.6'"):
        GoalTracker("clean_boxing_gloves", dusty_world())


# --- More than one ground option ------------------------------------------------------------


def test_forall_and_exists_ground_to_every_choice_and_the_best_one_scores():
    bottles = [f"bottle__of__detergent.n.01_{number}" for number in (1, 2)]
    cabinet, soap, napkin = "cabinet.n.01_1", "soap_dish.n.01_1", "sanitary_napkin.n.01_1"
    in_every_option = {
        f"inside {bottles[0]} {cabinet}",
        f"inside {bottles[1]} {cabinet}",
        f"nextto {bottles[0]} {bottles[1]}",
        f"inside {napkin} {cabinet}",
        f"nextto deodorant__atomizer.n.01_1 {napkin}",
        f"nextto lipstick.n.01_1 {cabinet}",
        "nextto toothbrush.n.01_1 lipstick.n.01_1",
    }
    world = World(Everything(), {("inside", bottles[0], cabinet)})
    tracker = started("sorting_household_items", world)
    assert [set(option) for option in tracker.options] == [
        in_every_option | {f"nextto {soap} {bottle}"} for bottle in bottles
    ]
    world.facts |= {("nextto", soap, bottles[1]), ("inside", napkin, cabinet)}
    status = tracker.status()
    assert status.q_score == 2 / 8  # option 2; the bottle that was inside earns nothing
    assert {name for name, true in status.predicates.items() if true} == {
        f"inside {bottles[0]} {cabinet}",
        f"inside {napkin} {cabinet}",
        f"nextto {soap} {bottles[1]}",
    }


def test_either_branch_of_an_or_makes_success():
    boxes, garage = [f"storage_container.n.01_{number}" for number in (1, 2)], "floor.n.01_2"
    world = World(Everything())
    tracker = started("moving_boxes_to_storage", world)
    assert {frozenset(option) for option in tracker.options} == {
        frozenset({f"ontop {low} {garage}", f"ontop {high} {low}"})
        for low, high in (boxes, boxes[::-1])
    }
    world.facts = {("ontop", boxes[0], garage), ("ontop", boxes[1], garage)}
    assert tracker.status().q_score == 0.5  # one literal of each option, not of one
    world.facts = {("ontop", boxes[1], garage), ("ontop", boxes[0], boxes[1])}
    status = tracker.status()
    assert (status.q_score, status.success) == (1.0, True)


def test_the_score_is_the_best_share_of_an_option_gained_since_the_start():
    options = [["a", "b", "c"], ["a", "d"], []]
    assert partial_score(options, {"b", "c"}) == pytest.approx(2 / 3)
    assert partial_score(options, {"d"}) == 0.5
    assert partial_score(options, set()) == 0.0
    assert partial_score([[]], {"a"}) == 0.0
    assert partial_score([], {"a"}) == 0.0


# --- The package's limit on ground options --------------------------------------------------


@pytest.mark.parametrize(
    ("activity", "complete"),
    [
        ("can_meat", False),  # lists 4 of 36
        ("putting_away_toys", False),  # 16 of 256, cut below the root
        ("sorting_vegetables", False),  # 17 of 27, cut at the root
        ("setup_a_bar_for_a_cocktail_party", False),  # 2 of 27
        ("sorting_bottles_cans_and_paper", True),  # all it drops contradict themselves
        ("freeze_fruit", True),
        ("clearing_food_from_table_into_fridge", True),
    ],
)
def test_a_truncated_list_of_options_is_refused(activity, complete):
    condition_evaluation = pytest.importorskip("bddl.condition_evaluation")
    if not hasattr(condition_evaluation, "truncated_product"):
        pytest.skip("the installed bddl has no limit")

    def options(unlimited):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bddl_problem, "_check_complete", lambda *_: None)
            if unlimited:
                patch.setattr(condition_evaluation, "truncated_product", itertools.product)
                patch.setattr(
                    condition_evaluation, "truncated_permutations", itertools.permutations
                )
            return GoalTracker(activity, World(Everything())).options

    assert (set(options(unlimited=False)) == set(options(unlimited=True))) is complete
    if complete:
        GoalTracker(activity, World(Everything()))
    else:
        with pytest.raises(
            EnvError, match=f"lists only some of the ground goal options of {activity}, so"
        ):
            GoalTracker(activity, World(Everything()))


def test_twenty_random_activities_compile_to_options_of_ground_literals(capsys):
    from bddl.activity import get_all_activities

    drawn = random.Random(31).sample(sorted(get_all_activities()), 30)
    compiled = 0
    for activity in drawn:
        try:
            tracker = started(activity, World(Everything()))
        except EnvError as error:
            if "lists only some of the ground goal options" in str(error):
                continue
            raise
        compiled += 1
        assert tracker.options
        assert all(tracker.options)
        for name in tracker.predicates:
            assert re.fullmatch(r"(not )*[a-z_]+( [\w.'-]+_\d+){1,2}", name), name
        assert tracker.status().q_score in (0.0, 1.0)
    assert compiled >= 20
    assert capsys.readouterr() == ("", "")


def test_what_the_package_prints_about_a_problem_stays_off_stdout(capsys):
    # Its problem file has a stray backslash, which the 3.6 parser reports by print.
    GoalTracker("wash_a_baseball_cap", World(Everything()))
    assert capsys.readouterr() == ("", "")


# --- The other API under the same name ------------------------------------------------------


@pytest.mark.parametrize("predicate_classes", [False, True])
def test_both_apis_give_the_same_options_and_truth(predicate_classes, monkeypatch, tmp_path):
    here = GoalTracker("clean_boxing_gloves", world := dusty_world())
    bddl_callback_double.install(
        monkeypatch,
        tmp_path,
        {"clean_boxing_gloves": BOXING_PROBLEM},
        predicate_classes=predicate_classes,
    )
    there = GoalTracker("clean_boxing_gloves", world)
    assert there.options == here.options == (CLEAN,)
    here.start()
    there.start()
    steps = [
        set(world.facts),
        {("covered", GLOVES[0], DUST)},
        {("covered", GLOVES[1], DUST), ("ontop", GLOVES[0], "washer.n.03_1")},
        set(),
    ]
    seen = []
    for world.facts in steps:
        assert there.status() == here.status()
        seen.append(there.status().q_score)
    assert seen == [0.0, 0.5, 0.5, 1.0]


def test_the_callback_api_checks_the_scene_too(monkeypatch, tmp_path):
    bddl_callback_double.install(monkeypatch, tmp_path, {"clean_boxing_gloves": BOXING_PROBLEM})
    with pytest.raises(EnvError, match=r"the scene lacks washer\.n\.03_1 of"):
        GoalTracker("clean_boxing_gloves", World([n for n in BOXING_SCENE if n != "washer.n.03_1"]))
    with pytest.raises(UsageError, match="defines 1 activities, and 'wash_dog_toys' is not"):
        GoalTracker("wash_dog_toys", World(Everything()))


def test_a_choice_grounds_to_several_options_through_the_callback_api(monkeypatch, tmp_path):
    problem = BOXING_PROBLEM.replace("(forall", "(exists")
    bddl_callback_double.install(monkeypatch, tmp_path, {"clean_boxing_gloves": problem})
    world = dusty_world()
    tracker = started("clean_boxing_gloves", world)
    assert tracker.options == ((CLEAN[0],), (CLEAN[1],))
    assert tracker.status().success is False
    world.facts.discard(("covered", GLOVES[1], DUST))
    assert tracker.status().success is True


def test_a_broken_problem_is_an_error_of_the_environment(monkeypatch, tmp_path):
    problem = BOXING_PROBLEM.replace("behavior-1k", "igibson")
    bddl_callback_double.install(monkeypatch, tmp_path, {"clean_boxing_gloves": problem})
    with pytest.raises(
        EnvError,
        match="cannot compile clean_boxing_gloves, definition 0: Exception: Different domain",
    ):
        GoalTracker("clean_boxing_gloves", dusty_world())


def test_importing_the_module_does_not_import_bddl():
    code = (
        "import sys, b1k_envs.tasks.goals, b1k_envs.tasks.subgoals; sys.exit('bddl' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
