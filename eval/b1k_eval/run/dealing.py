"""Which episode a free process gets, so that each keeps the world that it has built.

A world is built for one task. In OmniGibson that takes minutes and a new process, so a process
stays with its task as long as that has episodes, then takes one that nobody works on, and only then
helps where most is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from b1k_policies.base import EpisodeInfo


class Dealer:
    """The episodes that nobody has begun; those of a task are dealt in the order of the plan."""

    def __init__(self, episodes: Iterable[EpisodeInfo]) -> None:
        self._left: dict[str, deque[EpisodeInfo]] = {}
        for episode in episodes:
            self._left.setdefault(episode.task, deque()).append(episode)

    def __len__(self) -> int:
        return sum(map(len, self._left.values()))

    def left(self, task: str | None) -> int:
        """Return how many episodes of a task are left."""
        return len(self._left.get(task or "", ()))

    def task_for(self, present: str | None, others: Collection[str | None] = ()) -> str:
        """Return the task that a free process should take.

        Args:
            present: The task of its world; None without one.
            others: The tasks of the busy processes.

        Raises:
            LookupError: Nothing is left.
        """
        if present is not None and self.left(present):
            return present
        open_tasks = [task for task, episodes in self._left.items() if episodes]
        if not open_tasks:
            raise LookupError("no episode is left")
        fresh = [task for task in open_tasks if task not in others]
        return fresh[0] if fresh else max(open_tasks, key=self.left)

    def put_back(self, episode: EpisodeInfo) -> None:
        """Take back an episode that nobody does; it is dealt before the others of its task."""
        self._left[episode.task].appendleft(episode)

    def take(self, task: str) -> EpisodeInfo | None:
        """Remove and return the next episode of a task; None if there is none."""
        episodes = self._left.get(task)
        return episodes.popleft() if episodes else None
