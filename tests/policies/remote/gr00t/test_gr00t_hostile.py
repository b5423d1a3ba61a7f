"""300 hostile messages each way: neither side crashes, hangs, or takes memory for nothing."""

from __future__ import annotations

import io
import random
import socket
import struct
import tracemalloc
from dataclasses import replace

import msgpack
import numpy as np
import pytest
import zmq
from doubles import ToyEnv
from foreign_gr00t import (
    WORDS,
    Gr00tClient,
    action_of,
    config_of,
    decode,
    encode,
    gr00t_server,
    observation_of,
)
from serving import served_gr00t

from b1k_envs.errors import B1kEvalError, PolicyFaultError
from b1k_envs.tasks.table import get_task
from b1k_policies.baselines import HoldPolicy
from b1k_policies.registry import make_policy
from b1k_policies.remote.gr00t.forms import pack_message, read_npy, unpack_message
from b1k_policies.remote.server.engine import Engine
from b1k_policies.remote.wire.limits import MessageLimits, WireError

COUNT = 300
LIMITS = MessageLimits(size=2**20)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("B1K_EVAL_API_KEY", raising=False)


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([print], dtype=object), allow_pickle=True)
    return file.getvalue()


FILES = [
    b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x09\x00" + bytes(80), pickled(),
    npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", bytes(8)),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n", bytes(4)),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }\n"),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807), }\n"),
    npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", bytes(23)),
    npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n", bytes(4)),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n", bytes(4)),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1" + ",1" * 40 + "), }\n", bytes(4)),
    npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }\n", bytes(8)),
    npy("(" * 4000), npy("-" * 4000 + "1"), npy("__import__('os')"), npy("x" * 60_000),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n", bytes(5)),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FILES)))
def test_a_file_that_is_no_plain_array_is_refused_before_memory_is_taken(number):
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            read_npy(FILES[number], LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.array(3, np.int16),
        np.zeros((0, 4), bool),
        np.arange(5, dtype=">f8"),
        np.zeros((1,) * 9, np.uint8),
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_what_numpy_writes_is_read_as_numpy_reads_it(array, version):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    found = read_npy(file.getvalue(), LIMITS)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, np.load(io.BytesIO(file.getvalue())))
    assert not found.flags.writeable


def test_what_is_written_is_read_by_numpy_and_msgpack():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert decode(pack_message({"a": [array]}))["a"][0].tolist() == array.tolist()
    assert unpack_message(encode({"a": [array]}), LIMITS)["a"][0].tolist() == array.tolist()


