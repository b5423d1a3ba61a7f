"""Each way to fail gets its name: real episodes in the twin first, corner cases after."""

from __future__ import annotations

import re
from dataclasses import replace

import made_traces
import numpy as np
import pytest
from made_traces import moving
from scripted_failures import SCRIPTS
from twin_bench import make_twin

from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_eval.diagnosis.failures import LABELS, label_failure, label_failures
from b1k_eval.records.loading import read_trace
from b1k_eval.records.trace_reading import DamagedTraceError
from b1k_eval.report.episodes import read_episode_page

QUICK = ("never moves", "drives away", "stops before the washer", "lets go at once", "raises")


def labelled(run):
    (episode,) = run.episodes
    return label_failure(episode)


# --- real episodes --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in SCRIPTS
        if name != "succeeds"
    ],
)
def test_a_policy_that_fails_in_a_known_way_gets_that_label(scripted, name):
    run = scripted[name]
    assert dict(run.counts) == {"success": 0, "failure": 1, "error": 0}
    failure = labelled(run)
    assert failure is not None
    assert failure.label == SCRIPTS[name].label, failure.seen
    assert failure.words == LABELS[failure.label]


@pytest.mark.slow
def test_a_success_gets_no_label(scripted):
    run = scripted["succeeds"]
    assert run.counts["success"] == 1
    assert labelled(run) is None
    assert label_failures(run).failures == ()


def test_the_step_is_the_one_at_which_it_happened(scripted):
    """A policy stops at an inference, so what it lets go is gone in the step right after one."""
    for name, distance in (
        ("lets go at once", 0.05),
        ("drops the glove on the way", None),
        ("lets go before the drum", None),
    ):
        failure = labelled(scripted[name])
        trace = read_trace(scripted[name].episodes[0])
        columns = trace.read("subgoal:glove_1_picked_up", "action_14", "inference")
        held, command = columns["subgoal:glove_1_picked_up"], columns["action_14"]
        assert held[failure.step - 2]
        assert not held[failure.step - 1 :].any()
        assert command[failure.step - 2] < 1.0 == command[failure.step - 1]
        assert columns["inference"][failure.step - 1]
        assert f"was let go at step {failure.step}" in failure.seen
        said = float(re.search(r"([\d.]+) m from where it was taken", failure.seen)[1])
        assert (said < distance) if distance else (said > 0.5)


def test_a_policy_fault_carries_the_policys_own_words(scripted):
    failure = labelled(scripted["raises"])
    assert (failure.step, failure.seen) == (300, "policy_error: ValueError: out of memory, say")
    failure = labelled(scripted["returns no numbers"])
    assert failure.seen == "policy_invalid_action: actions[0, 0] is nan"


def test_the_one_that_presses_does_touch_the_button_of_the_open_washer(scripted):
    """What the label is silent about did happen: the fingertips were at the button."""
    (episode,) = scripted["presses with the door open"].episodes
    env = make_twin()
    env.reset(0, 0, 0)
    button = env.privileged_state().positions[scene.WASHER_BUTTON]
    env.close()
    columns = read_trace(episode).read(
        "left_eef_x", "left_eef_y", "left_eef_z", "subgoal:washer_opened"
    )
    hand = np.stack([columns[f"left_eef_{axis}"] for axis in "xyz"], axis=1)
    there = np.linalg.norm(hand - button, axis=1) < 0.06  # a finger's length and the cap's depth
    assert (there & columns["subgoal:washer_opened"]).sum() >= 5
    assert "the washer open since step" in labelled(scripted["presses with the door open"]).seen


def test_all_failures_of_a_run_are_labelled_and_counted(scripted, tmp_path):
    names = (
        "drives away",
        "raises",
        "returns no numbers",
        "succeeds",
        "drops the glove on the way",
    )
    run = made_traces.run(tmp_path, *(scripted[name].episodes[0] for name in names))
    found = label_failures(run)
    assert [failure.label for failure in found.failures] == [
        "never_reached_washer",
        "policy_fault",
        "policy_fault",
        "glove_dropped",
    ]
    assert list(found.counts.items()) == [
        ("policy_fault", 2),
        ("glove_dropped", 1),
        ("never_reached_washer", 1),
    ]
    assert found.left_out == ()


# --- corner cases ---------------------------------------------------------------------------

