"""A whole recorded episode of the expert ends the same in the twin and through the adapter.

The actions are those of the expert in the twin, task 31, public-test instance 0; they are replayed
into the twin itself and into OmniGibson's double in every way the adapter can drive it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from jobs import run_jobs
from omnigibson_bench import drive
from twin_bench import episode_info, make_twin

from b1k_envs.base import Env, ProtocolYear
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_policies.baselines import ReplayPolicy

pytestmark = pytest.mark.slow


@dataclass
class Story:
    """An episode, step by step."""

    terminated: list[bool] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    predicates: list[dict[str, bool]] = field(default_factory=list)
    subgoals: list[dict[str, bool]] = field(default_factory=list)
    base: list[Any] = field(default_factory=list)

    def read(self, env: Env, result: Any) -> None:
        goal = env.goal()
        self.terminated.append(result.terminated)
        self.truncated.append(result.truncated)
        self.scores.append(goal.q_score)
        self.predicates.append(dict(goal.predicates))
        self.subgoals.append(env.subgoals())
        self.base.append(result.agent.base)


@pytest.fixture
def recorded(expert_episode):
    """The actions of a successful expert episode of a protocol, float32 [steps, 23]."""

    def of(protocol: ProtocolYear) -> npt.NDArray[np.float32]:
        episode = expert_episode(protocol, 0)
        assert episode.outcome == "success"
        return episode.actions

    return of


_STORIES: dict[ProtocolYear, Story] = {}


def in_the_twin(protocol: ProtocolYear, actions: npt.NDArray[np.float32]) -> Story:
    """The actions executed in the twin, once a process."""
    if protocol not in _STORIES:
        twin = make_twin(protocol)
        twin.reset(0, 0, 0)
        story = Story()
        for action in actions:
            story.read(twin, twin.step(action))
        twin.close()
        assert story.terminated[-1]
        _STORIES[protocol] = story
    return _STORIES[protocol]


def assert_same(got: Story, expected: Story, offset: Sequence[float] = (0.0, 0.0, 0.0)) -> None:
    assert got.terminated == expected.terminated
    assert got.truncated == expected.truncated
    assert got.scores == expected.scores
    assert got.predicates == expected.predicates
    assert got.subgoals == expected.subgoals
    moved = np.subtract(got.base, offset)
    np.testing.assert_allclose(moved, expected.base, atol=1e-4)


@pytest.mark.parametrize(
    ("protocol", "render"), [("2025", "every-step"), ("2026", "every-step"), ("2026", "on-demand")]
)
def test_a_recorded_success_is_one_through_the_adapter_step_by_step(
    protocol, render, recorded, request
):
    double, actions = request.getfixturevalue(f"double_{protocol}"), recorded(protocol)
    expected = in_the_twin(protocol, actions)
    env = double.env(render=render)
    env.reset(0, 0, 0)
    story = Story()
    for number, action in enumerate(actions):
        if number % 50 == 0:
            env.observe()  # looking must change nothing
        story.read(env, env.step(action))
    assert_same(story, expected)
    assert story.subgoals[-1]["glove_2_clean"]
    assert len(story.terminated) > 500


def test_two_envs_at_once_succeed_where_one_does_and_a_longer_neighbour_goes_on(
    double_2026, recorded
):
    """One env replays the success and stops; the other holds for a while, then drives on."""
    actions = recorded("2026")
    expected = in_the_twin("2026", actions)
    group = double_2026.group(2)
    story = Story()
    others: list[int] = []

    def replay(env: Env) -> None:
        env.reset(0, 0, 0)
        for action in actions:
            story.read(env, env.step(action))

    def wander(env: Env) -> None:
        env.reset(3, 0, 0)
        for step in range(len(actions) + 20):
            others.append(env.step(drive(step % 40)).step)

    run_jobs(group, [wander, replay])
    offset = double_2026.physics(1).offset
    assert np.abs(offset).max() > 1
    assert_same(story, expected, offset)
    assert others == list(range(1, len(actions) + 21))


def test_the_episode_loop_says_the_same_of_both(double_2025, expert_episode):
    """Through the real loop with a replay policy: outcome, steps and score."""
    twin = make_twin("2025")
    results = []
    for make in (lambda: twin, double_2025.env):
        policy = ReplayPolicy(expert_episode("2025", 0).file)
        chunking = RecedingHorizon(policy.chunk_length, policy.chunk_length)
        results.append(run_episode(make(), policy, episode_info("2025"), chunking))
    twin.close()
    ours = results[1]
    assert ours.outcome == "success"
    for name in ("outcome", "steps", "time", "terminated", "truncated", "goal", "inferences"):
        assert getattr(ours, name) == getattr(results[0], name)
