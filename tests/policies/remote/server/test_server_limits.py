"""Figures and doors of a server, without one."""

from __future__ import annotations

import socket

import pytest
from raw import SMALL, RawClient, observation
from serving import LedgerEngine, served

from b1k_envs.errors import UsageError
from b1k_policies.remote.server.limits import Door, Quota, TokenBucket, is_loopback, listen_on

KEY = "0123456789abcdef"


def test_the_largest_message_is_every_modality_of_every_env():
    head, wrist = 720 * 720, 480 * 480
    each = (head + 2 * wrist) * (4 + 4 + 8 + 8)  # RGBA, depth, two segmentations
    for envs in (1, 4):
        assert 0 < Quota(envs=envs).message_bytes - envs * each <= envs * 100_000
        assert Quota(envs=envs).wire.size == Quota(envs=envs).message_bytes


@pytest.mark.parametrize(
    ("option", "given"), [("clients", 0), ("envs", 0), ("rate", 0.0), ("rate", float("nan"))]
)
def test_a_quota_of_nothing_is_refused(option, given):
    with pytest.raises(UsageError, match=f"--max-{option}"):
        Quota(**{option: given})


def test_a_burst_is_let_through_and_a_flood_is_slowed_to_the_rate():
    bucket, now, waited = TokenBucket(10, 0.0), 0.0, 0.0
    for _ in range(10):
        assert bucket.delay(now) == 0.0
    for _ in range(100):
        pause = bucket.delay(now)
        now, waited = now + pause, waited + pause
    assert waited == pytest.approx(10.0)  # 100 messages at 10 a second


def test_a_pause_earns_no_more_than_one_burst():
    bucket = TokenBucket(10, 0.0)
    delays = [bucket.delay(1e6) for _ in range(12)]
    assert delays == [0.0] * 10 + [pytest.approx(0.1), pytest.approx(0.2)]


def test_every_message_of_a_connection_counts(monkeypatch):
    counted = []

    class Spy(TokenBucket):
        def __init__(self, rate, now):
            super().__init__(rate, now)
            counted.append(rate)

        def delay(self, now):
            counted.append("message")
            return super().delay(now)

    monkeypatch.setattr("b1k_policies.remote.server.client.TokenBucket", Spy)
    with served(LedgerEngine(), quota=Quota(rate=77.0)) as server, RawClient(server.url) as client:
        for _ in range(3):
            client.reset()
            client.ask(observation("2026", **SMALL))
    assert counted[0] == 77.0
    assert len(counted) - 1 in (6, 7)  # one more is waited for


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost"])
def test_this_machines_own_addresses_need_no_key(host):
    assert is_loopback(host)
    assert not Door(host, None).locked
    assert Door(host, None).admits(None)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "192.0.2.7"])
def test_any_other_address_needs_a_key(host):
    with pytest.raises(UsageError, match=r"B1K_EVAL_API_KEY.*--no-key lets in anybody"):
        Door(host, None)
    assert Door(host, KEY).locked


@pytest.mark.parametrize(
    ("host", "warned"), [("0.0.0.0", True), ("", True), ("192.0.2.7", True), ("127.0.0.1", False)]
)
def test_a_door_without_a_key_warns_where_others_can_reach_it(host, warned):
    door = Door(host, None, no_key=True)
    assert not door.locked
    assert door.admits(None)
    assert (door.warning is not None) is warned
    assert Door("127.0.0.1", KEY).warning is None


def test_no_key_and_a_key_are_refused_together():
    with pytest.raises(UsageError, match="leave out --no-key") as caught:
        Door("0.0.0.0", KEY, no_key=True)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("key", ["", "short", "with a space in it....", "schlüssel-schlüssel"])
def test_a_key_that_is_easily_guessed_or_cannot_be_a_header_is_refused(key):
    with pytest.raises(UsageError, match="at least 16") as caught:
        Door("127.0.0.1", key)
    assert key not in str(caught.value) or not key


@pytest.mark.parametrize("header", [None, "", KEY, f"Api-Key {KEY}x", f"Api-key {KEY}"])
def test_a_locked_door_opens_for_the_exact_header_only(header):
    door = Door("127.0.0.1", KEY)
    assert not door.admits(header)
    assert door.admits(f"Api-Key {KEY}")


def test_keys_are_compared_in_constant_time(monkeypatch):
    compared = []

    def compare(one, other):
        compared.append((one, other))
        return False

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert not Door("127.0.0.1", KEY).admits(f"Api-Key {KEY}")
    assert compared == [(f"Api-Key {KEY}".encode(),) * 2]


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port} is not available"):
            listen_on("127.0.0.1", port)


def test_a_host_that_is_none_is_named():
    with pytest.raises(UsageError, match=r"256\.1\.1\.1"):
        listen_on("256.1.1.1", 0)
