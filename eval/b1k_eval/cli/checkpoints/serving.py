"""What `b1k-eval serve` does once it knows what to serve: it announces, serves and counts."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from dataclasses import dataclass
from typing import Any

import typer

from b1k_envs.errors import HostFaultError
from b1k_eval.cli.console import err_console, say_remark
from b1k_policies.base import Resizing
from b1k_policies.remote.gr00t.robot import PICTURE_SIZE
from b1k_policies.remote.server.batching import Batcher
from b1k_policies.remote.server.engine import Engine
from b1k_policies.remote.server.limits import GRACE_S, Door, Quota
from b1k_policies.remote.server.sessions import Terms
from b1k_policies.remote.wire.address import GR00T
from b1k_policies.remote.wire.metadata import Images, ServerInfo

_LOG = "b1k_policies.remote.server"


@dataclass(frozen=True, kw_only=True)
class Service:
    """What is served, to whom, and under which limits.

    Attributes:
        source: The policy's name or the checkpoint, as given.
        engine: Computes the answers.
        terms: Settings of every session.
        images: The pictures that our own clients are to send.
        quota: Limits for peers.
        door: Admission of clients.
        max_batch: Observations in one inference.
        window_s: Longest time that an inference waits for others' observations [s].
        gr00t: Speak GR00T's protocol.
    """

    source: str | None
    engine: Engine
    terms: Terms
    images: Images
    quota: Quota
    door: Door
    max_batch: int
    window_s: float
    gr00t: bool

    def metadata(self) -> dict[str, Any]:
        """Return what clients are told, without paths or anything else about this machine."""
        policy, task = self.engine.policy, self.terms.task
        checkpoint = policy.describe().get("checkpoint") or {}
        info = ServerInfo(
            name=policy.name,
            chunk_length=policy.chunk_length,
            skipped_rows=policy.skipped_rows,
            images=self.images,
            remarks=policy.remarks,
        )
        return {
            "policy": policy.name,
            "horizon": self.terms.horizon,
            "max_envs": self.quota.envs,
            "task": None if task is None else task.name,
            "weights_sha256": checkpoint.get("weights_sha256"),
            **info.as_metadata(),
        }


def serve_it(sock: socket.socket, service: Service, *, json_output: bool) -> None:
    """Serve on a bound socket until Ctrl-C or SIGTERM.

    Raises:
        HostFaultError: An inference does not end.
    """

    def ready(address: str, port: int) -> None:
        host = f"[{address}]" if ":" in address else address
        url = f"{GR00T if service.gr00t else 'ws'}://{host}:{port}"
        needs = "an API key is needed" if door.locked else "no API key is needed"
        _say(f"ready     {url} ({needs})")
        if json_output:
            document = {
                "url": url,
                "host": address,
                "port": port,
                "key": door.locked,
                "max_envs": service.quota.envs,
                "warning": door.warning,
            }
            typer.echo(json.dumps(document))

    door = service.door
    _log_to_stderr()
    batcher = Batcher(service.engine, most=service.max_batch, window_s=service.window_s)
    try:
        if service.gr00t:
            from b1k_policies.remote.gr00t.server import Gr00tServer

            policy = service.engine.policy
            Gr00tServer(batcher, service.terms, service.quota, door, policy).run(sock, ready)
        else:
            from b1k_policies.remote.server.app import PolicyServer

            metadata = service.metadata()
            server = PolicyServer(batcher, service.terms, service.quota, door, metadata)
            asyncio.run(server.run(sock, ready))
    finally:
        ended = batcher.close(GRACE_S)
    if not ended:
        raise HostFaultError(
            f"an inference has not ended {GRACE_S:g} s after the server: it hangs, and is left"
        )
    counts = batcher.counts
    factor = "" if counts.factor is None else f", {counts.factor:.2f} observations each"
    _say(
        f"stopped   {counts.answered} chunks, {counts.failed} failed, {counts.calls} "
        f"inferences{factor}"
    )


def announce(service: Service) -> None:
    """Say on standard error what is served, to whom, and under which limits."""
    engine, terms, quota = service.engine, service.terms, service.quota
    policy = engine.policy
    _say(f"policy    {policy.name} ({service.source})")
    if policy.origin is not None:
        _say(f"contract  {policy.origin}")
    whose = "a client that does not say" if service.gr00t else "a client that asks at every step"
    _say(f"chunks    {policy.chunk_length} actions, {terms.horizon} of them executed by {whose}")
    task = "as task_id says" if terms.task is None else f"{terms.task.index} {terms.task.name}"
    words = "its own instruction" if terms.prompt is None else repr(terms.prompt)
    _say(f"task      {task}; {words}; proprio of {terms.protocol or '2025 or 2026'}")
    pictures = service.images
    size = f"{pictures.size} px" if isinstance(pictures, Resizing) else pictures
    if service.gr00t:
        _say(f"pictures  {f'{PICTURE_SIZE} px' if policy.needs_images else 'none'}")
    else:
        _say(f"pictures  {size} from our own clients, any size from others")
    _say(f"envs      {quota.envs_words}")
    if engine.most_together is None:
        waiting = f"waiting {1e3 * service.window_s:g} ms for more"
        _say(f"batches   up to {service.max_batch}, {waiting}")
    limits = f"limits    {quota.clients} clients, {quota.message_bytes / 1e6:.1f} MB a message"
    if not service.gr00t:
        limits += (
            f", {quota.rate:g} messages/s each; "
            f"{quota.memory_bytes / 2**30:.1f} GiB for all messages at worst"
        )
    _say(limits)
    for remark in policy.remarks:
        say_remark(remark)
    if service.door.warning is not None:
        _say(f"WARNING   {service.door.warning}", style="bold red")


def _say(text: str, style: str = "") -> None:
    err_console().print(text, style=style, soft_wrap=True)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger(_LOG)
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
