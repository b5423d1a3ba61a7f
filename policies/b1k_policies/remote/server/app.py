"""The server: start, admission of clients, and shutdown.

It speaks the protocol of openpi's `websocket_policy_server` with the additions of BEHAVIOR-1K's
evaluators (StanfordVL/BEHAVIOR-1K, OmniGibson/omnigibson: `learning/utils/network_utils.py` of 2025
and `eval/utils/network_utils.py` of 2026). Nothing that a peer sends is executed. An error is sent
as one sentence; the traceback goes to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from b1k_policies.remote.server import limits
from b1k_policies.remote.server.batching import Batcher
from b1k_policies.remote.server.client import Client, TextError
from b1k_policies.remote.server.connection import GuardedConnection, peer_of
from b1k_policies.remote.server.limits import GRACE_S, Door, Quota
from b1k_policies.remote.server.sessions import RequestError, Session, Terms
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.codec import pack
from b1k_policies.remote.wire.limits import WireError

LOG = logging.getLogger(__name__)
LIBRARY_LOG = logging.getLogger(f"{__name__}.websockets")
"""It logs a traceback for every port scan, so it is silent unless its level is set."""
LIBRARY_LOG.setLevel(logging.CRITICAL)


class PolicyServer:
    """Serves one engine until it is stopped."""

    def __init__(
        self,
        batcher: Batcher,
        terms: Terms,
        quota: Quota,
        door: Door,
        metadata: dict[str, Any],
        *,
        grace_s: float = GRACE_S,
    ) -> None:
        """Prepare; `run` starts the server.

        Args:
            batcher: Answers observations; closed by the caller.
            terms: Settings of every session.
            quota: Limits for peers.
            door: Admission of clients.
            metadata: First message to every client.
            grace_s: See `limits.GRACE_S`.
        """
        self._batcher = batcher
        self._terms = terms
        self._quota = quota
        self._door = door
        self._greeting = pack(metadata)
        self._grace_s = grace_s
        self._clients = 0
        self._sockets: set[GuardedConnection] = set()
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()

    async def run(self, sock: socket.socket, ready: Callable[[str, int], None]) -> None:
        """Serve on a bound socket until SIGINT, SIGTERM or `stop`.

        Args:
            sock: From `limits.listen_on`; closed at the end.
            ready: Called with address and port once clients can connect.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError, RuntimeError):  # impossible off the main thread
                loop.add_signal_handler(number, self.stop)
        server = await serve(
            self._serve_one,
            sock=sock,
            compression=None,  # a compressed message can unpack to a thousand times its size
            origins=[None],  # refuses browsers, which name a page's origin; evaluators send none
            process_request=self._process_request,
            server_header=None,
            open_timeout=limits.OPEN_TIMEOUT_S,
            close_timeout=limits.CLOSE_TIMEOUT_S,
            ping_interval=limits.PING_INTERVAL_S,
            ping_timeout=limits.PING_TIMEOUT_S,
            max_size=self._quota.message_bytes,
            max_queue=0,  # one message waits; see `limits.MESSAGE_COPIES`
            logger=LIBRARY_LOG,
            create_connection=cast("Any", self._connection),  # annotated as a class
        )
        LOG.info("%s", self._quota.envs_words)
        if self._door.warning is not None:
            LOG.warning("%s", self._door.warning)
        ready(*sock.getsockname()[:2])
        await self._stopping.wait()
        await self._end(server)

    def stop(self) -> None:
        """Stop accepting clients and finish running inferences; a second call cuts them off.

        Call it on the loop's thread only.
        """
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()

    async def _end(self, server: Server) -> None:
        LOG.info("stopping: inferences under way are finished first")
        server.close(close_connections=False)  # each `Client` closes once it has answered
        ended = asyncio.ensure_future(server.wait_closed())
        hurrying = asyncio.ensure_future(self._hurrying.wait())
        await asyncio.wait(
            [ended, hurrying], timeout=self._grace_s, return_when=asyncio.FIRST_COMPLETED
        )
        hurrying.cancel()
        if not ended.done():
            LOG.warning("%d connections are cut", len(self._sockets))
            for connection in list(self._sockets):
                connection.transport.abort()
        await ended

    # --- at the door -------------------------------------------------------------------------

    def _connection(self, *args: Any, **options: Any) -> ServerConnection:  # noqa: ANN401
        most = self._quota.clients + limits.SPARE_CONNECTIONS
        told = self._quota.too_large_words
        return GuardedConnection(self._sockets, most, told, *args, **options)

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path.partition("?")[0] == keys.HEALTH_PATH:
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        headers = request.headers.get_all("Authorization")
        if not self._door.admits(headers[0] if len(headers) == 1 else None):
            LOG.warning("%s: refused: no valid API key", peer_of(connection))
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "an API key is needed\n")
        if self._clients >= self._quota.clients:
            LOG.warning("%s: refused: all %d places are taken", peer_of(connection), self._clients)
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "no place is free\n")
        return None

    # --- one client --------------------------------------------------------------------------

    async def _serve_one(self, connection: ServerConnection) -> None:
        guarded = cast("GuardedConnection", connection)
        peer = peer_of(connection)
        if self._clients >= self._quota.clients:  # several passed `_process_request` at once
            await guarded.leave(CloseCode.TRY_AGAIN_LATER, "no place is free")
            return
        self._clients += 1
        LOG.info("%s: connected", peer)
        client = Client(guarded, self._batcher, Session(self._terms), self._quota, peer)
        try:
            await connection.send(self._greeting)
            await client.talk(self._stopping)
        except ConnectionClosed:
            pass
        except (WireError, RequestError) as error:
            LOG.warning("%s: refused: %s", peer, ascii(str(error)))
            with contextlib.suppress(ConnectionClosed):  # it left before hearing why
                await guarded.refuse(CloseCode.POLICY_VIOLATION, str(error))
        except TextError:
            LOG.warning("%s: refused: a text message", peer)
            await guarded.leave(CloseCode.UNSUPPORTED_DATA, "messages must be binary")
        except Exception:
            LOG.exception("%s: the server failed", peer)
            await guarded.leave(CloseCode.INTERNAL_ERROR, "the server failed; see its log")
        finally:
            self._clients -= 1
            await client.forget()
            LOG.info("%s: gone after %d answers", peer, client.answers)
