"""The episode loop: what is called when, the three outcomes, and what subscribers hear."""

from __future__ import annotations

import re
import time
import tracemalloc

import numpy as np
import pytest

from b1k_envs.base import GoalStatus
from b1k_envs.errors import ActionError, EnvError, HostFaultError, PolicyFaultError
from b1k_eval.chunking import RecedingHorizon
from b1k_eval.events import Subscriber
from b1k_eval.noise import ActionNoise, NoiseSpec
from b1k_eval.runner import run_episode
from b1k_eval.trace import Trace
from b1k_policies.base import ActionChunk
from doubles import (
    BreakingEnv,
    DrivePolicy,
    RaisingPolicy,
    SeeingPolicy,
    ToyEnv,
    TruthPolicy,
)


class Ear(Subscriber):
    def __init__(self):
        self.heard = []

    def on_start(self, start):
        self.heard.append(("start", start))

    def on_step(self, event):
        self.heard.append(("step", event))

    def on_end(self, result):
        self.heard.append(("end", result))


def run(env, policy, episode, *, horizon=4, **options):
    return run_episode(env, policy, episode, RecedingHorizon(horizon, 8), **options)


def test_a_policy_that_reaches_the_goal_succeeds_on_that_step(toy_env, episode):
    result = run(toy_env, DrivePolicy(vx=1.0), episode)
    assert (result.outcome, result.steps, result.terminated) == ("success", 10, True)
    assert result.goal.q_score == 1.0
    assert result.failure_reason is result.message is result.traceback is None


def test_an_episode_without_success_lasts_one_action_more_than_the_limit(episode):
    result = run(ToyEnv(max_steps=12), DrivePolicy(vx=0.0), episode)
    assert (result.outcome, result.steps, result.truncated) == ("failure", 13, True)
    assert result.failure_reason is None


def test_success_on_the_last_step_is_success_though_the_limit_was_reached(episode):
    result = run(ToyEnv(max_steps=9), DrivePolicy(vx=1.0), episode)
    assert (result.outcome, result.terminated, result.truncated) == ("success", True, True)


def test_the_policy_is_asked_every_h_steps_and_pictures_only_if_it_looks(toy_env, episode):
    result = run(toy_env, DrivePolicy(vx=1.0), episode, horizon=4)
    assert result.inferences == 3
    assert toy_env.calls.count("observe(images=False)") == 3
    assert "observe" not in toy_env.calls
    seeing = ToyEnv()
    run(seeing, SeeingPolicy(vx=1.0), episode, horizon=4)
    assert seeing.calls.count("observe") == 3


def test_every_step_rendering_observes_with_pictures_before_every_action(toy_env, episode):
    run(toy_env, DrivePolicy(vx=1.0), episode, render="every-step")
    assert toy_env.calls == ["reset"] + ["observe", "step"] * 10


def test_a_privileged_policy_is_bound_before_every_reset_and_marks_the_result(toy_env, episode):
    policy = TruthPolicy(vx=1.0)
    assert run(toy_env, policy, episode).privileged
    assert policy.bound_before == 0
    assert policy.read() == toy_env.x
    run(toy_env, policy, episode)
    assert policy.bound_before == 1
    assert not run(toy_env, DrivePolicy(), episode).privileged


@pytest.mark.parametrize("hook", ["bind", "reset", "infer"])
def test_an_exception_out_of_the_policy_is_its_failure(toy_env, episode, hook):
    result = run(toy_env, RaisingPolicy(hook), episode)
    assert (result.outcome, result.failure_reason) == ("failure", "policy_error")
    assert result.message == "ZeroDivisionError: no such luck"
    assert "in _raise" in result.traceback


def test_a_policy_fault_keeps_its_reason(toy_env, episode):
    fault = PolicyFaultError("no answer within 600 s", reason="policy_query_timeout")
    result = run(toy_env, RaisingPolicy("infer", fault), episode)
    assert (result.outcome, result.failure_reason) == ("failure", "policy_query_timeout")
    assert result.message == "no answer within 600 s"


