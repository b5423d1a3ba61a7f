"""Scheduling of background threads."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

_NICE = 15


def yield_to_the_loop() -> None:
    """Lower the calling thread's priority, so that it takes the time the episode loop leaves.

    On Linux a thread has a niceness of its own, and the threads it starts (llvmpipe's, when it
    makes a GL context) inherit it. Elsewhere, or where it is not allowed, nothing happens.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
