"""Baselines: what they emit, in which units, and that they say no to what they cannot read."""

from __future__ import annotations

import re

import numpy as np
import pytest
from doubles import DrivePolicy, ToyEnv

from b1k_envs.errors import UsageError
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_policies.baselines import HoldPolicy, RandomPolicy, ReplayPolicy, ZeroPolicy
from b1k_policies.registry import make_policy


def observe(env, step=0):
    env.step_count = step
    return env.observe(images=False)


@pytest.mark.parametrize("spec", ["zero", "hold", "random"])
def test_baselines_need_no_pictures_and_keep_their_chunk_length(spec, toy_env, episode):
    policy = make_policy(spec)
    assert policy.name == spec
    assert not policy.needs_images
    policy.reset(episode)
    assert policy.infer(observe(toy_env)).actions.shape == (30, 23)
    assert policy.chunk_length == 30


def test_zero_is_all_zeros(toy_env, episode):
    policy = ZeroPolicy()
    policy.reset(episode)
    assert not policy.infer(observe(toy_env)).actions.any()


@pytest.mark.parametrize(("protocol", "trunk"), [("2025", 236), ("2026", 53)])
def test_hold_commands_the_present_posture_with_open_grippers(protocol, trunk, episode):
    policy = HoldPolicy()
    policy.reset(episode)
    observation = observe(ToyEnv(protocol=protocol))
    actions = policy.infer(observation).actions
    assert (actions == actions[0]).all()
    np.testing.assert_array_equal(actions[0, 0:3], 0)
    np.testing.assert_array_equal(actions[0, 3:7], observation.proprio[trunk : trunk + 4])
    assert actions[0, 14] == actions[0, 22] == 1.0


def test_random_stays_within_the_limits_and_uses_them(toy_env, episode):
    policy = RandomPolicy()
    policy.reset(episode)
    drawn = np.concatenate([policy.infer(observe(toy_env)).actions for _ in range(300)])
    # The evaluator's JOINT_RANGE (2025), rad, but for the arms' joint 4: there that table has
    # -2.0944, and the public URDF, which the robot is built from, -1.7453.
    low = [-1.1345, -2.7925, -1.8326, -3.0543]
    high = [1.8326, 2.5307, 1.5708, 3.0543]
    arm_low = [-4.4506, -0.1745, -2.3562, -1.7453, -2.3562, -1.0472, -1.5708]
    arm_high = [1.3090, 3.1416, 2.3562, 0.3491, 2.3562, 1.0472, 1.5708]
    right_low, right_high = [*arm_low], [*arm_high]
    right_low[1], right_high[1] = -3.1416, 0.1745
    lows = np.array([-1.0] * 3 + low + arm_low + [-1.0] + right_low + [-1.0])
    highs = np.array([1.0] * 3 + high + arm_high + [1.0] + right_high + [1.0])
    assert (drawn >= lows - 1e-3).all()
    assert (drawn <= highs + 1e-3).all()
    span = highs - lows
    assert (drawn.min(axis=0) < lows + 0.01 * span).all()
    assert (drawn.max(axis=0) > highs - 0.01 * span).all()


def test_random_is_decided_by_the_episodes_seed(toy_env, episode):
    def first(seed):
        policy = RandomPolicy()
        policy.reset(type(episode)(**{**episode.__dict__, "seed": seed}))
        return policy.infer(observe(toy_env)).actions

    np.testing.assert_array_equal(first(1), first(1))
    assert not np.array_equal(first(1), first(2))


@pytest.mark.parametrize("horizon", [1, 7, 30])
def test_replay_repeats_a_recording_whatever_the_horizon(tmp_path, episode, horizon):
    rows = np.random.default_rng(0).uniform(-0.1, 0.1, (25, 23)).astype(np.float32)
    np.save(tmp_path / "actions.npy", rows)
    env = ToyEnv(max_steps=40)
    policy = ReplayPolicy(tmp_path / "actions.npy")
    run_episode(env, policy, episode, RecedingHorizon(horizon, 30))
    executed = np.array(env.actions)
    assert len(executed) == 41
    np.testing.assert_array_equal(executed[:25], rows)
    np.testing.assert_array_equal(executed[25:, 3:], np.tile(rows[-1, 3:], (16, 1)))
    assert not executed[25:, :3].any()


