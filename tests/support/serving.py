"""A server on a thread of the test's own process, and an engine whose numbers tell their origin."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from b1k_policies.base import ActionChunk, EpisodeInfo
from b1k_policies.baselines import ZeroPolicy
from b1k_policies.remote.gr00t.server import Gr00tServer
from b1k_policies.remote.server.app import PolicyServer
from b1k_policies.remote.server.batching import Batcher
from b1k_policies.remote.server.engine import Engine
from b1k_policies.remote.server.limits import Door, Quota, listen_on
from b1k_policies.remote.server.sessions import Terms

LENGTH = 12
"""Rows of a `LedgerEngine`'s chunks."""
EPISODE = EpisodeInfo(
    task="clean_boxing_gloves",
    task_index=31,
    instruction="clean the boxing gloves",
    instance=0,
    rollout=0,
    seed=7,
    protocol="2026",
)
DEADLINE_S = 60.0
"""Longer than anything here takes; reached only when something hangs."""


class LedgerEngine(Engine):
    """Rows [row, inference, seed mod 1000, first proprio, task, 0, ...]; keeps every batch.

    Attributes:
        batches: The asks of every call, in order.
        gate: Each call waits for it; open unless a test shuts it.
        entered: Set while a call is under way.
        spoilt: Raised instead of answering, by first proprio of the observation.
    """

    most_together = None

    def __init__(self):
        self.policy = ZeroPolicy()
        self.policy.name = "ledger"
        self.policy.chunk_length = LENGTH
        self.policy.needs_images = True
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.spoilt = {}

    def chunks(self, asks):
        self.batches.append(list(asks))
        self.entered.set()
        assert self.gate.wait(DEADLINE_S)
        self.entered.clear()
        for ask in asks:
            error = self.spoilt.get(float(ask.observation.proprio[0]))
            if error is not None:
                raise error
        return [ActionChunk(actions=rows_of(ask)) for ask in asks]

    def describe(self):
        return {"name": self.policy.name}

    def close(self):
        pass


def rows_of(ask):
    rows = np.zeros((LENGTH, 23), np.float32)
    rows[:, 0] = np.arange(LENGTH)
    rows[:, 1] = ask.inference
    rows[:, 2] = ask.episode.seed % 1000
    rows[:, 3] = ask.observation.proprio[0]
    rows[:, 4] = ask.observation.task_index
    return rows


@dataclass
class Served:
    url: str
    batcher: Batcher
    loop: asyncio.AbstractEventLoop
    server: PolicyServer
    thread: threading.Thread
    faults: list = field(default_factory=list)

    def stop(self):
        self.loop.call_soon_threadsafe(self.server.stop)

    def join(self):
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive(), "the server did not end"
        assert not self.faults, self.faults


@contextmanager
def served(
    engine, *, key=None, most=16, window_s=0.0, metadata=None, quota=None, grace_s=30.0, **terms
):
    """A server of an engine on a free port of the loopback, stopped at the end."""
    sock = listen_on("127.0.0.1", 0)
    batcher = Batcher(engine, most=most, window_s=window_s)
    terms.setdefault("horizon", 5)
    policy = engine.policy
    terms = Terms(chunk_length=policy.chunk_length, images=policy.needs_images, **terms)
    ready, made, faults = threading.Event(), {}, []

    async def run():
        server = PolicyServer(
            batcher,
            terms,
            quota or Quota(),
            Door("127.0.0.1", key),
            metadata or {},
            grace_s=grace_s,
        )

        def note(address, port):
            made.update(
                url=f"ws://{address}:{port}", server=server, loop=asyncio.get_running_loop()
            )
            ready.set()

        await server.run(sock, note)

    def body():
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            faults.append(error)
            ready.set()

    thread = threading.Thread(target=body, name="server", daemon=True)
    thread.start()
    assert ready.wait(DEADLINE_S)
    assert not faults, faults
    here = Served(batcher=batcher, thread=thread, faults=faults, **made)
    try:
        yield here
    finally:
        if thread.is_alive():
            here.stop()
        here.join()
        batcher.close()


@contextmanager
def served_gr00t(engine, *, key=None, most=16, window_s=0.0, quota=None, **terms):
    """The same in GR00T's protocol; gives its address."""
    sock = listen_on("127.0.0.1", 0)
    batcher = Batcher(engine, most=most, window_s=window_s)
    policy = engine.policy
    terms.setdefault("horizon", min(8, policy.chunk_length))
    terms = Terms(
        chunk_length=policy.chunk_length,
        images=policy.needs_images,
        protocol="2025",
        **terms,
    )
    server = Gr00tServer(batcher, terms, quota or Quota(), Door("127.0.0.1", key), policy)
    ready, made = threading.Event(), []

    def note(address, port):
        made.append(f"gr00t://{address}:{port}")
        ready.set()

    thread = threading.Thread(target=server.run, args=(sock, note), name="gr00t", daemon=True)
    thread.start()
    assert ready.wait(DEADLINE_S)
    try:
        yield made[0]
    finally:
        server.stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "the server did not end"
        batcher.close()


def until(condition):
    """Wait for something that another thread is about to make true."""
    pause = threading.Event()
    for _ in range(int(DEADLINE_S * 200)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not become true")
