"""What clients do wrong, what policies do wrong, and who may come in at all."""

from __future__ import annotations

import logging
import socket
import struct
from contextlib import suppress

import numpy as np
import pytest
from raw import SMALL, RawClient, frame, get, observation, opened_socket, pack
from serving import LedgerEngine, served, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from b1k_envs.errors import HostFaultError, PolicyFaultError
from b1k_policies.remote.server import limits
from b1k_policies.remote.server.limits import Quota

KEY = "correct-horse-battery"


@pytest.fixture
def engine():
    return LedgerEngine()


def read_on(client):
    while True:
        client.socket.recv(timeout=20)


def closed_by(client):
    """Code and reason with which the server closed."""
    with pytest.raises(ConnectionClosed) as caught:
        read_on(client)
    received = caught.value.rcvd
    assert received is not None, "cut off without a word"
    return received.code, received.reason


def assert_serves(server):
    with RawClient(server.url) as client:
        assert client.ask(observation("2026", **SMALL))["action"].shape == (23,)


# --- messages that are none -------------------------------------------------------------------


def without(key):
    message = observation("2026", **SMALL)
    del message[key]
    return message


BAD = {
    "no msgpack": (b"\xc1", "byte 0"),
    "nothing": (b"", ""),
    "no map": (pack([1, 2]), "a map"),
    "an empty map": (pack({}), "robot_r1::proprio"),
    "no picture": (pack(without("robot_r1::robot_r1:zed_link:Camera:0::rgb")), "zed_link"),
    "no task": (pack(without("task_id")), "task_id"),
    "an unknown task": (pack(observation("2026", task=4000, **SMALL)), "there is no task 4000"),
    "a task of the other year": (pack(observation("2025", task=60, **SMALL)), "not in the 2025"),
    "two envs": (pack(observation("2026", envs=2, **SMALL)), "2 envs"),
    "a pickle": (
        pack({**observation("2026", **SMALL), "x": {b"__ndarray__": True, b"data": b"cposix\n",
              b"dtype": "|O", b"shape": [1]}}),
        "dtype",
    ),
    "a huge shape": (
        pack({**observation("2026", **SMALL), "x": {b"__ndarray__": True, b"data": b"",
              b"dtype": "<f4", b"shape": [1 << 40, 1 << 20]}}),
        "bytes",
    ),
    "a wrong size": (
        pack({**observation("2026", **SMALL), "robot_r1::proprio": np.zeros(60, np.float32)}),
        "60",
    ),
    "no seed": (pack({"reset": True, "b1k_eval": {}}), "b1k_eval"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_message_closes_the_connection_and_says_why(engine, name):
    data, hint = BAD[name]
    with served(engine) as server:
        with RawClient(server.url) as client:
            client.socket.send(data)
            code, reason = closed_by(client)
        assert_serves(server)
    assert code == 1008
    assert hint in reason
    assert "Traceback" not in reason
    assert "/" not in reason.replace("robot_r1", "")


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_is_told_in_the_protocols_own_way_before_the_connection_closes(
    engine, name
):
    """A client that only finds the connection closed would connect again and ask the same."""
    data, hint = BAD[name]
    with served(engine) as server, RawClient(server.url) as client:
        client.socket.send(data)
        told = client.answer()
        assert closed_by(client)[0] == 1008
    assert isinstance(told, str)
    assert hint in told
    assert told.isascii()
    assert told.isprintable()


def test_a_client_of_more_envs_than_the_message_may_hold_is_told_of_max_envs(engine, caplog):
    """With depth, eight envs have more bytes than one is granted: it is not even read."""
    with served(engine, quota=Quota(envs=2)) as server, RawClient(server.url) as client:
        client.socket.send(b"\0" * (Quota(envs=8).message_bytes))
        told = client.answer()
        assert closed_by(client)[0] == 1009
    assert "47.1 MB, all pictures of 2 environments: this server answers for 1 to 2 envi" in told
    assert told.endswith("needs b1k-eval serve --max-envs N")
    assert told in caplog.text


def test_a_text_closes_the_connection(engine):
    with served(engine) as server:
        with RawClient(server.url) as client:
            client.socket.send("hello")
            assert closed_by(client) == (1003, "messages must be binary")
        assert_serves(server)


def test_a_message_above_the_limit_closes_the_connection(engine):
    with served(engine) as server:
        with RawClient(server.url) as client:
            client.socket.send(b"\0" * (Quota().message_bytes + 1))
            assert closed_by(client)[0] == 1009
        assert_serves(server)


def test_a_message_of_too_many_fragments_closes_the_connection(engine, monkeypatch):
    # Newer websockets count them, too; older ones do not.
    monkeypatch.setattr("websockets.asyncio.messages.MAX_FRAGMENTS", 10**9, raising=False)
    with served(engine) as server:
        with RawClient(server.url) as client:
            with suppress(ConnectionClosed):  # it need not wait for the last of them
                client.socket.send(b"\0" for _ in range(limits.MOST_FRAGMENTS + 2000))
            assert closed_by(client) == (1008, "a message may have 4096 fragments")
        assert_serves(server)


def test_other_envs_or_another_task_within_an_episode_need_a_reset(engine):
    with served(engine, quota=Quota(envs=2)) as server:
        for second in (observation("2026", envs=2, **SMALL), observation("2026", task=2, **SMALL)):
            with RawClient(server.url) as client:
                client.ask(observation("2026", **SMALL))
                client.reset()
                client.ask(second)
                client.socket.send(pack(observation("2026", **SMALL)))
                code, reason = closed_by(client)
                assert (code, reason[-15:]) == (1008, "without a reset")


def test_the_other_protocol_is_refused_where_one_is_asked_for(engine):
    with served(engine, protocol="2025") as server, RawClient(server.url) as client:
        client.socket.send(pack(observation("2026", **SMALL)))
        assert closed_by(client)[0] == 1008


# --- policies that fail -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (PolicyFaultError("secret"), "policy_error"),
        (PolicyFaultError("secret", reason="policy_invalid_action"), "policy_invalid_action"),
        (ValueError("secret"), "policy_error"),
        (HostFaultError("secret"), "host_fault"),
    ],
)
def test_a_fault_is_told_as_text_and_the_same_question_can_be_asked_again(
    engine, error, word, caplog
):
    asked = observation("2026", **SMALL)
    with served(engine, horizon=1) as server, RawClient(server.url) as client:
        assert client.ask(asked)["action"][1] == 0
        engine.spoilt[float(asked["robot_r1::proprio"][0])] = error
        with caplog.at_level(logging.ERROR, "b1k_policies.remote.server"):
            told = client.ask(asked)
        engine.spoilt.clear()
        assert client.ask(asked)["action"][1] == 1  # the inference that failed, not the next
    assert isinstance(told, str)
    assert told.startswith(f"{word}: ")
    assert "secret" not in told
    assert "secret" in caplog.text
    assert "Traceback" in caplog.text


