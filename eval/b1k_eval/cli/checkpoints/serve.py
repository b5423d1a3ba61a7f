"""`b1k-eval serve`: a policy behind a WebSocket, for an evaluator somewhere else."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast, get_args

import typer

from b1k_envs.base import ProtocolYear
from b1k_envs.errors import HostFaultError, UsageError
from b1k_envs.tasks.table import Task, check_protocol, get_task
from b1k_eval.cli.console import err_console, say_remark
from b1k_eval.cli.options import Options, Typed
from b1k_eval.cli.resolving import resolve_checkpoint
from b1k_eval.loop.strategy import DEFAULT_HORIZON, build_chunking
from b1k_eval.settings import RunSettings
from b1k_policies.base import Policy, Resizing
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.options import at_home
from b1k_policies.registry import REPLAY, make_policy
from b1k_policies.remote.server import require_websockets
from b1k_policies.remote.server.batching import Batcher
from b1k_policies.remote.server.engine import Engine
from b1k_policies.remote.server.limits import Door, Quota, listen_on
from b1k_policies.remote.server.sessions import Terms
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.metadata import Images, ServerInfo

Pictures = Literal["native", "contract"]

_PANEL = "Server"
_LOG = "b1k_policies.remote.server"


def serve(
    ckpt: Annotated[
        Typed,
        Options(
            CheckpointRequest,
            "ckpt",
            ckpt={"help": "A DA3-XVLA checkpoint: a folder or org/name[@revision]."},
        ),
    ],
    policy: Annotated[
        str | None,
        typer.Option(
            help="In place of --ckpt: zero, hold, random, replay:FILE or a class, as for run."
        ),
    ] = None,
    *,
    own: Annotated[Typed, Options(RunSettings, "policy_args")],
    task: Annotated[
        str | None,
        typer.Option(help="Task by index or name.", show_default="the observation's task_id"),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="The task in words.", show_default="the task's own instruction"),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="Layout of the proprio that is taken: auto (both), 2025 or 2026.")
    ] = "auto",
    horizon: Annotated[
        int | None,
        typer.Option(
            help="Actions of a chunk played to an evaluator that asks at every step.",
            show_default=str(DEFAULT_HORIZON),
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the episodes of clients that bring no seed.")
    ] = 0,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; any but this machine's own needs an API key, or --no-key.",
            rich_help_panel=_PANEL,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="0 for any that is free.", rich_help_panel=_PANEL),
    ] = keys.DEFAULT_PORT,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=keys.KEY_VARIABLE,
            help="Key that clients must send. Better by the environment: other users of a machine "
            "can read its command lines.",
            show_default="none",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    no_key: Annotated[
        bool,
        typer.Option(
            "--no-key",
            help="Let in anybody who can reach --host, without a key: for the official evaluators, "
            "which cannot send one, and for a container.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    images: Annotated[
        str,
        typer.Option(
            help="What our own clients send: native pictures, or those of the contract's size "
            "(contract), smaller and faster.",
            rich_help_panel=_PANEL,
        ),
    ] = "native",
    max_batch: Annotated[
        int,
        typer.Option(
            min=1,
            help="Observations in one inference. In a batch sums may round differently; 1 gives "
            "the bits of a run without a server.",
            rich_help_panel=_PANEL,
        ),
    ] = 16,
    batch_window_ms: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="How long an inference waits for the observations of other clients.",
            rich_help_panel=_PANEL,
        ),
    ] = 5.0,
    max_clients: Annotated[
        int, typer.Option(help="Connections at once.", rich_help_panel=_PANEL)
    ] = Quota.clients,
    max_envs: Annotated[
        int,
        typer.Option(
            help="Environments in one observation (the evaluator's --num-envs); decides how large "
            "a message may be.",
            rich_help_panel=_PANEL,
        ),
    ] = Quota.envs,
    max_rate: Annotated[
        float,
        typer.Option(help="Messages per second of one connection.", rich_help_panel=_PANEL),
    ] = Quota.rate,
    json_output: Annotated[
        bool,
        typer.Option("--json", help="One line of JSON with the address, once it can be used."),
    ] = False,
    asked: Annotated[Typed, Options(CheckpointRequest, but=("ckpt",))],
) -> None:
    """Serve a policy to the official evaluators, to openpi's client and to --policy ws://HOST:PORT.

    Ends with exit code 0 on Ctrl-C or SIGTERM, when the inferences under way are answered.
    """
    request = resolve_checkpoint({**ckpt, **asked}, None, policy)
    if policy is not None and policy.startswith(REPLAY):
        policy = REPLAY + at_home(policy.removeprefix(REPLAY))
    arguments = tuple(own.get("policy_args", ()))
    wanted = _Wanted.checked(
        request, policy, arguments, task=task, prompt=prompt, protocol=protocol
    )
    if images not in get_args(Pictures):
        raise UsageError(f"--images {images!r} is unknown: choose native or contract")
    require_websockets()
    quota = Quota(clients=max_clients, envs=max_envs, rate=max_rate)
    door = Door(host, api_key, no_key=no_key)
    # The port is taken first, as loading takes minutes and a port in use would end them in vain.
    sock = listen_on(host, port)
    try:
        engine = wanted.load()
        try:
            service = _Service(
                source=policy if request is None else request.ckpt,
                engine=engine,
                terms=wanted.terms(engine, horizon, seed),
                images=_pictures(engine.policy, cast("Pictures", images)),
                quota=quota,
                door=door,
                max_batch=max_batch,
                window_s=batch_window_ms / 1e3,
            )
            _announce(service)
            _serve(sock, service, json_output=json_output)
        finally:
            engine.close()
    finally:
        sock.close()


@dataclass(frozen=True, kw_only=True)
class _Service:
    """What is served, to whom, and under which limits."""

    source: str | None
    engine: Engine
    terms: Terms
    images: Images
    quota: Quota
    door: Door
    max_batch: int
    window_s: float

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


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """The checked request of what to serve, before anything is loaded."""

    request: CheckpointRequest | None
    policy: str
    arguments: tuple[str, ...]
    task: Task | None
    prompt: str | None
    protocol: ProtocolYear | None

    @classmethod
    def checked(
        cls,
        request: CheckpointRequest | None,
        policy: str | None,
        arguments: tuple[str, ...],
        *,
        task: str | None,
        prompt: str | None,
        protocol: str,
    ) -> _Wanted:
        if request is None and policy is None:
            raise UsageError("what is to be served? Give --ckpt, or --policy zero, hold, random")
        if policy is not None and policy.startswith(("ws://", "wss://")):
            raise UsageError(f"--policy {policy} is a server already")
        if protocol not in ("auto", *get_args(ProtocolYear)):
            raise UsageError(f"--protocol {protocol!r} is unknown: choose auto, 2025 or 2026")
        if prompt is not None and not prompt.strip():
            raise UsageError("--prompt needs the task in words")
        entry = None if task is None else get_task(task)
        layout = None if protocol == "auto" else cast("ProtocolYear", protocol)
        if entry is not None and layout is not None:
            check_protocol(entry, layout)
        return cls(
            request=request,
            policy=policy or "",
            arguments=arguments,
            task=entry,
            prompt=prompt,
            protocol=layout,
        )

    def load(self) -> Engine:
        request, protocol = self.request, self.protocol or "2026"
        instruction = self.prompt or (self.task.instruction if self.task else None)
        engine = Engine(
            lambda: make_policy(self.policy, request, protocol, instruction, self.arguments)
        )
        own = engine.policy.prompt
        if self.prompt is not None and own is not None and own != self.prompt:
            engine.close()
            raise UsageError(
                f"--prompt contradicts the contract, whose own prompt is {own!r}: leave it out, "
                "or change the contract with --set prompt=..."
            )
        return engine

    def terms(self, engine: Engine, horizon: int | None, seed: int) -> Terms:
        counted = build_chunking(
            "receding", horizon, None, None, engine.policy.skipped_rows, engine.policy.chunk_length
        )
        return Terms(
            chunk_length=engine.policy.chunk_length,
            horizon=counted.describe()["horizon"],
            seed=seed,
            task=self.task,
            prompt=self.prompt,
            protocol=self.protocol,
            images=engine.policy.needs_images,
        )


def _pictures(policy: Policy, wanted: Pictures) -> Images:
    if not policy.needs_images:
        return "none"
    return "native" if wanted == "native" or policy.resize is None else policy.resize


def _serve(sock: socket.socket, service: _Service, *, json_output: bool) -> None:
    from b1k_policies.remote.server.app import GRACE_S, PolicyServer

    def ready(address: str, port: int) -> None:
        url = f"ws://[{address}]:{port}" if ":" in address else f"ws://{address}:{port}"
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


def _announce(service: _Service) -> None:
    engine, terms, quota = service.engine, service.terms, service.quota
    policy = engine.policy
    _say(f"policy    {policy.name} ({service.source})")
    if policy.origin is not None:
        _say(f"contract  {policy.origin}")
    _say(
        f"chunks    {policy.chunk_length} actions, {terms.horizon} of them executed by a "
        "client that asks at every step"
    )
    task = "as task_id says" if terms.task is None else f"{terms.task.index} {terms.task.name}"
    words = "its own instruction" if terms.prompt is None else repr(terms.prompt)
    _say(f"task      {task}; {words}; proprio of {terms.protocol or '2025 or 2026'}")
    pictures = service.images
    size = f"{pictures.size} px" if isinstance(pictures, Resizing) else pictures
    _say(f"pictures  {size} from our own clients, any size from others")
    _say(f"envs      {quota.envs_words}")
    if engine.most_together is None:
        waiting = f"waiting {1e3 * service.window_s:g} ms for more"
        _say(f"batches   up to {service.max_batch}, {waiting}")
    _say(
        f"limits    {quota.clients} clients, {quota.message_bytes / 1e6:.1f} MB a message, "
        f"{quota.rate:g} messages/s each; "
        f"{quota.memory_bytes / 2**30:.1f} GiB for all messages at worst"
    )
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
