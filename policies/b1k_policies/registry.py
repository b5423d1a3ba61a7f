"""Making the policy that `--policy` names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from b1k_envs.base import ProtocolYear
from b1k_envs.errors import UsageError
from b1k_policies.base import Policy
from b1k_policies.baselines import ReplayPolicy
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.contract.codecs import ContractValueError
from b1k_policies.contract.reading import CONFIG_FILE, read_json
from b1k_policies.own.arguments import signature_words, typed_arguments
from b1k_policies.own.installed import installed
from b1k_policies.own.loading import ATTRIBUTES, Named, guarded, load_class, parse_own
from b1k_policies.own.source import PolicySource, files_of, source_of
from b1k_policies.remote.wire.address import GR00T, SCHEMES, is_address

CHECKPOINT = "checkpoint"
"""Name of a policy that a `CheckpointRequest` describes."""

FAMILIES: Mapping[str, str] = MappingProxyType({"xvla": "b1k_policies.xvla.policy:XVLAPolicy"})
"""The policies of checkpoints as MODULE:CLASS, by `model_type` in config.json. They are called with
the `CheckpointRequest`, the protocol's year and `instruction=`."""

OBJECT = "object:"
"""Prefix of the class of a policy that a Python program handed over as an object."""

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
    "gr00t://HOST:PORT",
    "FILE.py:CLASS",
    "PACKAGE.MODULE:CLASS",
)
"""What `make_policy` understands, for display; and the names that installed packages offer."""

_BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "expert": "b1k_policies.expert:ExpertPolicy",
        "zero": "b1k_policies.baselines:ZeroPolicy",
        "hold": "b1k_policies.baselines:HoldPolicy",
        "random": "b1k_policies.baselines:RandomPolicy",
    }
)
"""Policies by name, as MODULE:CLASS; a package that offers one of these names is not asked."""


def make_policy(
    spec: str,
    checkpoint: CheckpointRequest | None = None,
    protocol: ProtocolYear = "2026",
    instruction: str | None = None,
    arguments: Sequence[str] = (),
) -> Policy:
    """Make a policy.

    Args:
        spec: One of `CHOICES`, the name of an installed one, or `checkpoint`.
        checkpoint: The checkpoint, for `checkpoint`.
        protocol: Layout of the proprio that the policy will be given.
        instruction: The task in words, if it is known already.
        arguments: `KEY=VALUE` each, for the constructor of a class.

    Raises:
        UsageError: There is no such policy; the message lists the choices and the nearest name.
            Or an argument does not fit the constructor.
        UnavailableError: The user's own code raises.
        B1kEvalError: A checkpoint or a server cannot be used; see `XVLAPolicy`, `RemotePolicy`.
    """
    named = None if checkpoint is not None else _named(spec)
    if named is not None:
        return _made(named, arguments)
    if arguments:
        what = "--ckpt" if checkpoint is not None else f"--policy {spec}"
        raise UsageError(f"--policy-arg {arguments[0]} is for a policy that is a class: not {what}")
    if checkpoint is not None:
        policy: Policy = family_of(checkpoint.ckpt)(checkpoint, protocol, instruction=instruction)
        return policy
    if spec.startswith(OBJECT):
        raise UsageError(
            f"--policy {spec} was an object of a Python program, {spec.removeprefix(OBJECT)}: go "
            "on from Python, with b1k_eval.evaluate(policy, out=RUN, resume=True)"
        )
    scheme, colon, rest = spec.partition(":")
    if scheme == "replay" and colon:
        if not rest:
            raise UsageError("--policy replay: needs a file, as in replay:RUN/.../trace.parquet")
        return ReplayPolicy(rest)
    if spec.startswith(f"{GR00T}://"):
        from b1k_policies.remote.gr00t.client import Gr00tPolicy

        return Gr00tPolicy(spec, protocol)
    if is_address(spec):
        from b1k_policies.remote.client import RemotePolicy

        return RemotePolicy(spec, protocol)
    if colon and rest.startswith("//"):
        raise UsageError(
            f"--policy {scheme}:// is not the address of a policy server, which begins with "
            f"{' or '.join(f'{known}://' for known in SCHEMES)}; choose from {', '.join(CHOICES)}"
        )
    names = [*_BUILT_IN, "replay:FILE", *installed()]
    near = difflib.get_close_matches(scheme, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ";"
    choices = ", ".join([*CHOICES, *sorted(installed())])
    raise UsageError(f"--policy {spec!r} is unknown{hint} choose from {choices}")


def source(spec: str, arguments: Sequence[str] = ()) -> PolicySource | None:
    """Describe where a user's own policy is from; None for any other.

    Raises:
        B1kEvalError: As `make_policy`.
    """
    named = own_class(spec)
    return None if named is None else source_of(named, load_class(named), arguments)


def source_files(spec: str) -> dict[str, str]:
    """Return `PolicySource.files` as they are now; none for a policy that is not the user's own.

    Raises:
        B1kEvalError: As `make_policy`.
    """
    named = own_class(spec)
    return {} if named is None else files_of(named, load_class(named))


def is_shareable(spec: str) -> bool:
    """Return whether one copy of a user's own policy can answer for all workers.

    Its class must say that it is stateless: this is asked before it is made.

    Raises:
        B1kEvalError: As `make_policy`.
    """
    named = own_class(spec)
    return named is not None and load_class(named).stateless


def own_class(spec: str) -> Named | None:
    """Return the class that a user's own policy is of, without importing it; None for any other."""
    return None if spec in _BUILT_IN else _named(spec)


def _named(spec: str) -> Named | None:
    """Return the class that a spec names; None for a checkpoint, a recording or a server."""
    if spec in _BUILT_IN:
        module, _, name = _BUILT_IN[spec].partition(":")
        return Named(spec=spec, place=module, name=name)
    if spec == CHECKPOINT or spec.startswith((REPLAY, OBJECT)) or is_address(spec):
        return None
    return parse_own(spec)


def _made(named: Named, arguments: Sequence[str]) -> Policy:
    cls = load_class(named)
    given = typed_arguments(cls, arguments)
    policy = guarded(named, f"{signature_words(cls)} raised", lambda: cls(**given))
    lacking = [name for name in ATTRIBUTES if not getattr(policy, name, None)]
    if lacking:
        raise UsageError(
            f"--policy {named.spec} is no whole policy: once made, it has no "
            f"{' and no '.join(lacking)}; set it in the class or in __init__"
        )
    if not isinstance(policy.chunk_length, int) or policy.chunk_length < 1:
        raise UsageError(
            f"--policy {named.spec}: chunk_length is {policy.chunk_length!r}, not a whole number "
            "from 1"
        )
    return policy


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
