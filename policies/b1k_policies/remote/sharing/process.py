"""The process of a shared model: loads it, describes it, and serves it until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from b1k_envs.base import Float32Array, ProtocolYear
from b1k_envs.threads import die_with_parent
from b1k_policies.base import Policy
from b1k_policies.remote.server.batching import Batcher
from b1k_policies.remote.server.engine import Engine
from b1k_policies.remote.server.limits import Door, Quota
from b1k_policies.remote.server.sessions import Terms
from b1k_policies.remote.wire.metadata import ServerInfo

GRACE_S = 10.0
"""Time for running inferences to finish when the run ends [s]."""

_SPARE_CLIENTS = 16  # connections of dead workers that the server has not noticed yet
_WINDOW_S = 0.005  # as `b1k-eval serve`
_ATTRIBUTES = (
    "name",
    "chunk_length",
    "needs_images",
    "needs_depth",
    "skipped_rows",
    "remarks",
    "stateless",
    "prompt",
    "resize",
    "origin",
)
"""Attributes of a `Policy` that a run reads."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a process is to serve a model.

    Attributes:
        make: Makes the policy.
        gpu: GPU that it must be on; None for its own choice.
        again: `make` is of a policy's `elsewhere`: it has been tried already.
        protocol: Protocol of the run.
        key: Key of the clients.
        clients: How many there are.
    """

    make: Callable[..., Policy]
    gpu: int | None
    again: bool
    protocol: ProtocolYear
    key: str
    clients: int


@dataclass(frozen=True, kw_only=True)
class Description:
    """What the run needs to know of a loaded policy.

    Attributes:
        attributes: Those in `_ATTRIBUTES`.
        describe: Of the policy.
        describe_here: Of the policy.
        elsewhere: Of the policy: makes it again without trying it.
    """

    attributes: dict[str, Any]
    describe: dict[str, Any]
    describe_here: dict[str, Any]
    elsewhere: Callable[..., Policy] | None


@dataclass(frozen=True)
class Failure:
    """An exception in the process, and its traceback as text."""

    error: BaseException
    trace: str


Mask = Callable[[Float32Array], Float32Array]


def serve_model(pipe: Connection, sock: socket.socket, start: Start) -> None:
    """Run the process.

    Args:
        pipe: Gets a `Description` or a `Failure`. Then takes masks for `Policy.check_masked`, each
            answered by None or a `Failure`, and at last None: serve.
        sock: Bound and listening, and kept open by the parent, so that a successor has its address.
        start: What to serve.
    """
    die_with_parent()
    logging.getLogger("b1k_policies.remote.server").setLevel(logging.CRITICAL)  # clients are told
    try:
        engine = Engine(lambda: _made(start))
    except BaseException as error:  # noqa: BLE001 - the run reports it
        pipe.send(_failure(error))
        return
    policy = engine.policy
    pipe.send(
        Description(
            attributes={name: getattr(policy, name) for name in _ATTRIBUTES},
            describe=policy.describe(),
            describe_here=policy.describe_here(),
            elsewhere=policy.elsewhere(),
        )
    )
    while (mask := pipe.recv()) is not None:
        pipe.send(_checked(policy, mask))
    try:
        _serve(engine, sock, start)
    finally:
        engine.close()


def _made(start: Start) -> Policy:
    on_gpu: dict[str, Any] = {} if start.gpu is None else {"gpu": start.gpu}
    if start.again:
        return start.make(**on_gpu)
    policy = start.make()
    elsewhere = policy.elsewhere()
    if not on_gpu or elsewhere is None:
        return policy
    policy.close()  # it was tried on the default GPU, and belongs on another
    return elsewhere(**on_gpu)


def _checked(policy: Policy, mask: Mask) -> Failure | None:
    try:
        policy.check_masked(mask)
    except Exception as error:  # noqa: BLE001 - the run reports it
        return _failure(error)
    return None


def _serve(engine: Engine, sock: socket.socket, start: Start) -> None:
    from b1k_policies.remote.server.app import PolicyServer

    policy = engine.policy
    terms = Terms(
        chunk_length=policy.chunk_length,
        horizon=policy.chunk_length,
        protocol=start.protocol,
        images=policy.needs_images,
        frank=True,
    )
    # Native pictures: to resize them a worker would need torch, and on one machine bytes are cheap.
    info = ServerInfo(
        name=policy.name,
        chunk_length=policy.chunk_length,
        skipped_rows=policy.skipped_rows,
        images="native" if policy.needs_images else "none",
    )
    batcher = Batcher(engine, most=start.clients, window_s=_WINDOW_S)
    try:
        server = PolicyServer(
            batcher,
            terms,
            Quota(clients=start.clients + _SPARE_CLIENTS),
            Door("127.0.0.1", start.key),
            info.as_metadata(),
            grace_s=GRACE_S,
        )
        asyncio.run(server.run(sock, lambda _address, _port: None))
    finally:
        batcher.close(GRACE_S)


def _failure(error: BaseException) -> Failure:
    trace = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - its class takes other arguments, or is not importable
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return Failure(error, trace)
