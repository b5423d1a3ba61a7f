"""A thousand frames that no evaluator sends: the server stays up and within its memory.

What a pass does not prove: that no other frame does harm.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgpack
import numpy as np
import pytest
import serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from process import ServeProcess
from raw import OPENING, SMALL, RawClient, observation, pack
from serving import LedgerEngine, served
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from b1k_policies.remote.server.limits import Quota

FRAMES = 1200
REFUSALS = {1003, 1007, 1008, 1009}

HONEST = observation("2026", seed=99, **SMALL)
MARK = HONEST["robot_r1::proprio"][0]


# --- frames ---------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=40),
)
keys = st.one_of(
    st.sampled_from([*HONEST, "reset", "b1k_eval", "__action_chunk_size__", "action"]),
    st.sampled_from([b"__ndarray__", b"__npgeneric__", b"__torch__", b"data", b"dtype", b"shape"]),
    st.text(max_size=8),
    st.integers(0, 3),
)
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner))
)
arrays = st.fixed_dictionaries(
    {
        b"__ndarray__": st.sampled_from([True, False, 1, None]),
        b"data": st.one_of(st.binary(max_size=64), st.text(max_size=8)),
        b"dtype": st.one_of(
            st.sampled_from(["|u1", "<f4", "<i8", "|O", "|V8", "<c8", "<U4", "f4,f4", "<M8[s]"]),
            st.text(max_size=6),
        ),
        b"shape": st.lists(st.integers(-2, 2**62), max_size=5),
    }
)


@st.composite
def replaced(draw):
    """An observation with one value that is something else."""
    message = dict(HONEST)
    message[draw(keys)] = draw(st.one_of(values, arrays))
    return pack(message)


@st.composite
def damaged(draw):
    """An observation's bytes, changed, cut or lengthened."""
    data = bytearray(pack(HONEST))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.one_of(st.integers(0, 60), st.integers(0, len(data) - 1)))
        data[place] = draw(st.integers(0, 255))
    end = draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))
    return bytes(data[:end]) + draw(st.binary(max_size=3))


@st.composite
def nested(draw):
    """Lists or maps inside one another, deeper than Python recurses."""
    opening = draw(
        st.sampled_from([b"\x91", b"\x81\xa1a", b"\xdd\0\0\0\1", b"\xdf\xff\xff\xff\xff"])
    )
    return opening * draw(st.sampled_from([10, 100, 3000])) + b"\xc0"


frames = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=20),
    values.map(lambda value: msgpack.packb(value, default=str)),
    arrays.map(msgpack.packb),
    replaced(),
    damaged(),
    nested(),
)


@pytest.fixture(scope="module")
def server():
    with served(LedgerEngine(), quota=Quota(clients=2)) as running:
        yield running


def admitted(url):
    """A client as soon as there is a place: a connection that was just ended may still hold its."""
    until = time.monotonic() + 60
    while True:
        try:
            return RawClient(url)
        except InvalidStatus as refused:
            if refused.response.status_code != 503 or time.monotonic() > until:
                raise
            time.sleep(0.05)


class Peer:
    """A client that opens another connection when the server has closed its own."""

    def __init__(self, url):
        self.url = url
        self.client = RawClient(url)
        self.frames = self.refused = 0
        self.codes = set()

    def send(self, frame):
        """The frame, then an honest observation; answered, or refused with a code for it."""
        self.frames += 1
        try:
            self.client.socket.send(frame)
            self.client.reset()
            self.client.socket.send(pack(HONEST))
            while True:
                answer = self.client.answer()
                if isinstance(answer, dict) and np.ravel(answer["action"])[3] == MARK:
                    return
        except ConnectionClosed as closed:
            self.refused += 1
            self.codes.add(None if closed.rcvd is None else closed.rcvd.code)
            self.client.close()
            self.client = admitted(self.url)


@pytest.fixture(scope="module")
def peer(server):
    peer = Peer(server.url)
    yield peer
    peer.client.close()


