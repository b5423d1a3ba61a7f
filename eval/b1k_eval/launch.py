"""Many episodes: in this process, or in several that each own an env and a policy.

The parent alone writes episodes.jsonl and renames folders; a worker fills a temporary folder and
says so. A worker that dies takes its episode with it as an `error`, not the run.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from b1k_envs.base import Env
from b1k_envs.tasks import Task
from b1k_envs.threads import deaf_to_ctrl_c
from b1k_eval.episode import Assembly, Executor, Finished, broken_record, write_record
from b1k_eval.progress import Reporter, Snapshot
from b1k_eval.run_files import EpisodeKey
from b1k_eval.store import RunStore, StorageError
from b1k_eval.worker import worker_main
from b1k_policies.base import EpisodeInfo, Policy

_STOP_GRACE_S = 5.0


def episode_seed(run_seed: int, task: str, instance: int, rollout: int) -> int:
    """The seed of an episode, in [0, 2^31), from the run's seed and what the episode is.

    Hashed, so that it does not depend on which other episodes are in the run.
    """
    text = f"b1k-eval/{run_seed}/{task}/{instance}/{rollout}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def plan_episodes(
    task: Task,
    instances: Iterable[int],
    rollouts: int,
    seed: int,
    protocol: Any,  # noqa: ANN401
) -> list[EpisodeInfo]:
    """Every episode of a run, instance by instance, rollout by rollout."""
    return [
        EpisodeInfo(
            task=task.name,
            task_index=task.index,
            instruction=task.instruction,
            instance=instance,
            rollout=rollout,
            seed=episode_seed(seed, task.name, instance, rollout),
            protocol=protocol,
        )
        for instance in instances
        for rollout in range(rollouts)
    ]


def key_of(episode: EpisodeInfo) -> EpisodeKey:
    """The episode's name in the run folder."""
    return EpisodeKey(episode.task, episode.instance, episode.rollout)


def launch(
    assembly: Assembly,
    plan: Sequence[EpisodeInfo],
    store: RunStore,
    *,
    reporter: Reporter,
    workers: int = 1,
    env: Env | None = None,
    policy: Policy | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Run what is missing of a plan.

    Args:
        assembly: How to build an env and a policy, here or in a worker.
        plan: All episodes of the run, those done included.
        store: Where results go; its leftovers are cleared first.
        reporter: Told of everything; not closed here.
        workers: 1 runs in this process, more in as many spawned ones.
        env: An env that is built already, for workers = 1; owned by the caller's assembly from
            now on and closed here.
        policy: The same for the policy.
        enough: Asked before every episode; once true, none is started any more.

    Raises:
        UsageError: The folder has a line of an episode that is not of the plan.
        StorageError: A result cannot be written; what is done so far is kept.
        KeyboardInterrupt: Passed through; what is done so far is kept.
    """
    keys = [key_of(episode) for episode in plan]
    store.clean(keys)
    pending = set(store.pending(keys))
    todo = [episode for episode, key in zip(plan, keys, strict=True) if key in pending]
    reporter.run_started(len(plan), len(plan) - len(todo), assembly.max_steps, workers)
    try:
        if workers == 1:
            _run_here(Executor(assembly, env=env, policy=policy), todo, store, reporter, enough)
        else:
            _Pool(assembly, store, reporter, workers, enough).run(todo)
    except KeyboardInterrupt:
        store.clean(keys)
        raise
    store.finish(keys)


def _run_here(
    executor: Executor,
    todo: Iterable[EpisodeInfo],
    store: RunStore,
    reporter: Reporter,
    enough: Callable[[], bool],
) -> None:
    try:
        for episode in todo:
            if enough():
                return
            key = key_of(episode)
            reporter.episode_started(key)
            folder = store.begin(key)
            finished = executor.run(episode, folder, _sender(reporter, key))
            _commit(store, reporter, key, folder, finished)
    finally:
        executor.close()


def _sender(reporter: Reporter, key: EpisodeKey) -> Callable[[Snapshot], None]:
    return lambda snapshot: reporter.step(key, snapshot)


def _commit(
    store: RunStore, reporter: Reporter, key: EpisodeKey, folder: Path, finished: Finished
) -> None:
    store.commit(key, folder, finished.record)
    reporter.episode_ended(key, finished.record)
    if finished.stop is not None:
        raise StorageError(finished.stop)


@dataclass
class _Job:
    """A worker, and what it is busy with."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection
    episode: EpisodeInfo
    folder: Path


class _Pool:
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
        self._idle: list[tuple[multiprocessing.process.BaseProcess, Connection]] = []
        self._busy: list[_Job] = []

    def run(self, todo: Iterable[EpisodeInfo]) -> None:
        """All of them, as workers come free."""
        queue = deque(todo)
        try:
            while True:
                while queue and len(self._busy) < self._workers and not self._enough():
                    self._assign(queue.popleft())
                if not self._busy:
                    break
                pipes = [job.pipe for job in self._busy]
                sentinels = [job.process.sentinel for job in self._busy]
                ready = set(wait([*pipes, *sentinels]))
                for job in list(self._busy):
                    if job.pipe in ready or job.process.sentinel in ready:
                        self._hear(job)
        finally:
            self._stop()

    def _assign(self, episode: EpisodeInfo) -> None:
        process, pipe = self._idle.pop() if self._idle else self._spawn()
        key = key_of(episode)
        job = _Job(process, pipe, episode, self._store.begin(key))
        self._busy.append(job)
        self._reporter.episode_started(key)
        try:
            pipe.send((episode, job.folder))
        except OSError:
            self._lost(job)

    def _spawn(self) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=worker_main, args=(theirs, self._assembly), name="b1k-eval-worker", daemon=True
        )
        resource_tracker.ensure_running()  # its own start, inside of ours, would undo the mask
        with deaf_to_ctrl_c():
            process.start()
        theirs.close()
        return process, ours

    def _hear(self, job: _Job) -> None:
        key = key_of(job.episode)
        try:
            if not job.pipe.poll():  # only its sentinel: it died without a last word
                self._lost(job)
                return
            message = job.pipe.recv()
        except (EOFError, OSError):
            self._lost(job)
            return
        if isinstance(message, Snapshot):
            self._reporter.step(key, message)
        elif isinstance(message, Finished):
            self._busy.remove(job)
            self._idle.append((job.process, job.pipe))
            _commit(self._store, self._reporter, key, job.folder, message)
        else:
            raise StorageError(str(message))

    def _lost(self, job: _Job) -> None:
        """The worker is gone: its episode is an error, the next one gets a new worker."""
        self._busy.remove(job)
        job.pipe.close()
        job.process.join(_STOP_GRACE_S)
        message = f"the worker process died (exit code {job.process.exitcode})"
        record = broken_record(self._assembly, job.episode, message)
        key = key_of(job.episode)
        folder = self._store.begin(key)
        write_record(folder, record)
        _commit(self._store, self._reporter, key, folder, Finished(record, None))

    def _stop(self) -> None:
        """End all workers: the idle ones by closing their pipe, the busy ones at once."""
        for job in self._busy:
            job.process.terminate()
        everyone = [*self._idle, *((job.process, job.pipe) for job in self._busy)]
        for process, pipe in everyone:
            pipe.close()
            process.join(_STOP_GRACE_S)
            if process.is_alive():
                process.kill()
                process.join()
        self._idle.clear()
        self._busy.clear()
