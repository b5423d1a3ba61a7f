"""Workers that are processes of this machine; spawned, because OpenGL does not survive a fork."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from b1k_envs.threads import deaf_to_ctrl_c
from b1k_eval.run.crew.base import Crew, Worker, WorkerGoneError
from b1k_eval.run.episode import Assembly
from b1k_eval.run.watchdog import Watch
from b1k_eval.run.worker import worker_main

_LAST_WORDS_S = 1.0  # for a hanging process to write its stack traces
_END_S = 5.0  # for a process to end whose pipe has
_LOOK_INTERVAL_S = 0.5  # between looks at deadlines, the shortest of which is 60 s


class ProcessWorker(Worker):
    """A spawned process, our end of its pipe, and a watch if its world can hang."""

    def __init__(self, assembly: Assembly, number: int, task: str, log: Path | None) -> None:
        super().__init__(number, task)
        context = multiprocessing.get_context("spawn")
        self.log = log
        self.watch = None if assembly.limits is None else Watch(assembly.limits, context)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=worker_main,
            args=(theirs, assembly.for_worker(number), self.watch, log),
            name="b1k-eval-worker",
            daemon=True,  # ended with this process even if nobody else does it
        )
        # Started inside the `with`, the tracker would unblock SIGINT again for the process.
        resource_tracker.ensure_running()
        with deaf_to_ctrl_c():
            self.process.start()
        theirs.close()

    def send(self, message: Any) -> None:  # noqa: ANN401
        """See `Worker`."""
        with suppress(OSError):  # it died: its sentinel says so
            self.pipe.send(message)

    def hear(self) -> Any:  # noqa: ANN401
        """See `Worker`."""
        with suppress(EOFError, OSError):
            if self.pipe.poll():  # otherwise only the sentinel is ready: it died without a message
                return self.pipe.recv()
        self.process.join(_END_S)
        if self.process.exitcode == -signal.SIGTERM:
            # A SIGTERM to the whole process group reaches us too: end by it, record no errors.
            sleep(_LAST_WORDS_S)
        why = self.killed or f"the worker process died (exit code {self.process.exitcode})"
        if self.log is not None:
            why += f"; its output is in {self.log.parent.name}/{self.log.name}"
        raise WorkerGoneError(why)

    def look(self) -> None:
        """Kill it if a call into its world has passed its deadline.

        What it said before can still be heard.
        """
        overdue = None if self.watch is None else self.watch.overdue(monotonic())
        if overdue and self.killed is None:
            self.killed = overdue.words()
            self.kill()
            self.join(0.0)

    def kill(self) -> None:
        """See `Worker`; one that hangs is first made to write its stack traces to the log."""
        if self.killed is not None and self.process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGUSR1)
            self.process.join(_LAST_WORDS_S)
        if self.watch is None:
            self.process.terminate()
        else:
            self.process.kill()  # a simulator's exit handlers may hang

    def dismiss(self) -> None:
        """See `Worker`."""
        self.pipe.close()

    def join(self, grace_s: float) -> None:
        """See `Worker`."""
        self.process.join(max(grace_s, 0.0))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Processes(Crew):
    """Starts workers on this machine."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    def start(self, number: int, task: str, log: Path | None) -> ProcessWorker:
        """See `Crew`."""
        return ProcessWorker(self._assembly, number, task, log)

    def ready(self, workers: Sequence[Worker]) -> list[Worker]:
        """See `Crew`; kills those that have passed a deadline."""
        found = [worker for worker in workers if isinstance(worker, ProcessWorker)]
        heard = wait_for(found, _LOOK_INTERVAL_S if self._assembly.limits is not None else None)
        for worker in found:
            worker.look()
        return list(heard)


def wait_for(workers: Sequence[ProcessWorker], timeout_s: float | None) -> list[ProcessWorker]:
    """Wait until a worker says something or ends; return those that did."""
    waited = [each for worker in workers for each in (worker.pipe, worker.process.sentinel)]
    ready = set(wait(waited, timeout_s))
    return [w for w in workers if w.pipe in ready or w.process.sentinel in ready]
