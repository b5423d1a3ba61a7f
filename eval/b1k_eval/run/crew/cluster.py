"""Workers on the nodes of a Ray cluster, each in an actor that supervises it (`slot.Slot`).

Ray places the actors, counts their GPUs, carries messages and files, and says when a node is lost.
The actors belong to this process: Ray ends them when it ends, however it ends.

Written against Ray 2.60. What a pass on a simulated cluster does not prove: that a network between
nodes is fast enough, or a shared disk shows a file in time.
"""

from __future__ import annotations

import importlib
import logging
import re
import signal
import socket
import sys
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

from b1k_envs.errors import UnavailableError
from b1k_eval.files import TEMP_PREFIX
from b1k_eval.records.store import storing
from b1k_eval.run.crew.base import Arrived, Crew, Worker, WorkerGoneError
from b1k_eval.run.crew.slot import Delivered, Gone, Slot
from b1k_eval.run.episode import Assembly

_CONNECT_S = 10.0
_LISTEN_S = 0.5  # between looks at Ctrl-C, and at workers that wait for room
_ROOM_NOTE_S = 20.0  # a worker that waits so long for its place is told of


_quiet = ExitStack()
"""While this process is connected: Ray prints to standard error, not where a document goes."""


def connect(address: str) -> None:
    """Join a cluster as the process that hands out episodes.

    Args:
        address: `auto` for the cluster of this machine, `local` for one that is started here and
            ends with this process, or HOST:PORT.

    Raises:
        UnavailableError: Ray is not installed, or no cluster answers.
    """
    ray = _ray()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        host, _, port = address.rpartition(":")
        if port.isdecimal() and "/" not in host:
            # Ray tries for two minutes, deaf to SIGTERM, where nothing listens.
            socket.create_connection((host, int(port)), _CONNECT_S).close()
        # Ray prints what actors say, and what happens to nodes, to standard output.
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UnavailableError(
            f"--ray {address}: no cluster answers ({_said(error)}): start one with `ray start "
            "--head`, give the address of one as HOST:6379, or take --ray local for this machine "
            "alone"
        ) from error
    else:
        _quiet.enter_context(redirect_stdout(sys.stderr))
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():  # Ray puts its own over SIGTERM's
                signal.signal(number, handler)


def disconnect() -> None:
    """Leave the cluster; safe to call twice."""
    try:
        _ray().shutdown()
    finally:
        _quiet.close()


def room(gpus_per_worker: float) -> int:
    """Return how many workers of one core each the cluster's nodes have room for, at least 1."""
    places = 0
    for node in _ray().nodes():
        if node["Alive"]:
            has = node["Resources"]
            fits = [int(has.get("CPU", 0.0))]
            if gpus_per_worker:
                fits.append(int(has.get("GPU", 0.0) / gpus_per_worker))
            places += min(fits)
    return max(places, 1)


class SlotWorker(Worker):
    """A worker on a node, as this process sees it."""

    arrived = False

    def __init__(self, ray: Any, slot: Any, number: int, task: str) -> None:  # noqa: ANN401
        super().__init__(number, task)
        self._ray = ray
        self._slot = slot
        self._outbox: list[Any] = []
        self._inbox: deque[Any] = deque()
        self._stopping: Any = None
        self.pending: Any = slot.node.remote()
        self.since = monotonic()

    def send(self, message: Any) -> None:  # noqa: ANN401
        """See `Worker`; it goes with the next exchange."""
        self._outbox.append(message)

    def ask(self) -> Any:  # noqa: ANN401 - Ray's reference
        """Return the answer to come, and ask for one if none is to come."""
        if self.pending is None:
            names = ", ".join(each.episode.task for each in self.batch.values()) or "ending"
            instances = " ".join(
                f"{each.episode.instance}-{each.episode.rollout}" for each in self.batch.values()
            )
            exchange = self._slot.exchange.options(name=f"{names} {instances}".strip())
            self.pending = exchange.remote(self._outbox)
            self._outbox = []
        return self.pending

    @property
    def has_news(self) -> bool:
        """Whether there is something to hear already."""
        return bool(self._inbox)

    def take_answer(self) -> None:
        """Take in the answer, which is there."""
        answer, self.pending = self.pending, None
        try:
            found = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:  # of the slot's own code
            self._inbox.append(Gone(f"its supervisor failed: {error.cause!r}"))
        except self._ray.exceptions.RayError as error:
            place = "its place" if self.where is None else self.where
            self._inbox.append(WorkerGoneError(f"{place} was lost ({_said(error)})", again=True))
        else:
            self._inbox.extend(found if self.arrived else [Arrived(self._name_of(found))])

    def hear(self) -> Any:  # noqa: ANN401
        """See `Worker`; writes the files of an episode that was finished on another disk."""
        message = self._inbox.popleft()
        if isinstance(message, WorkerGoneError):
            raise message
        if isinstance(message, Gone):
            raise WorkerGoneError(message.why + ("" if self.where is None else f" on {self.where}"))
        if isinstance(message, Delivered):
            folder = self.batch[message.number].folder
            with storing(folder):
                for name, data in message.files.items():
                    (folder / name).write_bytes(data)
            return message.number, message.finished
        return message

    def kill(self) -> None:
        """See `Worker`."""
        if self.arrived and self._stopping is None:
            self._stopping = self._slot.stop.remote()

    def dismiss(self) -> None:
        """See `Worker`; what is idle has nothing to lose, so that it is ended at once."""
        self.kill()

    def join(self, grace_s: float) -> None:
        """See `Worker`."""
        if self._stopping is not None:
            self._ray.wait([self._stopping], timeout=max(grace_s, 0.0))
        with suppress(self._ray.exceptions.RayError, ValueError):  # it has ended
            self._ray.kill(self._slot)

    def _name_of(self, node_id: str) -> str:
        """Return the name that a node was given, or that of its machine."""
        for node in self._ray.nodes():
            if node["NodeID"] == node_id:
                given, address = node.get("NodeName"), node["NodeManagerAddress"]
                return str(given if given and given != address else node["NodeManagerHostname"])
        return node_id[:8]