def test_replay_of_a_successful_trace_succeeds_again(tmp_path, episode):
    from b1k_eval.records.trace import Trace

    env, trace = ToyEnv(), Trace()
    run_episode(env, DrivePolicy(vx=0.7), episode, RecedingHorizon(4, 8), subscribers=[trace])
    trace.write(tmp_path / "trace.parquet")
    again = ToyEnv()
    policy = make_policy(f"replay:{tmp_path / 'trace.parquet'}")
    result = run_episode(again, policy, episode, RecedingHorizon(10, 30))
    assert result.outcome == "success"
    np.testing.assert_array_equal(np.array(again.actions), np.array(env.actions))


def test_replay_says_which_file_it_replayed(tmp_path):
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.full((4, 23), i, dtype=np.float32))
    described = [ReplayPolicy(tmp_path / f"{i}.npy").describe() for i in range(2)]
    assert described[0]["rows"] == 4
    assert described[0]["file"] == str(tmp_path / "0.npy")
    assert described[0]["actions_sha256"] != described[1]["actions_sha256"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 22), np.float32), "must hold float [N >= 1, 23], got float32 [4, 22]"),
        (np.zeros((0, 23), np.float32), "must hold float [N >= 1, 23], got float32 [0, 23]"),
        (np.zeros((4, 23), np.int64), "must hold float [N >= 1, 23], got int64 [4, 23]"),
        (
            np.full((4, 23), np.inf, np.float32),
            "has inf at [0, 0]; every number must be finite as float32",
        ),
        (
            np.diag([0.0, 1e39, *[0.0] * 21]),  # finite as float64
            "has 1e+39 at [1, 1]; every number must be finite as float32",
        ),
    ],
)
def test_replay_refuses_what_is_no_recording(tmp_path, array, message):
    np.save(tmp_path / "actions.npy", array)
    text = f"replay: {tmp_path / 'actions.npy'} {message}"
    with pytest.raises(UsageError, match=f"^{re.escape(text)}$"):
        make_policy(f"replay:{tmp_path / 'actions.npy'}")


def test_replay_refuses_an_archive_in_the_place_of_an_array(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, actions=np.zeros((4, 23), np.float32))
    text = (
        f"replay: {tmp_path / 'a.npy'} cannot be read as .npy: it is an .npz, a folder of arrays; "
        "save the one with float [N, 23]"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(text)}$"):
        ReplayPolicy(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"not numpy", "cannot be read as .npy"),
        ("a.npy", b"PK\x03\x04 torn archive", "cannot be read as .npy"),
        ("a.parquet", b"not parquet", "cannot be read as parquet"),
        ("a.csv", b"0,0", "must end in .parquet or .npy, got '.csv'"),
        ("a.npy", None, "there is no file"),
    ],
)
def test_replay_names_the_file_it_cannot_read(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        ReplayPolicy(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


CHOICES = (
    "expert, zero, hold, random, replay:FILE, ws://HOST:PORT, wss://HOST:PORT, "
    "gr00t://HOST:PORT, FILE.py:CLASS, PACKAGE.MODULE:CLASS"
)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "holt",
            f"--policy 'holt' is unknown; did you mean hold? choose from {CHOICES}",
        ),
        (
            "gr00t",
            f"--policy 'gr00t' is unknown; choose from {CHOICES}",
        ),
        (
            "http://localhost:8000",
            "--policy http:// is not the address of a policy server, which begins with ws:// or "
            f"wss:// or gr00t://; choose from {CHOICES}",
        ),
        ("replay:", "--policy replay: needs a file, as in replay:RUN/.../trace.parquet"),
    ],
)
def test_unknown_policies_are_refused_with_the_choices(spec, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        make_policy(spec)
