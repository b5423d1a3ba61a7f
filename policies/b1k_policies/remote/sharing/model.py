"""A run's side of a shared model: starts its process, watches it, and starts it again."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from b1k_envs.base import Observation, ProtocolYear
from b1k_envs.errors import HostFaultError
from b1k_envs.threads import deaf_to_ctrl_c
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy
from b1k_policies.remote.server import require_websockets
from b1k_policies.remote.server.limits import listen_on
from b1k_policies.remote.sharing.process import (
    GRACE_S,
    Description,
    Failure,
    Mask,
    Start,
    serve_model,
)

MOST_FAILED_STARTS = 3
"""After so many failed starts in a row the server is not started again."""

Note = Callable[[str], None]


class SharedModel:
    """The server of a run, on one GPU.

    Attributes:
        description: What was loaded.
        starts: How often the model was loaded, the first time included.
        failed: Why it is not started again; None as long as it is.
        process_id: Process of the present server; None while there is none.
    """

    def __init__(
        self,
        make: Callable[..., Policy],
        protocol: ProtocolYear,
        *,
        clients: int,
        gpu: int | None = None,
        again: bool = False,
    ) -> None:
        """Load the model in a process of its own, which does not serve yet.

        Args:
            make: Makes the policy; picklable.
            protocol: Protocol of the run.
            clients: Episodes that run at once.
            gpu: GPU that the model must be on; None for its own choice.
            again: `make` is of a policy's `elsewhere`.

        Raises:
            B1kEvalError: As `make`.
            UnavailableError: websockets is missing.
        """
        require_websockets()
        self.starts = 0
        self.failed: HostFaultError | None = None
        self.process_id: int | None = None
        self.note: Note = lambda _: None
        self._key = secrets.token_hex(16)
        self._protocol: ProtocolYear = protocol
        self._start = Start(
            make=make, gpu=gpu, again=again, protocol=protocol, key=self._key, clients=clients
        )
        self._context = multiprocessing.get_context("spawn")
        # Listening from now on and until the end: while there is no process, clients queue up.
        self._sock = listen_on("127.0.0.1", 0)
        self._sock.listen()
        self._closing = False
        self._watcher: threading.Thread | None = None
        self._process: BaseProcess | None = None
        try:
            self._process, self._pipe, self.description = self._started(self._start)
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> int:
        """Port on the loopback."""
        return int(self._sock.getsockname()[1])

    def client(self) -> Callable[[], Policy]:
        """Return a picklable function that makes a worker's policy."""
        return partial(_connect, self.port, self._key, self._protocol)

    def check_masked(self, mask: Mask) -> None:
        """See `Policy.check_masked`; before `serve`."""
        self._pipe.send(mask)
        _raised(self._pipe.recv())

    def serve(self) -> None:
        """Begin to answer; if the process dies from now on, it is started again."""
        if self._watcher is None:
            self._pipe.send(None)
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()

    def close(self) -> None:
        """Stop the process; safe to call twice."""
        self._closing = True
        self._end(signal.SIGTERM)
        if self._watcher is None:
            self._reap()
        else:
            self._watcher.join(2 * GRACE_S)
            if self._watcher.is_alive():
                self._end(signal.SIGKILL)
                self._watcher.join()
        self._sock.close()

    # --- the process --------------------------------------------------------------------------

    def _started(self, start: Start) -> tuple[BaseProcess, Connection, Description]:
        """Start a process and wait until its model is loaded.

        Raises:
            BaseException: What loading raised; or the process died of it.
        """
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=serve_model,
            args=(theirs, self._sock, start),
            name="b1k-eval-model",
            daemon=True,
        )
        resource_tracker.ensure_running()  # outside the `with`, which it would undo for the process
        with deaf_to_ctrl_c():
            process.start()
        theirs.close()
        self._process, self.process_id = process, process.pid
        try:
            found = ours.recv()
        except (EOFError, OSError):
            process.join()
            raise HostFaultError(
                f"the process of the shared model died while it was loaded (exit code "
                f"{process.exitcode}): --share-policy off loads it in the workers"
            ) from None
        if isinstance(found, Failure):
            process.join()
        _raised(found)
        self.starts += 1
        assert isinstance(found, Description)
        return process, ours, found

    def _watch(self) -> None:
        while not self._closing:
            assert self._process is not None
            wait([self._process.sentinel])
            self._reap()
            if not self._closing:
                self.note("the process of the shared model died: it is started again")
                self._start_again()
            if self.failed is not None:
                return

    def _start_again(self) -> None:
        elsewhere = self.description.elsewhere
        start = self._start
        if elsewhere is not None:  # it was tried already, and must be the same
            start = replace(start, make=elsewhere, again=True)
        for attempt in range(1, MOST_FAILED_STARTS + 1):
            try:
                self._process, self._pipe, _ = self._started(start)
                self._pipe.send(None)
                return
            except Exception as error:  # noqa: BLE001 - whatever loading raises
                self._reap()
                if self._closing:
                    return
                if attempt == MOST_FAILED_STARTS:
                    self.failed = HostFaultError(
                        f"the shared model could not be loaded again, {attempt} times in a row "
                        f"({error}): fix that, then --resume"
                    )
                    self.note(str(self.failed))
                    self._sock.close()

    def _reap(self) -> None:
        process, self.process_id = self._process, None
        if process is not None:
            process.join(2 * GRACE_S)
            if process.is_alive():
                process.kill()
                process.join()

    def _end(self, number: signal.Signals) -> None:
        if self.process_id is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process_id, number)