def answering(actions_or_chunk):
    class Answering(DrivePolicy):
        def infer(self, observation):
            return actions_or_chunk() if callable(actions_or_chunk) else actions_or_chunk

    return Answering()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda: ActionChunk(actions=np.full((8, 23), np.nan, dtype=np.float32)),
            "actions[0, 0] is nan",
        ),
        (
            lambda: ActionChunk(actions=np.zeros((8, 22), dtype=np.float32)),
            "actions must be float32 [T, 23] with T >= 1, got float32 [8, 22]",
        ),
        (
            lambda: ActionChunk(actions=np.zeros((5, 23), dtype=np.float32)),
            "infer returned 5 actions, but the policy declares chunk_length 8",
        ),
        (None, "infer must return an ActionChunk, got NoneType"),
    ],
)
def test_a_malformed_answer_is_the_policys_failure(toy_env, episode, answer, message):
    result = run(toy_env, answering(answer), episode)
    assert (result.outcome, result.failure_reason) == ("failure", "policy_invalid_action")
    assert result.message == message


def test_an_action_the_env_refuses_is_the_policys_failure(episode):
    env = BreakingEnv(hook="step", at_step=3, error=ActionError("action[2] is inf"))
    result = run(env, DrivePolicy(), episode)
    assert (result.outcome, result.failure_reason) == ("failure", "policy_invalid_action")
    assert result.steps == 3


@pytest.mark.parametrize("hook", ["reset", "step", "observe"])
@pytest.mark.parametrize("error", [EnvError("gone"), RuntimeError("gone")])
def test_an_exception_out_of_the_env_is_an_error_and_not_a_failure(episode, hook, error):
    result = run(BreakingEnv(hook=hook, error=error), DrivePolicy(), episode)
    assert result.outcome == "error"
    assert result.message == f"{type(error).__name__}: gone"
    assert result.failure_reason is None
    assert "in _break" in result.traceback


def test_a_world_that_fails_under_the_policys_hands_is_an_error(episode):
    result = run(BreakingEnv(hook="privileged_state"), TruthPolicy(), episode)
    assert (result.outcome, result.message) == ("error", "EnvError: the simulator fell over")


def test_an_env_error_that_the_policy_raises_itself_is_the_policys_failure(episode, toy_env):
    class Pretending(DrivePolicy):
        def infer(self, observation):
            raise EnvError("the simulator did it")

    result = run(toy_env, Pretending(), episode)
    assert (result.outcome, result.failure_reason) == ("failure", "policy_error")
    assert result.message == "EnvError: the simulator did it"


def test_a_machine_that_fails_under_the_policy_is_an_error(episode, toy_env):
    class OutOfMemory(DrivePolicy):
        def infer(self, observation):
            raise HostFaultError("no memory")

    result = run(toy_env, OutOfMemory(), episode)
    assert (result.outcome, result.failure_reason) == ("error", None)
    assert result.message == "HostFaultError: no memory"


def test_noise_that_makes_an_action_unusable_is_our_error_and_not_the_policys(episode, toy_env):
    noise = ActionNoise(NoiseSpec(sigma=1e300, correlation_s=0.3, kick_rate_hz=0.0, kick=0.0))
    with np.errstate(over="ignore"):
        result = run(toy_env, DrivePolicy(), episode, noise=noise)
    assert result.outcome == "error"
    assert "the action noise made an action that is not finite" in result.message


def test_subscribers_are_told_of_pictures_before_the_action_that_follows_them(episode, toy_env):
    told = []

    class Listening(Subscriber):
        def on_pictures(self):
            told.append("pictures")

        def on_step(self, event):
            told.append(event.result.step)

    run(toy_env, SeeingPolicy(), episode, horizon=2, subscribers=[Listening()])
    assert told[:6] == ["pictures", 1, 2, "pictures", 3, 4]


def test_a_subscriber_that_fails_makes_an_error(toy_env, episode):
    class Deaf(Subscriber):
        def on_step(self, event):
            raise OSError(28, "No space left on device")

    result = run(toy_env, DrivePolicy(), episode, subscribers=[Deaf()])
    assert result.outcome == "error"
    assert "No space left" in result.message