@pytest.mark.slow
def test_any_frame_is_answered_or_refused_and_an_honest_client_is_served_then(server, peer):
    @settings(
        max_examples=FRAMES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(frame=frames)
    def send(frame):
        peer.send(frame)
        assert peer.codes <= REFUSALS

    send()
    assert peer.frames >= 1000
    assert peer.refused >= peer.frames // 3
    with admitted(server.url) as client:
        assert client.ask(HONEST)["action"][3] == MARK


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(
    opened=st.booleans(),
    data=st.one_of(
        st.binary(max_size=300),
        st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**63)).map(
            lambda t: struct.pack(">BBQ", *t)
        ),
    ),
)
def test_anything_below_the_protocol_ends_that_connection_at_most(server, opened, data):
    host, port = server.url.removeprefix("ws://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as raw, suppress(OSError):
        raw.sendall((OPENING if opened else b"") + data)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(4096):
            pass


def test_after_all_of_it_an_honest_client_is_served(server):
    with admitted(server.url) as client:
        assert client.ask(HONEST)["action"][3] == MARK


# --- memory ------------------------------------------------------------------------------------


def peak_bytes(pid):
    """Most memory that a process ever had."""
    (line,) = (
        line
        for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
        if line.startswith("VmHWM:")
    )
    return int(line.split()[1]) * 1024


def hostile_messages(most):
    """Each as large as it may be, or announcing far more."""
    filler = b"\0" * (most - 100_000)
    yield pack({**HONEST, "x": filler})
    yield pack(HONEST)[:-1] + b"\xc6\xff\xff\xff\xff"
    yield b"\xdd\xff\xff\xff\xff" + b"\xc0" * (most - 5)
    yield b"\xdc\x0f\x00" + b"\x90" * (most - 3)
    yield b"\xd9\xff" + filler
    yield b"\xdb" + len(filler).to_bytes(4, "big") + filler


def attack(url, most):
    for message in hostile_messages(most):
        for pieces in (1, 50):
            # A place may still be taken by the connection before.
            with suppress(ConnectionClosedError, InvalidStatus), RawClient(url) as client:
                size = -(-len(message) // pieces)
                for _ in range(3):  # without waiting for an answer
                    client.socket.send(
                        message
                        if pieces == 1
                        else [message[at : at + size] for at in range(0, len(message), size)]
                    )


def hold_up(url, message):
    """Send as much as is taken while nothing is answered."""
    client = RawClient(url)
    client.socket.socket.settimeout(3)
    with suppress(ConnectionClosed):
        for _ in range(10):
            client.socket.send(message)


def all_at_once(count, body, *arguments):
    attackers = [threading.Thread(target=body, args=arguments) for _ in range(count)]
    for attacker in attackers:
        attacker.start()
    for attacker in attackers:
        attacker.join(300)
        assert not attacker.is_alive()


linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account")


@pytest.mark.slow
@linux
def test_hostile_messages_take_no_more_memory_than_stated(tmp_path):
    quota = Quota(clients=4)
    with ServeProcess(tmp_path, "--policy", "hold", "--max-clients", "4") as server:
        with RawClient(server.url) as client:
            client.ask(HONEST)
        before = peak_bytes(server.pid)
        all_at_once(quota.clients, attack, server.url, quota.message_bytes)
        grown = peak_bytes(server.pid) - before
        with admitted(server.url) as client:
            assert client.ask(HONEST)["action"].shape == (23,)
    assert quota.message_bytes < grown < quota.memory_bytes
    assert server.code == 0


BLOCKED = """
import sys
sys.path[:0] = sys.argv[1:]
import serving
from serving import LedgerEngine, served
from b1k_policies.remote.server.limits import Quota
engine = LedgerEngine()
engine.gate.clear()
with served(engine, quota=Quota(clients=4)) as server:
    print(server.url, flush=True)
    sys.stdin.readline()
    engine.gate.set()
"""


@pytest.mark.slow
@linux
def test_messages_that_pile_up_during_an_inference_take_no_more_memory_than_stated():
    quota = Quota(clients=4)
    filler = b"\0" * (quota.message_bytes - 1_000_000)
    message = pack({**HONEST, "x": filler})
    here = Path(serving.__file__).parent
    command = [sys.executable, "-c", BLOCKED, str(here)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as blocked:
        url = blocked.stdout.readline().strip()
        before = peak_bytes(blocked.pid)
        all_at_once(quota.clients, hold_up, url, message)
        grown = peak_bytes(blocked.pid) - before
        blocked.stdin.write("go\n")
    assert 2 * quota.clients * quota.message_bytes < grown < quota.memory_bytes