def test_a_bug_of_the_servers_own_is_told_without_details(engine, caplog):
    with served(engine) as server:
        server.batcher.submit = lambda _asks: 1 / 0
        with RawClient(server.url) as client:
            client.socket.send(pack(observation("2026", **SMALL)))
            assert closed_by(client) == (1011, "the server failed; see its log")
    assert "ZeroDivisionError" in caplog.text


# --- impatience and disappearance ---------------------------------------------------------------


def test_an_observation_sent_again_before_its_answer_gets_the_same_one(engine):
    asked = observation("2026", **SMALL)
    with served(engine, horizon=5) as server, RawClient(server.url) as client:
        engine.gate.clear()
        client.socket.send(pack(asked))
        assert engine.entered.wait(30)
        client.socket.send(pack(asked))
        assert client.socket.ping().wait(30)  # the server has read both
        engine.gate.set()
        first, again, following = client.answer(), client.answer(), client.ask(asked)
    np.testing.assert_array_equal(first["action"], again["action"])
    assert following["action"][0] == 1
    assert len(engine.batches) == 1


def test_a_client_that_vanishes_leaves_nothing_behind(engine):
    with served(engine, quota=Quota(clients=2)) as server:
        with RawClient(server.url) as other:
            engine.gate.clear()
            other.socket.send(pack(observation("2026", seed=1, **SMALL)))
            assert engine.entered.wait(30)
            client = opened_socket(server.url)
            client.sendall(frame(pack(observation("2026", **SMALL))))
            until(lambda: server.batcher._queue.qsize() == 1)
            assert server.batcher.peers == 2
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()  # no goodbye, not even TCP's
            until(lambda: server.batcher.peers == 1)
            engine.gate.set()
            other.answer()
            assert_serves(server)
        until(lambda: server.batcher.peers == 0)
    assert [len(batch) for batch in engine.batches] == [1, 1]


