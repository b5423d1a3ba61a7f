"""A ZeroMQ connection to GR00T's server, with a deadline for every operation.

ZeroMQ hides lost connections: it connects anew by itself, and a question that a dead server took is
never answered. So it is told not to, and the socket's own events say when the connection broke. A
socket whose question got no answer cannot ask again, and is made anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from b1k_envs.errors import B1kEvalError
from b1k_policies.remote.gr00t.forms import pack_message, unpack_message
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.address import Address
from b1k_policies.remote.wire.dialogue import gist
from b1k_policies.remote.wire.limits import WireError
from b1k_policies.remote.wire.link import (
    ANSWERS,
    OPEN_TIMEOUT_S,
    LateError,
    LostError,
    RefusedError,
)

if TYPE_CHECKING:
    import zmq

CONFIG_TIMEOUT_S = 30.0
"""How long a modality config may take [s]: a server answers one client at a time."""

_UNAUTHORISED = "Unauthorized"
"""How the error of a server that wants another token begins."""
_WAY_TOO_LARGE = 4 * ANSWERS.size
"""Size of a message at which ZeroMQ hangs up by itself [bytes]; smaller ones are named."""


class ReportedError(B1kEvalError):
    """The server answered with an error; the text is the gist of what it said."""


class Gr00tLink:
    """A connection that can be reopened; for use on one thread at a time."""

    def __init__(
        self,
        address: Address,
        token: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a link without opening it; needs pyzmq.

        Args:
            address: Address of the server.
            token: Sent as `api_token`; None sends none.
            clock: Monotonic time [s], in which deadlines are given.
        """
        import zmq

        # Of its own: a context is of no use after a fork.
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._address = address
        self._token = token
        self._clock = clock
        self._socket: zmq.Socket[bytes] | None = None
        self._events: zmq.Socket[bytes] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._socket is not None

    def open(self, deadline: float) -> dict[Any, Any]:
        """Connect.

        Returns:
            The server's modality config.

        Raises:
            LostError: The server cannot be reached, or does not speak ZeroMQ.
            RefusedError: It wants another token, or its modality config is none.
            LateError: The deadline has passed.
        """
        self.drop()
        if self._clock() >= deadline:
            raise LateError(f"{self._address} did not answer in time")
        try:
            self._connect(min(deadline, self._clock() + OPEN_TIMEOUT_S))
            found = self._config(deadline)
            if not isinstance(found, dict):
                raise WireError(f"a {type(found).__name__}")
        except (LateError, LostError):
            self.drop()
            raise
        except ReportedError as error:
            self.drop()
            raise self._refused(str(error)) from error
        except WireError as error:
            self.drop()
            raise RefusedError(
                f"{self._address} is not a server of GR00T's protocol: its modality config must be "
                f"a map, got {error}"
            ) from error
        return found

    def ask(self, endpoint: str, data: Mapping[str, Any] | None, deadline: float) -> object:
        """Ask, and return the answer.

        Raises:
            ReportedError: The answer is an error.
            WireError: The question cannot be sent, or the answer not be read.
            LostError: The connection broke.
            LateError: The deadline has passed.
        """
        return self.ask_packed(self.packed(endpoint, data), deadline)

    def packed(self, endpoint: str, data: Mapping[str, Any] | None) -> bytes:
        """Return a question as bytes, which may be asked several times.

        Raises:
            WireError: It cannot be sent.
        """
        request: dict[str, Any] = {"endpoint": endpoint}
        if data is not None:
            request["data"] = dict(data)
        if self._token is not None:
            request["api_token"] = self._token
        return pack_message(request)

    def ask_packed(self, question: bytes, deadline: float) -> object:
        """As `ask`."""
        import zmq

        if self._socket is None:
            raise LostError(f"{self._address}: not connected")
        try:
            self._wait(self._socket, zmq.POLLOUT, deadline)
            self._socket.send(question, zmq.DONTWAIT)
            self._wait(self._socket, zmq.POLLIN, deadline)
            answer = self._socket.recv(zmq.DONTWAIT)
        except zmq.ZMQError as error:
            raise LostError(f"{self._address}: {error}") from error
        if len(answer) > ANSWERS.size:
            raise WireError(f"it is larger than {ANSWERS.size} bytes")
        found = unpack_message(answer, ANSWERS)
        if isinstance(found, dict) and "error" in found:
            raise ReportedError(gist(str(found["error"])))
        return found

    def drop(self) -> None:
        """Give the connection up; safe to call without one."""
        socket, self._socket = self._socket, None
        events, self._events = self._events, None
        if socket is not None:
            socket.disable_monitor()
            socket.close(linger=0)
        if events is not None:
            events.close(linger=0)

    def close(self) -> None:
        """Close the connection for good; safe to call twice."""
        self.drop()
        self._context.term()

    # --- inside ------------------------------------------------------------------------------

    def _config(self, deadline: float) -> object:
        soon = self._clock() + CONFIG_TIMEOUT_S
        try:
            return self.ask("get_modality_config", None, min(soon, deadline))
        except LateError as error:
            if soon >= deadline:
                raise
            raise LostError(f"{self._address} tells no modality config") from error

    def _connect(self, deadline: float) -> None:
        import zmq

        self._socket = socket = self._context.socket(zmq.REQ)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        socket.setsockopt(zmq.MAXMSGSIZE, _WAY_TOO_LARGE)
        host = self._address.host
        if ":" in host:
            socket.setsockopt(zmq.IPV6, 1)
            host = f"[{host}]"
        self._events = socket.get_monitor_socket()
        try:
            socket.connect(f"tcp://{host}:{self._address.port}")
            met = False
            while True:
                if not self._events.poll(_ms(deadline - self._clock())):
                    raise self._stranger() if met else LostError(f"{self._address} does not answer")
                event = self._event()
                met |= event == zmq.EVENT_CONNECTED
                if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    return
                self._raise_if_lost(event)
        except zmq.ZMQError as error:
            self.drop()
            raise LostError(f"{self._address}: {error}") from error
        except LostError:
            self.drop()
            raise

    def _wait(self, socket: zmq.Socket[bytes], for_what: int, deadline: float) -> None:
        """Wait until the socket can be written or read."""
        import zmq

        assert self._events is not None
        poller = zmq.Poller()
        poller.register(socket, for_what)
        poller.register(self._events, zmq.POLLIN)
        while True:
            left = deadline - self._clock()
            ready = dict(poller.poll(_ms(left)))
            if socket in ready:  # first: an answer may have come before the connection broke
                return
            if self._events in ready:
                self._raise_if_lost(self._event())
            elif left <= 0:
                raise LateError(f"{self._address} did not answer in time")

    def _event(self) -> int:
        from zmq.utils.monitor import recv_monitor_message

        assert self._events is not None
        return int(recv_monitor_message(self._events)["event"])

    def _raise_if_lost(self, event: int) -> None:
        import zmq

        if event in (zmq.EVENT_CLOSED, zmq.EVENT_CONNECT_RETRIED):
            raise LostError(f"{self._address}: connection refused, or no such host")
        if event in (
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
            zmq.EVENT_HANDSHAKE_FAILED_AUTH,
        ):
            raise self._stranger()
        if event in (zmq.EVENT_DISCONNECTED, zmq.EVENT_MONITOR_STOPPED):
            raise LostError(f"{self._address}: the connection broke")

    def _stranger(self) -> LostError:
        return LostError(f"{self._address} does not speak ZeroMQ as GR00T's servers do")

    def _refused(self, said: str) -> RefusedError:
        if not said.startswith(_UNAUTHORISED):
            return RefusedError(f"{self._address} gives no modality config: {said}")
        which = "it was not given any" if self._token is None else "not the one it was given"
        return RefusedError(
            f"{self._address} wants a token, and {which}: set the environment variable "
            f"{keys.KEY_VARIABLE}"
        )


def _ms(left: float) -> int:
    """Return a time that is left [s] in whole ms, rounded up: the next poll would be too early."""
    return max(0, math.ceil(1e3 * left))
