"""Scheduling of what runs in the background, and who hears Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

_NICE = 15


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
    """A child process that is started herein never gets SIGINT, as a blocked signal is inherited.

    Ctrl-C goes to everything that a terminal started, and children that serve this process end
    when it says so. A session of their own would do too, but see `yield_to_the_loop`. A Ctrl-C
    that comes herein is not lost: this process gets it afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
