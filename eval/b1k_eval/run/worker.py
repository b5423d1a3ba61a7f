"""The other end of the pool's pipes: a process that owns a world and its policies.

A process whose world can hang or crash writes what it and its native libraries say to a log file
(a simulator prints thousands of lines, some of them to standard output), and ends without the
interpreter's and the libraries' exit handlers, which have been seen to hang as well.
"""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import signal
import sys
import threading
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from b1k_envs.base import EnvInfo
from b1k_eval.records.store import StorageError
from b1k_eval.run.episode import Assembly, Finished
from b1k_eval.run.executor import Assignment, Executor
from b1k_eval.run.progress import EpisodeProgress
from b1k_eval.run.watchdog import Watch
from b1k_eval.streams import take_every_text


class WorldStarted(NamedTuple):
    """A world was built.

    Attributes:
        info: Its `EnvInfo` as JSON values.
    """

    info: dict[str, Any]


class Wanting(NamedTuple):
    """An env has done its assignment while others go on: answered by its next, or None."""

    number: int


class BatchDone(NamedTuple):
    """All assignments of a batch were posted.

    Attributes:
        spent: The worker must not be given another one.
    """

    spent: bool


def worker_main(
    pipe: Connection, assembly: Assembly, watch: Watch | None, log: Path | None
) -> None:
    """Run the batches that come through the pipe until it is closed.

    Answers each with any number of (number, `EpisodeProgress`), one (number, `Finished`) per
    assignment and a `BatchDone`, or with the text of a StorageError. Before them a
    `WorldStarted` for every world that was built; between them a `Wanting` for each env that can
    go on at once.

    Args:
        pipe: Brings lists of `Assignment`.
        assembly: What to build.
        watch: Of a world that can hang; None for others.
        log: Where its output goes; None leaves it as it is.
    """
    die_with_parent()
    take_every_text()
    if watch is None:
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
    except BaseException:  # noqa: BLE001 - the log is the last place where it can be said
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
    """An `EnvInfo` that can be recorded, whatever was measured: NaN as a word, too."""
    document = {**asdict(info), "settings": dict(info.settings)}
    recorded: dict[str, Any] = json.loads(json.dumps(document, default=str), parse_constant=str)
    return recorded


def redirect_output(log: Path) -> None:
    """Send standard output and error to a file, those of native code too."""
    log.parent.mkdir(exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    faulthandler.enable()  # for what native code does
    faulthandler.register(signal.SIGUSR1)  # sent before a process that hangs is killed


def exit_at_once(code: int) -> None:
    """End this process without exit handlers, which have been seen to hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def die_with_parent() -> None:
    """From now on, end at once when the parent is gone: nobody would read what an orphan writes."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
