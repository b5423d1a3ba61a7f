"""Runs the episodes of a process, as many at once as it has envs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

from b1k_envs.base import EnvInfo, Worlds
from b1k_eval.loop.driver import Loop, drive
from b1k_eval.run.episode import (
    Assembly,
    Finished,
    Played,
    broken_record,
    recorded_loop,
    write_record,
)
from b1k_eval.run.progress.snapshot import EpisodeProgress
from b1k_eval.run.watchdog import Guard, Phase, Watch, WatchedWorlds
from b1k_eval.video.render_thread import RenderThread
from b1k_policies.base import EpisodeInfo, Policy


class Assignment(NamedTuple):
    """An episode to run, and the empty folder for its files."""

    episode: EpisodeInfo
    folder: Path


Post = Callable[[int, "EpisodeProgress | Finished"], None]
"""Receives progress and the result of the assignment in a slot, see `Following`."""

Following = Callable[[int], "Assignment | None"]
"""Returns the next assignment for a slot, or None.

The n-th env has the slots n and n + the number of envs, in turn: an episode's video may be made
beside the env's next episode, and is complete before the one after that begins.
"""

Started = Callable[[EnvInfo], None]
"""Receives the info of a world that has just been built."""


class Executor:
    """Owns envs and policies and runs batches of episodes with them.

    A stateless policy is built once and serves all envs; of any other policy each env has its own.

    Attributes:
        spent: The world failed and a process can build it only once: this process is useless now.
    """

    def __init__(
        self,
        assembly: Assembly,
        *,
        worlds: Worlds | None = None,
        policy: Policy | None = None,
        watch: Watch | None = None,
        started: Started = lambda _: None,
    ) -> None:
        """Take over envs and a policy, or build them at the first batch.

        Args:
            assembly: How to build them, and what else an episode needs.
            worlds: The envs, if they exist already.
            policy: The policy, if it exists already.
            watch: Where the deadlines of the world's calls are written.
            started: Called when a world was built here.
        """
        self._assembly = assembly
        self._worlds = worlds
        self._policies = [] if policy is None else [policy]
        self._watch = watch
        self._started = started
        self._thread: RenderThread | None = None
        self.spent = False

    def run_batch(
        self, batch: Sequence[Assignment], post: Post, following: Following = lambda _: None
    ) -> None:
        """Run assignments side by side; each is posted as it ends.

        Args:
            batch: One per env, at most as many as there are envs, and all of one task.
            post: Receives progress and results. What it raises ends the batch and is passed on.
            following: Asked for an env's next assignment, of the same task, where worlds are
                independent; not after an error, as all envs are then rebuilt.

        Raises:
            StorageError: Not even a result.json can be written.
        """
        try:
            worlds = self._built(batch[0].episode.task)
        except Exception as error:  # noqa: BLE001 - a world that cannot be built is an "error"
            self._give_up()
            self._all_broken(batch, error, post)
            return
        try:
            policies = self._one_each(len(batch))
        except Exception as error:  # noqa: BLE001 - the world is not touched, and is kept
            self._all_broken(batch, error, post)
            return
        if self._thread is None and self._assembly.video_fps is not None:
            self._thread = RenderThread()
        count = len(worlds.envs)
        failed = False
        # By env. A slot is an env's number, or that plus their count: taken in turn, so that an
        # env's last episode and its present one have different slots.
        slots = {number: number for number in range(len(batch))}
        behind: dict[int, tuple[int, Played]] = {}

        def loop(slot: int, assignment: Assignment) -> Loop[Played]:
            return recorded_loop(
                self._assembly.of(assignment.episode.task),
                worlds.envs[slot % count],
                policies[slot % count],
                assignment.episode,
                assignment.folder,
                partial(post, slot),
                self._thread,
            )

        def complete(number: int) -> None:
            """Complete the episode whose video is made beside an env's present one."""
            nonlocal failed
            if number in behind:
                slot, played = behind[number]
                finished = played.complete()
                del behind[number]
                failed = failed or finished.record.outcome == "error"
                post(slot, finished)

        def ended(number: int, played: Played) -> Loop[Played] | None:
            nonlocal failed
            complete(number)  # a video is never behind by more than one episode
            failed = failed or played.outcome == "error"
            slot = slots[number]
            behind[number] = slot, played
            if failed or not worlds.independent or not played.waits:
                complete(number)
            slots[number] = (slot + count) % (2 * count)
            after = None if failed or not worlds.independent else following(slots[number])
            return None if after is None else loop(slots[number], after)

        try:
            drive({number: loop(number, each) for number, each in enumerate(batch)}, worlds, ended)
            for number in list(behind):
                complete(number)
        finally:
            for _, played in behind.values():
                played.drop()
        if failed:
            self._give_up()

    def close(self) -> None:
        """Release envs, policies and the video thread; safe to call twice."""
        self._drop()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    def _built(self, task: str) -> Worlds:
        worlds = self._worlds
        if worlds is not None and self._assembly.of_tasks and worlds.envs[0].info.task != task:
            self._worlds = None
            worlds.close()
        if self._worlds is None:  # before the policy: the simulator may choose the GPU
            with guard_of(self._watch)("start"):
                worlds = self._assembly.of(task).make_worlds()
            watch = self._watch
            self._worlds = worlds if watch is None else WatchedWorlds(worlds, watch.phase)
            self._started(worlds.envs[0].info)
        return self._worlds

    def _one_each(self, count: int) -> list[Policy]:
        made, lent = self._policies, self._assembly.lent
        if not made:
            made.append(self._assembly.make_policy() if lent is None else lent)
        if made[0].stateless:
            return made * count
        made.extend(self._assembly.make_policy() for _ in range(count - len(made)))
        return made

    def _all_broken(self, batch: Sequence[Assignment], error: Exception, post: Post) -> None:
        for number, assignment in enumerate(batch):
            post(number, broken(self._assembly, assignment, error))

    def _give_up(self) -> None:
        """Discard everything: after an error its state is unknown, so the next batch rebuilds."""
        if self._assembly.limits is not None:
            self.spent = True  # not closed: a crashed simulator would hang
        else:
            self._drop()

    def _drop(self) -> None:
        worlds, self._worlds = self._worlds, None
        if worlds is not None:
            worlds.close()
        policies, self._policies = self._policies, []
        for policy in policies:
            if policy is not self._assembly.lent:
                policy.close()


def guard_of(watch: Watch | None) -> Guard:
    """Return the guard of a watch; without a watch, a guard that does nothing."""

    def unguarded(_: Phase) -> nullcontext[None]:
        return nullcontext()

    return unguarded if watch is None else watch.phase


def broken(assembly: Assembly, assignment: Assignment, error: BaseException) -> Finished:
    """Write the result of an episode for which no world or policy could be built.

    Raises:
        StorageError: It cannot be written.
    """
    message = f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    record = broken_record(assembly, assignment.episode, message, trace)
    write_record(assignment.folder, record)
    return Finished(record, None)
