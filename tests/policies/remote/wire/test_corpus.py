"""What fuzzing has found, and honest messages changed at random: the invariants hold for them.

What a pass does not prove: that they hold for anything else; docs/fuzzing.md says how to look.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from b1k_policies.base import ActionChunk
from b1k_policies.baselines import HoldPolicy
from b1k_policies.remote.wire.codec import pack

pytest.importorskip("msgpack")
pytest.importorskip("websockets")

NAMES = ("codec", "server", "client")
FOUND = sorted((Path(__file__).parent / "corpus").glob("*/*"))


@pytest.fixture(scope="module")
def fuzz():
    """The fuzzer's targets."""
    return importlib.import_module("fuzz_wire_targets")


@pytest.fixture
def messages(fuzz):
    return importlib.import_module("fuzz_wire_messages")


@pytest.fixture
def begin(fuzz):
    """Makes a target, and ends it."""
    begun = []

    def begin(name):
        begun.append(fuzz.ready(name))
        return begun[-1]

    yield begin
    for target in begun:
        target.close()


def test_every_input_found_is_of_a_target(fuzz):
    assert set(fuzz.TARGETS) == set(NAMES)
    assert {path.parent.name for path in FOUND} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_fuzzing_found_is_answered_or_refused(begin, name):
    target = begin(name)
    for path in FOUND:
        if path.parent.name == name:
            target(path.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_honest_messages_that_are_changed_are_answered_or_refused(messages, begin, name):
    target, inputs = begin(name), messages.seeds(name)
    for seed in range(100):
        honest = inputs[seed % len(inputs)]
        target(messages.mutated(honest, 8192, seed, lambda data, _: data[: len(data) // 2]))
        target(messages.crossed(honest, inputs[seed % 7], 8192, seed))


# --- a server or client that is broken is noticed -------------------------------------------------


def test_an_error_of_the_server_that_is_no_refusal_is_noticed(fuzz, begin, monkeypatch):
    def broken(message):
        if "odd" in message:
            raise KeyError("it is odd")
        return "reset" in message

    monkeypatch.setattr("b1k_policies.remote.server.client.is_reset", broken)
    with pytest.raises(fuzz.BrokenInvariantError, match="its policy failed: 'it is odd'"):
        begin("server")(pack({"odd": 1}))


def test_a_server_on_which_one_client_changes_anothers_actions_is_noticed(
    fuzz, messages, begin, monkeypatch
):
    infer, seen = HoldPolicy.infer, []

    def broken(policy, observation):
        seen.append(float(observation.proprio[0]))
        return ActionChunk(actions=infer(policy, observation).actions + np.float32(7.0 in seen))

    monkeypatch.setattr(HoldPolicy, "infer", broken)
    message = messages.honest_observation("2026", envs=None)
    message["robot_r1::proprio"] = np.full(61, 7, np.float32)
    with pytest.raises(fuzz.BrokenInvariantError, match="an honest observation has another action"):
        begin("server")(pack(message))


def test_an_observation_that_is_none_is_noticed_at_the_policy(fuzz, messages, begin, monkeypatch):
    reads = importlib.import_module("b1k_policies.remote.server.client").from_wire

    def broken(message, **options):
        return reads(message, **{**options, "step": message.get("step", 0)})

    monkeypatch.setattr("b1k_policies.remote.server.client.from_wire", broken)
    with pytest.raises(fuzz.BrokenInvariantError, match="a policy was given Observation"):
        begin("server")(pack({**messages.honest_observation("2026"), "step": -1}))


def test_an_error_of_the_client_that_is_not_declared_is_noticed(messages, begin, monkeypatch):
    read = importlib.import_module("b1k_policies.remote.client").read_answer

    def broken(message, **options):
        if "odd" in message:
            raise KeyError("it is odd")
        return read(message, **options)

    monkeypatch.setattr("b1k_policies.remote.client.read_answer", broken)
    with pytest.raises(KeyError, match="it is odd"):
        begin("client")(messages.sequence(pack({}), pack({"odd": 1, "action": 1})))


def test_memory_beyond_the_bound_is_noticed(fuzz, begin, monkeypatch):
    codec = importlib.import_module("b1k_policies.remote.wire.codec")
    unpack = codec.unpack

    def broken(data, limits=codec.DEFAULT_LIMITS):
        bytes(1_000_000)
        return unpack(data, limits)

    monkeypatch.setattr(codec, "unpack", broken)
    with pytest.raises(fuzz.BrokenInvariantError, match=r"1\d{6} bytes were allocated"):
        begin("codec")(b"\xc0")


def test_a_message_that_is_read_as_another_is_noticed(fuzz, begin, monkeypatch):
    monkeypatch.setitem(
        importlib.import_module("b1k_policies.remote.wire.codec")._CONSTANTS, 0xC2, None
    )
    with pytest.raises(fuzz.BrokenInvariantError, match="read as None, by msgpack as False"):
        begin("codec")(b"\xc2")