def hostile(honest: bytes, value: object, draw: random.Random) -> bytes:
    """One message: random bytes, an honest one spoilt, or a value of the wrong kind inside."""
    kind = draw.randrange(6)
    if kind == 0:
        return draw.randbytes(draw.randrange(200))
    if kind == 1:
        return honest[: draw.randrange(len(honest))]
    if kind == 2:
        spoilt = bytearray(honest)
        for _ in range(draw.randrange(1, 9)):
            spoilt[draw.randrange(min(len(spoilt), 900))] = draw.randrange(256)
        return bytes(spoilt)
    if kind == 3:
        file = {"__ndarray_class__": True, "as_npy": draw.choice(FILES)}
        return msgpack.packb(swapped(value, file, draw), default=bytes_of)
    if kind == 4:
        opening = draw.choice(
            [b"\x91", b"\x81\xa1k", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
        )
        return opening * draw.randrange(1, 2000)
    odd = draw.choice([None, 3, -1.5, "x" * 3000, b"\x00" * 50, [], {}, [[[]]], True, 2**64 - 1])
    return msgpack.packb(swapped(value, odd, draw), default=bytes_of)


def bytes_of(array):
    return msgpack.unpackb(encode(array))


def swapped(value: object, other: object, draw: random.Random) -> object:
    """The value with one of the things inside it, at any depth, replaced."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(list(value))
        return {**value, key: swapped(value[key], other, draw)}
    if isinstance(value, list) and value and draw.random() < 0.85:
        place = draw.randrange(len(value))
        return [*value[:place], swapped(value[place], other, draw), *value[place + 1 :]]
    return other


def small_observation():
    seen = observation_of()
    return {key: value for key, value in seen.items() if not key.startswith("video")}


def test_300_hostile_messages_to_our_server_are_answered_and_harm_nobody():
    value = {
        "endpoint": "get_action",
        "data": {"observation": small_observation(), "options": None},
    }
    honest, draw = encode(value), random.Random(16)
    refused = 0
    with served_gr00t(Engine(HoldPolicy)) as address, Gr00tClient(address) as client:
        for _ in range(COUNT):
            answer = decode(client.raw(hostile(honest, value, draw)))
            refused += isinstance(answer, dict) and isinstance(answer.get("error"), str)
        assert "action.base" in client.action(small_observation())[0]
    assert refused > COUNT / 2


def test_what_is_no_question_of_zeromq_harms_nobody():
    """Other sockets and frames than a REQ's, and bytes that are no ZeroMQ at all."""
    context = zmq.Context()
    draw = random.Random(5)
    with served_gr00t(Engine(HoldPolicy)) as address, Gr00tClient(address) as client:
        host, port = address.removeprefix("gr00t://").split(":")
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(address.replace("gr00t", "tcp"))
        for frames in ([b"x"], [b"", b"", b""], [b"a", b"b"], [b"", encode({"endpoint": "ping"})]):
            dealer.send_multipart(frames)
        assert dealer.poll(20_000)
        assert decode(dealer.recv_multipart()[-1])["status"] == "ok"  # the only one that was one
        for _ in range(20):
            with socket.create_connection((host, int(port))) as raw:
                raw.sendall(draw.randbytes(300))
        assert client.call("ping")["status"] == "ok"
        dealer.close(linger=0)
    context.term()


def test_a_message_above_the_limit_costs_the_connection_and_no_memory():
    with served_gr00t(Engine(HoldPolicy)) as address, Gr00tClient(address) as client:
        with Gr00tClient(address) as greedy:
            greedy._socket.send(bytes(30 * 2**20))
            assert not greedy._socket.poll(500)
        assert client.call("ping")["status"] == "ok"


def test_300_hostile_answers_to_our_client_are_the_policys_fault_or_an_action(episode):
    task = get_task(31)
    told = replace(episode, protocol="2025", instruction=task.instruction)
    good = [action_of(np.zeros((1, 32, 23), np.float32)), {}]
    honest, draw = encode(good), random.Random(61)
    sent, faults = [], 0

    def script(observation):
        assert WORDS in observation
        sent.append(hostile(honest, good, draw) if sent else honest)
        return sent[-1]

    config = config_of()
    del config["video"]
    seen = ToyEnv(protocol="2025").observe(images=False)
    with gr00t_server(script, config=config) as server:
        policy = make_policy(server.address, protocol="2025")
        for _ in range(COUNT):
            policy.reset(told)
            try:
                chunk = policy.infer(seen)
            except PolicyFaultError:
                faults += 1
            else:
                assert chunk.actions.shape == (32, 23)
                assert np.isfinite(chunk.actions).all()
        policy.close()
    assert len(sent) == COUNT + 1
    assert faults > COUNT / 2


def test_hostile_modality_configs_are_refused_in_words():
    value, draw = config_of(), random.Random(7)
    honest = encode(value)
    refused = []
    for _ in range(40):
        with gr00t_server(
            lambda _: encode([action_of(np.zeros((1, 32, 23), np.float32)), {}]),
            config=hostile(honest, value, draw),
        ) as server:
            try:
                make_policy(f"{server.address}?wait=0", protocol="2025").close()
            except B1kEvalError as error:
                refused.append(str(error))
    assert len(refused) > 20
    assert all(refused)
