"""The trace, read back by pandas and held against what the env was really given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from doubles import PREDICATES, SUBGOALS, DrivePolicy, ToyEnv

from b1k_envs.errors import EnvError
from b1k_eval.disturbances.disturber import Disturber
from b1k_eval.disturbances.noise import NoiseSpec
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.events import EpisodeStart, StepEvent
from b1k_eval.loop.runner import run_episode
from b1k_eval.records.trace import Trace
from b1k_policies.base import ActionChunk, Skill
from b1k_policies.baselines import read_recording


def record(env, policy, episode, path, noise=None):
    trace = Trace(with_command=noise is not None)
    chunking = RecedingHorizon(4, policy.chunk_length)
    result = run_episode(env, policy, episode, chunking, subscribers=[trace], disturber=noise)
    trace.write(path)
    return result, pd.read_parquet(path)


def test_every_row_is_what_happened_at_that_step(toy_env, episode, tmp_path):
    result, table = record(toy_env, DrivePolicy(vx=1.0), episode, tmp_path / "trace.parquet")
    assert list(table["step"]) == list(range(1, result.steps + 1))
    np.testing.assert_allclose(table["time"], np.arange(1, 11) / 30)
    actions = table[[f"action_{i}" for i in range(23)]].to_numpy()
    assert actions.dtype == np.float32
    np.testing.assert_array_equal(actions, np.array(toy_env.actions))
    # 0.125 m a step: half way (0.625 m) after five, there (1.25 m) after ten.
    assert list(table[f"predicate:{PREDICATES[0]}"]) == [False] * 4 + [True] * 6
    assert list(table[f"predicate:{PREDICATES[1]}"]) == [False] * 9 + [True]
    assert list(table["q_score"]) == [0.0] * 4 + [0.5] * 5 + [1.0]
    assert [list(table[f"subgoal:{name}"]).index(True) for name in SUBGOALS] == [0, 4, 9]
    assert list(table["inference"]) == [i % 4 == 0 for i in range(10)]
    assert list(table["latency_s"].notna()) == [i % 4 == 0 for i in range(10)]
    assert set(table["skill"]) == {"move to"}
    assert set(table["skill_index"]) == {0}
    assert set(table["skill_prob"]) == {0.75}
    np.testing.assert_allclose(table["progress"], np.repeat([0, 0.04, 0.08], [4, 4, 2]))
    np.testing.assert_allclose(table["base_x"], np.arange(1, 11) * 0.125)
    np.testing.assert_allclose(table["left_eef_y"], 0.5)
    np.testing.assert_allclose(table["right_eef_z"], 1.0)
    assert not [name for name in table.columns if name.startswith("command_")]


def test_what_the_policy_does_not_say_is_null_and_not_zero(toy_env, episode, tmp_path):
    class Silent(DrivePolicy):
        def infer(self, observation):
            chunk = super().infer(observation)
            skills = [None, Skill(name="open door"), Skill(index=4)]
            return ActionChunk(actions=chunk.actions, skill=skills[observation.step // 4])

    _, table = record(toy_env, Silent(vx=1.0), episode, tmp_path / "trace.parquet")
    assert table["progress"].isna().all()
    assert table["skill_prob"].isna().all()
    assert list(table["skill"].fillna("-")) == ["-"] * 4 + ["open door"] * 4 + ["-"] * 2
    assert list(table["skill_index"].fillna(-1)) == [-1] * 8 + [4] * 2


def test_with_noise_the_command_is_kept_beside_the_executed_action(toy_env, episode, tmp_path):
    noise = Disturber(noise=NoiseSpec.parse("0.05"))
    _, table = record(toy_env, DrivePolicy(vx=0.5), episode, tmp_path / "trace.parquet", noise)
    executed = table[[f"action_{i}" for i in range(23)]].to_numpy()
    command = table[[f"command_{i}" for i in range(23)]].to_numpy()
    np.testing.assert_array_equal(executed, np.array(toy_env.actions))
    assert (command[:, 0] == 0.5).all()
    assert (command[:, 1:] == 0).all()


def test_a_long_episode_outgrows_the_first_columns_without_losing_a_row(episode, tmp_path):
    env = ToyEnv(max_steps=2500)
    _, table = record(env, DrivePolicy(vx=1e-4), episode, tmp_path / "trace.parquet")
    assert list(table["step"]) == list(range(1, 2502))
    assert table["base_x"].is_monotonic_increasing


def test_a_trace_that_broke_off_before_the_world_was_there_is_readable(tmp_path):
    Trace().write(tmp_path / "trace.parquet")
    assert len(pd.read_parquet(tmp_path / "trace.parquet")) == 0


def test_a_trace_is_used_again_from_empty(toy_env, episode, tmp_path):
    trace = Trace()
    for _ in range(2):
        chunking = RecedingHorizon(4, 8)
        run_episode(toy_env, DrivePolicy(vx=1.0), episode, chunking, subscribers=[trace])
    assert len(trace) == 10


def test_predicates_that_change_their_names_are_refused(toy_env, episode):
    trace = Trace()
    toy_env.reset(0, 0, 0)
    trace.on_start(EpisodeStart(episode=episode, goal=toy_env.goal(), subgoals={"other": True}))
    action = np.zeros(23, dtype=np.float32)
    event = StepEvent(
        result=toy_env.step(action),
        action=action,
        command=action,
        goal=toy_env.goal(),
        subgoals=toy_env.subgoals(),
        inference=False,
        not_finite=None,
        skill=None,
        progress=None,
        latency_s=None,
    )
    with pytest.raises(EnvError, match=r"subgoals changed within the episode, from \['other'\]"):
        trace.on_step(event)


def test_a_trace_is_a_recording_that_can_be_replayed(toy_env, episode, tmp_path):
    record(toy_env, DrivePolicy(vx=0.3), episode, tmp_path / "trace.parquet")
    rows = read_recording(tmp_path / "trace.parquet")
    np.testing.assert_array_equal(rows, np.array(toy_env.actions))
