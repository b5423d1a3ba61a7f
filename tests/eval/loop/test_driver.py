"""One loop or many on one thread: what is asked together, and that no episode feels another's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from doubles import BreakingEnv, DrivePolicy, RandomWalkPolicy, ToyEnv

from b1k_envs.base import Worlds
from b1k_envs.errors import EnvError
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.driver import Reset, Step, drive
from b1k_eval.loop.events import Subscriber
from b1k_eval.loop.realtime import RealTime
from b1k_eval.loop.runner import episode_loop, run_episode
from b1k_policies.base import ActionChunk, Policy


class Kept(Subscriber):
    """The actions of an episode."""

    def __init__(self):
        self.actions = []
        self.ended = False

    def on_step(self, event):
        self.actions.append(event.action.copy())

    def on_end(self, result):
        self.ended = True


class SharedPolicy(Policy):
    """Random rows from the query's seed; keeps how many queries each call had."""

    name, chunk_length, needs_images, stateless = "shared", 8, False, True

    def __init__(self, spoilt_seed=None, error=None):
        self.calls = []
        self.spoilt_seed, self.error = spoilt_seed, error

    def reset(self, episode):
        pass

    def infer(self, observation):
        raise AssertionError("a loop asks by infer_batch")

    def infer_batch(self, queries):
        self.calls.append(len(queries))
        if self.error is not None and (
            self.spoilt_seed is None or any(q.seed in self.spoilt_seed for q in queries)
        ):
            raise self.error
        return [ActionChunk(actions=self.rows(query)) for query in queries]

    def rows(self, query):
        rng = np.random.default_rng(query.seed)
        return rng.uniform(-0.2, 0.6, (8, 23)).astype(np.float32)


def episodes_of(episode, count):
    return [replace(episode, instance=n, seed=100 + n) for n in range(count)]


def drive_all(envs, policies, episodes, *, worlds=None, chunking=lambda: RecedingHorizon(4, 8)):
    """Results and actions by the index of the env."""
    results, kept = {}, [Kept() for _ in envs]
    loops = {
        n: episode_loop(envs[n], policies[n], episodes[n], chunking(), subscribers=[kept[n]])
        for n in range(len(envs))
    }
    drive(loops, worlds or Worlds(envs), results.__setitem__)
    return results, [k.actions for k in kept]


def alone(policy, episode, env=None):
    kept = Kept()
    result = run_episode(
        env or ToyEnv(), policy, episode, RecedingHorizon(4, 8), subscribers=[kept]
    )
    return result, kept.actions


def assert_as_alone(result, actions, policy, episode):
    expected, rows = alone(policy, episode)
    assert replace(result, timing=expected.timing) == expected
    assert np.array_equal(actions, rows)


# --- together -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_inferences_of_a_round_are_one_call_and_each_world_plays_as_alone(episode, count):
    policy, episodes = SharedPolicy(), episodes_of(episode, count)
    results, actions = drive_all([ToyEnv() for _ in episodes], [policy] * count, episodes)
    for n in range(count):
        assert_as_alone(results[n], actions[n], SharedPolicy(), episodes[n])
    longest = max(result.inferences for result in results.values())
    assert len(policy.calls) == longest
    assert policy.calls[0] == count
    assert sum(policy.calls) == sum(result.inferences for result in results.values())


def test_a_policy_that_remembers_is_asked_by_its_own_world_only(episode):
    episodes = episodes_of(episode, 3)
    policies = [RandomWalkPolicy() for _ in episodes]
    results, actions = drive_all([ToyEnv() for _ in episodes], policies, episodes)
    for n in range(3):
        assert_as_alone(results[n], actions[n], RandomWalkPolicy(), episodes[n])


def test_an_episode_whose_latency_counts_is_asked_alone(episode):
    policy, episodes = SharedPolicy(), episodes_of(episode, 3)
    envs = [ToyEnv() for _ in episodes]
    drive_all(envs, [policy] * 3, episodes, chunking=lambda: RealTime(4, 8, None))
    assert set(policy.calls) == {1}
    policy.calls.clear()
    drive_all(envs, [policy] * 3, episodes, chunking=lambda: RealTime(4, 8, 0.1))
    assert policy.calls[0] == 3


# --- what goes wrong ------------------------------------------------------------------------