STEPS = 2000
HERE = {"base_x": moving(STEPS)}  # drives all the time
GONE = {"base_x": np.minimum(moving(STEPS), 5.0)}  # stands still from step 501 on


def label_of(folder, **what):
    failure = label_failure(made_traces.episode(folder, steps=STEPS, **what))
    assert failure is not None
    return failure


def test_an_error_gets_no_label(tmp_path):
    episode = made_traces.episode(tmp_path, outcome="error", success=None, q_score=None)
    assert label_failure(episode) is None
    assert label_failures(made_traces.run(tmp_path, episode)).failures == ()


def test_a_robot_that_only_shivers_never_moved(tmp_path):
    shiver = {"left_eef_x": 0.09 * np.sin(np.arange(STEPS))}
    assert label_of(tmp_path, columns=shiver).label == "never_moved"
    shiver["left_eef_x"] = shiver["left_eef_x"] * 2
    assert label_of(tmp_path, columns=shiver).label == "never_reached_washer"


def test_a_robot_that_is_near_from_the_start_has_reached_the_washer(tmp_path):
    episode = made_traces.episode(tmp_path, steps=STEPS, columns=GONE)
    assert label_failure(episode).label == "never_reached_washer"
    at_the_start = replace(episode, subgoals={**episode.subgoals, "near_washer": 0})
    assert label_failure(at_the_start).label == "door_not_opened"


OPENED = {"near_washer": [(1, 900)], "washer_opened": [(100, STEPS)]}


@pytest.mark.parametrize(
    ("last_step", "drives", "label"),
    [
        (1999, True, "time_out_while_working"),
        (1101, True, "time_out_while_working"),  # 29.97 s before the end
        (1099, True, "never_picked_up"),
        (1999, False, "never_picked_up"),
    ],
)
def test_getting_on_means_new_within_thirty_seconds_and_moving(tmp_path, last_step, drives, label):
    held = {**OPENED, "washer_opened": [(last_step, STEPS)]}
    failure = label_of(tmp_path, subgoals=held, columns=HERE if drives else GONE)
    assert failure.label == label


def test_coming_near_is_not_getting_on(tmp_path):
    held = {"near_washer": [(1990, STEPS)]}
    assert label_of(tmp_path, subgoals=held, columns=HERE).label == "door_not_opened"


def grippers(left=(), right=()):
    """Closed in these spans, open else."""
    return {
        f"action_{column}": np.where(made_traces.truth(STEPS, spans), -1.0, 1.0)
        for column, spans in ((14, left), (22, right))
    }


def test_the_distance_is_that_of_the_hand_that_held_it(tmp_path):
    """The right hand takes it and stays; the left one swings about."""
    held = {**OPENED, "glove_1_picked_up": [(300, 400)]}
    swing = {**GONE, "left_eef_x": moving(STEPS)}
    by_right = grippers(right=[(250, 400)])
    failure = label_of(tmp_path, subgoals=held, columns={**swing, **by_right})
    assert failure.label == "grasp_lost"
    assert "0.00 m from where it was taken" in failure.seen
    by_left = grippers(left=[(250, 400)])
    failure = label_of(tmp_path, subgoals=held, columns={**swing, **by_left})
    assert "1.01 m from where it was taken" in failure.seen


def test_a_fist_that_stays_closed_holds_nothing_that_was_let_go(tmp_path):
    held = {**OPENED, "glove_1_picked_up": [(300, 400)]}
    swing = {**GONE, "left_eef_x": moving(STEPS)}
    both_closed = grippers(left=[(250, STEPS)], right=[(250, 400)])
    failure = label_of(tmp_path, subgoals=held, columns={**swing, **both_closed})
    assert "0.00 m from where it was taken" in failure.seen


@pytest.mark.parametrize(("distance", "label"), [(0.58, "placed_outside"), (0.62, "glove_dropped")])
def test_at_the_washer_is_within_reach_of_where_a_hand_opened_it(tmp_path, distance, label):
    """The right hand opened it where it still is; the left lets the glove go so far away."""
    held = {"near_washer": [(1, 90)], "washer_opened": [(100, STEPS)]}
    held["glove_1_picked_up"] = [(300, 400)]
    left = np.where(np.arange(1, STEPS + 1) < 390, 5.0, distance)
    columns = {**GONE, **grippers(left=[(250, 400)]), "left_eef_y": left}
    assert label_of(tmp_path, subgoals=held, columns=columns).label == label


