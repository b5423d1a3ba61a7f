"""Scheduling of what runs in the background, and who hears Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_NICE = 5
"""Behind the loop three to one. With 15 a machine that is busy with other work gave the renderer
2 % of a core: eight pictures took 80 s, and once the 120 s after which it is taken for hung."""


def yield_to_the_loop(process_id: int | None = None) -> None:
    """Lower a priority, so that the episode loop's work comes first.

    On Linux a thread has a niceness of its own, and what it starts afterwards inherits it.
    Elsewhere, or where it is not allowed, nothing happens.

    Args:
        process_id: A child process that was just started, of one thread so far; by default the
            calling thread. It must be of this session: where the kernel groups tasks by session
            (`sched_autogroup_enabled`, on in most distributions), a niceness counts only within
            one, and a child that is alone in its own takes half of the machine.
    """
    if sys.platform == "linux":
        target = threading.get_native_id() if process_id is None else process_id
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, target, _NICE)


@contextlib.contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Start a child process that never hears Ctrl-C, and hear it oneself only afterwards.

    It goes to everything that a terminal started, and children that serve this process end when it
    says so. (A session of their own would do too, but see `yield_to_the_loop`.) A child inherits
    the mask and is deaf from its first instruction on. The mask does not spare us: a thread of a
    numerical library may take the signal, and Python then calls the handler in the main thread,
    half way through the start. So the handler is swapped as well, where that is possible, in the
    main thread. A Ctrl-C that comes herein is not lost: the old handler gets it at the end.

    SIGTERM waits for the end as well, but children do hear it: a thread of theirs that hangs can
    then be ended without `kill -9`.
    """
    heard: list[int] = []
    swapped: dict[int, Callable[[int, FrameType | None], Any]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):  # else it is ignored (nohup) or ends the process at once
                swapped[number] = handler
                signal.signal(number, lambda caught, _: heard.append(caught))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for caught, handler in swapped.items():
            signal.signal(caught, handler)
        if heard:
            swapped[heard[0]](heard[0], None)
