"""The episode loop: what is called when, the three outcomes, and what subscribers hear."""

from __future__ import annotations

import json
import re
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from doubles import (
    BreakingEnv,
    DrivePolicy,
    RaisingPolicy,
    SeeingPolicy,
    ToyEnv,
    TruthPolicy,
)

from b1k_envs.base import GoalStatus
from b1k_envs.errors import ActionError, EnvError, HostFaultError, PolicyFaultError
from b1k_envs.r1pro import PROPRIO_LAYOUTS
from b1k_envs.tasks.table import HumanStats
from b1k_eval.challenge.official_record import official_text
from b1k_eval.disturbances.disturber import Disturber
from b1k_eval.disturbances.noise import NoiseSpec
from b1k_eval.files import to_json
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.events import NotFinite, Subscriber
from b1k_eval.loop.realtime import RealTime
from b1k_eval.loop.runner import run_episode
from b1k_eval.records.scoring import ScoreKeeper, episode_record
from b1k_eval.records.trace import Trace
from b1k_policies.base import ActionChunk
from b1k_policies.baselines import HoldPolicy


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
    noise = NoiseSpec(sigma=1e300, correlation_s=0.3, kick_rate_hz=0.0, kick=0.0)
    with np.errstate(over="ignore"):
        result = run(toy_env, DrivePolicy(), episode, disturber=Disturber(noise=noise))
    assert result.outcome == "error"
    assert "the disturbance made an action that is not finite" in result.message


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
    noise = Disturber(noise=NoiseSpec.parse("0.05"))
    run(toy_env, DrivePolicy(vx=0.5), episode, subscribers=[ear], disturber=noise)
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
        noise = Disturber(noise=NoiseSpec.parse("0.05,0.3,1"))
        run(env, DrivePolicy(vx=0.0), info, disturber=noise)
        taken.append(np.array(env.actions))
    np.testing.assert_array_equal(taken[0], taken[1])
    assert not np.array_equal(taken[0], taken[2])


@pytest.mark.slow
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


# --- numbers that are not finite ------------------------------------------------------------

HUMAN = HumanStats(
    length=25.0,
    distance_traveled=2.25,
    left_eef_displacement=4.5,
    right_eef_displacement=1.125,
)


class NanEnv(ToyEnv):
    """Gives a NaN in some observations, and positions that are none at some steps."""

    def __init__(self, *, field="trunk_qpos", at=(4,), nowhere=()):
        super().__init__(max_steps=12)
        self.field, self.at, self.nowhere = field, at, nowhere

    def observe(self, *, images=True):
        seen = super().observe(images=images)
        if self.step_count not in self.at:
            return seen
        if self.field == "poses":
            poses = {**seen.camera_to_base, "head": np.full((4, 4), np.nan, dtype=np.float32)}
            lost = np.full(21, np.inf, dtype=np.float32)
            return replace(seen, camera_to_base=poses, cam_rel_poses=lost)
        proprio = seen.proprio.copy()
        proprio[PROPRIO_LAYOUTS[seen.protocol][self.field].start] = np.nan
        return replace(seen, proprio=proprio)

    def step(self, action):
        done = super().step(action)
        if done.step not in self.nowhere:
            return done
        nowhere = replace(done.agent, left_eef=np.array([np.nan, 0.0, 0.0]))
        return replace(done, agent=nowhere)


def trace_of(env, policy, episode, tmp_path):
    trace = Trace()
    result = run(env, policy, episode, subscribers=[trace])
    trace.write(tmp_path / "trace.parquet")
    return result, pd.read_parquet(tmp_path / "trace.parquet")


