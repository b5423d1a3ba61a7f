"""Limits of a server for its peers, and admission of clients."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from dataclasses import dataclass

from b1k_envs.errors import UsageError
from b1k_envs.r1pro import CAMERAS
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.limits import MessageLimits

SHORTEST_KEY = 16

MOST_FRAGMENTS = 4096
"""Frames of one message. All known clients send one; frames of a byte each cost 100 bytes here."""
MOST_UNREAD = 2**20
"""Bytes that a peer may leave unread before it is cut off; an answer has a few thousand."""
SPARE_CONNECTIONS = 32
"""TCP connections beyond those of clients, for health checks and handshakes."""
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
PING_INTERVAL_S = 60.0
PING_TIMEOUT_S = 300.0
"""As in the evaluator's own client: loading a scene blocks its process for minutes."""
GRACE_S = 30.0
"""Time for running inferences to finish when the server stops [s]."""
MESSAGE_COPIES = 5
"""Messages of full size that a connection can hold at once: one being read, two waiting, the one
being answered, and its arrays."""

_PIXEL_BYTES = 4 + 4 + 8 + 8
"""RGBA, depth as float32, and two segmentations as int64: the 2025 evaluator's DefaultWrapper."""
_REST_BYTES = 64 * 2**10
"""Keys, headers, proprio, poses and task of one env [bytes]."""
_ELEMENTS = 4096
_TEXT_BYTES = 64 * 2**10
_BASE_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Quota:
    """Limits that the operator sets.

    Attributes:
        clients: Connections at once.
        envs: Envs in one observation.
        rate: Messages per second of one connection, on average; faster ones are delayed.
    """

    clients: int = 16
    envs: int = 1
    rate: float = 1000.0

    def __post_init__(self) -> None:
        for option, value in (("--max-clients", self.clients), ("--max-envs", self.envs)):
            if value < 1:
                raise UsageError(f"{option} {value} must be at least 1")
        if not self.rate > 0:
            raise UsageError(f"--max-rate {self.rate:g} must be above 0")

    @property
    def message_bytes(self) -> int:
        """Size of the largest observation of an evaluator: every modality at native size."""
        pixels = sum(camera.size**2 for camera in CAMERAS.values())
        return self.envs * (pixels * _PIXEL_BYTES + _REST_BYTES)

    @property
    def envs_words(self) -> str:
        """Text on the number of envs, for the log and for clients with too many."""
        many = "1 environment" if self.envs == 1 else f"1 to {self.envs} environments"
        return (
            f"this server answers for {many} at a time; an evaluator with --num-envs N needs "
            "b1k-eval serve --max-envs N"
        )

    @property
    def too_large_words(self) -> str:
        """Text for a message above `message_bytes`."""
        return (
            f"a message is larger than {self.message_bytes / 1e6:.1f} MB, all pictures of "
            f"{self.envs} environment{'' if self.envs == 1 else 's'}: {self.envs_words}"
        )

    @property
    def memory_bytes(self) -> int:
        """Most memory that all clients together can make a server hold, without the policy's."""
        return self.clients * MESSAGE_COPIES * self.message_bytes + _BASE_BYTES

    @property
    def wire(self) -> MessageLimits:
        """Limits for reading one message."""
        return MessageLimits(size=self.message_bytes, elements=_ELEMENTS, text=_TEXT_BYTES)


class TokenBucket:
    """Rate limit of one peer.

    Args:
        rate: Messages per second on average; as many may come at once.
        now: Present time [s].
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = max(rate, 1.0)
        self._tokens = self._most
        self._then = now

    def delay(self, now: float) -> float:
        """Count one message at time `now` [s]; return the wait before the next [s]."""
        self._tokens = min(self._most, self._tokens + (now - self._then) * self._rate) - 1.0
        self._then = now
        return max(0.0, -self._tokens / self._rate)


class Door:
    """Admission: without a key anybody may connect, with one only clients that send it.

    Attributes:
        warning: Warning if anybody on the network may connect, else None.
    """

    def __init__(self, host: str, api_key: str | None, *, no_key: bool = False) -> None:
        """Require a key for a server that other machines can reach, unless `no_key` is set.

        Args:
            host: Address to listen on.
            api_key: Key that clients must send, or None.
            no_key: Admit anybody, from other machines too: the official evaluators' clients cannot
                send a key.

        Raises:
            UsageError: A key is missing or unfit, or is given together with `no_key`.
        """
        if api_key is not None and no_key:
            raise UsageError(
                "--no-key admits clients without a key, but there is a key: leave out --no-key, or "
                f"--api-key and the environment variable {keys.KEY_VARIABLE}"
            )
        if api_key is not None:
            _check_key(api_key)
        open_to_others = api_key is None and not is_loopback(host)
        if open_to_others and not no_key:
            raise UsageError(
                f"--host {host} can be reached from other machines, and needs a key: set "
                f"{keys.KEY_VARIABLE}, or give --api-key. The official evaluators cannot send one: "
                "--no-key lets in anybody"
            )
        self.warning = (
            f"ANYBODY who can reach {host or 'this machine'} can use this policy: --no-key asks "
            "nobody for a key, and nothing is encrypted. Let only the evaluator's machine through "
            "to this port"
            if open_to_others
            else None
        )
        self._expected = None if api_key is None else f"Api-Key {api_key}".encode()

    @property
    def locked(self) -> bool:
        """Whether a key is needed."""
        return self._expected is not None

    def admits(self, authorization: str | None) -> bool:
        """Return whether the header `Authorization` has the key."""
        if self._expected is None:
            return True
        given = (authorization or "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, self._expected)  # equally long for every wrong key


def _check_key(key: str) -> None:
    if len(key) < SHORTEST_KEY or not all("!" <= letter <= "~" for letter in key):
        raise UsageError(
            f"the API key must have at least {SHORTEST_KEY} printable ASCII characters without "
            f"spaces, got {len(key)}; one can be made with: openssl rand -hex 16"
        )


def is_loopback(host: str) -> bool:
    """Return whether all addresses of a host are loopback addresses.

    Raises:
        UsageError: There is no such host.
    """
    if not host:  # all interfaces, in asyncio
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"--host {host}: there is no such host ({error})") from error
    return all(ipaddress.ip_address(str(entry[4][0]).split("%")[0]).is_loopback for entry in found)


def listen_on(host: str, port: int) -> socket.socket:
    """Return a socket that is bound and does not listen yet.

    It is bound before a checkpoint is loaded, so that a used port is found at once. Until it
    listens, early clients are refused rather than left waiting.

    Raises:
        UsageError: The address is not available.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, proto)
    except OSError as error:
        raise UsageError(f"--host {host}: {error.strerror or error}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        bound.close()
        raise UsageError(
            f"--host {host} --port {port} is not available ({error}): choose another --port (0 for "
            "any that is free)"
        ) from error
    return bound
