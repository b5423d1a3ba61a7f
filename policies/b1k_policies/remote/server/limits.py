"""What a peer may do to a server, in figures, and who is let in."""

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
"""Frames of one message. Every client known sends one; a byte each would cost a hundred here."""
MOST_UNREAD = 2**20
"""Bytes sent that a peer has not read, above which it is cut off; answers have some thousand."""
SPARE_CONNECTIONS = 32
"""TCP connections beyond the clients', for health checks and openings under way."""
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
PING_INTERVAL_S = 60.0
PING_TIMEOUT_S = 300.0
"""As the evaluator's own client: a scene that loads holds its process up for minutes."""
MESSAGE_COPIES = 5
"""Messages of full size that a connection can hold at once: one being read, two complete ones that
wait, the one that is answered, and its arrays."""

_PIXEL_BYTES = 4 + 4 + 8 + 8
"""RGBA, depth as float32, and two segmentations as int64: the 2025 evaluator's DefaultWrapper."""
_REST_BYTES = 64 * 2**10
"""Keys, headers, proprio, poses and task of one env."""
_ELEMENTS = 4096
_TEXT_BYTES = 64 * 2**10
_BASE_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What a server grants.

    Attributes:
        clients: Connections at once.
        envs: Envs in one observation.
        rate: Messages per second of one connection, in the long run; faster ones are held up.
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
        """The largest observation that an evaluator sends: every modality at native size."""
        pixels = sum(camera.size**2 for camera in CAMERAS.values())
        return self.envs * (pixels * _PIXEL_BYTES + _REST_BYTES)

    @property
    def envs_words(self) -> str:
        """For how many environments is answered: at the start, and to whom it is too few."""
        many = "1 environment" if self.envs == 1 else f"1 to {self.envs} environments"
        return (
            f"this server answers for {many} at a time; an evaluator with --num-envs N needs "
            "b1k-eval serve --max-envs N"
        )

    @property
    def too_large_words(self) -> str:
        """For a message above `message_bytes`."""
        return (
            f"a message is larger than {self.message_bytes / 1e6:.1f} MB, all pictures of "
            f"{self.envs} environment{'' if self.envs == 1 else 's'}: {self.envs_words}"
        )

    @property
    def memory_bytes(self) -> int:
        """What all clients together can make a server hold, the policy's own memory apart."""
        return self.clients * MESSAGE_COPIES * self.message_bytes + _BASE_BYTES

    @property
    def wire(self) -> MessageLimits:
        """For reading one message."""
        return MessageLimits(size=self.message_bytes, elements=_ELEMENTS, text=_TEXT_BYTES)


class TokenBucket:
    """How long a peer has to wait, so that it does not send faster than it may.

    Args:
        rate: Messages per second in the long run; as many may come at once.
        now: Present time [s].
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = max(rate, 1.0)
        self._tokens = self._most
        self._then = now

    def delay(self, now: float) -> float:
        """Count one message at time `now` [s]; returns how long to wait before the next [s]."""
        self._tokens = min(self._most, self._tokens + (now - self._then) * self._rate) - 1.0
        self._then = now
        return max(0.0, -self._tokens / self._rate)


class Door:
    """Who may connect: everybody without a key, else who sends it.

    Attributes:
        warning: What a person must know of a door that stands open to the network, else None.
    """

    def __init__(self, host: str, api_key: str | None, *, no_key: bool = False) -> None:
        """Check that a door to the network has a key, or that it is meant to have none.

        Args:
            host: What is listened on.
            api_key: Wanted from clients; None for nobody's.
            no_key: Anybody may connect, from other machines too: the official evaluators' clients
                cannot send a key.

        Raises:
            UsageError: It has none though others can reach it, one that is not fit to be one, or
                one although it is to have none.
        """
        if api_key is not None and no_key:
            raise UsageError(
                "--no-key lets in who has no key, and there is one: leave --no-key away, or "
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
        """Whether the header `Authorization` has the key; takes equally long for every wrong one.

        Args:
            authorization: The header; None where there is none.
        """
        if self._expected is None:
            return True
        given = (authorization or "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, self._expected)


def _check_key(key: str) -> None:
    if len(key) < SHORTEST_KEY or not all("!" <= letter <= "~" for letter in key):
        raise UsageError(
            f"the API key must have at least {SHORTEST_KEY} printable ASCII characters without "
            f"spaces, got {len(key)}; one can be made with: openssl rand -hex 16"
        )


def is_loopback(host: str) -> bool:
    """Whether every address that a host stands for is this machine's own.

    Raises:
        UsageError: There is no such host.
    """
    if not host:  # asyncio's word for all interfaces
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"--host {host}: there is no such host ({error})") from error
    return all(ipaddress.ip_address(str(entry[4][0]).split("%")[0]).is_loopback for entry in found)


def listen_on(host: str, port: int) -> socket.socket:
    """A socket that has its address already and does not listen yet.

    Taken before a checkpoint is loaded: a port that is in use is known at once, and nobody who
    connects early is left waiting.

    Raises:
        UsageError: The address cannot be had.
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
            f"--host {host} --port {port} cannot be had ({error}): choose another --port (0 for "
            "any that is free)"
        ) from error
    return bound
