"""The other end of `launch`'s pipes: a process that owns an env and a policy."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import Connection, wait

from b1k_eval.episode import Assembly, Executor
from b1k_eval.store import StorageError


def worker_main(pipe: Connection, assembly: Assembly) -> None:
    """Run the episodes that come through the pipe until it is closed.

    Answers each with any number of `Snapshot` and one `Finished`, or with the text of a
    StorageError.
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()
    executor = Executor(assembly)
    try:
        while True:
            try:
                episode, folder = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(executor.run(episode, folder, pipe.send))
            except StorageError as error:
                pipe.send(str(error))
    finally:
        executor.close()


def _die_with_parent() -> None:
    """End at once when the parent is gone: nobody would read what an orphan writes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
