"""Observations of several connections in one inference, and what becomes of each of them."""

from __future__ import annotations

import queue
import threading

import numpy as np
import pytest
from raw import SMALL, RawClient, observation, pack
from serving import EPISODE, LedgerEngine, served, until

from b1k_envs.errors import HostFaultError, PolicyFaultError
from b1k_policies.remote.server.batching import Batcher
from b1k_policies.remote.server.engine import Ask, EpisodeMemory


class Seen:
    """Of an observation, what `LedgerEngine` looks at."""

    def __init__(self, number):
        self.proprio = np.full(61, number, np.float32)
        self.task_index = 31


def ask(number):
    return Ask(observation=Seen(number), episode=EPISODE, inference=0, memory=EpisodeMemory())


@pytest.fixture
def engine():
    return LedgerEngine()


@pytest.fixture
def batcher(engine):
    batcher = Batcher(engine, most=4, window_s=0.0)
    yield batcher
    engine.gate.set()
    batcher.close()


def numbers(batch):
    return [float(one.observation.proprio[0]) for one in batch]


def blocked(engine, batcher):
    """A first ask, in the engine; whatever is submitted now waits."""
    engine.gate.clear()
    (first,) = batcher.submit([ask(100)])
    assert engine.entered.wait(30)
    return first


def test_what_waits_together_is_answered_together(engine, batcher):
    first = blocked(engine, batcher)
    others = [batcher.submit([ask(number)])[0] for number in (1, 2, 3)]
    engine.gate.set()
    for number, future in enumerate(others, 1):
        reply = future.result(30)
        assert reply.chunk.actions[0, 3] == number
        assert reply.together == 3
    assert first.result(30).together == 1
    assert [numbers(batch) for batch in engine.batches] == [[100], [1, 2, 3]]
    assert batcher.counts.factor == 2.0


def test_no_inference_is_larger_than_allowed(engine, batcher):
    blocked(engine, batcher)
    futures = batcher.submit([ask(number) for number in range(6)])
    engine.gate.set()
    assert [future.result(30).together for future in futures] == [4, 4, 4, 4, 2, 2]


@pytest.mark.parametrize(
    "error", [PolicyFaultError("spoilt"), HostFaultError("no memory"), ValueError("its own code")]
)
def test_one_observation_that_cannot_be_answered_does_not_spoil_the_others(engine, batcher, error):
    blocked(engine, batcher)
    engine.spoilt[2.0] = error
    good, bad, also_good = batcher.submit([ask(number) for number in (1, 2, 3)])
    engine.gate.set()
    assert good.result(30).chunk.actions[0, 3] == 1
    assert also_good.result(30).chunk.actions[0, 3] == 3
    raised = bad.exception(30)
    assert error in (raised, raised.__cause__)
    assert [numbers(batch) for batch in engine.batches[1:]] == [[1, 2, 3], [1], [2], [3]]


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), KeyboardInterrupt()])
def test_nothing_that_code_of_a_checkpoint_raises_ends_the_thread(engine, batcher, error):
    engine.spoilt[1.0] = error
    (bad,) = batcher.submit([ask(1)])
    assert isinstance(bad.exception(30), PolicyFaultError)
    assert bad.exception(30).__cause__ is error
    assert batcher.submit([ask(2)])[0].result(30).chunk.actions[0, 3] == 2


def test_what_is_withdrawn_before_its_turn_is_not_inferred(engine, batcher):
    blocked(engine, batcher)
    withdrawn, kept = batcher.submit([ask(1), ask(2)])
    assert withdrawn.cancel()
    engine.gate.set()
    kept.result(30)
    assert [numbers(batch) for batch in engine.batches] == [[100], [2]]


def test_closing_answers_what_was_submitted(engine):
    batcher = Batcher(engine, most=1, window_s=0.0)
    futures = batcher.submit([ask(1), ask(2)])
    batcher.close()
    assert [future.result(0).chunk.actions[0, 3] for future in futures] == [1, 2]


