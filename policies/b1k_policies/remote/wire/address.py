"""Reading `ws://HOST:PORT` or `gr00t://HOST:PORT` from a command line, with what may follow it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, cast
from urllib.parse import parse_qsl, urlsplit

from b1k_envs.errors import UsageError
from b1k_policies.remote.wire import keys

GR00T = "gr00t"
SCHEMES = ("ws", "wss", GR00T)
KeyForm = Literal["flat", "nested"]
"""Whether GR00T's observations are one map of dotted keys, or one map per modality."""
DEFAULT_WAIT_S = 10.0
QUERY_TIMEOUT_S = 600.0
"""Time for one answer, reconnections included [s]; from the 2026 rules (docs/challenge)."""

_MOST_ROWS = 10_000
_LONGEST_WAIT_S = 7 * 24 * 3600.0
_COMMON = ("wait", "timeout")
_WS_OPTIONS = ("chunk", *_COMMON, "batch", "depth")
_OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"ws": _WS_OPTIONS, "wss": _WS_OPTIONS, GR00T: (*_COMMON, "keys")}
)
_WS_USAGE = (
    "ws://HOST:PORT or wss://HOST:PORT, with ?chunk=K&wait=SECONDS&timeout=SECONDS&batch=yes|no"
    "&depth=yes|no where needed"
)
_GR00T_USAGE = "gr00t://HOST:PORT, with ?wait=SECONDS&timeout=SECONDS&keys=flat|nested where needed"


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a policy server is, and how to ask it.

    Attributes:
        scheme: `ws`, or `wss` for TLS; `gr00t` for GR00T's protocol.
        host: Host name or IP address.
        port: TCP port.
        chunk: Actions to ask for at a time; None for what the server's metadata say, else 1.
        wait_s: Longest time a server may take to start [s].
        timeout_s: Longest time an answer may take, reconnections included [s].
        batch: Whether arrays get a leading dimension of the envs; None for what the run's protocol
            has: 2026 (v3.9.3) yes, 2025 no.
        depth: Whether observations have depth; None for what the server's metadata ask for.
        keys: How GR00T's server wants observations; None to try.
    """

    scheme: str
    host: str
    port: int
    chunk: int | None = None
    wait_s: float = DEFAULT_WAIT_S
    timeout_s: float = QUERY_TIMEOUT_S
    batch: bool | None = None
    depth: bool | None = None
    keys: KeyForm | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_private(self) -> bool:
        """Whether nobody else can read along: TLS is used, or the server is on this machine."""
        return self.scheme == "wss" or self.host == "localhost" or _is_loopback(self.host)

    @property
    def how_to_start(self) -> str:
        """How a server for it is started, in words."""
        if self.scheme == GR00T:
            return "with GR00T's run_gr00t_server.py or `b1k-eval serve --protocol gr00t`"
        return "with `b1k-eval serve`"


def is_address(spec: str) -> bool:
    """Whether a policy's name is the address of a server."""
    return spec.partition("://")[0] in SCHEMES and "://" in spec


def parse_address(spec: str) -> Address:
    """Read an address.

    Raises:
        UsageError: It is not an address; the text says why, but never repeats a password.
    """
    usage = _GR00T_USAGE if spec.startswith(f"{GR00T}:") else _WS_USAGE
    try:
        parts = urlsplit(spec)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--policy: no address of a server ({error}): give {usage}") from error
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "--policy: an address is recorded with the run and must not hold a user or password: "
            f"set the environment variable {keys.KEY_VARIABLE} instead"
        )
    if not parts.hostname or port is None or not re.fullmatch(r"[\w.:%-]+", parts.hostname):
        raise UsageError(
            f"--policy {spec!r} needs host and port: give {usage}; evaluators take port "
            f"{keys.GR00T_PORT if parts.scheme == GR00T else keys.DEFAULT_PORT} by default"
        )
    if parts.path not in ("", "/") or parts.fragment:
        raise UsageError(f"--policy {spec!r}: nothing may follow the port but options: {usage}")
    options = _options(spec, parts.query, _OPTIONS.get(parts.scheme, _WS_OPTIONS), usage)
    return Address(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port,
        chunk=_chunk(options.get("chunk")),
        wait_s=_seconds("wait", options.get("wait", str(DEFAULT_WAIT_S))),
        timeout_s=_seconds("timeout", options.get("timeout", str(QUERY_TIMEOUT_S))),
        batch=_yes_or_no("batch", options.get("batch")),
        depth=_yes_or_no("depth", options.get("depth")),
        keys=_key_form(options.get("keys")),
    )


def _options(spec: str, query: str, known: tuple[str, ...], usage: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise UsageError(f"--policy {spec!r}: {error}: give {usage}") from error
    for name, _ in pairs:
        if name not in known:
            raise UsageError(
                f"--policy: an address has no option {name!r}; choose from {', '.join(known)}"
            )
    if len({name for name, _ in pairs}) < len(pairs):
        raise UsageError(f"--policy {spec!r} has an option twice")
    return dict(pairs)


def _chunk(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= _MOST_ROWS:
        raise UsageError(f"--policy: chunk={text} must be a whole number, 1 to {_MOST_ROWS}")
    return int(text)


def _seconds(name: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or float(text) > _LONGEST_WAIT_S:
        raise UsageError(f"--policy: {name}={text} must be seconds, 0 to {_LONGEST_WAIT_S:.0f}")
    return float(text)


def _yes_or_no(name: str, text: str | None) -> bool | None:
    if text not in (None, "yes", "no"):
        raise UsageError(f"--policy: {name}={text} must be yes or no")
    return None if text is None else text == "yes"


def _key_form(text: str | None) -> KeyForm | None:
    if text not in (None, "flat", "nested"):
        raise UsageError(f"--policy: keys={text} must be flat or nested")
    return cast("KeyForm | None", text)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
