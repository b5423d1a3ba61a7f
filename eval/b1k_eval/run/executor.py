"""Who runs the episodes of a process, one after another, with one env and one policy."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from b1k_envs.base import Env, EnvInfo
from b1k_eval.run.episode import Assembly, Finished, broken_record, execute, write_record
from b1k_eval.run.progress import Snapshot
from b1k_eval.run.watchdog import Guard, Phase, Watch, WatchedEnv
from b1k_eval.video.recorder import RenderThread
from b1k_policies.base import EpisodeInfo, Policy


class Assignment(NamedTuple):
    """An episode to run, and the empty folder for its files."""

    episode: EpisodeInfo
    folder: Path


Post = Callable[[int, "Snapshot | Finished"], None]
"""Told of the n-th assignment of a batch; from any thread."""

Started = Callable[[EnvInfo], None]
"""Told what a world is that has just been built."""


class Executor:
    """Owns an env and a policy, and runs one episode after another with them.

    Attributes:
        spent: After an error of a world that a process can build only once: this process is of no
            further use.
    """

    def __init__(
        self,
        assembly: Assembly,
        *,
        env: Env | None = None,
        policy: Policy | None = None,
        watch: Watch | None = None,
        started: Started = lambda _: None,
    ) -> None:
        """Take over an env and a policy, or build them at the first episode.

        Args:
            assembly: How to build them, and what else an episode needs.
            env: Built already.
            policy: The same.
            watch: Where the deadlines of the world's calls are written.
            started: Told of a world that was built here.
        """
        self._assembly = assembly
        self._env = env
        self._policy = policy
        self._watch = watch
        self._started = started
        self._thread: RenderThread | None = None
        self.spent = False

    def run_batch(self, batch: Sequence[Assignment], post: Post) -> None:
        """Run assignments one after the other.

        Raises:
            StorageError: See `run`.
        """
        for number, (episode, folder) in enumerate(batch):
            post(number, self.run(episode, folder, lambda seen, n=number: post(n, seen)))  # type: ignore[misc]

    def run(self, episode: EpisodeInfo, folder: Path, send: Callable[[Snapshot], None]) -> Finished:
        """Run an episode and write its files into the folder, result.json last.

        Args:
            episode: Which.
            folder: Empty; the caller gives it its final name.
            send: Told now and then how far it is.

        Raises:
            StorageError: Not even result.json can be written.
        """
        try:
            env = self._world()
        except Exception as error:  # noqa: BLE001 - a world that cannot be built is an "error"
            self._give_up_world()
            return broken(self._assembly, Assignment(episode, folder), error)
        try:
            if self._policy is None:
                self._policy = self._assembly.make_policy()
        except Exception as error:  # noqa: BLE001 - the world is as it was, and is kept
            return broken(self._assembly, Assignment(episode, folder), error)
        policy = self._policy
        if self._thread is None and self._assembly.video_fps is not None:
            self._thread = RenderThread()
        finished = execute(self._assembly, env, policy, episode, folder, send, self._thread)
        if finished.record.outcome == "error":
            self._give_up_world()
        return finished

    def close(self) -> None:
        """Release env, policy and the video thread; safe to call twice."""
        self._drop_world()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    def _world(self) -> Env:
        if self._env is None:  # before the policy: a simulator may want to choose the GPU
            with guard_of(self._watch)("start"):
                env = self._assembly.make_env()
            self._env = env if self._watch is None else WatchedEnv(env, self._watch.phase)
            self._started(env.info)
        return self._env

    def _give_up_world(self) -> None:
        """After an error nothing is known about their state: the next episode builds both anew."""
        if self._assembly.limits is not None:
            self.spent = True  # in another process; a crashed simulator is not asked to close
        else:
            self._drop_world()

    def _drop_world(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            env.close()
        policy, self._policy = self._policy, None
        if policy is not None:
            policy.close()


def guard_of(watch: Watch | None) -> Guard:
    """The guard of a watch; without one, none."""

    def unguarded(_: Phase) -> nullcontext[None]:
        return nullcontext()

    return unguarded if watch is None else watch.phase


def broken(assembly: Assembly, assignment: Assignment, error: BaseException) -> Finished:
    """Write the result of an episode that never got as far as a world.

    Raises:
        StorageError: It cannot be written.
    """
    message = f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    record = broken_record(assembly, assignment.episode, message, trace)
    write_record(assignment.folder, record)
    return Finished(record, None)
