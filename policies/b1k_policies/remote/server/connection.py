"""A TCP connection of the server, held to its limits before anything else looks at it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, CloseCode, Frame
from websockets.protocol import State

from b1k_policies.remote.server import limits

_LONGEST_REASON = 120
"""Of a close frame [bytes]; the protocol allows 123."""
_LONGEST_TEXT = 1000

LOG = logging.getLogger(__name__)


class GuardedConnection(ServerConnection):
    """A TCP connection that is counted, and cut off when it does not read what it is sent.

    Counted from its first moment: an opening that is never completed takes a place, too.
    """

    def __init__(
        self,
        all_of_them: set[GuardedConnection],
        most: int,
        too_large: str,
        *args: Any,  # noqa: ANN401 - the library's own
        **options: Any,  # noqa: ANN401
    ) -> None:
        """Take the library's own arguments, and what holds for all connections.

        Args:
            all_of_them: Where it is entered.
            most: How many there may be.
            too_large: What who sends too large a message is told, in the protocol's way: a text.
            args: The library's.
            options: Likewise.
        """
        super().__init__(*args, **options)
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
        """Say why, in a text as the protocol has it for errors, and close.

        An evaluator that finds the connection closed connects again and asks the same once more.
        """
        await self.send(_plain(reason)[:_LONGEST_TEXT])
        await self.leave(code, reason)

    async def leave(self, code: int, reason: str) -> None:
        """Close. What the other side sent before its own goodbye is read and dropped.

        Otherwise it would stand in the way of that goodbye until the time for it is over.

        Args:
            code: Of the close frame.
            reason: Any text; as much of it is sent as a close frame holds, in printable ASCII.
        """
        self._leaving = True
        self.transport.resume_reading()
        plain = _plain(reason)
        if len(plain) > _LONGEST_REASON:
            plain = plain[: _LONGEST_REASON - 3] + "..."
        await self.close(code, plain)

    def process_event(self, event: Any) -> None:  # noqa: ANN401 - the library's own
        """Pass it on, unless it comes too late."""
        late = self._leaving and isinstance(event, Frame) and event.opcode in DATA_OPCODES
        if not late:
            super().process_event(event)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or close at once."""
        if len(self._all_of_them) >= self._most:
            cast("asyncio.Transport", transport).abort()
            return
        self._all_of_them.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        if self in self._all_of_them:
            self._all_of_them.remove(self)
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass it on. Pongs are written without waiting: who only pings would fill our memory."""
        if self not in self._all_of_them:
            return
        super().data_received(data)
        if self.transport.get_write_buffer_size() > limits.MOST_UNREAD:
            LOG.warning("%s: cut off: it does not read what it is sent", peer_of(self))
            self.transport.abort()

    def eof_received(self) -> None:
        """Pass it on."""
        if self in self._all_of_them:
            super().eof_received()


def _plain(text: str) -> str:
    """Printable ASCII."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def peer_of(connection: ServerConnection) -> str:
    """Address and port of the other side, for the log."""
    address = connection.remote_address
    return ":".join(map(str, address[:2])) if isinstance(address, tuple) else "unknown"