class Script:
    """In place of the queue and of the clock: what comes, and what is waited for, by hand."""

    def __init__(self, arrivals):
        self.now = 0.0
        self.arrivals = list(arrivals)  # (at [s], number)
        self.waits = []

    def clock(self):
        return self.now

    def put(self, _waiting):
        """What the test submits is in `arrivals` already."""

    def get_nowait(self):
        if self.arrivals and self.arrivals[0][0] <= self.now:
            return self.arrivals.pop(0)[1]
        raise queue.Empty

    def get(self, timeout):
        self.waits.append(timeout)
        if self.arrivals and self.arrivals[0][0] <= self.now + timeout:
            self.now = max(self.now, self.arrivals[0][0])
            return self.arrivals.pop(0)[1]
        self.now += timeout
        raise queue.Empty


@pytest.mark.parametrize(
    ("peers", "arrivals", "gathered", "waited"),
    [
        pytest.param(1, [], ["first"], 0.0, id="alone nobody is waited for"),
        pytest.param(3, [(0.002, "b"), (0.004, "c")], ["first", "b", "c"], 0.004, id="all come"),
        pytest.param(3, [(0.002, "b"), (0.009, "c")], ["first", "b"], 0.005, id="one is late"),
        pytest.param(9, [(0, n) for n in "bcdef"], ["first", "b", "c", "d"], 0.0, id="full"),
    ],
)
def test_a_call_waits_for_peers_until_its_window_ends(engine, peers, arrivals, gathered, waited):
    script = Script(arrivals)
    batcher = Batcher(engine, most=4, window_s=0.005, clock=script.clock)
    batcher.close()
    batcher._queue = script
    batcher.peers = peers
    assert batcher._gather("first") == gathered
    assert script.now == pytest.approx(waited)


# --- through connections ------------------------------------------------------------------------


def test_three_clients_that_wait_share_one_inference_and_get_their_own_chunks(engine):
    asked = [observation("2026", seed=seed, **SMALL) for seed in range(4)]
    with served(engine) as server:
        clients = [RawClient(server.url) for _ in asked]
        engine.gate.clear()
        clients[0].socket.send(pack(asked[0]))
        assert engine.entered.wait(30)
        for client, message in zip(clients[1:], asked[1:], strict=True):
            client.socket.send(pack(message))
        until(lambda: server.batcher._queue.qsize() == 3)
        engine.gate.set()
        answers = [client.answer() for client in clients]
        for client in clients:
            client.close()
    for message, answer in zip(asked, answers, strict=True):
        assert answer["action"][3] == message["robot_r1::proprio"][0]
    assert [len(batch) for batch in engine.batches] == [1, 3]
    assert [answer["server_timing"]["together"] for answer in answers] == [1, 3, 3, 3]


def test_concurrent_connections_keep_apart(engine):
    """Four clients at different places of different episodes, each as fast as it is answered."""
    counts, wrong = (17, 40, 61, 83), []

    def play(url, seed, count):
        asked = observation("2026", seed=seed, **SMALL)
        with RawClient(url) as client:
            client.reset(b1k_eval=dict(seed=seed, instance=0, rollout=0, inference=0, step=0))
            for step in range(count):
                found = client.ask(asked)["action"][:4].tolist()
                expected = [step % 5, step // 5, seed, asked["robot_r1::proprio"][0]]
                if found != expected:
                    wrong.append((seed, step, found))

    with served(engine, horizon=5) as server:
        clients = [
            threading.Thread(target=play, args=(server.url, seed, count))
            for seed, count in enumerate(counts)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
            assert not client.is_alive()
    assert not wrong
    assert sum(map(len, engine.batches)) == sum(-(-count // 5) for count in counts)


def test_an_inference_that_hangs_is_left_after_a_while(engine):
    batcher = Batcher(engine, most=1, window_s=0.0)
    engine.gate.clear()
    batcher.submit([ask(1)])
    assert engine.entered.wait(30)
    assert not batcher.close(0.0)
    engine.gate.set()
    assert batcher.close()