class Cluster(Crew):
    """Starts workers on a cluster that this process has joined."""

    def __init__(
        self,
        assembly: Assembly,
        folder: Path,
        gpus_per_worker: float,
        note: Callable[[str], None],
    ) -> None:
        """Use the cluster of `connect`.

        Args:
            assembly: What the workers build.
            folder: The run folder.
            gpus_per_worker: What Ray reserves for each.
            note: Receives messages to the user.
        """
        self._ray = _ray()
        self._assembly = self._ray.put(assembly)
        self._folder = folder
        self._gpus = gpus_per_worker
        self._note = note
        self._word = uuid.uuid4().hex
        self._probe = folder / f"{TEMP_PREFIX}ray-{self._word}"
        self._serial = count(1)
        self._told = False

    def start(self, number: int, task: str, log: Path | None) -> SlotWorker:
        """See `Crew`; the worker waits for a place."""
        if not self._probe.exists():
            with storing(self._probe):
                self._probe.write_text(self._word, encoding="utf-8")
        slot = (
            self._ray.remote(Slot)
            .options(
                name=f"{self._folder.name}: worker {number} (start {next(self._serial)})",
                num_cpus=1,
                num_gpus=self._gpus,
                max_restarts=0,
                max_concurrency=2,  # `stop` beside an exchange
                scheduling_strategy="SPREAD",
            )
            .remote(self._assembly, 0, self._probe, self._word, log)
        )
        return SlotWorker(self._ray, slot, number, task)

    def ready(self, workers: Sequence[Worker]) -> list[Worker]:
        """See `Crew`."""
        found = [worker for worker in workers if isinstance(worker, SlotWorker)]
        news = [worker for worker in found if worker.has_news]
        if news:
            return list(news)
        asked = {worker.ask(): worker for worker in found}
        answered, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=0)
        if not answered:
            answered, _ = self._ray.wait(list(asked), num_returns=1, timeout=_LISTEN_S)
        for answer in answered:
            asked[answer].take_answer()
        self._tell_who_waits(found)
        return [worker for worker in found if worker.has_news]

    def close(self) -> None:
        """See `Crew`."""
        self._probe.unlink(missing_ok=True)

    def _tell_who_waits(self, workers: Sequence[SlotWorker]) -> None:
        waiting = [
            worker
            for worker in workers
            if not worker.arrived and monotonic() - worker.since > _ROOM_NOTE_S
        ]
        if waiting and not self._told:
            self._told = True
            gpus = f" and {self._gpus:g} GPU" if self._gpus else ""
            self._note(
                f"{len(waiting)} of {len(workers)} workers wait for room in the cluster: each "
                f"takes 1 CPU{gpus} (`ray status` shows what is taken)"
            )


def _said(error: BaseException) -> str:
    """Return the end of what Ray says, where the cause stands, in a line without colours."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[\d;]*m", "", str(error)).splitlines()]
    return next((line for line in reversed(lines) if line), type(error).__name__)[:300]


def _ray() -> Any:  # noqa: ANN401 - the module, whose types are not known here
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UnavailableError(
            f"--ray needs Ray, which does not import here ({error}); install it with: pip install "
            "'.[ray]' in the checkout"
        ) from error
