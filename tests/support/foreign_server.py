"""A policy server written from the protocol's text alone: websockets and msgpack, nothing of ours.

/healthz answers 200; a connection begins with the server's metadata; {"reset": True} is not
answered, unless `on_reset` says otherwise; an observation is, by whatever `script` says.
"""

from __future__ import annotations

import http
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

Map = dict[Any, Any]


def encode(value: Any) -> bytes:
    """msgpack, arrays as maps with bytes for keys."""

    def default(found: Any) -> Map:
        if isinstance(found, np.ndarray):
            return {
                b"__ndarray__": True,
                b"data": found.tobytes(),
                b"dtype": found.dtype.str,
                b"shape": found.shape,
            }
        return {b"__npgeneric__": True, b"data": found.item(), b"dtype": found.dtype.str}

    return msgpack.packb(value, default=default)


def decode(data: bytes) -> Any:
    def hook(found: Map) -> Any:
        if b"__ndarray__" in found:
            flat = np.frombuffer(found[b"data"], dtype=found[b"dtype"])
            return flat.reshape(found[b"shape"])
        if b"__npgeneric__" in found:
            return np.dtype(found[b"dtype"]).type(found[b"data"])
        return found

    return msgpack.unpackb(data, object_hook=hook, strict_map_key=False)


class HangsError(Exception):
    """Raised by a script: no answer, and the connection stays."""


class DiesError(Exception):
    """Raised by a script: the TCP connection ends without a word."""


class GoesError(DiesError):
    """Raised by a script: likewise, and nobody listens any more, until `start`."""


@dataclass
class ForeignServer:
    """What was received, and what to answer.

    Attributes:
        script: From observation to the answer: a map, raw bytes, a text; a list of them; or raises.
        on_reset: From a reset to what it is answered by: a list of the same.
        metadata: Sent first; raw bytes or text as they are, None for silence.
        greetings: How often they are sent.
        healthy: Status of /healthz, asked anew each time.
        api_key: Wanted in the header; None for nobody's.
        tls: Certificate and key; None for no encryption.
        resets: Messages with `reset`, per connection.
        observations: All others, in order.
        frames: Every message as it came.
    """

    script: Callable[[Map], Any]
    on_reset: Callable[[Map], list[Any]] = lambda _: []
    metadata: Any = field(default_factory=dict)
    greetings: int = 1
    healthy: Callable[[], int] = lambda: 200
    api_key: str | None = None
    tls: ssl.SSLContext | None = None
    port: int = 0
    connections: int = 0
    health_checks: int = 0
    log: list[tuple[str, Any]] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    _server: Server | None = None

    @property
    def address(self) -> str:
        return f"{'ws' if self.tls is None else 'wss'}://127.0.0.1:{self.port}"

    @property
    def kinds(self) -> list[str]:
        """`connect`, `reset` and `observation`, in order."""
        return [kind for kind, _ in self.log]

    @property
    def observations(self) -> list[Map]:
        return [message for kind, message in self.log if kind == "observation"]

    @property
    def resets(self) -> list[Map]:
        return [message for kind, message in self.log if kind == "reset"]

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = serve(
            self._talk,
            "127.0.0.1",
            self.port,
            compression=None,
            max_size=None,
            process_request=self._process_request,
            ssl=self.tls,
        )
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Refuse new connections."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()

    def _go(self) -> None:
        """Refuse new connections from now on; the rest of stopping waits for this very thread."""
        server, self._server = self._server, None
        if server is not None:
            server.socket.close()
            threading.Thread(target=server.shutdown, daemon=True).start()

    def _process_request(self, connection: ServerConnection, request: Any) -> Any:
        if request.path == "/healthz":
            self.health_checks += 1
            return connection.respond(http.HTTPStatus(self.healthy()), "OK\n")
        given = request.headers.get("Authorization")
        if self.api_key is not None and given != f"Api-Key {self.api_key}":
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "no\n")
        return None

    def _talk(self, connection: ServerConnection) -> None:
        self.connections += 1
        self.log.append(("connect", None))
        try:
            if self.metadata is None:
                self.released.wait(20)
                return
            self._send(connection, [self.metadata] * self.greetings)
            while True:
                frame = connection.recv()
                self.frames.append(frame)
                message = decode(frame)
                if "reset" in message:
                    self.log.append(("reset", message))
                    self._send(connection, self.on_reset(message))
                    continue
                self.log.append(("observation", message))
                answer = self.script(message)
                self._send(connection, answer if isinstance(answer, list) else [answer])
        except HangsError:
            self.released.wait(20)
        except DiesError as death:
            if isinstance(death, GoesError):
                self._go()
            connection.socket.shutdown(socket.SHUT_RDWR)
        except ConnectionClosed:
            pass

    @staticmethod
    def _send(connection: ServerConnection, messages: list[Any]) -> None:
        for message in messages:
            if isinstance(message, type):
                raise message
            connection.send(message if isinstance(message, (bytes, str)) else encode(message))


@contextmanager
def foreign_server(script: Callable[[Map], Any], **fields: Any) -> Iterator[ForeignServer]:
    server = ForeignServer(script, **fields)
    server.start()
    try:
        yield server
    finally:
        server.released.set()
        server.stop()


def in_turn(*answers: Any) -> Callable[[Map], Any]:
    """A script that gives one answer after the other; exceptions are raised, functions called."""
    rest = list(answers)

    def script(message: Map) -> Any:
        answer = rest.pop(0)
        if isinstance(answer, type) and issubclass(answer, Exception):
            raise answer
        return answer(message) if callable(answer) else answer

    return script


def row(number: float) -> np.ndarray:
    """An action that can be told from others, float32 [23]."""
    return (np.arange(23) / 100 + number).astype(np.float32)
