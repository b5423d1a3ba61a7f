"""What every policy behind a connection does alike: wait, reconnect, and say whose fault it was.

Faults are attributed by the 2026 rules (docs/challenge of StanfordVL/BEHAVIOR-1K): a server has
600 s for an answer and three reconnections per episode; after a reconnection the observation is
sent again.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from b1k_envs.errors import (
    B1kEvalError,
    EndsRunError,
    HostFaultError,
    PolicyFaultError,
    UnavailableError,
)
from b1k_policies.base import Policy
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.address import Address
from b1k_policies.remote.wire.link import LateError, LostError, RefusedError
from b1k_policies.remote.wire.metadata import ServerInfo

MOST_RECONNECTIONS = 3
"""Reconnections in an episode, by the 2026 rules."""
RETRY_WAIT_S = 5.0
"""Wait between two attempts to reconnect [s]."""
START_WAIT_S = 1.0
"""Wait between two attempts to reach a server that may be starting [s]."""

T = TypeVar("T")


class Line(Protocol):
    """A connection that can be reopened; `wire.link.Link` says what each does and raises."""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""

    def open(self, deadline: float) -> dict[Any, Any]:
        """Connect; returns what the server says about itself."""

    def drop(self) -> None:
        """Give the connection up."""

    def close(self) -> None:
        """Close the connection in order."""


class ServerPolicy(Policy):
    """A policy that asks a server.

    Attributes:
        address: The server's address.
        info: What a server of ours says about itself; None for any other.
    """

    info: ServerInfo | None = None

    def __init__(
        self,
        address: Address,
        line: Line,
        *,
        query_timeout_s: float | None,
        most_reconnections: float,
        retry_wait_s: float,
        sleep: Callable[[float], None],
    ) -> None:
        """Keep the line, which is not opened yet.

        Args:
            address: Address of the server.
            line: The line to it.
            query_timeout_s: Time limit of an answer [s]; None for that of the address.
            most_reconnections: See `MOST_RECONNECTIONS`; infinite if only the time limit counts.
            retry_wait_s: See `RETRY_WAIT_S`.
            sleep: Waits that many seconds.
        """
        self.address = address
        self._line = line
        self._query_timeout_s = address.timeout_s if query_timeout_s is None else query_timeout_s
        self._most_reconnections = most_reconnections
        self._retry_wait_s = retry_wait_s
        self._sleep = sleep
        self._reconnections = 0

    def close(self) -> None:
        """Close the connection."""
        self._line.close()

    @abstractmethod
    def _reconnected(self, metadata: dict[Any, Any]) -> None:
        """Take note of a new connection.

        Raises:
            HostFaultError: The server is not what the run was started with.
        """

    def _first_metadata(self, start_wait_s: float) -> dict[Any, Any]:
        """Wait for the server to start.

        Raises:
            UnavailableError: There is no server, or it refuses us.
        """
        deadline = time.monotonic() + self.address.wait_s
        while True:
            try:
                return self._line.open(time.monotonic() + self._query_timeout_s)
            except RefusedError as error:  # waiting would not help
                raise UnavailableError(str(error)) from error
            except (LostError, LateError) as error:
                if time.monotonic() + start_wait_s > deadline:
                    raise UnavailableError(
                        f"no policy server within {self.address.wait_s:g} s ({error}): start one "
                        f"{self.address.how_to_start}, or give it more time with ?wait=SECONDS"
                    ) from error
            self._sleep(start_wait_s)

    def _begin(self, step: Callable[[], None], deadline: float) -> None:
        """Announce an episode, of which the policy was not asked anything yet.

        Raises:
            HostFaultError: There is no server, which so is not the policy's fault.
            EndsRunError: As raised by `step`.
        """
        self._reconnections = 0
        try:
            self._persist(step, deadline)
        except EndsRunError:
            self._line.drop()
            raise
        except PolicyFaultError as error:
            raise HostFaultError(
                f"no server for this episode ({error}): start it again, then --resume"
            ) from error

    def _persist(self, step: Callable[[], T], deadline: float) -> T:
        """Do something with the connection; if it is lost, again on a new one.

        Raises:
            PolicyFaultError: `policy_connection_lost` or `policy_query_timeout`.
        """
        try:
            if not self._line.is_open:
                self._reconnect(LostError(f"{self.address}: not connected"), deadline)
            while True:
                try:
                    return step()
                except LostError as lost:
                    self._reconnect(lost, deadline)
        except LateError as error:
            self._line.drop()
            raise PolicyFaultError(
                f"no answer from {self.address} within {self._query_timeout_s:g} s",
                "policy_query_timeout",
            ) from error

    def _reconnect(self, lost: B1kEvalError, deadline: float) -> None:
        self._line.drop()
        while self._reconnections < self._most_reconnections:
            self._reconnections += 1
            try:
                metadata = self._line.open(deadline)
            except LostError as error:
                lost = error
                if self._reconnections < self._most_reconnections:
                    # The wait counts as part of the answer's 600 s.
                    left = deadline - time.monotonic()
                    self._sleep(max(0.0, min(self._retry_wait_s, left)))
                continue
            except RefusedError as error:
                raise PolicyFaultError(str(error), "policy_connection_lost") from error
            self._reconnected(metadata)
            return
        raise PolicyFaultError(
            f"the connection is lost, and {self._most_reconnections} reconnections in this "
            f"episode are used up: {lost}",
            "policy_connection_lost",
        ) from lost

    def _reported(self, gist: str) -> B1kEvalError:
        """Return the error that a server's text reports; ours begins with whose fault it was."""
        kind, colon, rest = gist.partition(": ")
        if self.info is not None and colon:
            if kind == keys.HOST_FAULT:
                return HostFaultError(f"the server reports: {rest}")
            if kind in keys.POLICY_FAULTS:
                return PolicyFaultError(f"the server reports: {rest}", kind)
        return PolicyFaultError(f"the server reports: {gist}")

    def _key_remarks(self, key: str | None) -> tuple[str, ...]:
        if key is None or self.address.is_private:
            return ()
        return (f"{self.address}: the API key goes over the network unencrypted",)
