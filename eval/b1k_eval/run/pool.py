"""Workers that each own a world and its policies, and what they are given.

Only this process writes episodes.jsonl and renames folders; a worker fills temporary folders. If a
worker dies, or is killed because its simulator hangs, its unfinished episodes become `error`s and
the run goes on. If its place is lost, such as a node of a cluster, others do them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

from b1k_envs.errors import EnvError
from b1k_eval.records.episode import EpisodeKey
from b1k_eval.records.store import RunStore, StorageError
from b1k_eval.run.crew.base import Arrived, Crew, Worker, WorkerGoneError
from b1k_eval.run.dealing import Dealer
from b1k_eval.run.episode import Assembly, Finished, broken_record, read_record, write_record
from b1k_eval.run.executor import Assignment
from b1k_eval.run.progress.reporter import Reporter
from b1k_eval.run.progress.snapshot import EpisodeProgress
from b1k_eval.run.worker import BatchDone, Wanting, WorldStarted
from b1k_policies.base import EpisodeInfo

LOGS_FOLDER = "logs"
"""Folder below the run folder for the output of simulators, a file per process."""

MAX_FAILED_STARTS = 3
"""The run ends after this many failed starts in a row: each may take minutes."""

_STOP_GRACE_S = 5.0  # for a worker to end by itself before it is killed


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
    for text in add_remarks(store, finished.record.remarks):
        reporter.note(f"note: {text}")
    if finished.stop is not None:
        raise finished.stop


def add_remarks(store: RunStore, remarks: Iterable[str]) -> list[str]:
    """Record remarks with the present session, each once, and return the new ones.

    Raises:
        StorageError: run.json cannot be written.
    """
    said = session_remarks(store)
    new = [text for text in remarks if text not in said]
    if new:
        store.record["sessions"][-1]["remarks"] = [*said, *new]
        store.write_record()
    return new


def session_remarks(store: RunStore) -> list[str]:
    """Return the remarks on episodes of the present session, each once."""
    found: list[str] = store.record["sessions"][-1].get("remarks", [])
    return found


class Pool:
    """Gives episodes to the workers of a crew, and files what they say."""

    def __init__(
        self,
        assembly: Assembly,
        store: RunStore,
        reporter: Reporter,
        workers: int,
        enough: Callable[[], bool],
        crew: Crew,
        retries: int = 0,
    ) -> None:
        """Take over a crew.

        Args:
            assembly: What the workers build.
            store: Where results go.
            reporter: Receives progress.
            workers: How many at once.
            enough: See `launch`.
            crew: Makes the workers; closed by `run`.
            retries: How often an episode is handed out again whose worker lost its place.
        """
        self._assembly = assembly
        self._store = store
        self._reporter = reporter
        self._workers = workers
        self._enough = enough
        self._crew = crew
        self._retries = retries
        self._lost_with_place: Counter[EpisodeKey] = Counter()
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []
        self._logs: set[Path] = set()  # of workers that may not have made theirs yet
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
                if not any(worker.arrived or self._dealer for worker in self._busy):
                    break  # who has not arrived yet comes too late
                for worker in self._crew.ready(self._busy):
                    self._hear(worker)
            grace_s = self._grace_s()
        finally:
            try:
                self._stop(grace_s)
            finally:
                self._crew.close()

    # --- one worker -----------------------------------------------------------------------------

    def _assign(self) -> None:
        worker = self._free_worker()
        self._busy.append(worker)
        if worker.arrived:
            self._send_batch(worker)

    def _send_batch(self, worker: Worker) -> None:
        for number in range(min(self._assembly.num_envs, self._dealer.left(worker.task))):
            self._begin(worker, number)
        worker.send(list(worker.batch.values()))

    def _free_worker(self) -> Worker:
        """Return a worker for the next episodes, with their task."""
        others = [worker.task for worker in self._busy]
        # One whose task has episodes left, if there is one.
        idle = max(self._idle, key=lambda worker: self._dealer.left(worker.task), default=None)
        task = self._dealer.task_for(None if idle is None else idle.task, others)
        if idle is None:
            return self._spawn(task)
        self._idle.remove(idle)
        if idle.task != task and self._assembly.limits is not None:
            idle.dismiss()  # its process can build one world only
            idle.join(self._grace_s())
            return self._spawn(task)
        idle.task = task
        return idle

    def _begin(self, worker: Worker, number: int) -> Assignment:
        """Fill a slot of a worker with the next episode of its task."""
        episode = self._dealer.take(worker.task)
        assert episode is not None
        key = key_of(episode)
        # A lost node may still write into the folder of its attempt.
        folder = self._store.begin(key, attempt=self._lost_with_place[key])
        worker.batch[number] = Assignment(episode, folder)
        self._reporter.episode_started(key, worker.where)
        return worker.batch[number]

    def _spawn(self, task: str) -> Worker:
        # The number chooses the GPU: a replacement takes that of the worker that died.
        taken = {worker.number for worker in (*self._busy, *self._idle)}
        number = next(n for n in count() if n not in taken)
        log = None if self._assembly.limits is None else self._new_log()
        worker = self._crew.start(number, task, log)
        if log is not None:
            self._reporter.note(f"starting a world, which may take minutes; its output is in {log}")
        return worker

    def _new_log(self) -> Path:
        folder = self._store.path / LOGS_FOLDER
        log = next(
            log
            for n in count(1)
            if not (log := folder / f"world-{n}.log").exists() and log not in self._logs
        )
        self._logs.add(log)
        return log

    def _hear(self, worker: Worker) -> None:
        try:
            message = worker.hear()
        except WorkerGoneError as gone:
            self._lost(worker, gone)
            return
        if isinstance(message, Arrived):
            worker.where, worker.arrived = message.where, True
            if self._dealer and not self._dealer.left(worker.task):
                worker.task = self._dealer.task_for(None, [each.task for each in self._busy])
            if self._dealer and not self._enough():
                self._send_batch(worker)
            else:
                self._busy.remove(worker)
                self._idle.append(worker)
            return
        if isinstance(message, WorldStarted):
            worker.started = True
            self._failed_starts = 0
            self._record_world(message.info)
        elif isinstance(message, Wanting):
            left = self._dealer.left(worker.task)
            more = left and worker.killed is None and not self._enough()
            worker.send(self._begin(worker, message.number) if more else None)
        elif isinstance(message, BatchDone):
            self._busy.remove(worker)
            if message.spent or worker.killed is not None:
                worker.kill()
                worker.join(_STOP_GRACE_S)
                self._retired(worker)
            else:
                self._idle.append(worker)
        elif isinstance(message, tuple):
            self._heard_of_episode(worker, *message)
        else:
            raise StorageError(str(message))

    def _heard_of_episode(
        self, worker: Worker, number: int, what: EpisodeProgress | Finished
    ) -> None:
        episode, folder = worker.batch[number]
        if isinstance(what, EpisodeProgress):
            self._reporter.step(key_of(episode), what)
            return
        del worker.batch[number]
        commit(self._store, self._reporter, key_of(episode), folder, what)

    def _lost(self, worker: Worker, gone: WorkerGoneError) -> None:
        """Turn the unfinished episodes of a worker that has ended into errors, or deal them again.

        Where its place was lost, its folders are not looked at: they may be half on a disk.
        """
        self._busy.remove(worker)
        for episode, folder in worker.batch.values():
            key = key_of(episode)
            if gone.again and self._lost_with_place[key] < self._retries:
                self._lost_with_place[key] += 1
                self._dealer.put_back(episode)
                self._reporter.episode_dropped(key, str(gone))
                continue
            # It may have finished and died before it could say so.
            record = None if gone.again else read_record(folder)
            if record is None:
                record = broken_record(self._assembly, episode, str(gone))
                folder = self._store.begin(key)
                write_record(folder, record)
            commit(self._store, self._reporter, key, folder, Finished(record, None))
        worker.batch = {}
        worker.dismiss()
        worker.join(0.0)
        if worker.arrived and gone.again:
            return
        self._retired(worker, str(gone))

    def _retired(self, worker: Worker, why: str = "see the errors of its episodes") -> None:
        """Count a worker that has ended without a world, where that is no accident."""
        if worker.started or (worker.arrived and self._assembly.limits is None):
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

    def _stop(self, grace_s: float) -> None:
        """End all workers, the busy ones at once.

        A world is closed in the time it may take only after the last episode: who interrupts a run
        has seconds, such as the 30 s that Slurm leaves between SIGTERM and SIGKILL.
        """
        for worker in self._busy:
            worker.kill()
        for worker in self._idle:
            worker.dismiss()
        until = monotonic() + grace_s
        for worker in (*self._idle, *self._busy):
            worker.join(until - monotonic())
        self._idle.clear()
        self._busy.clear()

    def _grace_s(self) -> float:
        """Return how long a worker may take to close its world and end [s]."""
        limits = self._assembly.limits
        return _STOP_GRACE_S + (0.0 if limits is None else limits.close_s)


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
