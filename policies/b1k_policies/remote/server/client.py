"""One admitted connection: reads, answers and writes, one observation at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from b1k_policies.remote.server import limits
from b1k_policies.remote.server.batching import Batcher, Reply, account_of
from b1k_policies.remote.server.connection import GuardedConnection
from b1k_policies.remote.server.limits import Quota, TokenBucket
from b1k_policies.remote.server.sessions import RequestError, Session
from b1k_policies.remote.wire.codec import pack, unpack
from b1k_policies.remote.wire.limits import WireError
from b1k_policies.remote.wire.messages import (
    ManyEnvsError,
    Question,
    answer_message,
    from_wire,
    is_reset,
    read_reset,
)

LOG = logging.getLogger(__name__)


class TextError(Exception):
    """A client sent a text message, which the protocol does not allow."""


@dataclass(frozen=True, eq=False)
class _Arrived:
    data: bytes
    at: float  # monotonic [s]


@dataclass(frozen=True, eq=False)
class _Answered:
    data: bytes
    answer: bytes


class Client:
    """Serves one evaluator.

    One message is read ahead while an observation is answered. This detects a retry, an observation
    that is sent again by a client that timed out: it arrives before the answer to the first was
    sent. Equal bytes alone are not enough: a robot that stands still sends the same at every step.

    Attributes:
        answers: Actions sent so far.
    """

    def __init__(
        self,
        connection: GuardedConnection,
        batcher: Batcher,
        session: Session,
        quota: Quota,
        peer: str,
    ) -> None:
        self.answers = 0
        self._connection = connection
        self._batcher = batcher
        self._session = session
        self._quota = quota
        self._peer = peer
        self._bucket = TokenBucket(quota.rate, time.monotonic())
        self._reading: asyncio.Task[_Arrived] | None = None
        self._peers = 0
        self._early: _Answered | None = None
        self._previous_s: float | None = None

    async def talk(self, stopping: asyncio.Event) -> None:
        """Answer until the client leaves or the server stops.

        Raises:
            ConnectionClosed: The client left.
            WireError: It sent something that is not a message.
            RequestError: It asked for something that cannot be answered.
            TextError: It sent a text.
        """
        stop = asyncio.ensure_future(stopping.wait())
        try:
            while True:
                reading = self._read_ahead()
                await asyncio.wait([reading, stop], return_when=asyncio.FIRST_COMPLETED)
                if stop.done():
                    await self._connection.leave(CloseCode.GOING_AWAY, "the server is stopping")
                    return
                self._reading = None
                await self._handle(reading.result())
        finally:
            stop.cancel()

    async def forget(self) -> None:
        """Stop reading, and remove this client's envs from the number of peers."""
        self._count_peers(0)
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(
                asyncio.CancelledError, ConnectionClosed, WireError, TextError
            ):
                await self._reading

    # --- reading -----------------------------------------------------------------------------

    def _read_ahead(self) -> asyncio.Task[_Arrived]:
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        return self._reading

    async def _read(self) -> _Arrived:
        """Read the next message, at the granted rate."""
        # Not `recv`, which in older websockets keeps a million fragments of a byte each.
        await asyncio.sleep(self._bucket.delay(time.monotonic()))
        parts: list[bytes] = []
        async for part in self._connection.recv_streaming():
            if isinstance(part, str):
                raise TextError
            parts.append(part)
            if len(parts) > limits.MOST_FRAGMENTS:
                raise WireError(f"a message may have {limits.MOST_FRAGMENTS} fragments")
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return _Arrived(data, time.monotonic())

    async def _handle(self, arrived: _Arrived) -> None:
        early, self._early = self._early, None
        if early is not None and arrived.data == early.data:
            LOG.info("%s: an observation came again, and is answered again", self._peer)
            await self._connection.send(early.answer)
            return
        session = self._session
        message = unpack(arrived.data, self._quota.wire)
        if is_reset(message):
            session.reset(read_reset(message))
            return
        try:
            question = from_wire(
                message,
                images=session.terms.images,
                task_index=session.terms.task_index,
                step=session.step,
                envs=self._quota.envs,
            )
        except ManyEnvsError as error:
            raise RequestError(f"{error}: {self._quota.envs_words}") from error
        del message
        following = self._read_ahead()
        answer = await self._answer(question)
        self._previous_s = time.monotonic() - arrived.at
        if isinstance(answer, bytes):
            self.answers += 1
            if following.done():  # it arrived before this answer: it may be a retry
                self._early = _Answered(arrived.data, answer)
        await self._connection.send(answer)

    # --- answering ---------------------------------------------------------------------------

    async def _answer(self, question: Question) -> bytes | str:
        """Return a binary message with the action, or a text that reports a fault."""
        session = self._session
        self._count_peers(len(question.observations))
        ours = question.step is not None
        asks = session.ask(
            question.observations, question.rows, anew=ours and question.rows is not None
        )
        replies: list[Reply] = []
        if asks:
            found = await self._unless_gone(self._batcher.submit(asks))
            faults = [one for one in found if isinstance(one, BaseException)]
            if faults:
                account = account_of(faults[0], frank=session.terms.frank)
                LOG.error("%s: %s", self._peer, account.partition(":")[0], exc_info=faults[0])
                return account
            replies = [one for one in found if isinstance(one, Reply)]
        answer = session.answer([reply.chunk for reply in replies], question.rows)
        return pack(
            answer_message(
                answer.action,
                answer.action_chunk,
                batched=question.batched,
                timing=self._timing(replies),
                said=answer.chunks[0] if ours and len(answer.chunks) == 1 else None,
            )
        )

    async def _unless_gone(self, futures: Sequence[Future[Reply]]) -> list[Reply | BaseException]:
        """Wait for the replies or errors.

        Raises:
            ConnectionClosed: The client left; asks that were not started are withdrawn.
        """
        answered = asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        gone = asyncio.ensure_future(self._connection.wait_closed())
        try:
            both: list[asyncio.Future[Any]] = [answered, gone]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if answered.done():
                return answered.result()
            await self._connection.send(b"")  # raises ConnectionClosed with the reason
            raise RuntimeError("a closed connection took a message")
        finally:
            gone.cancel()
            if answered.cancel():  # and with it the futures
                with contextlib.suppress(asyncio.CancelledError):
                    await answered

    def _timing(self, replies: Sequence[Reply]) -> dict[str, float]:
        """Return the reference server's timings [ms], and how many observations shared the call."""
        timing: dict[str, float] = {
            "infer_ms": 1e3 * max((r.infer_s for r in replies), default=0.0)
        }
        if self._previous_s is not None:
            timing["prev_total_ms"] = 1e3 * self._previous_s
        if replies:
            timing["wait_ms"] = 1e3 * max(reply.wait_s for reply in replies)
            timing["together"] = float(max(reply.together for reply in replies))
        return timing

    def _count_peers(self, envs: int) -> None:
        self._batcher.peers += envs - self._peers
        self._peers = envs
