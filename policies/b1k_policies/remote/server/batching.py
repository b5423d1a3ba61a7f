"""The thread that calls the engine, with the observations of several connections in one call."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from b1k_envs.errors import B1kEvalError, HostFaultError, PolicyFaultError
from b1k_policies.base import ActionChunk
from b1k_policies.remote.server.engine import Ask, Engine
from b1k_policies.remote.wire import keys

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reply:
    """A chunk, and how it was computed.

    Attributes:
        chunk: The chunk.
        infer_s: Wall time of the engine's call [s].
        wait_s: Wall time from submission to that call [s].
        together: Observations in the call.
    """

    chunk: ActionChunk
    infer_s: float
    wait_s: float
    together: int


@dataclass(frozen=True, eq=False)
class _Waiting:
    ask: Ask
    reply: Future[Reply]
    since: float


@dataclass
class Counts:
    """Observations answered, observations failed, and calls of the engine."""

    answered: int = 0
    failed: int = 0
    calls: int = 0

    @property
    def factor(self) -> float | None:
        """Observations per call; None before the first."""
        return (self.answered + self.failed) / self.calls if self.calls else None


class Batcher:
    """Owns the engine's thread.

    A call takes all waiting observations, up to `most`. If fewer wait than envs are connected, it
    waits `window_s` for more; with one client it does not wait.

    Attributes:
        counts: Totals; written on the engine's thread.
        peers: Envs connected now; kept up to date by the clients.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        most: int,
        window_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the thread.

        Args:
            engine: Called on that thread only from now on.
            most: Largest number of observations in a call, at least 1.
            window_s: Longest time that the first observation waits for others [s].
            clock: Monotonic time [s].
        """
        self.counts = Counts()
        self.peers = 0
        self._engine = engine
        self._most = min(most, engine.most_together or most)
        self._window_s = window_s
        self._clock = clock
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="b1k-eval-model", daemon=True)
        self._thread.start()

    def submit(self, asks: Sequence[Ask]) -> list[Future[Reply]]:
        """Submit asks; a future that is cancelled before its turn is skipped.

        A future raises the engine's error for its observation; an exception that is not ours
        becomes the cause of a `PolicyFaultError`.
        """
        now = self._clock()
        waiting = [_Waiting(ask, Future(), now) for ask in asks]
        for one in waiting:
            self._queue.put(one)
        return [one.reply for one in waiting]

    def close(self, patience_s: float | None = None) -> bool:
        """Answer what was submitted, then end the thread.

        Args:
            patience_s: Longest wait [s]; None for no limit.

        Returns:
            Whether the thread has ended.
        """
        self._queue.put(None)
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    # --- on the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            first = self._queue.get()
            if first is None:
                return
            batch = [one for one in self._gather(first) if one.reply.set_running_or_notify_cancel()]
            if batch:
                self._answer(batch)

    def _gather(self, first: _Waiting) -> list[_Waiting]:
        batch = [first]
        deadline = self._clock() + self._window_s
        while len(batch) < self._most:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                left = deadline - self._clock()
                if left <= 0 or len(batch) >= self.peers:
                    break
                try:
                    following = self._queue.get(timeout=left)
                except queue.Empty:
                    break
            if following is None:
                self._stopping = True
                break
            batch.append(following)
        return batch

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        """Answer all with one call; if it fails, one call each, so one cannot spoil the rest."""
        began = self._clock()
        self.counts.calls += 1
        try:
            chunks = self._engine.chunks([one.ask for one in batch])
            pairs = list(zip(batch, chunks, strict=True))
        except BaseException as error:  # noqa: BLE001 - a checkpoint's own code may raise anything,
            # SystemExit included, and a thread that ended would leave every client waiting.
            if len(batch) == 1:
                self.counts.failed += 1
                batch[0].reply.set_exception(_as_ours(error))
                return
            LOG.warning(
                "an inference for %d observations failed (%s); each is tried alone",
                len(batch),
                type(error).__name__,
            )
            for one in batch:
                self._answer([one])
            return
        took = self._clock() - began
        self.counts.answered += len(batch)
        for one, chunk in pairs:
            one.reply.set_result(
                Reply(
                    chunk=chunk,
                    infer_s=took,
                    wait_s=began - one.since,
                    together=len(batch),
                )
            )


def _as_ours(error: BaseException) -> B1kEvalError:
    """Wrap an exception that a future cannot hold, like StopIteration or SystemExit."""
    if isinstance(error, B1kEvalError):
        return error
    fault = PolicyFaultError(f"{type(error).__name__}: {error}")
    fault.__cause__ = error
    return fault


def account_of(error: BaseException, *, frank: bool) -> str:
    """Return one line on an engine's error for a peer; the caller logs the details.

    Args:
        error: What the engine raised.
        frank: As in `Terms`.
    """
    if isinstance(error, HostFaultError):
        kind, what = keys.HOST_FAULT, "the machine of the policy failed"
    else:
        kind = error.reason if isinstance(error, PolicyFaultError) else ""
        kind = kind if kind in keys.POLICY_FAULTS else keys.POLICY_FAULTS[0]
        what = "the policy failed on this observation"
    if frank:
        return f"{kind}: {type(error).__name__}: {error}"
    return f"{kind}: {what}; the server's log says why"
