"""The official formulas, on paths whose length is known by other means."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from doubles import PREDICATES, BreakingEnv, DrivePolicy, RaisingPolicy, ToyEnv

from b1k_envs.base import AgentPositions
from b1k_envs.tasks.table import HumanStats
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_eval.records.scoring import ScoreKeeper, efficiency, episode_record

HUMAN = HumanStats(
    length=8235.0,
    distance_traveled=28.6,
    left_eef_displacement=40.0,
    right_eef_displacement=None,
)


def score(env, policy, episode, human=HUMAN):
    keeper = ScoreKeeper()
    chunking = RecedingHorizon(4, policy.chunk_length)
    result = run_episode(env, policy, episode, chunking, subscribers=[keeper])
    return episode_record(result, keeper, human).to_json()


def test_the_first_step_only_initialises_the_distances(episode):
    record = score(ToyEnv(), DrivePolicy(vx=1.0), episode)
    # Ten steps of 0.125 m, of which nine are counted.
    distance = record["efficiency"]["agent_distance"]
    assert distance == pytest.approx({"base": 1.125, "left": 1.125, "right": 1.125})


def test_hands_are_measured_in_the_world_and_in_three_dimensions(episode):
    class Waving(ToyEnv):
        def step(self, action):
            result = super().step(action)
            angle = 2 * math.pi * (result.step - 1) / 40  # a circle of radius 0.3 m, once around
            hand = np.array([0.0, 0.3 * math.cos(angle), 1.0 + 0.3 * math.sin(angle)])
            agent = AgentPositions(
                base=result.agent.base, left_eef=hand, right_eef=result.agent.right_eef
            )
            object.__setattr__(result, "agent", agent)
            return result

    record = score(Waving(max_steps=40), DrivePolicy(vx=0.0), episode)
    assert record["steps"] == 41
    distance = record["efficiency"]["agent_distance"]
    assert distance["left"] == pytest.approx(2 * math.pi * 0.3, rel=2e-3)
    assert distance["base"] == distance["right"] == 0.0


def test_time_and_normalised_figures_follow_the_official_formulas():
    figures = efficiency(4000, {"base": 14.3, "left": 80.0, "right": 10.0}, HUMAN)
    assert figures["time"]["simulator_steps"] == 4000
    assert figures["time"]["simulator_time"] == pytest.approx(133.333, abs=1e-3)
    assert figures["time"]["normalized_time"] == pytest.approx(2.05875)
    assert figures["normalized_agent_distance"] == pytest.approx(
        {"base": 2.0, "left": 0.5, "right": None}
    )
    assert figures["notes"] == [
        "normalized_agent_distance.right is null: the human figure of this task is not published"
    ]


def test_no_motion_is_null_with_a_note_and_never_infinity():
    figures = efficiency(10, {"base": 0.0, "left": 1.0, "right": 1.0}, HUMAN)
    assert figures["normalized_agent_distance"]["base"] is None
    assert figures["notes"][0] == (
        "normalized_agent_distance.base is null: no motion, officially Infinity, "
        "which JSON does not have"
    )
    json.dumps(figures, allow_nan=False)


def test_sub_goals_keep_the_first_step_they_held(episode):
    record = score(ToyEnv(), DrivePolicy(vx=1.0), episode)
    assert record["subgoals"] == {"moved": 1, "half_way": 5, "there": 10}
    started = score(ToyEnv(start=0.7), DrivePolicy(vx=0.0), episode)
    assert started["subgoals"] == {"moved": None, "half_way": 0, "there": None}
    assert started["initial_predicates"] == {PREDICATES[0]: True, PREDICATES[1]: False}


def test_success_and_failure_carry_the_env_s_final_score(episode):
    success = score(ToyEnv(), DrivePolicy(vx=1.0), episode)
    assert (success["outcome"], success["success"], success["q_score"]) == ("success", True, 1.0)
    half = score(ToyEnv(max_steps=6), DrivePolicy(vx=1.0), episode)
    assert (half["outcome"], half["success"], half["q_score"]) == ("failure", False, 0.5)


def test_a_policys_fault_scores_nothing_whatever_was_reached(episode):
    class Fading(DrivePolicy):
        def infer(self, observation):
            if observation.step >= 8:
                raise ValueError("out of ideas")
            return super().infer(observation)

    record = score(ToyEnv(), Fading(vx=1.0), episode)
    assert record["predicates"][PREDICATES[0]]
    assert (record["outcome"], record["q_score"]) == ("failure", 0.0)
    # 2026 rules: distances normalised to 0, time as at the limit of 1.5 human lengths.
    figures = record["efficiency"]
    assert figures["normalized_agent_distance"] == {"base": 0.0, "left": 0.0, "right": 0.0}
    assert figures["time"]["normalized_time"] == pytest.approx(1 / 1.5)
    assert figures["agent_distance"]["base"] == pytest.approx(7 * 0.125)


def test_an_error_is_not_scored(episode):
    record = score(BreakingEnv(hook="step", at_step=5), DrivePolicy(vx=1.0), episode)
    assert record["outcome"] == "error"
    assert record["success"] is record["q_score"] is record["efficiency"] is None
    assert "fell over" in record["traceback"]
    assert record["steps"] == 5


def test_a_failure_before_the_first_step_is_valid_json(episode):
    record = score(ToyEnv(), RaisingPolicy("reset"), episode)
    assert record["steps"] == 0
    json.dumps(record, allow_nan=False)