def test_pings_are_answered_during_an_inference(engine):
    with served(engine) as server, RawClient(server.url) as client:
        engine.gate.clear()
        client.socket.send(pack(observation("2026", **SMALL)))
        assert engine.entered.wait(30)
        assert client.socket.ping().wait(30)
        engine.gate.set()
        client.answer()


def test_who_pings_and_never_reads_is_cut_off(engine):
    with served(engine) as server:
        pings = b"\x89\xfd\0\0\0\0" + b"p" * 125
        with opened_socket(server.url) as raw, pytest.raises(ConnectionError):
            raw.sendall(pings * 500_000)
        assert_serves(server)


# --- the door -----------------------------------------------------------------------------------


def refused(url, **options):
    with pytest.raises(InvalidStatus) as caught, connect(url, **options):
        pass
    return caught.value.response.status_code


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        KEY,
        f"Bearer {KEY}",
        f"Api-Key {KEY[:-1]}",
        f"Api-Key {KEY} ",
        "Api-Key \xff\xfe",
        f"api-key {KEY}x",
    ],
)
def test_without_the_key_nobody_comes_in(engine, header):
    headers = {} if header is None else {"Authorization": header}
    stripped = header is not None and header.strip() == f"Api-Key {KEY}"
    with served(engine, key=KEY) as server:
        if stripped:  # white space around a header is not part of it
            with connect(server.url, additional_headers=headers):
                pass
        else:
            assert refused(server.url, additional_headers=headers) == 401
    assert not engine.batches


def test_with_the_key_one_comes_in(engine):
    with served(engine, key=KEY) as server, RawClient(server.url, api_key=KEY) as client:
        assert client.ask(observation("2026", **SMALL))["action"].shape == (23,)


def test_two_keys_at_once_are_none(engine):
    headers = [("Authorization", f"Api-Key {KEY}"), ("Authorization", "Api-Key other")]
    with served(engine, key=KEY) as server:
        assert refused(server.url, additional_headers=headers) == 401


def test_a_page_in_a_browser_is_not_let_in(engine):
    with served(engine) as server:
        assert refused(server.url, origin="http://127.0.0.1") == 403


def test_a_client_too_many_is_turned_away_until_one_goes(engine):
    with served(engine, quota=Quota(clients=2)) as server:
        with RawClient(server.url), RawClient(server.url):
            assert refused(server.url) == 503
            assert get(server.url, "/healthz")[0] == 200
        until(lambda: len(server.server._sockets) == 0)
        assert_serves(server)


def test_connections_that_never_open_do_not_pile_up(engine, monkeypatch):
    monkeypatch.setattr(limits, "OPEN_TIMEOUT_S", 1e6)
    quota = Quota(clients=1)
    most = quota.clients + limits.SPARE_CONNECTIONS
    with served(engine, quota=quota) as server:
        host, port = server.url.removeprefix("ws://").split(":")
        idle = [socket.create_connection((host, int(port)), timeout=30) for _ in range(most)]
        until(lambda: len(server.server._sockets) == most)
        extra = socket.create_connection((host, int(port)), timeout=30)
        with suppress(ConnectionResetError):
            assert extra.recv(1) == b""
        for one in (*idle, extra):
            one.close()
        until(lambda: len(server.server._sockets) == 0)
        assert_serves(server)


def test_compression_is_not_agreed_to(engine):
    with served(engine) as server, connect(server.url, compression="deflate") as raw:
        assert "Sec-WebSocket-Extensions" not in raw.response.headers
        assert "Server" not in raw.response.headers
