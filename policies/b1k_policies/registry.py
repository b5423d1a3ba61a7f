"""Making the policy that `--policy` names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from b1k_envs.base import ProtocolYear
from b1k_envs.errors import UsageError
from b1k_policies.base import Policy
from b1k_policies.baselines import HoldPolicy, RandomPolicy, ReplayPolicy, ZeroPolicy
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.contract.codecs import ContractValueError
from b1k_policies.contract.reading import CONFIG_FILE, read_json
from b1k_policies.remote.wire.address import SCHEMES, is_address

CHECKPOINT = "checkpoint"
"""Name of a policy that a `CheckpointRequest` describes."""

FAMILIES: Mapping[str, str] = MappingProxyType({"xvla": "b1k_policies.xvla.policy:XVLAPolicy"})
"""The policies of checkpoints as MODULE:CLASS, by `model_type` in config.json. They are called with
the `CheckpointRequest`, the protocol's year and `instruction=`."""

REPLAY = "replay:"
"""Prefix of the file of a recording."""

CHOICES: tuple[str, ...] = (
    "expert",
    "zero",
    "hold",
    "random",
    "replay:FILE",
    "ws://HOST:PORT",
    "wss://HOST:PORT",
)
"""What `make_policy` understands, for display."""


def _expert() -> Policy:
    # Imported here, because no other policy needs its planner and its geometry.
    from b1k_policies.expert import ExpertPolicy

    return ExpertPolicy()


_BY_NAME: dict[str, Callable[[], Policy]] = {
    "expert": _expert,
    "zero": ZeroPolicy,
    "hold": HoldPolicy,
    "random": RandomPolicy,
}


def make_policy(
    spec: str,
    checkpoint: CheckpointRequest | None = None,
    protocol: ProtocolYear = "2026",
    instruction: str | None = None,
) -> Policy:
    """Make a policy.

    Args:
        spec: One of `CHOICES`, or `checkpoint`.
        checkpoint: The checkpoint, for `checkpoint`.
        protocol: Layout of the proprio that the policy will be given.
        instruction: The task in words, if it is known already.

    Raises:
        UsageError: There is no such policy; the message lists the choices and the nearest name.
        B1kEvalError: A checkpoint or a server cannot be used; see `XVLAPolicy`, `RemotePolicy`.
    """
    if checkpoint is not None:
        policy: Policy = family_of(checkpoint.ckpt)(checkpoint, protocol, instruction=instruction)
        return policy
    factory = _BY_NAME.get(spec)
    if factory is not None:
        return factory()
    scheme, colon, rest = spec.partition(":")
    if scheme == "replay" and colon:
        if not rest:
            raise UsageError("--policy replay: needs a file, as in replay:RUN/.../trace.parquet")
        return ReplayPolicy(rest)
    if is_address(spec):
        from b1k_policies.remote.client import RemotePolicy

        return RemotePolicy(spec, protocol)
    if colon and rest.startswith("//"):
        raise UsageError(
            f"--policy {scheme}:// is not the address of a policy server, which begins with "
            f"{' or '.join(f'{known}://' for known in SCHEMES)}; choose from {', '.join(CHOICES)}"
        )
    near = difflib.get_close_matches(scheme, [*_BY_NAME, "replay:FILE"], n=1)
    hint = f"; did you mean {near[0]}?" if near else ";"
    raise UsageError(f"--policy {spec!r} is unknown{hint} choose from {', '.join(CHOICES)}")


def family_of(ckpt: str) -> Any:  # noqa: ANN401 - a class of `FAMILIES`
    """Return the class of a checkpoint's policy.

    What names no known family, and what is on the hub, is tried as an X-VLA checkpoint: that
    family's own checks say what is wrong with it.
    """
    config, stated = Path(ckpt) / CONFIG_FILE, None
    if ckpt and config.is_file():
        with suppress(ContractValueError):
            stated = read_json(config).get("model_type")
    module, _, name = FAMILIES.get(str(stated), FAMILIES["xvla"]).partition(":")
    return getattr(import_module(module), name)
