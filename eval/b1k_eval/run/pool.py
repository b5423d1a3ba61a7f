"""Workers: processes that each own a world and its policies.

Only the parent writes episodes.jsonl and renames folders; a worker fills temporary folders. If a
worker dies, or is killed because its simulator hangs, its unfinished episodes become `error`s and
the run goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from b1k_envs.errors import EnvError
from b1k_envs.threads import deaf_to_ctrl_c
from b1k_eval.records.episode import EpisodeKey
from b1k_eval.records.store import RunStore, StorageError
from b1k_eval.run.dealing import Dealer
from b1k_eval.run.episode import Assembly, Finished, broken_record, read_record, write_record
from b1k_eval.run.executor import Assignment
from b1k_eval.run.progress import EpisodeProgress, Reporter
from b1k_eval.run.watchdog import Watch
from b1k_eval.run.worker import BatchDone, Wanting, WorldStarted, worker_main
from b1k_policies.base import EpisodeInfo

LOGS_FOLDER = "logs"
"""Folder below the run folder for the output of simulators, a file per process."""

MAX_FAILED_STARTS = 3
"""The run ends after this many failed starts in a row: each may take minutes."""

_STOP_GRACE_S = 5.0  # for a process to end by itself before it is killed
_LAST_WORDS_S = 1.0  # for a hanging process to write its stack traces
_LOOK_INTERVAL_S = 0.5  # between looks at deadlines, the shortest of which is 60 s


def key_of(episode: EpisodeInfo) -> EpisodeKey:
    """Return the episode's key in the run folder."""
    return EpisodeKey(episode.task, episode.instance, episode.rollout)


def commit(
    store: RunStore, reporter: Reporter, key: EpisodeKey, folder: Path, finished: Finished
) -> None:
    """Add a finished episode to the run and report its remarks.

    Raises:
        StorageError: It cannot be written.
        B1kEvalError: `finished.stop`, the reason why no further episode should be tried.
    """
    store.commit(folder, finished.record)
    reporter.episode_ended(finished.record)
    said = session_remarks(store)
    new = [text for text in finished.record.remarks if text not in said]
    if new:
        store.record["sessions"][-1]["remarks"] = [*said, *new]
        store.write_record()
        for text in new:
            reporter.note(f"note: {text}")
    if finished.stop is not None:
        raise finished.stop


def session_remarks(store: RunStore) -> list[str]:
    """Return the remarks on episodes of the present session, each once."""
    found: list[str] = store.record["sessions"][-1].get("remarks", [])
    return found


@dataclass(eq=False)
class _Worker:
    """A worker process and its unfinished assignments.

    Attributes:
        number: Its place among the living workers, from 0.
        process: The process.
        pipe: Our end.
        watch: For a world that can hang.
        log: File of its output; None to share ours.
        task: The task of its world.
        started: Whether its world ever started.
        batch: Unfinished assignments by slot, see `executor.Following`.
        killed: Why it was killed; None if it was not.
    """

    number: int
    process: BaseProcess
    pipe: Connection
    watch: Watch | None
    log: Path | None
    task: str
    started: bool = False
    batch: dict[int, Assignment] = field(default_factory=dict)
    killed: str | None = None


