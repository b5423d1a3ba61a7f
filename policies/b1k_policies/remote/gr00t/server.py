"""A server of GR00T's protocol for any policy here.

One thread reads and answers; the engine computes on its own (`server.batching`), with what several
clients ask in one call. Each connection has a session, as over WebSockets. ZeroMQ does not say when
a client is gone, so the session that was used last is forgotten when there are too many.

Every request is answered, by `{"error": text}` if by nothing better: a client that gets no answer
cannot ask again. Nothing that a peer sends is executed, and `kill` is refused.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from b1k_policies.base import Policy
from b1k_policies.remote.gr00t.forms import pack_message, unpack_message
from b1k_policies.remote.gr00t.modality import modality_config
from b1k_policies.remote.gr00t.observations import action_message
from b1k_policies.remote.gr00t.requests import (
    Needs,
    Request,
    Seen,
    options_of,
    read_observation,
    read_request,
)
from b1k_policies.remote.server.batching import Batcher, Reply, account_of
from b1k_policies.remote.server.limits import GRACE_S, Door, Quota
from b1k_policies.remote.server.sessions import RequestError, Session, Terms
from b1k_policies.remote.wire.limits import WireError
from b1k_policies.remote.wire.messages import read_reset
from b1k_policies.remote.wire.metadata import ServerInfo
from b1k_policies.remote.wire.observations import ManyEnvsError

if TYPE_CHECKING:
    import zmq

LOG = logging.getLogger("b1k_policies.remote.server.gr00t")
"""Below the logger of the other server, so that one level is set for both."""

_FAILED = {"error": "the server failed; see its log"}
_FRAMES = 3
"""Of a question from a REQ socket: the connection's name, nothing, the message."""


@dataclass
class _Client:
    """One connection: its session, the question that is being answered, and how many were."""

    session: Session
    seen: Seen | None = None
    replies: list[Future[Reply]] = field(default_factory=list)
    answers: int = 0