def test_a_policy_that_fails_for_one_observation_fails_that_episode_alone(episode):
    from b1k_policies.seeding import inference_seed

    episodes = episodes_of(episode, 3)
    spoilt = {inference_seed(episodes[1].seed, 1)}
    policy = SharedPolicy(spoilt, ValueError("no such picture"))
    results, actions = drive_all([ToyEnv() for _ in episodes], [policy] * 3, episodes)
    assert (results[1].outcome, results[1].steps) == ("failure", 4)
    assert results[1].message == "ValueError: no such picture"
    for n in (0, 2):
        assert_as_alone(results[n], actions[n], SharedPolicy(), episodes[n])


def test_a_batch_with_an_answer_too_few_is_asked_for_one_by_one(episode):
    class Short(SharedPolicy):
        def infer_batch(self, queries):
            answers = super().infer_batch(queries)
            return answers[:-1] if len(queries) > 1 else answers

    policy, episodes = Short(), episodes_of(episode, 2)
    results, actions = drive_all([ToyEnv() for _ in episodes], [policy] * 2, episodes)
    assert policy.calls[:3] == [2, 1, 1]
    for n in range(2):
        assert_as_alone(results[n], actions[n], SharedPolicy(), episodes[n])


@pytest.mark.parametrize("hook", ["reset", "step", "observe"])
def test_a_world_that_breaks_ends_its_own_episode_alone(episode, hook):
    episodes = episodes_of(episode, 3)
    envs = [ToyEnv(), BreakingEnv(hook=hook, at_step=0 if hook == "reset" else 4), ToyEnv()]
    policy = SharedPolicy()
    results, actions = drive_all(envs, [policy] * 3, episodes)
    assert (results[1].outcome, results[1].message) == (
        "error",
        "EnvError: the simulator fell over",
    )
    for n in (0, 2):
        assert_as_alone(results[n], actions[n], SharedPolicy(), episodes[n])


def test_a_malformed_action_is_raised_where_it_was_yielded_and_moves_its_neighbour(episode):
    envs = [ToyEnv(), ToyEnv()]

    def loop(action):
        yield Reset((0, 0, 0))
        steps = []
        for _ in range(3):
            had = yield Step(action)
            steps.append(had.value.step)
        return steps

    def guarded(action):
        try:
            return (yield from loop(action))
        except Exception as error:  # noqa: BLE001 - its text is looked at
            return str(error)

    found = {}
    bad = np.full(23, np.nan, dtype=np.float32)
    good = np.zeros(23, dtype=np.float32)
    drive({0: guarded(bad), 1: guarded(good)}, Worlds(envs), found.__setitem__)
    assert found[1] == [1, 2, 3]
    assert found[0] == "action[0] is nan"


def test_a_simulator_that_fails_fails_for_all_its_worlds_each_with_its_own_traceback(episode):
    class Falling(Worlds):
        def step(self, actions):
            raise EnvError("physics has gone")

    episodes = episodes_of(episode, 3)
    envs = [ToyEnv() for _ in episodes]
    results, _ = drive_all(envs, [SharedPolicy()] * 3, episodes, worlds=Falling(envs))
    for result in results.values():
        assert (result.outcome, result.message) == ("error", "EnvError: physics has gone")
        assert result.traceback.count("in step\n    raise EnvError") == 1


def test_ctrl_c_is_no_outcome_and_closes_every_loop(episode):
    closed = []
    episodes = episodes_of(episode, 3)
    policy = SharedPolicy(error=KeyboardInterrupt())
    kept = [Kept() for _ in episodes]
    envs = [ToyEnv() for _ in episodes]

    def loop(n):
        try:
            return (
                yield from episode_loop(
                    envs[n], policy, episodes[n], RecedingHorizon(4, 8), subscribers=[kept[n]]
                )
            )
        finally:
            closed.append(n)

    results = {}
    with pytest.raises(KeyboardInterrupt):
        drive({n: loop(n) for n in range(3)}, Worlds(envs), results.__setitem__)
    assert sorted(closed) == [0, 1, 2]
    assert results == {}
    assert not any(k.ended for k in kept)


# --- one after another ----------------------------------------------------------------------


def test_a_world_that_has_done_goes_on_while_another_is_in_its_first_episode(episode):
    """Ten steps at full command, forty at a quarter of it."""
    envs = [ToyEnv(), ToyEnv()]
    policies = [DrivePolicy(vx=1.0), DrivePolicy(vx=0.25)]
    ends = []

    def loop(n):
        return episode_loop(envs[n], policies[n], episode, RecedingHorizon(4, 8))

    def ended(n, result):
        ends.append((n, result.steps))
        return loop(0) if n == 0 and ends.count((0, 10)) < 3 else None

    drive({0: loop(0), 1: loop(1)}, Worlds(envs), ended)
    assert ends == [(0, 10), (0, 10), (0, 10), (1, 40)]
