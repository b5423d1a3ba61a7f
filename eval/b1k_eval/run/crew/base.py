"""What the pool asks of a worker, wherever that lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from b1k_eval.run.executor import Assignment


class Arrived(NamedTuple):
    """A worker has found its place, and can be given episodes.

    Attributes:
        where: The place for people, such as a node's name.
    """

    where: str


class WorkerGoneError(Exception):
    """A worker has ended, and everything it said has been heard; the text says why.

    Attributes:
        again: Whether its place was lost, which is no fault of its episodes: others may do them.
    """

    def __init__(self, why: str, *, again: bool = False) -> None:
        super().__init__(why)
        self.again = again


class Worker(ABC):
    """A worker and its unfinished assignments.

    Attributes:
        number: Its place among the living workers, from 0.
        task: The task of its world.
        where: Its place for people; None for this machine.
        arrived: Whether it can be given episodes.
        started: Whether its world ever started.
        batch: Unfinished assignments by slot, see `executor.Following`.
        killed: Why it was killed; None if it was not.
    """

    where: str | None = None
    arrived = True

    def __init__(self, number: int, task: str) -> None:
        self.number = number
        self.task = task
        self.started = False
        self.batch: dict[int, Assignment] = {}
        self.killed: str | None = None

    @abstractmethod
    def send(self, message: Any) -> None:  # noqa: ANN401 - as of `worker_main`
        """Send it a message; one that is gone misses it."""

    @abstractmethod
    def hear(self) -> Any:  # noqa: ANN401 - as of `worker_main`
        """Return its next message, or `Arrived`; only after `Crew.ready` has returned it.

        Raises:
            WorkerGoneError: It has ended.
        """

    @abstractmethod
    def kill(self) -> None:
        """Have it end at once; `join` waits for that."""

    @abstractmethod
    def dismiss(self) -> None:
        """Have it close its world and end; `join` waits for that."""

    @abstractmethod
    def join(self, grace_s: float) -> None:
        """Wait until it has ended, and kill it if it does not [s]."""


class Crew(ABC):
    """Makes workers, and waits for what they say."""

    @abstractmethod
    def start(self, number: int, task: str, log: Path | None) -> Worker:
        """Start a worker.

        Args:
            number: Its place among the living ones, from 0.
            task: The task of its first episodes.
            log: File for the output of a world that can hang; None for others.
        """

    @abstractmethod
    def ready(self, workers: Sequence[Worker]) -> list[Worker]:
        """Wait, for at most a while, and return the workers that have something to hear."""

    def close(self) -> None:  # noqa: B027 - most have nothing
        """Release what the crew itself has; all its workers have ended."""
