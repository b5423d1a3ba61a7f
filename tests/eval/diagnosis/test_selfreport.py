"""A policy's own word on skill and progress, judged against cases with a known answer."""

from __future__ import annotations

import re
from dataclasses import replace

import made_traces
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats
from scipy.stats.contingency import association

from b1k_envs.tasks.subgoals import SUBGOALS
from b1k_eval.diagnosis.selfreport import judge

TASK = "clean_boxing_gloves"
STEPS = 900
EVERY = 10
ALL_AT = {
    "near_washer": 50,
    "washer_opened": 100,
    "near_countertop": 200,
    "glove_1_picked_up": 300,
    "glove_1_in_washer": 400,
    "glove_2_picked_up": 500,
    "glove_2_in_washer": 600,
    "washer_closed": 700,
    "washer_turned_on": 800,
    "glove_1_clean": 800,
    "glove_2_clean": 800,
}
CALLED_FOR = (  # from so many steps on
    (0, "move to"),
    (50, "open door"),
    (100, "move to"),
    (200, "pick up from"),
    (300, "place in"),
    (400, "pick up from"),
    (500, "place in"),
    (600, "close door"),
    (700, "turn on switch"),
)


SKILLED = [name for name in ALL_AT if not name.endswith("clean")]


def called_for(steps):
    """The skill that is called for after so many steps, read off the table by hand."""
    return [skill for since, skill in CALLED_FOR if since <= steps][-1]


@pytest.fixture
def make(tmp_path):
    """An episode in which the policy says something at each inference."""

    def make(
        *,
        skill=None,
        index=None,
        progress=None,
        instance=0,
        reached=ALL_AT,
        success=False,
        steps=STEPS,
        **more,
    ):
        """Skill, index and progress are functions of the steps done, 0 before the first."""
        asked = np.arange(steps) // EVERY * EVERY
        columns = {"inference": np.arange(steps) % EVERY == 0}
        for name, said, kind in (
            ("skill", skill, pa.string()),
            ("skill_index", index, pa.int32()),
            ("progress", progress, pa.float32()),
        ):
            words = [None if said is None else said(int(k)) for k in asked]
            columns[name] = pa.array(words, kind)
        outcome = {"outcome": "success", "success": True, "q_score": 1.0} if success else {}
        return made_traces.episode(
            tmp_path / str(instance),
            steps=steps,
            instance=instance,
            subgoals={name: [(step, steps)] for name, step in reached.items()},
            columns=columns,
            **outcome,
            **more,
        )

    return make


@pytest.fixture
def judged(make, tmp_path):
    def judged(**what):
        return judge(made_traces.run(tmp_path, make(**what)))

    return judged


# --- skill ----------------------------------------------------------------------------------


def test_a_policy_that_names_what_is_called_for_agrees_always(judged):
    report = judged(skill=called_for).skill
    assert (report.agreement.agreed, report.agreement.of) == (80, 80)  # none is left after 800
    assert (report.at_achievement.agreed, report.at_achievement.of) == (9, 9)
    assert report.no_agreement is None
    assert (report.table == np.diag(report.table.diagonal())).all()
    assert report.said == report.active
    assert report.association.mutual_information == pytest.approx(1.0)
    assert report.association.cramers_v == pytest.approx(1.0)
    assert report.association.cramers_v_chance < 0.7


def test_the_table_has_the_inferences_by_skill_called_for_and_said(judged):
    def late(steps):  # half of each stretch it is still at the one before
        return called_for(max(steps - 50, 0))

    report = judged(skill=late).skill
    pairs = pd.DataFrame(
        [(called_for(k), late(k)) for k in range(0, 800, EVERY)], columns=["active", "said"]
    )
    expected = pd.crosstab(pairs["active"], pairs["said"])
    found = pd.DataFrame(report.table, index=report.active, columns=report.said)
    pd.testing.assert_frame_equal(
        found.loc[expected.index, expected.columns], expected, check_names=False, check_dtype=False
    )
    assert report.agreement.share == (pairs["active"] == pairs["said"]).mean()
    assert report.inferences == 90


