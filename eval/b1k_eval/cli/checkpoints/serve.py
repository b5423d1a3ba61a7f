"""`b1k-eval serve`: a policy behind a socket, for an evaluator somewhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, cast, get_args

import typer

from b1k_envs.base import ProtocolYear
from b1k_envs.errors import UsageError
from b1k_envs.tasks.table import Task, check_protocol, get_task
from b1k_eval.cli.checkpoints.serving import Service, announce, serve_it
from b1k_eval.cli.options import Options, Typed
from b1k_eval.cli.resolving import resolve_checkpoint
from b1k_eval.loop.strategy import DEFAULT_HORIZON, build_chunking
from b1k_eval.settings import RunSettings
from b1k_policies.base import Policy
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.options import at_home
from b1k_policies.registry import REPLAY, make_policy
from b1k_policies.remote.gr00t import require_zmq
from b1k_policies.remote.gr00t.robot import HORIZON as GR00T_HORIZON
from b1k_policies.remote.server import require_websockets
from b1k_policies.remote.server.engine import Engine
from b1k_policies.remote.server.limits import Door, Quota, listen_on
from b1k_policies.remote.server.sessions import Terms
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.address import GR00T, is_address
from b1k_policies.remote.wire.metadata import Images

Pictures = Literal["native", "contract"]

_PANEL = "Server"


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
        str,
        typer.Option(
            help="Layout of the proprio that is taken: auto (both), 2025 or 2026; or gr00t: "
            "GR00T's protocol over ZeroMQ, with that of 2025."
        ),
    ] = "auto",
    horizon: Annotated[
        int | None,
        typer.Option(
            help="Actions of a chunk played to an evaluator that asks at every step; with "
            "--protocol gr00t, those that the client executes before it asks again.",
            show_default=f"{DEFAULT_HORIZON}; {GR00T_HORIZON} with --protocol gr00t",
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
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="0 for any that is free.",
            show_default=f"{keys.DEFAULT_PORT}; {keys.GR00T_PORT} with --protocol gr00t",
            rich_help_panel=_PANEL,
        ),
    ] = None,
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

    With --protocol gr00t to clients of GR00T's servers, and to --policy gr00t://HOST:PORT.

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
    if wanted.gr00t:
        _check_gr00t(images, max_rate)
    else:
        require_websockets()
    quota = Quota(clients=max_clients, envs=max_envs, rate=max_rate)
    door = Door(host, api_key, no_key=no_key)
    # The port is taken first, as loading takes minutes and a port in use would end them in vain.
    usual = keys.GR00T_PORT if wanted.gr00t else keys.DEFAULT_PORT
    sock = listen_on(host, usual if port is None else port)
    try:
        engine = wanted.load()
        try:
            service = Service(
                source=policy if request is None else request.ckpt,
                engine=engine,
                terms=wanted.terms(engine, horizon, seed),
                images=_pictures(engine.policy, cast("Pictures", images)),
                quota=quota,
                door=door,
                max_batch=max_batch,
                window_s=batch_window_ms / 1e3,
                gr00t=wanted.gr00t,
            )
            announce(service)
            serve_it(sock, service, json_output=json_output)
        finally:
            engine.close()
    finally:
        sock.close()


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """The checked request of what to serve, before anything is loaded."""

    request: CheckpointRequest | None
    policy: str
    arguments: tuple[str, ...]
    task: Task | None
    prompt: str | None
    protocol: ProtocolYear | None
    gr00t: bool

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
        if policy is not None and is_address(policy):
            raise UsageError(f"--policy {policy} is a server already")
        gr00t = protocol == GR00T
        if protocol not in ("auto", GR00T, *get_args(ProtocolYear)):
            raise UsageError(
                f"--protocol {protocol!r} is unknown: choose auto, 2025, 2026 or gr00t"
            )
        if prompt is not None and not prompt.strip():
            raise UsageError("--prompt needs the task in words")
        entry = None if task is None else get_task(task)
        year = "2025" if gr00t else protocol
        layout = None if year == "auto" else cast("ProtocolYear", year)
        if entry is not None and layout is not None:
            check_protocol(entry, layout)
        return cls(
            request=request,
            policy=policy or "",
            arguments=arguments,
            task=entry,
            prompt=prompt,
            protocol=layout,
            gr00t=gr00t,
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
        if self.gr00t:
            if engine.policy.needs_depth:
                raise UsageError(
                    f"the policy {engine.policy.name} needs depth, which GR00T's protocol does not "
                    "have: leave --protocol gr00t out"
                )
            if horizon is None:
                horizon = min(GR00T_HORIZON, engine.policy.chunk_length)
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


def _check_gr00t(images: str, max_rate: float) -> None:
    require_zmq()
    for option, value, usual in (
        ("--images", images, "native"),
        ("--max-rate", max_rate, Quota.rate),
    ):
        if value != usual:
            raise UsageError(f"{option} {value} means nothing with --protocol gr00t: leave it out")