def test_with_both_hands_opening_at_once_no_distance_is_made_up(tmp_path):
    held = {"near_washer": [(1, 90)], "washer_opened": [(100, STEPS)]}
    held["glove_1_picked_up"] = [(300, 400)]
    both = grippers(left=[(250, 400)], right=[(250, 400)])
    failure = label_of(tmp_path, subgoals=held, columns={**GONE, **both})
    assert failure.label == "glove_dropped"
    assert failure.seen == "glove 1, taken at step 300, was let go at step 401"


def test_a_glove_that_was_taken_up_again_is_not_lost(tmp_path):
    held = {
        **OPENED,
        "glove_1_picked_up": [(200, 250), (300, 400)],
        "glove_1_in_washer": [(390, STEPS)],
    }
    columns = {**GONE, **grippers(left=[(190, 250), (290, 400)])}
    assert label_of(tmp_path, subgoals=held, columns=columns).label == "one_glove_only"


def test_of_a_glove_that_slipped_and_then_was_dropped_the_last_counts(tmp_path):
    held = {"near_washer": [(1, 90)], "washer_opened": [(100, STEPS)]}
    held["glove_1_picked_up"] = [(200, 250), (300, 400)]
    columns = {**GONE, "left_eef_y": moving(STEPS), **grippers(left=[(190, 250), (290, 400)])}
    failure = label_of(tmp_path, subgoals=held, columns=columns)
    assert (failure.label, failure.step) == ("glove_dropped", 401)


def test_the_glove_that_was_lost_first_decides(tmp_path):
    held = {
        **OPENED,
        "near_washer": [(1, 450)],
        "glove_1_picked_up": [(500, 600)],
        "glove_2_picked_up": [(300, 400)],
    }
    columns = {**GONE, "left_eef_y": moving(STEPS), **grippers(left=[(290, 400), (490, 600)])}
    failure = label_of(tmp_path, subgoals=held, columns=columns)
    assert (failure.label, failure.step) == ("placed_outside", 401)
    assert failure.seen.startswith("glove 2, taken at step 300")


def test_a_glove_that_fell_out_of_the_washer_was_placed_outside(tmp_path):
    held = {
        **OPENED,
        "glove_1_picked_up": [(300, 400)],
        "glove_1_in_washer": [(390, 420)],
    }
    columns = {**GONE, "left_eef_y": moving(STEPS), **grippers(left=[(290, 400)])}
    failure = label_of(tmp_path, subgoals=held, columns=columns)
    assert (failure.label, failure.step) == ("placed_outside", 401)


def test_a_glove_held_inside_the_washer_is_not_placed(tmp_path):
    held = {
        **OPENED,
        "glove_1_picked_up": [(300, STEPS)],
        "glove_1_in_washer": [(400, STEPS)],
    }
    columns = {**GONE, **grippers(left=[(290, STEPS)])}
    failure = label_of(tmp_path, subgoals=held, columns=columns)
    assert (failure.label, failure.step) == ("not_placed", 300)
    assert "standing still since step 4" in failure.seen  # 0.1 m before where it stopped at 501


BOTH_IN = {
    "near_washer": [(1, STEPS)],
    "glove_1_picked_up": [(200, 300)],
    "glove_2_picked_up": [(400, 500)],
    "glove_1_in_washer": [(290, STEPS)],
    "glove_2_in_washer": [(490, STEPS)],
}


@pytest.mark.parametrize(
    ("held", "label", "step"),
    [
        ({"washer_opened": [(100, STEPS)]}, "not_closed", 490),
        ({"washer_opened": [(100, 600), (700, STEPS)]}, "not_closed", 700),
        ({"washer_opened": [(100, 600)]}, "not_pressed", 601),
        (
            {"washer_opened": [(100, 600)], "washer_turned_on": [(650, 700)]},
            "not_pressed",
            601,
        ),
        (
            {"washer_opened": [(100, 600)], "washer_turned_on": [(650, STEPS)]},
            "washed_in_vain",
            650,
        ),
        (  # the first glove is washed, the second was put in afterwards
            {"washer_opened": [(100, 350), (450, STEPS)], "glove_1_clean": [(360, STEPS)]},
            "not_closed",
            490,
        ),
    ],
)
def test_with_both_gloves_inside_it_is_the_door_or_the_button(tmp_path, held, label, step):
    columns = {**GONE, **grippers(left=[(190, 300), (390, 500)])}
    failure = label_of(tmp_path, subgoals={**BOTH_IN, **held}, columns=columns)
    assert (failure.label, failure.step) == (label, step)


