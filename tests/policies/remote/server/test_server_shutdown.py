"""How a server ends: nobody new, what is under way is answered, everybody is told."""

from __future__ import annotations

import signal
import threading

import pytest
from process import ServeProcess
from raw import SMALL, RawClient, observation, pack
from serving import DEADLINE_S, LedgerEngine, served, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from b1k_policies.remote.server import limits

GOING_AWAY = (1001, "the server is stopping")


@pytest.fixture
def engine():
    engine = LedgerEngine()
    yield engine
    engine.gate.set()


def goodbye(client):
    with pytest.raises(ConnectionClosed) as caught:
        client.socket.recv(timeout=DEADLINE_S)
    return None if caught.value.rcvd is None else (caught.value.rcvd.code, caught.value.rcvd.reason)


def under_way(engine, server):
    """A client whose observation is being inferred."""
    engine.gate.clear()
    client = RawClient(server.url)
    client.socket.send(pack(observation("2026", **SMALL)))
    assert engine.entered.wait(DEADLINE_S)
    return client


def test_idle_clients_are_told_and_the_server_ends(engine):
    with served(engine) as server:
        clients = [RawClient(server.url) for _ in range(3)]
        server.stop()
        assert [goodbye(client) for client in clients] == [GOING_AWAY] * 3
        server.join()


def test_what_is_under_way_is_answered_first_and_nobody_new_let_in(engine):
    with served(engine) as server:
        busy, idle = under_way(engine, server), RawClient(server.url)
        server.stop()
        assert goodbye(idle) == GOING_AWAY
        with pytest.raises(ConnectionRefusedError), connect(server.url):
            pass
        engine.gate.set()
        assert busy.answer()["action"].shape == (23,)
        assert goodbye(busy) == GOING_AWAY
        server.join()


def test_told_twice_it_waits_for_nothing(engine):
    with served(engine, grace_s=1e6) as server:
        busy = under_way(engine, server)
        server.stop()
        server.stop()
        assert goodbye(busy) is None
        server.join()
        engine.gate.set()


def test_its_patience_is_limited(engine):
    with served(engine, grace_s=0.0) as server:
        busy = under_way(engine, server)
        server.stop()
        assert goodbye(busy) is None
        server.join()
        engine.gate.set()


def test_what_was_sent_before_does_not_hold_up_a_goodbye(engine, monkeypatch):
    monkeypatch.setattr(limits, "CLOSE_TIMEOUT_S", 1e6)
    with served(engine) as server:
        client = under_way(engine, server)
        client.socket.send(b"\xc1")
        for _ in range(20):
            client.socket.send(pack(observation("2026", **SMALL)))
        engine.gate.set()
        client.answer()
        assert client.answer().startswith("byte 0 is 0xc1")
        assert goodbye(client)[0] == 1008
        client.close()
        until(lambda: not server.server._sockets)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_ends_with_0_at_a_signal(tmp_path, number):
    with ServeProcess(tmp_path, "--policy", "zero", "--task", "31") as server:
        with RawClient(server.url) as client:
            assert not client.ask(observation("2026", **SMALL))["action"].any()
            server.send(number)
            assert goodbye(client) == GOING_AWAY
        server.wait()
    assert server.code == 0
    assert "Traceback" not in server.log
    assert "1 chunks, 0 failed, 1 inferences" in server.log


def test_no_thread_is_left(engine):
    before = threading.active_count()
    with served(engine) as server, RawClient(server.url) as client:
        client.ask(observation("2026", **SMALL))
    assert threading.active_count() == before
