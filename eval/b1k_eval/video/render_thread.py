"""The threads on which the pictures of a process's videos are got, composed and encoded."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from time import monotonic

from b1k_envs.threads import yield_to_the_loop

_WAITING_INTERVAL_S = 0.25
_AHEAD = 3  # pictures that may wait for the encoder, 0.9 MB each

Job = Callable[[], Callable[[], None]]
"""Gets a picture, and returns what is to be done with it."""


class RenderThread:
    """Two threads that do jobs in order: one gets pictures, the other composes and encodes them.

    Getting a picture mostly waits for another process, which renders the next one meanwhile. The
    recorders of a process share them, so that a renderer's state per thread (an OpenGL context
    takes 0.2-0.4 s to make) is made only once. Jobs that hold pictures are limited in number; the
    others take a kilobyte and may wait without limit.
    """

    def __init__(self, heavy_limit: int = 32) -> None:
        self.jobs_done = 0
        self._queue: queue.SimpleQueue[tuple[Job, bool] | None] = queue.SimpleQueue()
        self._halves: queue.Queue[tuple[Callable[[], None], bool] | None] = queue.Queue(_AHEAD)
        self._places = threading.Semaphore(heavy_limit)
        self._threads = [
            threading.Thread(target=work, name="b1k-eval-video", daemon=True)
            for work in (self._get, self._encode)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, *, heavy: bool, timeout_s: float) -> bool:
        """Queue a job, which must not raise; a heavy one first waits for a free place.

        Args:
            job: Called on the first thread; what it returns is called on the second, and must not
                raise either.
            heavy: Whether it holds pictures.
            timeout_s: Longest wait for a place [s].

        Returns:
            False if no place became free within `timeout_s`.
        """
        if heavy and not self._places.acquire(timeout=timeout_s):
            return False
        self._queue.put((job, heavy))
        return True

    def mark(self) -> threading.Event:
        """Return an event that is set once all jobs queued so far are done."""
        reached = threading.Event()
        self._queue.put((lambda: reached.set, False))
        return reached

    def wait(
        self,
        reached: threading.Event,
        stall_timeout_s: float,
        while_waiting: Callable[[], None] | None = None,
    ) -> bool:
        """Wait for a mark.

        Args:
            reached: The mark.
            stall_timeout_s: Longest time without a single job done [s].
            while_waiting: Called a few times a second, on this thread.

        Returns:
            False if no job was done for `stall_timeout_s`.
        """
        seen, since = self.jobs_done, monotonic()
        while not reached.wait(min(_WAITING_INTERVAL_S, stall_timeout_s)):
            if while_waiting is not None:
                while_waiting()
            if self.jobs_done != seen:
                seen, since = self.jobs_done, monotonic()
            elif monotonic() - since >= stall_timeout_s:
                return False
        return True

    def close(self, timeout_s: float = 30.0) -> bool:
        """Let the threads finish their jobs and end; safe to call twice.

        Returns:
            False if one still runs after `timeout_s`. As daemon threads they do not keep the
            process alive.
        """
        if self._threads[0].is_alive():
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _get(self) -> None:
        yield_to_the_loop()
        while (entry := self._queue.get()) is not None:
            job, heavy = entry
            self._halves.put((job(), heavy))
            del entry, job  # it holds a simulator state, which would stay until the next job
        self._halves.put(None)

    def _encode(self) -> None:
        yield_to_the_loop()
        while (entry := self._halves.get()) is not None:
            half, heavy = entry
            half()
            del entry, half
            self.jobs_done += 1
            if heavy:
                self._places.release()