class SharedHandle(Policy):
    """The policy of a run whose model is in a `SharedModel`: described here, asked by workers."""

    def __init__(self, models: dict[int | None, SharedModel]) -> None:
        """Take the servers, by their GPU."""
        self._models = models
        self._first = next(iter(models.values()))
        for name, value in self._first.description.attributes.items():
            setattr(self, name, value)

    def reset(self, episode: EpisodeInfo) -> None:
        """Not for this process."""
        raise RuntimeError("a shared model is asked by workers")

    def infer(self, observation: Observation) -> ActionChunk:
        """Not for this process."""
        raise RuntimeError("a shared model is asked by workers")

    def elsewhere(self) -> Callable[..., Policy]:
        """Return a function that connects to the server of the worker's GPU."""
        return partial(_client_of, {gpu: model.client() for gpu, model in self._models.items()})

    def check_masked(self, mask: Mask) -> None:
        """See `Policy.check_masked`."""
        self._first.check_masked(mask)

    def describe(self) -> dict[str, Any]:
        """Return what the policy itself says: sharing it changes nothing that decides actions."""
        return self._first.description.describe

    def describe_here(self) -> dict[str, Any]:
        """Return what the policy says, and how many copies there are."""
        return {**self._first.description.describe_here, "shared_copies": len(self._models)}


def share_model(
    make: Callable[..., Policy],
    protocol: ProtocolYear,
    *,
    clients: int,
    gpus: Sequence[int] = (),
) -> dict[int | None, SharedModel]:
    """Load a model once per GPU; arguments and errors as of `SharedModel`."""
    first = SharedModel(make, protocol, clients=clients, gpu=gpus[0] if gpus else None)
    models: dict[int | None, SharedModel] = {gpus[0] if gpus else None: first}
    elsewhere = first.description.elsewhere
    try:
        for gpu in dict.fromkeys(gpus[1:]):
            if elsewhere is not None and gpu not in models:
                models[gpu] = SharedModel(elsewhere, protocol, clients=clients, gpu=gpu, again=True)
    except BaseException:
        for model in models.values():
            model.close()
        raise
    return models


def _connect(port: int, key: str, protocol: ProtocolYear) -> Policy:
    from b1k_policies.remote.sharing.client import SharedPolicy

    return SharedPolicy(port, key, protocol)


def _client_of(
    clients: dict[int | None, Callable[[], Policy]], *, gpu: int | None = None
) -> Policy:
    return clients.get(gpu, next(iter(clients.values())))()


def _raised(found: object) -> None:
    """Raise the exception of a `Failure`, with the traceback of its process as its cause."""
    if isinstance(found, Failure):
        raise found.error from _RemoteError(found.trace)


class _RemoteError(Exception):
    """A traceback from another process."""
