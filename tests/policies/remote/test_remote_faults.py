"""What a server can do wrong, and what becomes of the episode: the reasons of the 2026 rules."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import threading

import numpy as np
import pytest
from doubles import ToyEnv
from foreign_server import DiesError, GoesError, HangsError, foreign_server, in_turn, row

from b1k_envs.errors import ActionError, HostFaultError, PolicyFaultError
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_policies.remote.client import RemotePolicy

OK = {"action": row(0)[None]}
FORWARD = {"action": np.eye(1, 23, dtype=np.float32)}
"""vx = 1: ten of them reach the goal of `ToyEnv`."""


@pytest.fixture(autouse=True)
def _no_key_no_waiting(monkeypatch):
    monkeypatch.delenv("B1K_EVAL_API_KEY", raising=False)
    monkeypatch.setattr("b1k_policies.remote.wire.dialogue.SETTLE_S", 0.02)


def episode_with(server, episode, **options):
    """An episode of a toy world; returns its result, and how often the client waited."""
    waited = []
    policy = RemotePolicy(server.address, sleep=waited.append, **options)
    result = run_episode(ToyEnv(), policy, episode, RecedingHorizon(1, policy.chunk_length))
    policy.close()
    return result, waited


# --- lost connections ---------------------------------------------------------------------------


def test_a_server_that_dies_three_times_and_is_back_costs_nothing(episode):
    script = in_turn(FORWARD, DiesError, DiesError, *[FORWARD] * 4, DiesError, *[FORWARD] * 5)
    with foreign_server(script) as server:
        result, waited = episode_with(server, episode)
    assert (result.outcome, result.steps) == ("success", 10)
    assert waited == []
    assert server.connections == 4
    assert server.kinds.count("reset") == 1  # the rules: no reset after a reconnection
    assert server.kinds.count("observation") == 13


def test_the_observation_is_sent_again_byte_for_byte(episode):
    with foreign_server(in_turn(DiesError, OK)) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        policy.infer(ToyEnv().observe())
        policy.close()
    assert server.kinds == ["connect", "reset", "observation", "connect", "observation"]
    assert server.frames[1] == server.frames[2]


def test_a_fourth_loss_in_an_episode_is_the_policys_fault(episode):
    with foreign_server(in_turn(FORWARD, *[DiesError] * 4)) as server:
        result, _ = episode_with(server, episode)
    assert (result.outcome, result.failure_reason) == ("failure", "policy_connection_lost")
    assert result.steps == 1
    assert "3 reconnections in this episode are used up" in result.message
    assert server.connections == 4


def test_an_episode_for_which_no_server_is_there_is_not_the_policys_failure(episode):
    """It is unscored and tried again on --resume: nothing was asked that could have failed."""
    with foreign_server(in_turn(OK)) as server:
        policy = RemotePolicy(server.address, sleep=lambda _: None)
    policy._query_timeout_s = 0.5
    result = run_episode(ToyEnv(), policy, episode, RecedingHorizon(1, 1))
    policy.close()
    assert (result.outcome, result.failure_reason, result.steps) == ("error", None, 0)
    assert "no server for this episode" in result.message
    assert "--resume" in result.message


def test_reconnections_are_counted_anew_in_every_episode(episode):
    script = in_turn(DiesError, DiesError, DiesError, OK, DiesError, DiesError, DiesError, OK)
    with foreign_server(script) as server:
        policy = RemotePolicy(server.address, sleep=pytest.fail)
        for _ in range(2):
            policy.reset(episode)
            policy.infer(ToyEnv().observe())
        policy.close()
    assert server.connections == 7


def test_a_server_that_does_not_come_back_is_tried_three_times_with_pauses(episode):
    with foreign_server(in_turn(GoesError)) as server:
        result, waited = episode_with(server, episode, retry_wait_s=0.25)
        assert (result.outcome, result.failure_reason) == ("failure", "policy_connection_lost")
        assert "healthz" in result.message
        assert "refused" in result.message
        assert waited == [0.25, 0.25]
        assert server.connections == 1


def test_a_server_that_is_back_for_the_next_episode_is_used_again(episode):
    with foreign_server(in_turn(GoesError, OK)) as server:
        policy = RemotePolicy(server.address, sleep=lambda _: None)
        policy.reset(episode)
        with pytest.raises(PolicyFaultError) as caught:
            policy.infer(ToyEnv().observe())
        assert caught.value.reason == "policy_connection_lost"
        with pytest.raises(HostFaultError, match="no server for this episode"):
            policy.reset(episode)
        server.start()
        policy.reset(episode)
        np.testing.assert_array_equal(policy.infer(ToyEnv().observe()).actions[0], row(0))
        policy.close()
    assert server.kinds[-2:] == ["reset", "observation"]


def test_a_server_that_comes_back_while_we_wait_is_found(episode):
    with foreign_server(in_turn(GoesError, *[FORWARD] * 10)) as server:
        policy = RemotePolicy(server.address, sleep=lambda _: server.start())
        result = run_episode(ToyEnv(), policy, episode, RecedingHorizon(1, 1))
        policy.close()
    assert (result.outcome, result.steps) == ("success", 10)
    assert server.connections == 2


def test_a_reset_is_sent_again_where_the_connection_broke_in_between(episode):
    with foreign_server(in_turn(OK, OK)) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        policy.infer(ToyEnv().observe())
        policy._link._connection.socket.shutdown(socket.SHUT_RDWR)
        policy._link._connection.recv_events_thread.join(20)
        policy.reset(episode)
        policy.infer(ToyEnv().observe())
        policy.close()
    assert server.kinds == ["connect", "reset", "observation"] * 2


def test_a_server_of_ours_is_told_where_the_episode_was(episode):
    block = {
        "protocol_version": 1, "episode": True, "name": "toy", "chunk_length": 1,
        "skipped_rows": 0, "images": "native", "remarks": [],
    }  # fmt: skip
    answer = {**FORWARD, "action_chunk": FORWARD["action"][None]}
    script = in_turn(answer, answer, DiesError, *[answer] * 8)
    with foreign_server(script, metadata={"b1k_eval": block}) as server:
        result, _ = episode_with(server, episode)
    assert (result.outcome, result.steps) == ("success", 10)
    first, second = (message["b1k_eval"] for message in server.resets)
    assert first == {"seed": 7, "instance": 0, "rollout": 0, "inference": 0, "step": 0}
    assert second == {"seed": 7, "instance": 0, "rollout": 0, "inference": 2, "step": 2}
    assert server.kinds[4:8] == ["observation", "connect", "reset", "observation"]


@pytest.mark.parametrize("name", ["another", None])
def test_a_server_that_comes_back_as_another_is_no_evidence_either_way(name, episode):
    block = {
        "protocol_version": 1, "episode": True, "name": "toy", "chunk_length": 1,
        "skipped_rows": 0, "images": "native", "remarks": [],
    }  # fmt: skip

    def change_and_die(_):
        server.metadata = {} if name is None else {"b1k_eval": {**block, "name": name}}
        raise DiesError

    with foreign_server(change_and_die, metadata={"b1k_eval": block}) as server:
        result, _ = episode_with(server, episode)
    assert result.outcome == "error"
    assert "HostFaultError" in result.message
    assert "came back as " + ("a server that is not ours" if name is None else "'another'") in (
        result.message
    )


# --- time ---------------------------------------------------------------------------------------


def test_a_server_that_is_slow_beyond_the_deadline_is_a_timeout(episode):
    with foreign_server(in_turn(HangsError)) as server:
        policy = RemotePolicy(server.address)
        policy._query_timeout_s = 1.0  # connecting may take longer where others compute, too
        result = run_episode(ToyEnv(), policy, episode, RecedingHorizon(1, 1))
        policy.close()
    assert (result.outcome, result.failure_reason) == ("failure", "policy_query_timeout")
    assert result.message.endswith(f"no answer from {server.address} within 1 s")
    assert result.steps == 0


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(episode):
    late = threading.Event()

    def slow(_):
        assert late.wait(20)
        return {"action": row(1)[None]}

    with foreign_server(in_turn(slow, {"action": row(2)[None]})) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        policy._query_timeout_s = 0.5
        with pytest.raises(PolicyFaultError) as caught:
            policy.infer(ToyEnv().observe())
        assert caught.value.reason == "policy_query_timeout"
        late.set()
        policy._query_timeout_s = 60.0
        policy.reset(episode)
        np.testing.assert_array_equal(policy.infer(ToyEnv().observe()).actions[0], row(2))
        policy.close()


def deaf_server(listening):
    """Answers /healthz, opens a WebSocket, sends empty metadata, and reads nothing after that."""
    healthy, _ = listening.accept()
    healthy.recv(4096)
    healthy.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    healthy.close()
    connection, _ = listening.accept()
    headers = connection.recv(4096).decode()
    (key,) = re.findall(r"Sec-WebSocket-Key: (\S+)", headers)
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n\x82\x01\x80"
    )
    return connection


def test_a_server_that_does_not_even_read_is_a_timeout(episode):
    """Its buffers fill up, and a sender without a deadline would wait for ever."""
    observation = ToyEnv().observe()
    large = {view: np.zeros((3000, 3000, 3), np.uint8) for view in observation.images}
    object.__setattr__(observation, "images", large)
    reasons = []

    def ask(port):
        policy = RemotePolicy(f"ws://127.0.0.1:{port}")
        policy.reset(episode)
        policy._query_timeout_s = 0.5
        try:
            policy.infer(observation)
        except PolicyFaultError as error:
            reasons.append(error.reason)
        policy.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = threading.Thread(target=ask, args=(listening.getsockname()[1],), daemon=True)
        client.start()
        connection = deaf_server(listening)
        client.join(30)
        connection.close()
    assert reasons == ["policy_query_timeout"]


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason", "text"),
    [
        ("CUDA out of memory\nmore", "policy_error", "the server reports: CUDA out of memory"),
        ("Traceback (most recent call last):\n  File\nKeyError: 'rgb'", "policy_error",
         "the server reports: KeyError: 'rgb'"),
        ("", "policy_error", "the server reports: (nothing)"),
        (b"\xc1", "policy_error", "answer cannot be read: byte 0 is 0xc1"),
        (b"", "policy_error", "answer cannot be read: byte 0"),
        (b"\x90", "policy_error", "answered with a list, not a map"),
        ({"action": row(0)[:22]}, "policy_invalid_action", "got float32 [22]"),
        ({"action": np.stack([row(0)] * 2)}, "policy_invalid_action", "got float32 [2, 23]"),
        ({"action": row(np.nan)}, "policy_invalid_action", "'action' is nan at [0]"),
        ({"action": row(0).tolist()}, "policy_invalid_action", "must be an array, got list"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_the_policys_fault(answer, reason, text, episode):
    with foreign_server(in_turn(FORWARD, answer)) as server:
        result, _ = episode_with(server, episode)
    assert (result.outcome, result.failure_reason) == ("failure", reason)
    assert text in result.message
    assert "more" not in result.message
    assert result.steps == 1


def test_an_answer_without_an_action_is_asked_for_again_twice(episode):
    with foreign_server(in_turn(OK, {}, {"error": "busy"}, OK)) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        for _ in range(2):
            np.testing.assert_array_equal(policy.infer(ToyEnv().observe()).actions[0], row(0))
        policy.close()
    assert server.frames[1] == server.frames[2] == server.frames[3] == server.frames[4]


def test_a_third_answer_without_an_action_is_the_policys_fault(episode):
    with foreign_server(in_turn(FORWARD, {}, {}, {"error": "busy"})) as server:
        result, _ = episode_with(server, episode)
    assert (result.outcome, result.failure_reason) == ("failure", "policy_error")
    assert "has no 'action' (it has: error)" in result.message


def test_an_answer_above_the_limit_is_not_read(episode, monkeypatch):
    with foreign_server(in_turn({**OK, "more": bytes(17 * 2**20)}, *[OK] * 9)) as server:
        result, _ = episode_with(server, episode)
    assert result.failure_reason == "policy_error"
    assert "larger than 16777216 bytes" in result.message


def test_after_a_bad_answer_the_next_episode_begins_on_a_new_connection(episode):
    with foreign_server(in_turn({"action": row(0)[:3]}, OK)) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        with pytest.raises(ActionError):
            policy.infer(ToyEnv().observe())
        policy.reset(episode)
        policy.infer(ToyEnv().observe())
        policy.close()
    assert server.connections == 2


# --- ours ---------------------------------------------------------------------------------------


def test_an_observation_that_cannot_be_sent_is_our_fault(episode):
    with foreign_server(lambda _: OK) as server:
        policy = RemotePolicy(server.address)
        policy.reset(episode)
        observation = ToyEnv().observe()
        object.__setattr__(observation, "proprio", np.array([object()]))
        with pytest.raises(HostFaultError, match="cannot be sent: an array of dtype object"):
            policy.infer(observation)
        policy.close()


def test_an_inference_before_a_reset_is_a_bug():
    with foreign_server(lambda _: OK) as server:
        policy = RemotePolicy(server.address)
        with pytest.raises(RuntimeError, match="infer before reset"):
            policy.infer(ToyEnv().observe())
        policy.close()
        policy.close()
