"""Depth over the wire: to servers that ask for it, in the official evaluator's form."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from doubles import ToyEnv
from foreign_server import foreign_server, row
from omnigibson_double.fixtures import _og_data_2025, _og_data_2026, og_2025, og_2026  # noqa: F401
from typer.testing import CliRunner

from b1k_envs.errors import HostFaultError, UsageError
from b1k_eval.cli.main import app
from b1k_policies.remote.client import RemotePolicy

HEAD = "robot_r1::robot_r1:zed_link:Camera:0::depth_linear"
LEFT = "robot_r1::robot_r1:left_realsense_link:Camera:0::depth_linear"
RIGHT = "robot_r1::robot_r1:right_realsense_link:Camera:0::depth_linear"
VIEWS = {HEAD: "head", LEFT: "left_wrist", RIGHT: "right_wrist"}


@pytest.fixture(autouse=True)
def _no_key_no_waiting(monkeypatch):
    monkeypatch.delenv("B1K_EVAL_API_KEY", raising=False)
    monkeypatch.setattr("b1k_policies.remote.wire.dialogue.SETTLE_S", 0.02)


def hold(message):
    batched = message["robot_r1::proprio"].ndim == 2
    action = row(0)
    answer = {"action": action[None] if batched else action}
    rows = message.get("__action_chunk_size__")
    if rows is not None:
        answer["action_chunk"] = np.repeat(answer["action"][..., None, :], rows, axis=-2)
    return answer


def with_depth(protocol="2026"):
    seen = ToyEnv(protocol=protocol).observe()
    random = np.random.default_rng(0)
    depth = {
        view: random.uniform(0.1, 5.0, picture.shape[:2]).astype(np.float32)
        for view, picture in seen.images.items()
    }
    depth["head"][0, 0] = np.inf
    return replace(seen, depth=depth)


def depth_keys(message):
    return {key for key in message if "depth" in key}


ASKS = [
    {"depth": True},
    {"needs_depth": True},
    {"policy": {"observation": {"use_depth": True}}},
    {"modalities": ["rgb", "depth_linear"]},
    {"obs_modalities": ["rgb", "depth"]},
    {"keys": [HEAD]},
    {"spec": {HEAD: {"shape": [720, 720]}}},
]


@pytest.mark.parametrize("metadata", ASKS, ids=str)
def test_a_server_that_asks_for_depth_is_understood(metadata):
    with foreign_server(hold, metadata=metadata) as server:
        policy = RemotePolicy(server.address)
        policy.close()
    assert policy.needs_depth
    assert policy.describe()["depth"] is True
    assert policy.remarks == ()


@pytest.mark.parametrize(
    ("protocol", "query", "lead"),
    [("2025", "?depth=yes", ()), ("2026", "?depth=yes", (1,)), ("2026", "?depth=yes&batch=no", ())],
)
def test_depth_goes_in_the_evaluators_own_form(protocol, query, lead, episode):
    observation = with_depth(protocol)
    with foreign_server(hold) as server:
        policy = RemotePolicy(server.address + query, protocol)
        policy.reset(episode)
        policy.infer(observation)
        policy.close()
    (message,) = server.observations
    assert depth_keys(message) == {HEAD, LEFT, RIGHT}
    for key, view in VIEWS.items():
        sent = message[key]
        size = 720 if view == "head" else 480
        assert (sent.dtype.str, sent.shape) == ("<f4", (*lead, size, size))
        np.testing.assert_array_equal(sent.reshape(size, size), observation.depth[view])


def test_who_does_not_ask_gets_none(episode):
    with foreign_server(hold, metadata={"model": "pi0", "depth": False}) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        policy.infer(with_depth())
        policy.close()
    assert depth_keys(server.observations[0]) == set()
    assert not policy.needs_depth
    assert policy.remarks == ()
    assert "depth" not in policy.describe()


@pytest.mark.parametrize(
    ("metadata", "query", "said"),
    [
        (
            {"cameras": {"head": {"depth_scale": 0.001}}},
            "",
            "metadata speak of depth (depth_scale: 0.001), and it gets none: ?depth=yes after",
        ),
        ({"inputs": ["rgb", "metric depth"]}, "", "speak of depth (metric depth), and it gets"),
        ({"needs_depth": True}, "?depth=no", "asks for depth, and gets none: depth=no"),
    ],
)
def test_depth_that_is_spoken_of_and_not_sent_is_remarked(metadata, query, said):
    with foreign_server(hold, metadata=metadata) as server:
        policy = RemotePolicy(server.address + query)
        policy.close()
    (remark,) = policy.remarks
    assert remark.startswith(f"{server.address}: the server")
    assert said in remark
    assert not policy.needs_depth


def test_depth_no_silences_what_is_only_spoken_of():
    with foreign_server(hold, metadata={"model": "depth-anything-3"}) as server:
        spoken, silenced = RemotePolicy(server.address), RemotePolicy(f"{server.address}?depth=no")
        spoken.close()
        silenced.close()
    assert "speak of depth (depth-anything-3)" in spoken.remarks[0]
    assert silenced.remarks == ()


def test_another_word_for_depth_is_refused():
    with pytest.raises(UsageError, match="depth=1 must be yes or no"):
        RemotePolicy("ws://127.0.0.1:9?depth=1")


def test_a_chunk_is_tried_with_depth_too(episode):
    with foreign_server(hold, metadata={"depth": True}) as server:
        policy = RemotePolicy(f"{server.address}?chunk=3")
        policy.close()
    assert depth_keys(server.observations[0]) == {HEAD, LEFT, RIGHT}


def test_an_env_that_was_not_asked_for_depth_is_our_fault(episode):
    with foreign_server(hold) as server:
        policy = RemotePolicy(f"{server.address}?depth=yes")
        policy.reset(episode)
        with pytest.raises(HostFaultError, match="cannot be sent: the server wants depth, and the"):
            policy.infer(ToyEnv().observe())
        policy.close()


def points_in_base_frame(message):
    """Where the head camera sees something, float [N, 3] [m], by the message alone."""
    depth = message[HEAD][0].astype(np.float64)
    x, y, z, w = message["robot_r1::cam_rel_poses"][0, 17:21].astype(np.float64)
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    across = (np.arange(720) + 0.5 - 360) / 306
    rays = np.stack(np.broadcast_arrays(across[None], -across[:, None], -1.0), axis=-1)
    seen = np.isfinite(depth)
    points = rays[seen] * depth[seen][:, None]
    return points @ turn.T + message["robot_r1::cam_rel_poses"][0, 14:17]


@pytest.mark.slow
def test_a_run_in_the_twin_gives_a_server_depth_in_metres(tmp_path):
    with foreign_server(hold, metadata={"modalities": ["rgb", "depth_linear"]}) as server:
        words = ["run", "--task", "31", "--sim", "mujoco", "--policy", server.address]
        words += ["--horizon", "1", "--max-steps", "1", "--no-video", "--json"]
        result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "r")])
    assert result.exit_code == 0, result.output
    message = server.observations[0]
    assert depth_keys(message) == {HEAD, LEFT, RIGHT}
    for key, view in VIEWS.items():
        size = 720 if view == "head" else 480
        assert (message[key].dtype.str, message[key].shape) == ("<f4", (1, size, size))
        near, far = np.nanpercentile(message[key][np.isfinite(message[key])], (1, 99))
        assert 0.02 < near < far < 15.0
    height = points_in_base_frame(message)[:, 2]
    assert (np.abs(height) < 0.01).mean() > 0.1  # the floor, where the base stands
    assert (height < -0.01).mean() < 0.001  # and nothing below it
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["identity"]["policy"]["depth"] is True


@pytest.mark.slow
@pytest.mark.parametrize(("year", "envs", "lead"), [("2025", 1, ()), ("2026", 2, (1,))])
def test_a_run_in_omnigibsons_double_gives_a_server_depth_in_that_years_form(
    year, envs, lead, request, tmp_path
):
    request.getfixturevalue(f"og_{year}")
    with foreign_server(hold, metadata={"needs_depth": True}) as server:
        words = ["run", "--task", "31", "--sim", "omnigibson", "--policy", server.address]
        words += ["--horizon", "1", "--max-steps", "1", "--no-video", "--json"]
        words += ["--num-envs", str(envs), "--instances", f"0-{envs - 1}"]
        result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "r")])
    assert result.exit_code == 0, result.output
    assert len(server.observations) == 2 * envs
    for message in server.observations:
        assert depth_keys(message) == {*VIEWS}
        for key, view in VIEWS.items():
            size = 720 if view == "head" else 480
            assert (message[key].dtype.str, message[key].shape) == ("<f4", (*lead, size, size))
