"""How far episodes came, counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import made_traces
import pytest
from made_traces import SUBGOALS

from b1k_envs.errors import UsageError
from b1k_envs.tasks import subgoals
from b1k_eval.diagnosis.funnel import STAGES, START, funnel

TASK = "clean_boxing_gloves"


@pytest.fixture
def make_run(tmp_path):
    """A run of episodes given by the first step of each sub-goal that was reached."""

    def make(name, *reached, errors=0):
        made = made_traces.episode(tmp_path / name)
        episodes = [
            replace(
                made,
                task=TASK,
                task_index=31,
                instance=instance,
                rollout=0,
                subgoals={goal: steps.get(goal) for goal in SUBGOALS},
            )
            for instance, steps in enumerate(reached)
        ]
        episodes += [replace(made, outcome="error", success=None, q_score=None)] * errors
        return made_traces.run(tmp_path / name, *episodes)

    return make


UP_TO_THE_DOOR = {"near_washer": 50, "washer_opened": 100}
FIRST_GLOVE = {**UP_TO_THE_DOOR, "near_countertop": 200}
ONE_IN = {**FIRST_GLOVE, "glove_2_picked_up": 300, "glove_2_in_washer": 400}
BOTH_IN = {**ONE_IN, "glove_1_picked_up": 500, "glove_1_in_washer": 600}
ALL = {
    **BOTH_IN,
    "washer_closed": 700,
    "washer_turned_on": 800,
    "glove_1_clean": 800,
    "glove_2_clean": 800,
}


def stage(found, name):
    return next(stage for stage in found.stages if stage.name == name)


def test_every_subgoal_is_counted_with_its_median_first_step(make_run):
    late = {name: step + 20 for name, step in ALL.items()}
    found = funnel(make_run("run", ALL, late, {**ONE_IN, "near_washer": 0}, {}))
    counts = {entry.name: (entry.count, entry.median_step) for entry in found.subgoals}
    assert counts["near_washer"] == (3, 50.0)
    assert counts["glove_2_picked_up"] == (3, 300.0)
    assert counts["glove_1_picked_up"] == (2, 510.0)
    assert counts["washer_turned_on"] == (2, 810.0)
    assert list(counts) == list(SUBGOALS)


def test_either_glove_may_be_the_first(make_run):
    other = {
        **FIRST_GLOVE,
        "glove_1_picked_up": 320,
        "glove_1_in_washer": 420,
        "glove_2_picked_up": 520,
    }
    found = funnel(make_run("run", BOTH_IN, other))
    first, second = stage(found, "first_glove_picked_up"), stage(found, "second_glove_picked_up")
    assert (first.count, first.median_step) == (2, 310.0)
    assert (second.count, second.median_step) == (2, 510.0)
    placed = stage(found, "second_glove_in_washer")
    assert (placed.count, placed.median_step, placed.came_so_far, placed.lost) == (1, 600.0, 2, 1)


def test_the_bottleneck_is_where_most_are_lost(make_run):
    found = funnel(make_run("run", ALL, {}, UP_TO_THE_DOOR, FIRST_GLOVE, FIRST_GLOVE, ONE_IN))
    assert found.bottleneck is not None
    assert (found.bottleneck.after, found.bottleneck.before) == (
        "robot near countertop",
        "first glove picked up",
    )
    assert (found.bottleneck.lost, found.bottleneck.of) == (2, 4)


def test_of_two_equal_losses_the_earlier_is_the_bottleneck(make_run):
    found = funnel(make_run("run", UP_TO_THE_DOOR, {}, ONE_IN))
    assert (found.bottleneck.after, found.bottleneck.before) == (START, "robot near washer")


def test_who_does_things_in_another_order_is_lost_where_he_stopped_and_once(make_run):
    """Both gloves in one trip, and the second one dropped on the way."""
    one_trip = {
        **FIRST_GLOVE,
        "glove_1_picked_up": 300,
        "glove_2_picked_up": 350,
        "glove_1_in_washer": 500,
    }
    found = funnel(make_run("run", one_trip))
    assert [(entry.name, entry.lost) for entry in found.stages if entry.lost] == [
        ("second_glove_in_washer", 1)
    ]


def test_nothing_is_lost_where_all_succeed(make_run):
    found = funnel(make_run("run", ALL, ALL))
    assert found.bottleneck is None
    assert {entry.count for entry in found.stages} == {2}


def test_errors_are_counted_beside_and_not_as_lost(make_run):
    found = funnel(make_run("run", ALL, errors=3))
    assert (found.scored, found.errors, found.bottleneck) == (1, 3, None)


def test_a_run_without_a_scored_episode_has_an_empty_funnel(make_run):
    found = funnel(make_run("run", errors=1))
    assert {(entry.count, entry.median_step) for entry in found.stages} == {(0, None)}
    assert found.bottleneck is None


def test_a_task_without_subgoals_and_imported_results_have_no_funnel(make_run, tmp_path):
    radio = made_traces.run(tmp_path / "radio", task="setting_mousetraps")
    with pytest.raises(UsageError, match="task setting_mousetraps has no sub-goals"):
        funnel(radio)
    run = make_run("a", ALL)
    imported = replace(run, identity={**run.identity, "imported_from": "elsewhere"})
    with pytest.raises(UsageError, match="official results have no sub-goals"):
        funnel(imported)


def test_subgoals_of_another_version_are_refused(make_run):
    run = make_run("run", ALL)
    changed = replace(run.episodes[0], subgoals={"near_washer": 3})
    with pytest.raises(UsageError, match=r"has the sub-goals \['near_washer'\], this version of"):
        funnel(replace(run, episodes=(changed,)))


def test_every_subgoal_of_every_task_is_in_a_stage():
    assert set(STAGES) == set(subgoals.SUBGOALS)
    for task, rules in STAGES.items():
        names = {subgoal.name for subgoal in subgoals.SUBGOALS[task]}
        assert {name for rule in rules for name in rule.subgoals} == names


def test_the_stages_of_a_real_success_come_in_their_order(scripted):
    run = scripted["succeeds"]
    written = json.loads((run.episodes[0].folder / "result.json").read_text())["subgoals"]
    found = funnel(run)
    steps = [entry.median_step for entry in found.stages]
    assert None not in steps
    assert steps == sorted(steps)
    assert stage(found, "second_glove_picked_up").median_step == max(
        written["glove_1_picked_up"], written["glove_2_picked_up"]
    )


def test_a_real_failure_is_lost_at_the_stage_it_did_not_reach(scripted):
    found = funnel(scripted["never presses"])
    assert (found.bottleneck.after, found.bottleneck.before) == (
        "washer closed on a glove",
        "washer turned on",
    )