def test_an_env_that_contradicts_its_own_goal_is_an_error(episode):
    class Confused(ToyEnv):
        def goal(self):
            status = super().goal()
            return GoalStatus(predicates=status.predicates, q_score=0.0, success=False)

        def step(self, action):
            result = super().step(action)
            object.__setattr__(result, "terminated", True)
            return result

    result = run(Confused(), DrivePolicy(), episode)
    assert result.outcome == "error"
    assert re.search("terminated=True and its goal success=False", result.message)


def test_ctrl_c_passes_through(toy_env, episode):
    ear = Ear()
    with pytest.raises(KeyboardInterrupt):
        run(toy_env, RaisingPolicy("infer", KeyboardInterrupt()), episode, subscribers=[ear])
    assert [name for name, _ in ear.heard] == ["start"]


def test_subscribers_hear_start_every_step_and_end_in_order(toy_env, episode):
    ear = Ear()
    result = run(toy_env, DrivePolicy(vx=1.0), episode, horizon=4, subscribers=[ear])
    assert [name for name, _ in ear.heard] == ["start"] + ["step"] * 10 + ["end"]
    events = [event for name, event in ear.heard if name == "step"]
    assert [event.result.step for event in events] == list(range(1, 11))
    assert [event.inference for event in events] == [i % 4 == 0 for i in range(10)]
    assert all((event.latency_s is not None) == event.inference for event in events)
    assert events[-1].goal.success
    assert events[-1].subgoals["there"]
    assert events[0].skill.name == "move to"
    assert ear.heard[-1][1] is result


def test_a_policys_own_latency_is_believed(toy_env, episode):
    ear = Ear()
    chunk = ActionChunk(actions=np.zeros((8, 23), dtype=np.float32), latency_s=12.5)
    run(toy_env, answering(chunk), episode, subscribers=[ear])
    latencies = [e.latency_s for name, e in ear.heard if name == "step" and e.inference]
    assert set(latencies) == {12.5}


def test_noise_disturbs_what_is_executed_and_keeps_what_was_asked(toy_env, episode):
    ear = Ear()
    noise = ActionNoise(NoiseSpec.parse("0.05"))
    run(toy_env, DrivePolicy(vx=0.5), episode, subscribers=[ear], noise=noise)
    events = [event for name, event in ear.heard if name == "step"]
    for event, executed in zip(events, toy_env.actions, strict=True):
        np.testing.assert_array_equal(event.action, executed)
        assert event.command[0] == np.float32(0.5)
        assert not np.array_equal(event.action, event.command)


def test_the_same_seed_gives_the_same_noise_and_another_another(episode):
    taken = []
    for seed in (7, 7, 8):
        env = ToyEnv()
        info = type(episode)(**{**episode.__dict__, "seed": seed})
        run(env, DrivePolicy(vx=0.0), info, noise=ActionNoise(NoiseSpec.parse("0.05,0.3,1")))
        taken.append(np.array(env.actions))
    np.testing.assert_array_equal(taken[0], taken[1])
    assert not np.array_equal(taken[0], taken[2])


def test_memory_does_not_grow_with_the_length_of_the_episode(episode):
    """12,000 steps, the budget of the longest episode: 50 MB; the columns take about 4."""

    class Forgetful(ToyEnv):
        """Does not keep its own lists of calls and actions."""

        def step(self, action):
            result = super().step(action)
            self.actions.clear()
            self.calls.clear()
            return result

    class ForgetfulPolicy(DrivePolicy):
        def infer(self, observation):
            self.observations.clear()
            return super().infer(observation)

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        env, trace = Forgetful(max_steps=12_000), Trace()
        result = run(env, ForgetfulPolicy(vx=0.0), episode, subscribers=[trace])
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.steps == 12_001
    assert peak - before < 50e6
    assert after - before < 10e6


def test_timing_adds_up(toy_env, episode):
    begun = time.perf_counter()
    timing = run(toy_env, SeeingPolicy(vx=1.0), episode).timing
    wall = time.perf_counter() - begun
    parts = timing.reset_s + timing.step_s + timing.observe_s + timing.policy_s
    assert 0 < parts <= timing.wall_s <= wall