class Gr00tServer:
    """Serves one engine until it is stopped."""

    def __init__(
        self, batcher: Batcher, terms: Terms, quota: Quota, door: Door, policy: Policy
    ) -> None:
        """Prepare; `run` starts the server. Needs pyzmq.

        Args:
            batcher: Answers observations; closed by the caller.
            terms: Settings of every session. Of a client that is not ours it is taken that it
                executes `horizon` rows of a chunk before it asks again.
            quota: Limits for peers; messages are not slowed down.
            door: Admission of clients, who send the key as `api_token`.
            policy: What is served, for the modality config.
        """
        self._batcher = batcher
        self._terms = terms
        self._quota = quota
        self._door = door
        self._needs = Needs.of(policy)
        self._config = self._describe(policy)
        self._clients: OrderedDict[bytes, _Client] = OrderedDict()
        self._stopping = False
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)

    def run(self, sock: socket.socket, ready: Callable[[str, int], None]) -> None:
        """Serve on a bound socket until SIGINT, SIGTERM or `stop`.

        Args:
            sock: From `limits.listen_on`; handed over to ZeroMQ.
            ready: Called with address and port once clients can connect.
        """
        import zmq

        address, port = sock.getsockname()[:2]
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        router = context.socket(zmq.ROUTER)
        try:
            router.setsockopt(zmq.LINGER, 1000)
            router.setsockopt(zmq.MAXMSGSIZE, self._quota.message_bytes)
            router.setsockopt(zmq.RCVHWM, 1)  # a client has one question at a time
            router.setsockopt(zmq.SNDHWM, 4)
            host = address
            if sock.family == socket.AF_INET6:
                router.setsockopt(zmq.IPV6, 1)
                host = f"[{address}]"
            sock.listen()
            router.setsockopt(zmq.USE_FD, sock.detach())
            router.bind(f"tcp://{host}:{port}")
            LOG.info("%s", self._quota.envs_words)
            if self._door.warning is not None:
                LOG.warning("%s", self._door.warning)
            with _signals(self.stop):
                ready(address, port)
                self._serve(router)
        finally:
            router.close()
            context.term()
            self._woken.close()
            self._waker.close()

    def stop(self) -> None:
        """Finish running inferences and end; from any thread, or a signal's handler."""
        self._stopping = True
        self._wake()

    # --- the loop -----------------------------------------------------------------------------

    def _serve(self, router: zmq.Socket[bytes]) -> None:
        import zmq

        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        woken = self._woken.fileno()
        poller.register(woken, zmq.POLLIN)
        while not self._stopping:
            ready = dict(poller.poll())
            if woken in ready:
                self._woken.recv(4096)
                self._send_answers(router)
            if router in ready:
                self._take(router, router.recv_multipart())
        self._end(router)

    def _end(self, router: zmq.Socket[bytes]) -> None:
        LOG.info("stopping: inferences under way are finished first")
        for client in self._clients.values():
            for reply in client.replies:
                with contextlib.suppress(Exception):  # reported by its answer
                    reply.exception(timeout=GRACE_S)
        self._send_answers(router)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake anyway; closed: it has ended
            self._waker.send(b"x")

    def _take(self, router: zmq.Socket[bytes], frames: Sequence[bytes]) -> None:
        """Answer a request, or submit its observations."""
        if len(frames) != _FRAMES or frames[1]:
            LOG.warning("a message that is no question is passed over")
            return
        peer, _, message = frames
        try:
            answer = self._answer(peer, message)
        except (WireError, RequestError) as error:
            LOG.warning("%s: refused: %s", peer.hex(), ascii(str(error)))
            answer = {"error": str(error)}
        except Exception:
            LOG.exception("%s: the server failed", peer.hex())
            answer = _FAILED
        if answer is not None:
            self._send(router, peer, answer)

    def _send(self, router: zmq.Socket[bytes], peer: bytes, answer: object) -> None:
        import zmq

        # A client that is gone has no name any more, and one that does not read is not waited for.
        with contextlib.suppress(zmq.ZMQError):
            router.send_multipart([peer, b"", pack_message(answer)], zmq.DONTWAIT)

    def _send_answers(self, router: zmq.Socket[bytes]) -> None:
        for peer, client in self._clients.items():
            if not client.replies or not all(reply.done() for reply in client.replies):
                continue
            try:
                answer = self._found(peer, client)
            except Exception:
                LOG.exception("%s: the server failed", peer.hex())
                answer = _FAILED
            self._send(router, peer, answer)

    # --- requests -------------------------------------------------------------------------------

    def _answer(self, peer: bytes, message: bytes) -> object:
        """Return the answer, or None if it comes later."""
        request = read_request(unpack_message(message, self._quota.wire))
        if not self._door.admits(f"Api-Key {request.token}"):
            LOG.warning("%s: refused: no valid token", peer.hex())
            return {"error": "Unauthorized: this server wants its API key as api_token"}
        if request.endpoint == "ping":
            return {"status": "ok", "message": "b1k-eval serves a policy"}
        if request.endpoint == "get_modality_config":
            return self._config
        if request.endpoint == "kill":
            return {"error": "this server is ended where it was started, not by its clients"}
        client = self._client(peer)
        if client.replies:
            raise RequestError("one question at a time: the last one is not answered yet")
        if request.endpoint == "reset":
            client.session.reset(read_reset(options_of(request)))
            return {}
        self._submit(client, request)
        return None

    def _client(self, peer: bytes) -> _Client:
        """Return a connection's own, at the cost of the one that asked longest ago."""
        if peer not in self._clients:
            if len(self._clients) >= self._quota.clients:
                idle = next((name for name, one in self._clients.items() if not one.replies), None)
                if idle is None:
                    raise RequestError(
                        f"all {self._quota.clients} places are taken: see --max-clients"
                    )
                self._forget(idle)
            LOG.info("%s: a new client", peer.hex())
            self._clients[peer] = _Client(Session(self._terms))
        self._clients.move_to_end(peer)
        return self._clients[peer]

    def _forget(self, peer: bytes) -> None:
        client = self._clients.pop(peer)
        LOG.info("%s: forgotten after %d answers", peer.hex(), client.answers)
        self._count_peers()

    def _submit(self, client: _Client, request: Request) -> None:
        session = client.session
        try:
            seen = read_observation(
                request,
                self._needs,
                task_index=self._terms.task_index,
                step=session.step,
                worlds=self._quota.envs,
            )
        except ManyEnvsError as error:
            raise RequestError(f"{error}: {self._quota.envs_words}") from error
        asks = session.ask(seen.observations, self._terms.chunk_length, anew=True)
        client.seen = seen
        self._count_peers()
        client.replies = self._batcher.submit(asks)
        for reply in client.replies:
            reply.add_done_callback(lambda _: self._wake())

    def _found(self, peer: bytes, client: _Client) -> object:
        """Return the answer to a client's question, all of whose replies have come."""
        seen, replies = client.seen, client.replies
        assert seen is not None
        client.seen, client.replies = None, []
        faults = [error for reply in replies if (error := reply.exception()) is not None]
        if faults:
            account = account_of(faults[0], frank=self._terms.frank)
            LOG.error("%s: %s", peer.hex(), account, exc_info=faults[0])
            return {"error": account}
        chunks = [reply.result().chunk for reply in replies]
        answer = client.session.answer(chunks, self._terms.chunk_length)
        client.answers += 1
        # Nobody says how many rows are executed, so the next observation is taken to be this late.
        client.session.step = seen.observations[0].step + self._terms.horizon
        assert answer.action_chunk is not None
        return [action_message(answer.action_chunk, seen.form), {}]

    def _count_peers(self) -> None:
        self._batcher.peers = sum(
            1 if client.seen is None else len(client.seen.observations)
            for client in self._clients.values()
        )

    def _describe(self, policy: Policy) -> dict[str, Any]:
        info = ServerInfo(
            name=policy.name,
            chunk_length=policy.chunk_length,
            skipped_rows=policy.skipped_rows,
            images="native" if policy.needs_images else "none",
            remarks=policy.remarks,
        )
        config = modality_config(
            pictures=self._needs.images,
            states=self._needs.states,
            chunk_length=policy.chunk_length,
        )
        return {**config, **info.as_metadata()}


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGINT and SIGTERM, on the main thread; elsewhere they are not ours."""
    previous = {}
    try:
        with contextlib.suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                previous[number] = signal.signal(number, lambda _number, _frame: stop())
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
