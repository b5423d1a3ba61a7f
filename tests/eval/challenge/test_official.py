"""Official result files, byte for byte, of episodes whose figures are worked out by hand.

The world is a point on a line that moves by an eighth of a metre a step at full command, in numbers
that binary fractions hold exactly. What a pass does not prove: the order of `failure_reason`, which
could not be read anywhere.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from doubles import BreakingEnv, DrivePolicy, RaisingPolicy, ToyEnv

from b1k_envs.errors import PolicyFaultError, UsageError
from b1k_envs.tasks.table import HumanStats
from b1k_eval.challenge.official_record import official_name, official_text
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_eval.records.episode import EpisodeRecord
from b1k_eval.records.scoring import ScoreKeeper, episode_record

HUMAN = HumanStats(
    length=25.0,
    distance_traveled=2.25,
    left_eef_displacement=4.5,
    right_eef_displacement=1.125,
)


def record_of(env, policy, episode):
    keeper = ScoreKeeper()
    chunking = RecedingHorizon(4, policy.chunk_length)
    result = run_episode(env, policy, episode, chunking, subscribers=[keeper])
    return episode_record(result, keeper, HUMAN)


@pytest.fixture
def success(episode):
    """Ten steps at full command reach the goal at 1.25 m.

    Distances: the first step only sets the positions, so nine of 0.125 m count, 1.125 m, for the
    base and for both hands, which it carries. Over the human ones: 2.25 / 1.125 = 2,
    4.5 / 1.125 = 4, 1.125 / 1.125 = 1. Time: 10 / 30 s; 25 human steps / 10 = 2.5.
    """
    return record_of(ToyEnv(), DrivePolicy(vx=1.0), episode)


@pytest.fixture
def timeout(episode):
    """Half speed and a limit of 12 steps, which one more follows: 13.

    At 13 * 0.0625 = 0.8125 m the first of two predicates holds (from 0.625 m on), the second (from
    1.25 m) does not: q = 0.5. Distances: 12 * 0.0625 = 0.75 m; 2.25 / 0.75 = 3, 4.5 / 0.75 = 6,
    1.125 / 0.75 = 1.5. Time: 13 times the double next to 1/30; 25 / 13.
    """
    return record_of(ToyEnv(max_steps=12), DrivePolicy(vx=0.5), episode)


@pytest.fixture
def still(episode):
    """A robot that never moves, limit 2, so 3 steps: distances 0, and human / 0 is Infinity.

    Time: 3 / 30 s = 0.1 s; 25 / 3.
    """
    return record_of(ToyEnv(max_steps=2), DrivePolicy(vx=0.0), episode)


SUCCESS_2025 = (
    '{"agent_distance": {"base": 1.125, "left": 1.125, "right": 1.125}, '
    '"normalized_agent_distance": {"base": 2.0, "left": 4.0, "right": 1.0}, '
    '"q_score": {"final": 1.0}, '
    '"time": {"simulator_steps": 10, "simulator_time": 0.3333333333333333, '
    '"normalized_time": 2.5}}'
)
TIMEOUT_2025 = (
    '{"agent_distance": {"base": 0.75, "left": 0.75, "right": 0.75}, '
    '"normalized_agent_distance": {"base": 3.0, "left": 6.0, "right": 1.5}, '
    '"q_score": {"final": 0.5}, '
    '"time": {"simulator_steps": 13, "simulator_time": 0.43333333333333335, '
    '"normalized_time": 1.9230769230769231}}'
)
STILL_2025 = (
    '{"agent_distance": {"base": 0.0, "left": 0.0, "right": 0.0}, '
    '"normalized_agent_distance": {"base": Infinity, "left": Infinity, "right": Infinity}, '
    '"q_score": {"final": 0.0}, '
    '"time": {"simulator_steps": 3, "simulator_time": 0.1, '
    '"normalized_time": 8.333333333333334}}'
)
SUCCESS_2026 = """{
  "task": "clean_boxing_gloves",
  "instance_id": 307,
  "rollout_id": 0,
  "steps": 10,
  "success": true,
  "agent_distance": {
    "base": 1.125,
    "left": 1.125,
    "right": 1.125
  },
  "normalized_agent_distance": {
    "base": 2.0,
    "left": 4.0,
    "right": 1.0
  },
  "q_score": {
    "final": 1.0
  },
  "time": {
    "simulator_steps": 10,
    "simulator_time": 0.3333333333333333,
    "normalized_time": 2.5
  }
}"""
TIMEOUT_2026 = """{
  "task": "clean_boxing_gloves",
  "instance_id": 307,
  "rollout_id": 0,
  "steps": 13,
  "success": false,
  "agent_distance": {
    "base": 0.75,
    "left": 0.75,
    "right": 0.75
  },
  "normalized_agent_distance": {
    "base": 3.0,
    "left": 6.0,
    "right": 1.5
  },
  "q_score": {
    "final": 0.5
  },
  "time": {
    "simulator_steps": 13,
    "simulator_time": 0.43333333333333335,
    "normalized_time": 1.9230769230769231
  }
}"""
STILL_2026 = """{
  "task": "clean_boxing_gloves",
  "instance_id": 307,
  "rollout_id": 0,
  "steps": 3,
  "success": false,
  "agent_distance": {
    "base": 0.0,
    "left": 0.0,
    "right": 0.0
  },
  "normalized_agent_distance": {
    "base": Infinity,
    "left": Infinity,
    "right": Infinity
  },
  "q_score": {
    "final": 0.0
  },
  "time": {
    "simulator_steps": 3,
    "simulator_time": 0.1,
    "normalized_time": 8.333333333333334
  }
}"""


@pytest.mark.parametrize(
    ("name", "protocol", "text"),
    [
        ("success", "2025", SUCCESS_2025),
        ("timeout", "2025", TIMEOUT_2025),
        ("still", "2025", STILL_2025),
        ("success", "2026", SUCCESS_2026),
        ("timeout", "2026", TIMEOUT_2026),
        ("still", "2026", STILL_2026),
    ],
)
def test_the_file_is_the_evaluators_byte_for_byte(request, name, protocol, text):
    written = json.dumps(request.getfixturevalue(name).to_json())  # as it comes from result.json
    record = EpisodeRecord.from_json(json.loads(written))
    assert official_text(record, HUMAN, protocol, 307) == text


def test_time_is_a_product_as_the_evaluator_computes_it(episode):
    """Not a quotient: 23 * (1 / 30) and 23 / 30 are two doubles."""
    record = record_of(ToyEnv(max_steps=22), DrivePolicy(vx=0.0), episode)
    text = official_text(record, HUMAN, "2025", 0)
    product = float(np.float64(23) * np.reciprocal(np.float64(30)))
    assert product != 23 / 30
    assert f'"simulator_time": {product!r},' in text


FAULT_2026 = """{
  "task": "clean_boxing_gloves",
  "instance_id": 307,
  "rollout_id": 0,
  "steps": 8,
  "success": false,
  "failure_reason": "policy_query_timeout",
  "agent_distance": {
    "base": 0.4375,
    "left": 0.4375,
    "right": 0.4375
  },
  "normalized_agent_distance": {
    "base": 0.0,
    "left": 0.0,
    "right": 0.0
  },
  "q_score": {
    "final": 0.0
  },
  "time": {
    "simulator_steps": 8,
    "simulator_time": 0.26666666666666666,
    "normalized_time": 0.6666666666666666
  }
}"""


def failing_at_the_third_question(fault):
    class Failing(DrivePolicy):
        def infer(self, observation):
            if len(self.observations) == 2:
                raise fault
            return super().infer(observation)

    return Failing(vx=0.5)


def test_a_policys_fault_is_filed_as_the_later_client_does(episode):
    """Eight steps of 0.0625 m were done, seven count: 0.4375 m.

    The rules set the rest: q 0, distances 0, and the time of the limit, 1 / 1.5.
    """
    fault = PolicyFaultError("no answer within 600 s", reason="policy_query_timeout")
    record = record_of(ToyEnv(), failing_at_the_third_question(fault), episode)
    assert official_text(record, HUMAN, "2026", 307) == FAULT_2026
    assert official_text(record, HUMAN, "2025", 307) is None


def test_a_fault_that_the_evaluator_has_no_word_for_is_a_policy_error(episode):
    record = record_of(ToyEnv(), RaisingPolicy("infer"), episode)
    text = official_text(
        replace(record, failure_reason="policy_invalid_action"), HUMAN, "2026", 301
    )
    assert json.loads(text)["failure_reason"] == "policy_error"


def test_an_error_has_no_file(episode):
    error = record_of(BreakingEnv(hook="step"), DrivePolicy(), episode)
    assert official_text(error, HUMAN, "2025", 242) is None
    assert official_text(error, HUMAN, "2026", 301) is None


def test_a_file_is_named_by_the_instances_number_and_the_rollout():
    assert official_name("hiding_Easter_eggs", 307, 1) == "hiding_Easter_eggs_307_1.json"


def test_a_figure_that_is_not_published_is_not_made_up(success):
    published = HumanStats(length=25.0, distance_traveled=2.25)
    with pytest.raises(
        UsageError, match=r"^the human figure left_eef_displacement is not .*--human-"
    ):
        official_text(success, published, "2026", 301)
