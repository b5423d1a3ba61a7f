"""A TCP connection of the server, with limits that apply before the handshake."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, CloseCode, Frame
from websockets.protocol import State

from b1k_policies.remote.server import limits

_LONGEST_REASON = 120
"""Length of a close frame's reason [bytes]; the protocol allows 123."""
_LONGEST_TEXT = 1000

LOG = logging.getLogger(__name__)


class GuardedConnection(ServerConnection):
    """A TCP connection that is counted, and cut off if it does not read what it is sent.

    It is counted from the start, so that handshakes that are never completed count too.
    """

    def __init__(
        self,
        all_of_them: set[GuardedConnection],
        most: int,
        too_large: str,
        *args: Any,  # noqa: ANN401 - the library's own
        **options: Any,  # noqa: ANN401
    ) -> None:
        """Take the library's own arguments, and those of all connections.

        Args:
            all_of_them: All present connections.
            most: Largest number of connections.
            too_large: Text that is sent for a message that is too large.
            args: The library's.
            options: The library's.
        """
        super().__init__(*args, **options)
        # The library only closes with a code; the protocol reports errors as text.
        fail = self.protocol.fail

        def fail_in_words(code: CloseCode | int, reason: str = "") -> None:
            if code == CloseCode.MESSAGE_TOO_BIG and self.protocol.state is State.OPEN:
                LOG.warning("%s: refused: %s", peer_of(self), too_large)
                self.protocol.send_text(too_large.encode())
            fail(code, reason)

        self.protocol.fail = fail_in_words  # type: ignore[method-assign]
        self._all_of_them = all_of_them
        self._most = most
        self._leaving = False

    async def refuse(self, code: int, reason: str) -> None:
        """Send the reason as a text, as the protocol has it for errors, and close."""
        # Without the text an evaluator would reconnect and ask the same again.
        await self.send(_plain(reason)[:_LONGEST_TEXT])
        await self.leave(code, reason)

    async def leave(self, code: int, reason: str) -> None:
        """Close with a code and a reason, of which as much is sent as a close frame holds."""
        # Messages that are still in the pipe are read and dropped: unread, they would hold up the
        # peer's own close frame until the timeout.
        self._leaving = True
        self.transport.resume_reading()
        plain = _plain(reason)
        if len(plain) > _LONGEST_REASON:
            plain = plain[: _LONGEST_REASON - 3] + "..."
        await self.close(code, plain)

    def process_event(self, event: Any) -> None:  # noqa: ANN401 - the library's own
        """Handle an event, unless it is a message that came after `leave`."""
        late = self._leaving and isinstance(event, Frame) and event.opcode in DATA_OPCODES
        if not late:
            super().process_event(event)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or close it at once if there are too many."""
        if len(self._all_of_them) >= self._most:
            cast("asyncio.Transport", transport).abort()
            return
        self._all_of_them.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection."""
        if self in self._all_of_them:
            self._all_of_them.remove(self)
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle data, and cut off a peer that does not read."""
        # Pongs are written without waiting: a peer that only sends pings would fill our memory.
        if self not in self._all_of_them:
            return
        super().data_received(data)
        if self.transport.get_write_buffer_size() > limits.MOST_UNREAD:
            LOG.warning("%s: cut off: it does not read what it is sent", peer_of(self))
            self.transport.abort()

    def eof_received(self) -> None:
        """Handle the end of the stream."""
        if self in self._all_of_them:
            super().eof_received()


def _plain(text: str) -> str:
    """Replace all but printable ASCII."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def peer_of(connection: ServerConnection) -> str:
    """Return address and port of the peer, for the log."""
    address = connection.remote_address
    return ":".join(map(str, address[:2])) if isinstance(address, tuple) else "unknown"
