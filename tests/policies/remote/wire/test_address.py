"""Addresses of servers, and policies by such a name."""

from __future__ import annotations

import pytest

from b1k_envs.errors import UsageError
from b1k_policies.registry import make_policy
from b1k_policies.remote.wire.address import Address, is_address, parse_address


@pytest.mark.parametrize(
    ("spec", "expected", "shown"),
    [
        ("ws://localhost:8000", Address(scheme="ws", host="localhost", port=8000), None),
        ("wss://eval.example.org:443/", Address(scheme="wss", host="eval.example.org", port=443),
         "wss://eval.example.org:443"),
        ("ws://[::1]:8000", Address(scheme="ws", host="::1", port=8000), None),
        ("ws://h:1?chunk=10&wait=600&batch=no",
         Address(scheme="ws", host="h", port=1, chunk=10, wait_s=600.0, batch=False), "ws://h:1"),
        ("ws://h:1?batch=yes&wait=0.5",
         Address(scheme="ws", host="h", port=1, wait_s=0.5, batch=True), "ws://h:1"),
        ("ws://h:1?timeout=30", Address(scheme="ws", host="h", port=1, timeout_s=30.0), "ws://h:1"),
    ],
)  # fmt: skip
def test_an_address_is_read(spec, expected, shown):
    assert parse_address(spec) == expected
    assert str(expected) == (shown or spec)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("ws://localhost", "needs host and port: give ws://HOST:PORT or wss://HOST:PORT"),
        ("ws://:8000", "needs host and port"),
        ("ws://", "needs host and port"),
        ("ws://h:99999", "no address of a server .*[Pp]ort out of range"),
        ("ws://h:eight", "no address of a server"),
        ("ws://h:8000/policy", "nothing may follow the port but options"),
        ("ws://h:8000#x", "nothing may follow the port but options"),
        ("ws://h:1?key=abc", "has no option 'key'; choose from chunk, wait, timeout, batch"),
        ("ws://h:1?chunk", "bad query field"),
        ("ws://h:1?chunk=0", "chunk=0 must be a whole number, 1 to 10000"),
        ("ws://h:1?chunk=-3", "chunk=-3 must be"),
        ("ws://h:1?chunk=1e2", "chunk=1e2 must be"),
        ("ws://h:1?chunk=", "chunk= must be"),
        ("ws://h:1?wait=nan", "wait=nan must be seconds"),
        ("ws://h:1?wait=99999999", "wait=99999999 must be seconds, 0 to 604800"),
        ("ws://h:1?batch=1", "batch=1 must be yes or no"),
        ("ws://h:1?timeout=-1", "timeout=-1 must be seconds"),
        ("ws://h:1?chunk=2&chunk=3", "an option twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(spec, text):
    with pytest.raises(UsageError, match=text):
        parse_address(spec)


def test_a_password_is_refused_and_not_repeated():
    with pytest.raises(UsageError, match="must not hold a user or password: set the env") as caught:
        parse_address("wss://me:hunter2@h:1")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "private"),
    [
        ("ws://localhost:1", True), ("ws://127.0.0.7:1", True), ("ws://[::1]:1", True),
        ("wss://example.org:1", True), ("ws://example.org:1", False), ("ws://10.0.0.1:1", False),
    ],
)  # fmt: skip
def test_only_tls_or_this_machine_is_private(spec, private):
    assert parse_address(spec).is_private == private


def test_a_policy_is_known_by_its_scheme():
    assert is_address("ws://x:1")
    assert is_address("wss://x:1")
    assert not is_address("ws")
    assert not is_address("http://x:1")
    assert not is_address("replay:ws://x")


@pytest.mark.parametrize("scheme", ["http", "https", "tcp", "WS"])
def test_another_scheme_is_told_which_there_are(scheme):
    with pytest.raises(UsageError, match=f"{scheme}:// is not the address .* with ws:// or wss:"):
        make_policy(f"{scheme}://localhost:8000")


def test_the_list_of_policies_has_servers():
    with pytest.raises(UsageError, match=r"choose from .*replay:FILE, ws://HOST:PORT, wss://HOST"):
        make_policy("nothing")
