"""Priority of background work, and child processes that Ctrl-C does not reach."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

_NICE = 5
"""Gives the loop three times the share of a core. With 15, a machine busy with other work gave the
renderer 2 % of a core: eight pictures took 80 s, and once the 120 s after which it counts as hung.
"""


def yield_to_the_loop(process_id: int | None = None) -> None:
    """Lower the priority of a thread or process, so that the episode loop's work comes first.

    On Linux each thread has its own niceness, and the threads and processes it starts inherit it.
    On other systems, or where it is not allowed, nothing happens; nor where it is lower already,
    in a run under `nice`.

    Args:
        process_id: A child process that was just started and still has one thread; by default the
            calling thread. It must belong to this session: where the kernel groups tasks by
            session (`sched_autogroup_enabled`, on in most distributions), niceness counts only
            within a session, and a child alone in its own takes half of the machine.
    """
    if sys.platform == "linux":
        target = threading.get_native_id() if process_id is None else process_id
        with contextlib.suppress(OSError):
            niceness = max(_NICE, os.getpriority(os.PRIO_PROCESS, target))
            os.setpriority(os.PRIO_PROCESS, target, niceness)


@contextlib.contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Start a child process in this block that never receives Ctrl-C or SIGUSR1.

    A terminal sends Ctrl-C to every process it started, and Slurm its warning of the time limit to
    every process of a job step, while children that serve this process should end when this process
    says so. (A session of their own would also do, but see `yield_to_the_loop`.)
    A child inherits the signal mask, so it is deaf from its first instruction on. The mask does not
    protect this process: a thread of a numerical library may take the signal, and Python then calls
    the handler in the main thread, half way through the start. So the handler is swapped too, which
    is possible in the main thread only. A signal inside the block is not lost: the old handler gets
    it at the end.

    SIGTERM also waits for the end of the block, but children do receive it, so that one with a
    hanging thread can be ended without `kill -9`.
    """
    heard: list[int] = []
    swapped: dict[int, Callable[[int, FrameType | None], Any]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            handler = signal.getsignal(number)
            if callable(handler):  # otherwise it is ignored (nohup) or ends the process at once
                swapped[number] = handler
                signal.signal(number, lambda caught, _: heard.append(caught))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR1})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for caught, handler in swapped.items():
            signal.signal(caught, handler)
        if heard:
            swapped[heard[0]](heard[0], None)


def die_with_parent() -> None:
    """From now on, end when the parent is gone: nobody would read an orphan's results."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