def test_a_trace_that_contradicts_its_result_is_left_out_and_named(tmp_path):
    clean = {name: [(700, STEPS)] for name in ("glove_1_clean", "glove_2_clean")}
    columns = {**GONE, **grippers(left=[(190, 300), (390, 500)])}
    episode = made_traces.episode(
        tmp_path, steps=STEPS, subgoals={**BOTH_IN, **OPENED, **clean}, columns=columns
    )
    with pytest.raises(DamagedTraceError, match="ends with both gloves clean, and yet the episode"):
        label_failure(episode)


def test_a_damaged_trace_is_left_out_and_the_rest_is_labelled(tmp_path):
    good = made_traces.episode(tmp_path / "good", instance=1)
    bad = made_traces.episode(tmp_path / "bad", instance=2)
    faulty = made_traces.episode(
        tmp_path / "faulty", instance=3, failure_reason="policy_error", message="ValueError: no"
    )
    for episode in (bad, faulty):
        episode.trace.write_bytes(b"PAR1")
    found = label_failures(made_traces.run(tmp_path, good, bad, faulty))
    assert [failure.label for failure in found.failures] == ["never_moved", "policy_fault"]
    assert [entry.name for entry in found.left_out] == ["clean_boxing_gloves-2-0"]
    assert "cannot be read" in found.left_out[0].why


def test_subgoals_of_another_version_are_not_interpreted(tmp_path):
    episode = made_traces.episode(tmp_path, columns={"base_x": moving(100)})
    other = replace(episode, subgoals={"near_washer": None})
    with pytest.raises(
        DamagedTraceError, match=r"has the sub-goals \['near_washer'\], this version"
    ):
        label_failure(other)


# --- other tasks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicates", "label", "step"),
    [
        ({"a": [], "b": []}, "nothing_done", STEPS),
        ({"a": [(300, STEPS)], "b": []}, "partly_done", STEPS),
        ({"a": [(300, STEPS)], "b": [(500, 600), (700, 800)]}, "goal_lost", 800),
        ({"a": [(300, 400)], "b": [(200, 300)]}, "goal_lost", 400),  # the later one
    ],
)
def test_another_task_gets_the_labels_of_its_goal(tmp_path, predicates, label, step):
    failure = label_of(tmp_path, task="setting_mousetraps", predicates=predicates, columns=HERE)
    assert (failure.label, failure.step) == (label, step)
    assert ("'a'" if step == 400 else "b") in failure.seen


def test_what_was_so_from_the_start_is_nothing_done(tmp_path):
    failure = label_of(
        tmp_path,
        task="setting_mousetraps",
        predicates={"a": [(1, STEPS)], "b": []},
        columns=HERE,
        initial_predicates={"a": True, "b": False},
    )
    assert failure.label == "nothing_done"
    assert failure.seen == "not so at the end: b"


def test_the_general_labels_hold_for_any_task(tmp_path):
    what = {"task": "setting_mousetraps", "predicates": {"a": []}}
    assert label_of(tmp_path, **what).label == "never_moved"
    fault = {"failure_reason": "policy_query_timeout", "message": None}
    failure = label_of(tmp_path, **what, **fault)
    assert (failure.label, failure.seen) == ("policy_fault", "policy_query_timeout")


def test_what_the_simulator_gave_is_told_beside_what_the_robot_did(tmp_path):
    said = "the simulator gave numbers that are not finite in 3 observations, first after step 40"
    failure = label_of(tmp_path, columns=HERE, message=said)
    assert failure.label != "policy_fault"
    assert failure.seen.endswith(f"; {said}")
    episode = made_traces.episode(tmp_path, columns=HERE, steps=STEPS, message=said, inferences=0)
    row = read_episode_page(episode).row
    assert row["why"] == f"{failure.words}: {said}", "the page's list says it, too"


def test_a_position_that_is_lost_for_some_steps_is_no_motion(tmp_path):
    """A maximum over NaN would be NaN, which no comparison holds of."""
    lost = np.zeros(STEPS)
    lost[100:200] = np.nan
    failure = label_of(tmp_path, columns={"left_eef_x": lost})
    assert failure.label == "never_moved"
    assert "stayed within 0.00 m" in failure.seen