class Pool:
    """Spawned workers, each with a pipe; spawned, because OpenGL does not survive a fork."""

    def __init__(
        self,
        assembly: Assembly,
        store: RunStore,
        reporter: Reporter,
        workers: int,
        enough: Callable[[], bool],
    ) -> None:
        self._assembly = assembly
        self._store = store
        self._reporter = reporter
        self._workers = workers
        self._enough = enough
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._failed_starts = 0
        self._dealer = Dealer(())

    def run(self, todo: Iterable[EpisodeInfo]) -> None:
        """Run all episodes, as workers become free.

        Raises:
            StorageError: A result cannot be written.
            EnvError: `MAX_FAILED_STARTS` worlds in a row did not start.
        """
        dealer = self._dealer = Dealer(todo)
        grace_s = _STOP_GRACE_S
        try:
            while True:
                while dealer and len(self._busy) < self._workers and not self._enough():
                    self._assign()
                if not self._busy:
                    break
                self._listen()
            grace_s = self._grace_s()
        finally:
            self._stop(grace_s)

    def _listen(self) -> None:
        """Wait for the next message of a worker, or until deadlines are to be checked."""
        watched = self._assembly.limits is not None
        waited = [w.pipe for w in self._busy], [w.process.sentinel for w in self._busy]
        ready = set(wait([*waited[0], *waited[1]], _LOOK_INTERVAL_S if watched else None))
        for worker in list(self._busy):
            if worker.pipe in ready or worker.process.sentinel in ready:
                self._hear(worker)
        now = monotonic()
        for worker in self._busy:
            overdue = worker.watch and worker.watch.overdue(now)
            if overdue and worker.killed is None:
                worker.killed = overdue.words()
                self._kill(worker)  # not `_lost` yet: messages in its pipe are read first

    # --- one worker -----------------------------------------------------------------------------

    def _assign(self) -> None:
        worker = self._free_worker()
        self._busy.append(worker)
        for number in range(min(self._assembly.num_envs, self._dealer.left(worker.task))):
            self._begin(worker, number)
        with suppress(OSError):  # it died: `_listen` sees its sentinel
            worker.pipe.send(list(worker.batch.values()))

    def _free_worker(self) -> _Worker:
        """Return a worker for the next episodes, with their task."""
        others = [worker.task for worker in self._busy]
        # One whose task has episodes left, if there is one.
        idle = max(self._idle, key=lambda worker: self._dealer.left(worker.task), default=None)
        task = self._dealer.task_for(None if idle is None else idle.task, others)
        if idle is None:
            return self._spawn(task)
        self._idle.remove(idle)
        if idle.task != task and self._assembly.limits is not None:
            idle.pipe.close()  # its process can build one world only
            self._join(idle, self._grace_s())
            return self._spawn(task)
        idle.task = task
        return idle

    def _begin(self, worker: _Worker, number: int) -> Assignment:
        """Fill a slot of a worker with the next episode of its task."""
        episode = self._dealer.take(worker.task)
        assert episode is not None
        worker.batch[number] = Assignment(episode, self._store.begin(key_of(episode)))
        self._reporter.episode_started(key_of(episode))
        return worker.batch[number]

    def _spawn(self, task: str) -> _Worker:
        assembly = self._assembly
        # The number chooses the GPU: a replacement takes that of the worker that died.
        taken = {worker.number for worker in (*self._busy, *self._idle)}
        number = next(n for n in count() if n not in taken)
        watch = None if assembly.limits is None else Watch(assembly.limits, self._context)
        log = None if watch is None else self._new_log()
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=worker_main,
            args=(theirs, assembly.for_worker(number), watch, log),
            name="b1k-eval-worker",
            daemon=True,  # ended with this process even if `_stop` is not reached
        )
        # Started inside the `with`, the tracker would unblock SIGINT again for the process.
        resource_tracker.ensure_running()
        with deaf_to_ctrl_c():
            process.start()
        theirs.close()
        if log is not None:
            self._reporter.note(f"starting a world, which may take minutes; its output is in {log}")
        return _Worker(number, process, ours, watch, log, task)

    def _new_log(self) -> Path:
        folder = self._store.path / LOGS_FOLDER
        return next(
            log
            for n in count(1)
            if not (log := folder / f"world-{n}.log").exists()
            and all(worker.log != log for worker in (*self._busy, *self._idle))
        )

    def _hear(self, worker: _Worker) -> None:
        try:
            if not worker.pipe.poll():  # only the sentinel is ready: it died without a message
                self._lost(worker)
                return
            message = worker.pipe.recv()
        except (EOFError, OSError):
            self._lost(worker)
            return
        if isinstance(message, WorldStarted):
            worker.started = True
            self._failed_starts = 0
            self._record_world(message.info)
        elif isinstance(message, Wanting):
            left = self._dealer.left(worker.task)
            more = left and worker.killed is None and not self._enough()
            with suppress(OSError):
                worker.pipe.send(self._begin(worker, message.number) if more else None)
        elif isinstance(message, BatchDone):
            self._busy.remove(worker)
            if message.spent or worker.killed is not None:
                self._kill(worker)
                self._retired(worker)
            else:
                self._idle.append(worker)
        elif isinstance(message, tuple):
            self._heard_of_episode(worker, *message)
        else:
            raise StorageError(str(message))

    def _heard_of_episode(
        self, worker: _Worker, number: int, what: EpisodeProgress | Finished
    ) -> None:
        episode, folder = worker.batch[number]
        if isinstance(what, EpisodeProgress):
            self._reporter.step(key_of(episode), what)
            return
        del worker.batch[number]
        commit(self._store, self._reporter, key_of(episode), folder, what)

    def _lost(self, worker: _Worker) -> None:
        """Turn the unfinished episodes of a dead worker into errors."""
        self._busy.remove(worker)
        worker.process.join(_STOP_GRACE_S)
        if worker.process.exitcode == -signal.SIGTERM:
            # A SIGTERM to the whole process group reaches us too: end by it, record no errors.
            sleep(_LAST_WORDS_S)
        why = worker.killed or f"the worker process died (exit code {worker.process.exitcode})"
        if worker.log is not None:
            why += f"; its output is in {LOGS_FOLDER}/{worker.log.name}"
        for episode, folder in worker.batch.values():
            key = key_of(episode)
            record = read_record(folder)  # it may have finished and died before it could say so
            if record is None:
                record = broken_record(self._assembly, episode, why)
                folder = self._store.begin(key)
                write_record(folder, record)
            commit(self._store, self._reporter, key, folder, Finished(record, None))
        worker.batch = {}
        self._retired(worker, why)

    def _retired(self, worker: _Worker, why: str = "see the errors of its episodes") -> None:
        worker.pipe.close()
        if self._assembly.limits is None or worker.started:
            return
        self._failed_starts += 1
        if self._failed_starts == MAX_FAILED_STARTS:
            raise EnvError(
                f"the world failed to start {MAX_FAILED_STARTS} times in a row ({why}): fix "
                "that, then --resume"
            )

    def _record_world(self, info: dict[str, Any]) -> None:
        """Record the info of a world of this session; report what is not official in it."""
        worlds = self._store.record["sessions"][-1].setdefault("worlds", [])
        if info in worlds:
            return
        told = {text for world in worlds for text in _differences(world)}
        for text in _differences(info):
            if text not in told:
                self._reporter.note(text)
        worlds.append(info)
        self._store.write_record()
        first = next(world for world in worlds if world["task"] == info["task"])
        if without_process(info) != without_process(first):
            self._reporter.note("this world differs from the first one: see run.json, worlds")

    # --- the end --------------------------------------------------------------------------------

    def _kill(self, worker: _Worker) -> None:
        """End a worker; one that hangs is first made to write its stack traces to the log."""
        if worker.killed is not None and worker.process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, signal.SIGUSR1)
            worker.process.join(_LAST_WORDS_S)
        worker.process.kill()
        worker.process.join()

    def _stop(self, grace_s: float) -> None:
        """End all workers: the busy ones at once, the idle ones by closing their pipe.

        A world is closed in the time it may take only after the last episode: who interrupts a run
        has seconds, such as the 30 s that Slurm leaves between SIGTERM and SIGKILL.
        """
        for worker in self._busy:
            # A simulator's exit handlers may hang, so it is killed.
            if worker.watch is None:
                worker.process.terminate()
            else:
                worker.process.kill()
        everyone = [*self._idle, *self._busy]
        for worker in everyone:
            worker.pipe.close()
        until = monotonic() + grace_s
        for worker in everyone:
            self._join(worker, until - monotonic())
        self._idle.clear()
        self._busy.clear()

    def _grace_s(self) -> float:
        """Return how long a worker may take to close its world and end [s]."""
        limits = self._assembly.limits
        return _STOP_GRACE_S + (0.0 if limits is None else limits.close_s)

    def _join(self, worker: _Worker, grace_s: float) -> None:
        """Wait until a worker whose pipe is closed has ended; kill it if it does not."""
        worker.process.join(max(grace_s, 0.0))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _differences(info: Mapping[str, Any]) -> list[str]:
    """List what the checks at a world's start found different from an official run."""
    return [
        f"not as in an official run: {each['name']}: expected {each['expected']}, found "
        f"{each['found']}"
        for each in info["settings"].get("startup_checks", ())
        if not each["ok"]
    ]


def without_process(info: dict[str, Any]) -> dict[str, Any]:
    """Drop the process's environment variables from a world's info: they differ by process."""
    settings = dict(info["settings"])
    if isinstance(settings.get("applied"), dict):
        settings["applied"] = {**settings["applied"], "environment": None}
    return {**info, "settings": settings}