@pytest.mark.parametrize("word", ["move to", "pick up from"])
def test_a_policy_that_always_says_the_same_agrees_as_often_as_by_chance(judged, word):
    report = judged(skill=lambda _steps: word).skill
    assert report.agreement.share == pytest.approx(report.agreement.chance)
    assert report.at_achievement.share == pytest.approx(report.at_achievement.chance)
    assert report.association is None
    assert report.switches_per_s == 0.0


def test_chance_is_that_of_all_shifts_in_time(judged):
    words = ["move to", "open door", "place in", None, "pick up from"]

    def said(steps):
        return words[(steps // 70) % len(words)]

    report = judged(skill=said).skill
    # Enumerated; the last ten inferences call for nothing, and some say nothing.
    at = list(range(0, STEPS, EVERY))
    spoken = [said(k) for k in at]
    active = [called_for(k) if k < 800 else None for k in at]
    pairs = [[(spoken[(i + shift) % 90], active[i]) for i in range(90)] for shift in range(len(at))]
    both = [[pair for pair in shifted if None not in pair] for shifted in pairs]
    agreed = [sum(one == other for one, other in shifted) for shifted in both]
    assert (report.agreement.agreed, report.agreement.of) == (agreed[0], len(both[0]))
    assert report.agreement.chance == pytest.approx(sum(agreed) / sum(map(len, both)))
    in_force = [said((ALL_AT[name] - 1) // EVERY * EVERY) for name in SKILLED]
    given = [word for word in spoken if word is not None]
    shares = [
        given.count(skill) / len(given)
        for word, (_, skill) in zip(in_force, CALLED_FOR, strict=True)
        if word is not None
    ]
    assert report.at_achievement.of == len(shares) < 9
    assert report.at_achievement.chance == pytest.approx(np.mean(shares))


def test_follow_through_counts_against_agreement_but_not_at_the_achievement(judged):
    """Says the right skill at the moment it counts, and something else all the time between."""

    def said(steps):
        return called_for(steps) if steps % 50 == 40 else "turn to"

    report = judged(skill=said).skill
    assert (report.at_achievement.agreed, report.at_achievement.of) == (9, 9)
    assert report.agreement.agreed == 16
    assert report.said[-1] == "turn on switch"
    assert "turn to" not in report.active


def test_the_order_of_the_episode_decides_what_is_called_for(judged):
    """Glove 2 first, and the washer last: the demonstrated order is not the only one."""
    reached = {"glove_2_picked_up": 300, "washer_opened": 600}

    def said(steps):
        return "pick up from" if steps < 300 else "open door" if steps < 600 else "move to"

    report = judged(skill=said, reached=reached).skill
    assert report.agreement.share == 1.0  # at the end, coming near the washer is the first open


def test_indices_without_names_are_related_but_never_called_right(judged):
    order = [skill for _, skill in dict.fromkeys(CALLED_FOR)]
    report = judged(index=lambda steps: 7 + order.index(called_for(steps))).skill
    assert (report.agreement, report.at_achievement) == (None, None)
    assert "do not name its skills" in report.no_agreement
    assert report.said[0] == "skill 7"
    assert report.association.mutual_information == pytest.approx(1.0)
    assert report.association.mutual_information_chance < 0.6


def test_a_name_beside_an_index_is_what_counts(judged):
    report = judged(skill=called_for, index=lambda steps: 3).skill
    assert report.agreement.share == 1.0


def test_the_association_is_that_of_scipy(judged):
    random = np.random.default_rng(4)
    drawn = random.integers(0, 5, STEPS)

    def index(steps):
        return int(drawn[steps]) if steps % 30 else len(called_for(steps)) % 5

    report = judged(index=index).skill
    assert report.association.cramers_v == pytest.approx(association(report.table))
    joint = report.table / report.table.sum()
    entropies = [stats.entropy(joint.sum(axis=axis)) for axis in (0, 1)]
    information = sum(entropies) - stats.entropy(joint.ravel())
    expected = information / np.sqrt(np.prod(entropies))
    assert report.association.mutual_information == pytest.approx(expected)


def test_what_is_said_at_random_is_related_no_more_than_by_chance(make, tmp_path):
    random = np.random.default_rng(2)
    episodes = [
        make(index=lambda _steps: int(random.integers(6)), instance=instance)
        for instance in range(8)
    ]
    report = judge(made_traces.run(tmp_path, *episodes)).skill
    strength = report.association
    assert strength.cramers_v == pytest.approx(strength.cramers_v_chance, abs=0.05)
    assert 0 < strength.mutual_information_chance < 0.05


def test_switches_are_counted_per_simulated_second(judged):
    report = judged(skill=lambda steps: ("move to", "turn to")[steps // 30 % 2]).skill
    # 90 inferences over 890 steps; a change every 30 steps.
    assert report.switches_per_s == pytest.approx(29 / (890 / 30))


def test_episodes_do_not_switch_from_one_to_the_next(make, tmp_path):
    episodes = [
        make(skill=lambda _steps, word=word: word, instance=i)
        for i, word in enumerate(("move to", "turn to"))
    ]
    assert judge(made_traces.run(tmp_path, *episodes)).skill.switches_per_s == 0.0


def test_a_policy_without_skills_has_no_report_on_them(judged):
    report = judged(progress=lambda steps: steps / STEPS)
    assert report.skill is None
    assert report.progress is not None
    assert judged(skill=called_for).progress is None


def test_a_task_without_subgoals_has_no_agreement(judged):
    report = judged(skill=called_for, task="setting_mousetraps", reached={}).skill
    assert report.agreement is None
    assert "the task has no sub-goals" in report.no_agreement
    assert report.switches_per_s > 0


# --- progress -------------------------------------------------------------------------------


def test_a_progress_that_is_the_time_rises_and_is_calibrated_against_it(judged):
    report = judged(progress=lambda steps: steps / STEPS, success=True).progress
    assert report.inferences == 90
    assert report.rising == 1.0
    assert (report.with_time.rho, report.with_time.of) == (pytest.approx(1.0), 1)
    assert report.against_time.brier == pytest.approx(0.0, abs=1e-12)
    assert report.against_time.constant == pytest.approx(1 / 12, rel=0.01)
    assert [entry.count for entry in report.against_time.bins] == [9] * 10
    for entry in report.against_time.bins:
        assert entry.said == pytest.approx(entry.was, abs=1e-6)
        assert entry.low <= entry.said < entry.high
    assert report.spread.stuck is False
    assert report.spread.verdict == "moves between 0.00 and 0.99"


def test_a_progress_that_falls_is_anticorrelated_and_badly_calibrated(judged):
    report = judged(progress=lambda steps: 1 - steps / STEPS, success=True).progress
    assert report.rising == 0.0
    assert report.with_time.rho == pytest.approx(-1.0)
    assert report.with_subgoals.rho < -0.9
    assert report.against_time.brier > 3 * report.against_time.constant


def test_a_progress_that_is_the_share_of_subgoals_is_calibrated_against_them(judged):
    def share(steps):
        return sum(step <= steps for step in ALL_AT.values()) / 11

    report = judged(progress=share).progress
    assert report.with_subgoals.rho == pytest.approx(1.0)
    assert report.with_subgoals.of == 90
    assert report.against_subgoals.brier == pytest.approx(0.0, abs=1e-12)
    assert report.rising == 1.0
    assert (report.with_time, report.against_time) == (None, None)  # no success


def test_the_correlation_with_time_is_the_median_over_successes(make, tmp_path):
    up, down = (lambda steps: steps / STEPS), (lambda steps: 1 - steps / STEPS)
    flat = lambda _steps: 0.5  # noqa: E731
    said = (up, up, down, flat)
    episodes = [make(progress=p, instance=i, success=True) for i, p in enumerate(said)]
    episodes.append(make(progress=down, instance=9))
    found = judge(made_traces.run(tmp_path, *episodes)).progress.with_time
    assert (found.rho, found.of) == (pytest.approx(1.0), 3)


def test_values_at_the_edges_of_bins_are_put_up_and_one_into_the_last(judged):
    values = [0.0, 0.1, 0.3, 0.7, 0.9, 1.0, 0.6999]
    report = judged(progress=lambda steps: values[steps // EVERY % 7]).progress
    bins = {round(entry.low, 1): entry.count for entry in report.against_subgoals.bins}
    assert bins == {0.0: 13, 0.1: 13, 0.3: 13, 0.7: 13, 0.9: 26, 0.6: 12}
    assert sum(bins.values()) == report.against_subgoals.count == 90


def test_a_constant_progress_is_stuck_and_says_where(judged):
    wobble = np.random.default_rng(0).uniform(-0.02, 0.02, STEPS)
    report = judged(progress=lambda steps: 0.5 + float(wobble[steps])).progress
    assert report.spread.stuck is True
    assert report.spread.verdict == "stuck near 0.50"
    assert report.spread.near_median == 1.0
    assert report.spread.deviation == pytest.approx(0.04 / np.sqrt(12), rel=0.2)
    assert report.spread.high - report.spread.low < 0.04


def test_a_progress_stuck_elsewhere_in_every_episode_is_stuck_too(make, tmp_path):
    episodes = [
        make(progress=lambda _steps, at=at: at, instance=i) for i, at in enumerate((0.2, 0.5, 0.8))
    ]
    spread = judge(made_traces.run(tmp_path, *episodes)).progress.spread
    assert spread.stuck is True
    assert spread.verdict == "stuck within each episode, between 0.20 and 0.80"


@pytest.mark.parametrize(
    ("value", "stuck", "verdict"),
    [
        (0.03, None, "stays near 0.03, as the task did: nothing can be told"),
        (0.5, True, "stuck near 0.50"),
    ],
)
def test_staying_at_nought_is_right_where_nothing_is_reached(judged, value, stuck, verdict):
    spread = judged(progress=lambda _steps: value, reached={}).progress.spread
    assert (spread.stuck, spread.verdict) == (stuck, verdict)


def test_one_inference_is_judged_for_what_it_can_be(judged):
    report = judged(progress=lambda _steps: 0.4, steps=8, reached={}).progress
    assert report.inferences == 1
    assert (report.rising, report.spread, report.with_subgoals) == (None, None, None)
    assert report.against_subgoals.brier == pytest.approx(0.16)


# --- runs -----------------------------------------------------------------------------------


def test_errors_do_not_count_and_damaged_traces_are_named(make, tmp_path):
    good = make(skill=called_for, instance=0)
    spoilt = make(skill=called_for, instance=1)
    spoilt.trace.write_bytes(b"PAR1")
    error = replace(make(skill=called_for, instance=2), outcome="error", success=None, q_score=None)
    report = judge(made_traces.run(tmp_path, good, spoilt, error))
    assert report.episodes == 1
    assert report.skill.inferences == 90
    assert [entry.name for entry in report.left_out] == [f"{TASK}-1-0"]
    assert re.search(r"trace.parquet cannot be read", report.left_out[0].why)


def test_the_expert_knows_what_it_does(scripted):
    report = judge(scripted["succeeds"])
    skill, progress = report.skill, report.progress
    assert skill.at_achievement.of == 9
    assert skill.at_achievement.agreed >= 7
    assert skill.agreement.share > 2 * skill.agreement.chance
    assert set(skill.active) == {subgoal.skill for subgoal in SUBGOALS[TASK]} - {None}
    assert progress.rising == 1.0
    assert progress.with_time.rho > 0.95
    assert progress.with_subgoals.rho > 0.95
    assert progress.against_subgoals.brier < 0.5 * progress.against_subgoals.constant
    assert progress.spread.stuck is False


def test_the_inferences_counted_are_those_of_the_result(scripted):
    run = scripted["succeeds"]
    assert judge(run).skill.inferences == run.episodes[0].inferences
