"""One connection to a policy server, with a deadline for every operation.

It behaves like the evaluator's client (StanfordVL/BEHAVIOR-1K, OmniGibson/omnigibson,
`eval/utils/network_utils.py`): /healthz first, no compression, pings that need no answer, the
server's metadata before anything else. A proxy named in the environment is not used.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from b1k_envs.errors import B1kEvalError, UnavailableError, UsageError
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.address import Address
from b1k_policies.remote.wire.codec import WireError, unpack
from b1k_policies.remote.wire.limits import MessageLimits

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

ANSWERS = MessageLimits(size=16 * 2**20)
"""Limits of one message from a server."""

HEALTH_TIMEOUT_S = 2.0
OPEN_TIMEOUT_S = 10.0
METADATA_TIMEOUT_S = 10.0
_PING_INTERVAL_S = 60.0
_CLOSE_TIMEOUT_S = 2.0
_OLDEST_WEBSOCKETS = 15
"""Oldest usable version: before it, the blocking client had no pings."""
_UNAUTHORISED = (401, 403)


class LostError(B1kEvalError):
    """There is no connection, or it broke; another attempt may succeed."""


class RefusedError(B1kEvalError):
    """The server is there and refuses the connection, now and later."""


class LateError(B1kEvalError):
    """The deadline has passed."""


def require_websockets() -> None:
    """Check that the websockets package can be used.

    Raises:
        UnavailableError: websockets is missing or too old.
    """
    install = "pip install '.[server]' in the checkout"
    try:
        version = importlib.metadata.version("websockets")
    except importlib.metadata.PackageNotFoundError as error:
        raise UnavailableError(
            f"a policy server is talked to by the package websockets, which is missing: {install}"
        ) from error
    if int(version.partition(".")[0]) < _OLDEST_WEBSOCKETS:
        raise UnavailableError(
            f"websockets {version} is too old, at least {_OLDEST_WEBSOCKETS} is needed: {install}"
        )


def api_key_here() -> str | None:
    """Return the API key from the environment, or None.

    Raises:
        UsageError: The key cannot be sent; the text does not repeat it.
    """
    key = os.environ.get(keys.KEY_VARIABLE) or None
    if key is not None and not all("!" <= letter <= "~" for letter in key):
        raise UsageError(
            f"the environment variable {keys.KEY_VARIABLE} may only have printable ASCII "
            "characters without spaces"
        )
    return key


class Link:
    """A connection that can be reopened; for use on one thread at a time.

    Attributes:
        greeting: The metadata of the present connection as received; None before the first.
    """

    def __init__(
        self,
        address: Address,
        api_key: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a link without opening it.

        Args:
            address: Address of the server.
            api_key: Sent in the header `Authorization`; None sends none.
            clock: Monotonic time [s], in which deadlines are given.
        """
        self._address = address
        self._api_key = api_key
        self._clock = clock
        self._connection: ClientConnection | None = None
        self.greeting: bytes | str | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None

    def open(self, deadline: float) -> dict[Any, Any]:
        """Connect.

        Returns:
            The server's metadata.

        Raises:
            LostError: The server cannot be reached, or sends nothing.
            RefusedError: It wants another key, or its metadata is not a map.
            LateError: The deadline has passed.
        """
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.sync.client import connect

        self.drop()
        self._check_health(self._left(deadline, HEALTH_TIMEOUT_S))
        key = self._api_key
        try:
            self._connection = connect(
                str(self._address),
                compression=None,
                additional_headers=None if key is None else {"Authorization": f"Api-Key {key}"},
                proxy=None,
                open_timeout=self._left(deadline, OPEN_TIMEOUT_S),
                close_timeout=_CLOSE_TIMEOUT_S,
                ping_interval=_PING_INTERVAL_S,
                ping_timeout=None,  # the reference server answers no ping while it infers
                max_size=ANSWERS.size,
            ).__enter__()
            found = self._connection.recv(timeout=self._left(deadline, METADATA_TIMEOUT_S))
            self.greeting = found
            return self._metadata(found)
        except WireError as error:
            self.drop()
            raise RefusedError(
                f"{self._address} is not a policy server of this protocol: its first message must "
                f"be a map of metadata, got {error}"
            ) from error
        except InvalidStatus as error:
            raise self._not_let_in(error.response.status_code) from error
        except TimeoutError as error:
            self.drop()
            raise LostError(f"{self._address} does not answer") from error
        except (OSError, EOFError, WebSocketException) as error:
            self.drop()
            raise LostError(f"{self._address}: {_told(error)}") from error

    def send(self, data: bytes, deadline: float) -> None:
        """Send a message.

        Raises:
            LostError: The connection broke.
            LateError: The deadline has passed.
        """
        from websockets.exceptions import ConnectionClosed

        connection = self._open_connection()
        with self._cut_off(connection, deadline):
            try:
                connection.send(data)
            except (ConnectionClosed, OSError, EOFError) as error:
                raise LostError(f"{self._address}: {_told(error)}") from error

    def receive(self, deadline: float) -> bytes | str:
        """Receive the next message.

        Raises:
            WireError: The message is too large.
            LostError: The connection broke.
            LateError: The deadline has passed.
        """
        from websockets.exceptions import ConnectionClosed
        from websockets.frames import CloseCode

        connection = self._open_connection()
        try:
            return connection.recv(timeout=self._left(deadline))
        except TimeoutError as error:
            raise self._late() from error
        except ConnectionClosed as error:
            # Our own side closes a connection on which a message is too large.
            if error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG:
                raise WireError(f"it is larger than {ANSWERS.size} bytes") from error
            raise LostError(f"{self._address}: {_told(error)}") from error
        except (OSError, EOFError) as error:
            raise LostError(f"{self._address}: {_told(error)}") from error

    def waiting(self) -> bytes | str | None:
        """Return a message that has arrived already; None if there is none, or no connection.

        A lost connection is reported by the next `send`.
        """
        from websockets.exceptions import ConnectionClosed

        if self._connection is None:
            return None
        try:
            return self._connection.recv(timeout=0)
        except (TimeoutError, ConnectionClosed, OSError, EOFError):
            return None

    def drop(self) -> None:
        """Give the connection up without closing it in order; safe to call without one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _cut(connection)
            connection.close()

    def close(self) -> None:
        """Close the connection in order; safe to call twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # --- inside ------------------------------------------------------------------------------

    def _check_health(self, timeout_s: float) -> None:
        secure = self._address.scheme == "wss"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        health = kind(self._address.host, self._address.port, timeout=timeout_s)
        try:
            health.request("GET", keys.HEALTH_PATH)
            status = health.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise LostError(f"{self._address}{keys.HEALTH_PATH}: {_told(error)}") from error
        finally:
            health.close()
        if status != http.HTTPStatus.OK:
            raise LostError(f"{self._address}{keys.HEALTH_PATH} answers {status}, expected 200")

    def _not_let_in(self, status: int) -> B1kEvalError:
        if status not in _UNAUTHORISED:
            return LostError(f"{self._address} answers {status} where it should open a WebSocket")
        which = "it was not given any" if self._api_key is None else "not the one it was given"
        return RefusedError(
            f"{self._address} wants an API key, and {which}: set the environment variable "
            f"{keys.KEY_VARIABLE}"
        )

    def _metadata(self, found: bytes | str) -> dict[Any, Any]:
        if isinstance(found, str):
            raise WireError("a text")
        metadata = unpack(found, ANSWERS)
        if not isinstance(metadata, dict):
            raise WireError(f"a {type(metadata).__name__}")
        return metadata

    def _open_connection(self) -> ClientConnection:
        if self._connection is None:
            raise LostError(f"{self._address}: not connected")
        return self._connection

    def _left(self, deadline: float, most: float = float("inf")) -> float:
        left = deadline - self._clock()
        if left <= 0:
            raise self._late()
        return min(left, most)

    def _late(self) -> LateError:
        return LateError(f"{self._address} did not answer in time")

    @contextlib.contextmanager
    def _cut_off(self, connection: ClientConnection, deadline: float) -> Iterator[None]:
        """Shut the socket at the deadline, as a server that does not read blocks a sender."""
        fired = threading.Event()

        def cut() -> None:
            fired.set()
            _cut(connection)

        timer = threading.Timer(self._left(deadline), cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except LostError as error:
            # The connection broke because the deadline cut it.
            if fired.is_set():
                raise self._late() from error
            raise
        finally:
            timer.cancel()


def _cut(connection: ClientConnection) -> None:
    with contextlib.suppress(OSError):  # the socket is closed already
        connection.socket.shutdown(socket.SHUT_RDWR)


def _told(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"
