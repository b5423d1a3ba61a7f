"""What supervises a worker on a node of a Ray cluster: the class of an actor.

It owns the worker process with its pipe and watchdog, as the pool does on one machine, and passes
messages on. Where a node does not share the run folder, episodes are written to a folder of that
node, and their files travel with the message that they are finished.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from b1k_eval.run.crew.base import WorkerGoneError
from b1k_eval.run.crew.processes import ProcessWorker, wait_for
from b1k_eval.run.episode import Assembly, Finished
from b1k_eval.run.executor import Assignment
from b1k_eval.run.progress.snapshot import EpisodeProgress
from b1k_eval.run.worker import Wanting

_ANSWER_WITHIN_S = 2.0  # if only to say that it lives
_PROGRESS_WITHIN_S = 1.0  # progress waits so long for company: each answer is a message
_LOOK_INTERVAL_S = 0.25  # between looks at deadlines and at the clock


class Delivered(NamedTuple):
    """A finished episode of a node that does not share the run folder: its files by name."""

    number: int
    finished: Finished
    files: Mapping[str, bytes]


class Gone(NamedTuple):
    """The worker process has ended."""

    why: str


class Slot:
    """Supervises one worker, whose process starts with its first batch.

    Attributes:
        home: Folder of this node for the files of episodes; None if it shares the run folder.
    """

    def __init__(
        self, assembly: Assembly, number: int, probe: Path, word: str, log: Path | None
    ) -> None:
        """Look whether this node shares the run folder.

        Args:
            assembly: What the worker builds.
            number: Of the worker.
            probe: A file in the run folder.
            word: Its content.
            log: As of `Crew.start`.
        """
        self._assembly = assembly
        self._number = number
        self._worker: ProcessWorker | None = None
        self._folders: dict[int, Path] = {}
        self._wanting = 0
        self.home: Path | None = None
        if not _reads(probe, word):
            self.home = Path(tempfile.mkdtemp(prefix="b1k-eval-"))
        self._log = log if log is None or self.home is None else self.home / log.name

    def node(self) -> str:
        """Return the id of this node."""
        import ray  # type: ignore[import-not-found,unused-ignore]

        return str(ray.get_runtime_context().get_node_id())

    def exchange(self, messages: Sequence[Any]) -> list[Any]:
        """Pass messages to the worker, and return what it says.

        Returns at once when there is something that the pool must know, else after a while.
        """
        if self._worker is None:
            self._worker = ProcessWorker(self._assembly, self._number, "", self._log)
        worker = self._worker
        for message in messages:
            worker.send(self._at_home(message))
        said: list[Any] = []
        until = monotonic() + _ANSWER_WITHIN_S
        while (left := until - monotonic()) > 0:
            ready = wait_for([worker], min(left, _LOOK_INTERVAL_S))
            worker.look()
            if not ready:
                continue
            try:
                message = worker.hear()
            except WorkerGoneError as gone:
                return [*said, Gone(str(gone))]
            said.append(self._delivered(message))
            if not (isinstance(message, tuple) and isinstance(message[-1], EpisodeProgress)):
                break
            until = min(until, monotonic() + _PROGRESS_WITHIN_S)
        return said

    def stop(self) -> None:
        """End the worker, and remove what this node has of the run."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.join(0.0)
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)

    def _at_home(self, message: Any) -> Any:  # noqa: ANN401 - as of `worker_main`
        """Put this node's folders into what the pool says."""
        if self.home is None or message is None:
            return message
        if isinstance(message, list):
            return [self._placed(number, each) for number, each in enumerate(message)]
        return self._placed(self._wanting, message)

    def _placed(self, number: int, assignment: Assignment) -> Assignment:
        assert self.home is not None
        folder = self._folders[number] = self.home / assignment.folder.name
        folder.mkdir()
        return assignment._replace(folder=folder)

    def _delivered(self, message: Any) -> Any:  # noqa: ANN401 - as of `worker_main`
        """Add the files to what the worker says, if the pool cannot read them."""
        if isinstance(message, Wanting):
            self._wanting = message.number
        if self.home is None or not (
            isinstance(message, tuple) and isinstance(message[-1], Finished)
        ):
            return message
        number, finished = message
        folder = self._folders.pop(number)
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        shutil.rmtree(folder)
        return Delivered(number, finished, files)


def _reads(probe: Path, word: str) -> bool:
    with suppress(OSError):
        return probe.read_text(encoding="utf-8") == word
    return False
