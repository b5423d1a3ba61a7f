"""Video tickets of the twin: the loop makes them, a process of low priority renders them.

A ticket carries the state it shows, because the simulation goes on while the ticket waits. The
first ticket starts the process (`video_worker`), and nothing waits for it before a ticket is
redeemed. The process's standard error is kept and reported if it dies.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import IO

from b1k_envs.base import UInt8Array, VideoFrame, View
from b1k_envs.errors import EnvError
from b1k_envs.mujoco_twin.model import RenderQuality
from b1k_envs.mujoco_twin.rendering.studio import Shown
from b1k_envs.threads import deaf_to_ctrl_c, yield_to_the_loop

_END_TIMEOUT_S = 2.0

_COMMAND = (
    # Use the parent's path: `-m` would put the current folder first, which could hide modules.
    "import sys; sys.path[:] = {path!r}; "
    "from b1k_envs.mujoco_twin.rendering.video_worker import main; "
    "main({handle}, {task!r}, {quality!r})"
)


class VideoRig:
    """Makes tickets, and owns the process that renders them."""

    def __init__(self, task: str, quality: RenderQuality) -> None:
        self._task = task
        self._quality: RenderQuality = quality
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._log: IO[bytes] | None = None
        self._closed = False
        self._exchange = threading.Lock()  # one question and its answer at a time

    @property
    def process_id(self) -> int | None:
        """Id of the rendering process; None while there is none."""
        return None if self._process is None else self._process.pid

    def ticket(self, shown: Shown) -> VideoFrame:
        """Make a ticket for pictures of this state, which any thread may redeem.

        Redeeming raises `EnvError` when the process cannot render or has died, or the rig was
        closed.

        Raises:
            EnvError: The process cannot be started.
        """
        if self._process is None and not self._closed:
            self._start()
        return VideoFrame(redeem=lambda: self._render(shown), holds_pictures=False)

    def close(self) -> None:
        """End the process; safe to call twice. A ticket being redeemed fails."""
        self._closed = True
        process, self._process = self._process, None
        if process is None:
            return
        # While it renders or starts, the process does not notice that the pipe is closed.
        if self._exchange.acquire(timeout=_END_TIMEOUT_S):
            self._close_pipe()
            self._exchange.release()
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with self._exchange:  # by now a thread that waited for an answer has given up
            self._close_pipe()
            if self._log is not None:
                self._log.close()

    def _start(self) -> None:
        """Start the process without waiting for it.

        Raises:
            EnvError: It cannot be started.
        """
        ours, theirs = socket.socketpair()
        command = _COMMAND.format(
            path=sys.path, handle=theirs.fileno(), task=self._task, quality=self._quality
        )
        # One rasterizer thread, because each worker of a run has such a process.
        # A value that the user has set wins.
        environment = {"LP_NUM_THREADS": "1"} | os.environ
        try:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
            with deaf_to_ctrl_c():
                self._process = subprocess.Popen(
                    [sys.executable, "-c", command],
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=self._log,
                    pass_fds=[theirs.fileno()],
                    env=environment,
                )
        except OSError as error:
            ours.close()
            raise EnvError(f"the process for video pictures cannot be started: {error}") from error
        finally:
            theirs.close()
        # Now, while it has one thread: later threads inherit the niceness.
        yield_to_the_loop(self._process.pid)
        self._pipe = Connection(ours.detach())

    def _render(self, shown: Shown) -> Mapping[View, UInt8Array]:
        with self._exchange:
            if self._closed or self._pipe is None:
                raise EnvError("a video picture was asked for after the env was closed")
            try:
                self._pipe.send(shown)
                answer: dict[View, UInt8Array] | str = self._pipe.recv()
            except (EOFError, OSError) as error:
                raise EnvError(f"the process for video pictures {self._end()}") from error
        if isinstance(answer, str):
            raise EnvError(f"the process for video pictures cannot render: {answer}")
        return answer

    def _end(self) -> str:
        """Return how the process ended, and the end of its output."""
        process = self._process
        if process is None:
            return "was ended with the env"
        try:
            status: object = process.wait(_END_TIMEOUT_S)  # its pipe closes a little before it ends
        except subprocess.TimeoutExpired:
            status = "still running"
        words: list[str] = []
        if self._log is not None:
            self._log.seek(0)
            words = self._log.read().decode("utf-8", "replace").strip().splitlines()
        said = " / ".join(words[-3:]) or "it said nothing"
        return f"ended with status {status}: {said}; run with --no-video to go on without"

    def _close_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
