"""The code that `fuzz_wire` tests, and the invariants, which docs/fuzzing.md explains.

A target is made once and called with any bytes. It raises `BrokenInvariantError`, or the exception
of the code under test. None needs atheris: tests run them on the inputs that were found.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import msgpack
import numpy as np
import websockets.sync.client
from fuzz_wire_messages import (
    honest_observation,
    messages_of,
    seeds,
    tiny_observation,
)
from websockets.exceptions import ConnectionClosedOK

if TYPE_CHECKING:
    from b1k_envs.base import Observation
    from b1k_policies.base import ActionChunk, EpisodeInfo
    from b1k_policies.remote.wire.limits import MessageLimits

MOST_S = 1.0
"""Most processor time for one input [s]."""
_ERRORS = 2**16
"""Memory of an error, its traceback and the interpreter's own stack [bytes]."""
_HANDLING = 2**19
"""Memory of a connection, its tasks and its answers besides the messages [bytes]."""
_PER_VALUE = 250
"""Memory of one value; `MessageLimits` says about 200 [bytes]."""


class BrokenInvariantError(AssertionError):
    """An input caused what must never happen."""


class Meter:
    """Checks that an input stays within its bounds of memory and time.

    Attributes:
        every: Memory is traced for one input in this many, since that triples the time.
    """

    def __init__(self) -> None:
        self.every = 1

    @contextmanager
    def held_to(self, data: bytes, room: int) -> Iterator[None]:
        """Check that the block takes at most `room` of memory [bytes] and `MOST_S` of time."""
        traced = zlib.crc32(data) % self.every == 0
        if traced:
            tracemalloc.start()
        try:
            begun = time.process_time()
            yield
            took, peak = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        if peak > room:
            raise BrokenInvariantError(f"{peak} bytes were allocated, {room} are allowed")
        if took > MOST_S:
            raise BrokenInvariantError(f"it took {took:.2f} s of processor time")


METER = Meter()


def room_for(length: int, limits: MessageLimits) -> int:
    """Return what reading a message of a length may allocate by its `MessageLimits` [bytes]."""
    return (
        min(length, limits.size)
        + 4 * min(length, limits.text)
        + _PER_VALUE * min(length, limits.elements)
        + _ERRORS
    )


# --- the codec ------------------------------------------------------------------------------------


class CodecTarget:
    """Tests `unpack`: it raises `WireError`, or agrees with msgpack on a value that packs again."""

    def __init__(self) -> None:
        from b1k_policies.remote.server.limits import Quota
        from b1k_policies.remote.wire import codec

        self._codec = codec
        self._granted = Quota(envs=2).wire
        self._tight = codec.MessageLimits(size=2048, depth=3, elements=48, text=192)

    def close(self) -> None:
        """Do nothing: the target holds nothing."""

    def __call__(self, data: bytes) -> None:
        """Read one message, under the server's limits and under tight ones that it may exceed."""
        # Whatever tight limits take, wider ones must take as well.
        value, taken = self._read(data, self._granted)
        _, taken_tightly = self._read(data, self._tight)
        if taken_tightly and not taken:
            raise BrokenInvariantError("tighter limits take what wider ones refuse")
        if not taken:
            return
        theirs = msgpack.unpackb(data, strict_map_key=False)
        if not _same(value, theirs):
            raise BrokenInvariantError(f"read as {value!r}, by msgpack as {theirs!r}")
        again = self._codec.pack(value)
        if self._codec.pack(self._codec.unpack(again)) != again:
            raise BrokenInvariantError("what was read cannot be sent and read again")

    def _read(self, data: bytes, limits: MessageLimits) -> tuple[Any, bool]:
        with METER.held_to(data, room_for(len(data), limits)):
            try:
                return self._codec.unpack(data, limits), True
            except self._codec.WireError:
                return None, False


