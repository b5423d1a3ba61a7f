"""Several episodes at once in one simulator: a lane each, on a thread of its own.

The lanes share the simulator, which moves when all have acted, and one checkpoint, which is asked
by one lane at a time. Nothing else is shared, so that an episode comes out as it would alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from b1k_envs.base import Env, EnvGroup, Observation
from b1k_eval.records.store import StorageError
from b1k_eval.run.episode import Assembly, Finished, execute
from b1k_eval.run.executor import Assignment, Post, Started, broken, guard_of
from b1k_eval.run.watchdog import LaneWatch, Watch, WatchedEnv
from b1k_eval.video.recorder import RenderThread
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy
from b1k_policies.seeding import inference_seed

if TYPE_CHECKING:
    from b1k_policies.xvla.policy import XVLAPolicy


class LaneExecutor:
    """Owns a group of envs and their policies, and runs one batch after another with them.

    Attributes:
        spent: After an error: this process is of no further use.
    """

    def __init__(
        self,
        assembly: Assembly,
        *,
        watch: Watch | None = None,
        started: Started = lambda _: None,
    ) -> None:
        """Build nothing yet.

        Args:
            assembly: With a `make_group`.
            watch: Where the deadlines of the world's calls are written.
            started: Told of the world that was built here.
        """
        self._assembly = assembly
        self._watch = watch
        self._started = started
        self._group: EnvGroup | None = None
        self._policies: list[Policy] = []
        self._close_policies: Callable[[], None] = lambda: None
        self._thread: RenderThread | None = None
        self.spent = False

    def run_batch(self, batch: Sequence[Assignment], post: Post) -> None:
        """Run assignments side by side; each is posted as it ends.

        Args:
            batch: At most as many as there are lanes.
            post: Told of progress and results.

        Raises:
            StorageError: Not even a result.json can be written.
        """
        left = dict(enumerate(batch))
        try:
            group = self._world()
            try:
                self._make_policies()
            except Exception as error:  # noqa: BLE001 - the world is as it was, and is kept
                self._all_broken(left, error, post)
                return
            lanes = None if self._watch is None else LaneWatch(self._watch, len(batch))
            group.run(
                [
                    partial(self._run_lane, number, assignment, lanes, left, post)
                    for number, assignment in enumerate(batch)
                ]
            )
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the simulator does is an "error"
            self.spent = True
            self._all_broken(left, error, post)

    def _all_broken(self, left: dict[int, Assignment], error: Exception, post: Post) -> None:
        for number, assignment in sorted(left.items()):
            post(number, broken(self._assembly, assignment, error))

    def close(self) -> None:
        """Release everything; safe to call twice."""
        group, self._group = self._group, None
        if group is not None:
            with guard_of(self._watch)("close"):
                group.close()
        self._close_policies()
        self._close_policies = lambda: None
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    def _run_lane(
        self,
        number: int,
        assignment: Assignment,
        lanes: LaneWatch | None,
        left: dict[int, Assignment],
        post: Post,
        env: Env,
    ) -> None:
        """The job of one lane: an episode from reset to its files."""
        try:
            finished: Finished = execute(
                self._assembly,
                env if lanes is None else WatchedEnv(env, lanes.guard(number)),
                self._policies[number],
                assignment.episode,
                assignment.folder,
                lambda seen: post(number, seen),
                self._thread,
            )
        finally:
            if lanes is not None:
                lanes.leave(number)
        if finished.record.outcome == "error":
            self.spent = True
        del left[number]
        post(number, finished)

    def _world(self) -> EnvGroup:
        assembly = self._assembly
        if self._group is None:
            if assembly.make_group is None:
                raise RuntimeError("this assembly has no group of envs")
            with guard_of(self._watch)("start"):
                self._group = assembly.make_group()
            self._started(self._group.envs[0].info)
        if self._thread is None and assembly.video_fps is not None:
            self._thread = RenderThread()
        return self._group

    def _make_policies(self) -> None:
        if not self._policies:
            self._policies, self._close_policies = lane_policies(
                self._assembly.make_policy, self._assembly.lanes
            )


def lane_policies(
    make_policy: Callable[[], Policy], count: int
) -> tuple[list[Policy], Callable[[], None]]:
    """A policy for each lane: of a checkpoint, all with the same model; else each its own.

    Returns:
        The policies, and what closes them.
    """
    from b1k_policies.xvla.policy import XVLAPolicy

    first = make_policy()
    policies: list[Policy]
    if isinstance(first, XVLAPolicy):
        lock = threading.Lock()
        policies = [LanePolicy(first, lock) for _ in range(count)]
        return policies, first.close
    policies = [first, *(make_policy() for _ in range(count - 1))]

    def close() -> None:
        for policy in policies:
            policy.close()

    return policies, close


class LanePolicy(Policy):
    """What one lane sees of a checkpoint that several share: its own episode and its own count.

    What a chunk is follows from episode, inference number and observation alone, so that it is
    the one that the checkpoint would give if it were asked by this lane only.
    """

    def __init__(self, shared: XVLAPolicy, lock: threading.Lock) -> None:
        """Share a policy.

        Args:
            shared: Asked by one lane at a time, and never reset.
            lock: Common to the lanes.
        """
        self.name = shared.name
        self.chunk_length = shared.chunk_length
        self.needs_images = shared.needs_images
        self.skipped_rows = shared.skipped_rows
        self.remarks = shared.remarks
        self._shared = shared
        self._lock = lock
        self._episode: EpisodeInfo | None = None
        self._inference = 0

    def reset(self, episode: EpisodeInfo) -> None:
        """Start an episode: its instruction, and the first of its inferences."""
        self._episode = episode
        self._inference = 0

    def infer(self, observation: Observation) -> ActionChunk:
        """The next chunk, see `XVLAPolicy.infer`; its latency leaves out the wait for the turn."""
        from b1k_policies.xvla.policy import Query

        if self._episode is None:
            raise RuntimeError("infer before reset")
        seed = inference_seed(self._episode.seed, self._inference)
        self._inference += 1
        query = Query(observation=observation, instruction=self._episode.instruction, seed=seed)
        with self._lock:
            begun = perf_counter()
            (chunk,) = self._shared.infer_batch([query])
            took = perf_counter() - begun
        return replace(chunk, latency_s=took)
