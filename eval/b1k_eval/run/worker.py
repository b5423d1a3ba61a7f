"""A worker process: the other end of the pool's pipe, with a world and its policies.

A process whose world can hang or crash writes its output and that of its native libraries to a
log file (a simulator prints thousands of lines, some to standard output). It ends without exit
handlers, as those have been seen to hang.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from b1k_envs.base import EnvInfo
from b1k_envs.threads import die_with_parent
from b1k_eval.records.store import StorageError
from b1k_eval.run.episode import Assembly, Finished
from b1k_eval.run.executor import Assignment, Executor
from b1k_eval.run.progress.snapshot import EpisodeProgress
from b1k_eval.run.watchdog import Watch
from b1k_eval.streams import take_every_text


class WorldStarted(NamedTuple):
    """A world was built.

    Attributes:
        info: Its `EnvInfo` as JSON values.
    """

    info: dict[str, Any]


class Wanting(NamedTuple):
    """An env can go on; the answer is the next assignment for this slot, or None.

    Attributes:
        number: The slot, see `executor.Following`.
    """

    number: int


class BatchDone(NamedTuple):
    """All assignments of a batch were posted; if `spent`, the worker cannot take another batch."""

    spent: bool


def worker_main(
    pipe: Connection, assembly: Assembly, watch: Watch | None, log: Path | None
) -> None:
    """Run the batches that come through the pipe until it is closed.

    Each is answered by any number of (slot, `EpisodeProgress`), one (slot, `Finished`)
    per assignment and a `BatchDone`, or by the text of a StorageError. A `WorldStarted` is sent for
    every world built, and a `Wanting` for each env that can go on at once.

    Args:
        pipe: Receives lists of `Assignment`.
        assembly: What to build.
        watch: For a world that can hang; None for others.
        log: File for the output; None to leave it as it is.
    """
    die_with_parent()
    take_every_text()
    if watch is None:
        with redirect_stdout(sys.stderr):  # of what a policy prints; the run's may be JSON
            _serve(pipe, assembly, None)
        return
    code = 1
    try:
        if log is not None:
            redirect_output(log)
        _serve(pipe, assembly, watch)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - the log is the last place to report it
        sys.excepthook(*sys.exc_info())
    finally:
        exit_at_once(code)


def _serve(pipe: Connection, assembly: Assembly, watch: Watch | None) -> None:
    executor = Executor(
        assembly,
        watch=watch,
        started=lambda info: pipe.send(WorldStarted(_as_json(info))),
    )

    def post(number: int, what: EpisodeProgress | Finished) -> None:
        pipe.send((number, what))

    def following(number: int) -> Assignment | None:
        pipe.send(Wanting(number))
        assignment: Assignment | None = pipe.recv()
        return assignment

    try:
        while True:
            try:
                batch = pipe.recv()
            except EOFError:
                return
            try:
                executor.run_batch(batch, post, following)
                pipe.send(BatchDone(executor.spent))
            except StorageError as error:
                pipe.send(str(error))
    finally:
        if not executor.spent:
            executor.close()


def _as_json(info: EnvInfo) -> dict[str, Any]:
    """Return an `EnvInfo` as strict JSON: a measured NaN becomes the string "NaN"."""
    document = {**asdict(info), "settings": dict(info.settings)}
    recorded: dict[str, Any] = json.loads(json.dumps(document, default=str), parse_constant=str)
    return recorded


def redirect_output(log: Path) -> None:
    """Redirect standard output and error to a file, including those of native code."""
    log.parent.mkdir(exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    faulthandler.enable()  # stack traces of crashes in native code
    faulthandler.register(signal.SIGUSR1)  # and on the signal that the pool sends before it kills
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})  # see `deaf_to_ctrl_c`


def exit_at_once(code: int) -> None:
    """End this process without running exit handlers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