def test_a_policy_sees_what_is_not_finite_and_the_episode_goes_on(episode, tmp_path):
    env, policy = NanEnv(at=(4, 8)), DrivePolicy(vx=0.0)
    result, trace = trace_of(env, policy, episode, tmp_path)
    seen = [bool(np.isnan(each.proprio).any()) for each in policy.observations]
    assert seen == [False, True, True, False]  # asked after 0, 4, 8 and 12 steps
    assert (result.outcome, result.steps, result.failure_reason) == ("failure", 13, None)
    assert result.not_finite == NotFinite(observations=2, first_step=4, parts=("trunk_qpos",))
    assert result.message == (
        "the simulator gave numbers that are not finite in 2 observations, first after step 4: "
        "trunk_qpos"
    )
    told = trace["not_finite"]
    assert [told[row] for row in (0, 4, 8, 12)] == [False, True, True, False]
    assert told.isna().sum() == 9, "steps without an observation say nothing"


def test_poses_that_are_not_finite_count_too(episode, tmp_path):
    result, trace = trace_of(NanEnv(field="poses", at=(0,)), DrivePolicy(), episode, tmp_path)
    assert result.not_finite.parts == ("cam_rel_poses", "camera_to_base of head")
    assert result.not_finite.first_step == 0
    assert trace["not_finite"][0]


def test_every_observation_counts_where_every_step_is_observed(episode):
    result = run(NanEnv(at=range(3, 7)), DrivePolicy(vx=0.0), episode, render="every-step")
    assert (result.not_finite.observations, result.not_finite.first_step) == (4, 3)


def test_success_in_spite_of_it_is_success_and_says_so(episode):
    result = run(NanEnv(at=(4,)), DrivePolicy(vx=1.0), episode)
    assert (result.outcome, result.not_finite.first_step) == ("success", 4)
    assert "not finite in 1 observation, first after step 4" in result.message


def test_a_policy_that_answers_nan_with_nan_is_at_fault_and_the_result_says_who_began(episode):
    keeper = ScoreKeeper()
    result = run(NanEnv(at=(4,)), HoldPolicy(chunk_length=8), episode, subscribers=[keeper])
    assert (result.outcome, result.failure_reason) == ("failure", "policy_invalid_action")
    assert result.message == (
        "actions[0, 3] is nan; the simulator gave numbers that are not finite in 1 observation, "
        "first after step 4: trunk_qpos"
    )
    record = episode_record(result, keeper, HUMAN).to_json()
    assert record["not_finite"] == {
        "observations": 1,
        "first_step": 4,
        "parts": ("trunk_qpos",),
    }
    to_json(record)


def test_the_loops_own_hold_of_a_nan_is_the_reset_posture_and_no_fault_of_the_policy(episode):
    env = NanEnv(at=(0,))
    chunking = RealTime(4, 8, latency_s=0.1)
    result = run_episode(env, DrivePolicy(vx=0.0), episode, chunking)
    assert (result.outcome, result.failure_reason, result.steps) == ("failure", None, 13)
    np.testing.assert_allclose(env.actions[0][3:7], [1.025, -1.45, -0.47, 0.0])


def test_a_position_that_is_not_finite_leaves_a_way_unknown_and_json_whole(episode):
    keeper = ScoreKeeper()
    result = run(NanEnv(at=(), nowhere=(3,)), DrivePolicy(vx=0.5), episode, subscribers=[keeper])
    record = episode_record(result, keeper, HUMAN)
    figures = record.efficiency
    assert figures["agent_distance"]["left"] is None
    assert figures["normalized_agent_distance"]["left"] is None
    assert figures["agent_distance"]["base"] > 0
    assert any("agent_distance.left is null: the simulator gave" in n for n in figures["notes"])
    to_json(record.to_json())
    filed = json.loads(official_text(record, HUMAN, "2026", 301))
    assert np.isnan(filed["agent_distance"]["left"])  # as the evaluator adds it up
    assert np.isnan(filed["normalized_agent_distance"]["left"])


def test_without_any_the_result_says_nothing_of_it(toy_env, episode):
    result = run(toy_env, DrivePolicy(vx=1.0), episode)
    assert result.not_finite is result.message is None