def _same(ours: Any, theirs: Any) -> bool:  # noqa: ANN401 - any message
    """Whether a value equals the msgpack package's, in which arrays and scalars are still maps."""
    if isinstance(ours, np.ndarray):
        name, data, shape = (theirs[key] for key in (b"dtype", b"data", b"shape"))
        plain = name.decode() if isinstance(name, bytes) else name
        dtype = np.dtype(plain.removeprefix("torch."))
        return (ours.dtype, list(ours.shape), ours.tobytes()) == (dtype, shape, data)
    if isinstance(ours, np.generic):
        expected = np.dtype(theirs[b"dtype"]).type(theirs[b"data"])
        return ours.dtype == expected.dtype and ours.tobytes() == expected.tobytes()
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(_same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    # NaN is the only value that differs from itself.
    return bool(ours == theirs) or ours != ours


# --- the server -----------------------------------------------------------------------------------


_LOG = logging.getLogger("b1k_policies.remote.server")


class _Evaluator:
    """Stands for a connection: sends its messages, keeps the answers, and disconnects.

    Attributes:
        answers: The messages it got; the first is the metadata.
        code: Code of the close frame; None if the server did not close.
    """

    remote_address = ("fuzz", 0)

    def __init__(self, messages: Sequence[bytes | str]) -> None:
        self.answers: list[bytes | str] = []
        self.code: int | None = None
        self._messages = iter(messages)

    async def recv_streaming(self) -> AsyncIterator[bytes | str]:
        for message in self._messages:
            yield message
            return
        raise ConnectionClosedOK(None, None)

    async def send(self, data: bytes | str) -> None:
        self.answers.append(data)

    async def wait_closed(self) -> None:
        await asyncio.Event().wait()

    async def leave(self, code: int, reason: str) -> None:
        self.code = code

    async def refuse(self, code: int, reason: str) -> None:
        self.code = code


class ServerTarget:
    """Tests all of the server between a connection and the policy, which reads everything."""

    def __init__(self) -> None:
        from b1k_policies.baselines import HoldPolicy
        from b1k_policies.remote.server import limits
        from b1k_policies.remote.server.app import PolicyServer
        from b1k_policies.remote.server.batching import Batcher
        from b1k_policies.remote.server.engine import Engine
        from b1k_policies.remote.server.sessions import Terms
        from b1k_policies.remote.wire.codec import pack

        class Watching(HoldPolicy):
            """A `hold` that checks every part of an observation."""

            needs_images = True

            def reset(self, episode: EpisodeInfo) -> None:
                np.random.default_rng(episode.seed)  # `random` needs a valid seed, too
                super().reset(episode)

            def infer(self, observation: Observation) -> ActionChunk:
                _check_observation(observation)
                return super().infer(observation)

        engine = Engine(lambda: Watching(chunk_length=6))
        self._quota = limits.Quota(envs=2)
        self._copies = limits.MESSAGE_COPIES
        terms = Terms(chunk_length=6, horizon=4)
        self._batcher = batcher = Batcher(engine, most=1, window_s=0.0)
        door = limits.Door("127.0.0.1", None)
        self._server = PolicyServer(batcher, terms, self._quota, door, {})
        self._faults: list[BaseException | str] = []
        self._ear = _Ear(self._faults)
        _LOG.addHandler(self._ear)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(
            lambda _, context: self._faults.append(context.get("exception") or context["message"])
        )
        self._reset = pack({"reset": True})
        self._honest = pack(honest_observation(rows=4))
        self._expected = self._talk([self._honest]).answers[-1]

    def close(self) -> None:
        """End the engine's thread."""
        _LOG.removeHandler(self._ear)
        self._loop.close()
        self._batcher.close()

    def __call__(self, data: bytes) -> None:
        """Send the messages, then a valid episode on that connection and one on the next."""
        messages = messages_of(data)
        granted = self._quota.wire
        room = _HANDLING + sum(
            self._copies * len(one) + room_for(len(one), granted) for one in messages
        )
        with METER.held_to(data, room):
            first = self._talk([*messages, self._reset, self._honest])
        if first.code is None:
            self._check(first)
        self._check(self._talk([self._honest]))

    def _talk(self, messages: Sequence[bytes | str]) -> _Evaluator:
        evaluator = _Evaluator(messages)
        self._loop.run_until_complete(self._server._serve_one(evaluator))  # type: ignore[arg-type]
        if self._faults:
            fault = self._faults.pop()
            self._faults.clear()
            cause = fault if isinstance(fault, BaseException) else None
            raise BrokenInvariantError(f"the server or its policy failed: {fault}") from cause
        if evaluator.code not in (None, 1003, 1008):
            raise BrokenInvariantError(f"the server closed with {evaluator.code}")
        for answer in evaluator.answers[1:]:
            if isinstance(answer, str):
                raise BrokenInvariantError(f"the policy was given what it cannot answer: {answer}")
            _finite(msgpack.unpackb(answer)["action"])
        return evaluator

    def _check(self, evaluator: _Evaluator) -> None:
        found, expected = (
            msgpack.unpackb(data) for data in (evaluator.answers[-1], self._expected)
        )
        for key in ("action", "action_chunk"):
            if found[key] != expected[key]:
                raise BrokenInvariantError(f"an honest observation has another {key} now")


def _check_observation(observation: Observation) -> None:
    """Check an observation against the docstring of its class."""
    pictures, poses = observation.images.values(), observation.camera_to_base.values()
    arrays = [*pictures, *poses, observation.cam_rel_poses, observation.proprio]
    lengths = {"2025": (256,), "2026": (61,)}
    if not (
        len(pictures) == len(poses) == 3
        and all(one.dtype == np.uint8 and one.shape[2:] == (3,) for one in pictures)
        and all(one.dtype == np.float32 and one.shape == (4, 4) for one in poses)
        and all(one.dtype == np.float32 and np.isfinite(one).all() for one in arrays[3:])
        and observation.cam_rel_poses.shape == (21,)
        and observation.proprio.shape == lengths[observation.protocol]
        and not any(one.flags.writeable for one in arrays)
        and observation.step >= 0
    ):
        raise BrokenInvariantError(f"a policy was given {observation}")


def _finite(form: dict[bytes, Any]) -> None:
    actions = np.frombuffer(form[b"data"], form[b"dtype"]).reshape(form[b"shape"])
    if actions.shape[-1] != 23 or not np.isfinite(actions).all():
        raise BrokenInvariantError(f"an action went out as {actions}")


class _Ear(logging.Handler):
    """Notes logged tracebacks."""

    def __init__(self, faults: list[BaseException | str]) -> None:
        super().__init__()
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self._faults.append(record.exc_info[1])


# --- the client -----------------------------------------------------------------------------------


_RESET = b"\xa5reset"
"""Beginning of a reset message, after the number of its keys."""


class _Answering:
    """Stands for the client's connection: sends metadata, then answers, and disconnects.

    A reset is answered by the next message if it has one byte; nothing else is sent without a
    question.
    """

    def __init__(self, metadata: bytes | str, answers: Callable[[], list[bytes | str]]) -> None:
        self._metadata: list[bytes | str] = [metadata]
        self._answers = answers
        self._owed = 0
        self._gone = False
        self.socket = SimpleNamespace(shutdown=lambda how: None)

    def __enter__(self) -> _Answering:
        return self

    def recv(self, timeout: float | None = None) -> bytes | str:
        if self._metadata:
            return self._metadata.pop()
        self._gone = self._gone or not self._answers()
        if self._gone:
            raise ConnectionClosedOK(None, None)
        if not self._owed:
            raise TimeoutError
        self._owed -= 1
        return self._answers().pop(0)

    def send(self, data: bytes) -> None:
        if self._gone:
            raise ConnectionClosedOK(None, None)
        reset = data[1:].startswith(_RESET)
        self._owed += not reset or [len(message) for message in self._answers()[:1]] == [1]

    def close(self) -> None:
        pass


class ClientTarget:
    """Tests `RemotePolicy` and its `Link`: the first message is the metadata, then come answers."""

    def __init__(self) -> None:
        from b1k_envs import errors
        from b1k_policies.base import EpisodeInfo
        from b1k_policies.remote import client as remote
        from b1k_policies.remote.wire import codec, link, messages

        self._remote, self._codec, self._wire = remote, codec, messages
        self._limits = link.ANSWERS
        self._not_started = (errors.UnavailableError, errors.UsageError)
        self._not_answered = (errors.PolicyFaultError, errors.HostFaultError)
        self._observation = tiny_observation("2026")
        self._episode = EpisodeInfo(
            task="clean_boxing_gloves",
            task_index=31,
            instruction="clean the boxing gloves",
            instance=0,
            rollout=0,
            seed=7,
            protocol="2026",
        )
        self._metadata: bytes | str = b""
        self._answers: list[bytes | str] = []
        self._stack = ExitStack()
        for owner, name, double in (
            (link.Link, "_check_health", lambda *_: None),
            (link.Link, "_cut_off", lambda *_: nullcontext()),  # would start a thread per message
            (websockets.sync.client, "connect", self._connect),
            (remote, "probe_observation", lambda _: self._observation),
            (remote, "require_torch", lambda _: None),
            (remote, "resized", lambda pictures, _: pictures),
        ):
            self._stack.enter_context(mock.patch.object(owner, name, double))

    def close(self) -> None:
        """Put back what was replaced."""
        self._stack.close()

    def __call__(self, data: bytes) -> None:
        """Run against such a server, with single actions or those it offers, and with chunks."""
        messages = messages_of(data)
        room = _HANDLING + 2 * sum(room_for(len(one), self._limits) for one in messages)
        for options in ("wait=0", "wait=0&chunk=3&batch=no"):
            self._metadata, self._answers = messages[0], list(messages[1:])
            with METER.held_to(data, room):
                policy = self._begun(f"ws://127.0.0.1:9?{options}")
            if policy is not None:
                self._check_honest(policy)

    def _connect(self, *_: object, **__: object) -> _Answering:
        return _Answering(self._metadata, lambda: self._answers)

    def _begun(self, spec: str) -> Any:  # noqa: ANN401 - a RemotePolicy
        """Return a policy that has asked until answers ran out; None if it did not begin."""
        try:
            policy = self._remote.RemotePolicy(spec, sleep=lambda _: None)
        except self._not_started as error:
            _printable(error)
            return None
        json.dumps(policy.describe(), allow_nan=False, ensure_ascii=False).encode()
        for text in (policy.name, *policy.remarks):
            _printable(text)
        try:
            policy.reset(self._episode)
            while self._answers:
                self._check(policy, policy.infer(self._observation))
        except self._not_answered as error:
            _printable(error)
        return policy

    def _check(self, policy: Any, chunk: Any) -> None:  # noqa: ANN401 - of the classes of those names
        if chunk.actions.shape != (policy.chunk_length, 23):
            raise BrokenInvariantError(f"a chunk of {chunk.actions.shape}")
        said = asdict(chunk.skill) if chunk.skill is not None else {}
        json.dumps([said, chunk.progress], allow_nan=False, ensure_ascii=False).encode()
        if chunk.skill is not None:
            _printable(chunk.skill.label or "")
            if len(chunk.skill.label or "") > 200:
                raise BrokenInvariantError("a skill's name that nobody can show")
            if not -(2**31) <= (chunk.skill.index or 0) < 2**31:
                raise BrokenInvariantError(f"the trace has no room for skill {chunk.skill.index}")
            if not 0 <= (chunk.skill.probability or 0) <= 1:
                raise BrokenInvariantError(f"a probability of {chunk.skill.probability}")

    def _check_honest(self, policy: Any) -> None:  # noqa: ANN401 - a RemotePolicy
        count = policy.chunk_length
        rows = np.arange(count * 23, dtype=np.float32).reshape(1, count, 23)
        answer = self._wire.answer_message(rows[:, 0], rows, batched=True)
        self._answers = [self._codec.pack(answer)]
        policy.reset(self._episode)
        if not np.array_equal(policy.infer(self._observation).actions, rows[0]):
            raise BrokenInvariantError("an honest answer is read as something else now")
        policy.close()


def _printable(said: object) -> None:
    """Check that a text has no control characters, which a terminal would obey."""
    if not str(said).isprintable():
        raise BrokenInvariantError(f"a text with control characters: {str(said)!r}")


TARGETS: MappingProxyType[str, type[CodecTarget | ServerTarget | ClientTarget]] = MappingProxyType(
    {"codec": CodecTarget, "server": ServerTarget, "client": ClientTarget}
)


def ready(name: str) -> CodecTarget | ServerTarget | ClientTarget:
    """Return a target after every valid input, so that first imports count for no input."""
    target = TARGETS[name]()
    METER.every = sys.maxsize
    for data in seeds(name):
        target(data)
    METER.every = 1
    return target
