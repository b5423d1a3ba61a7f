"""A worker's side of a shared model: a client that outlives the server's process.

The server is the run's own. So what is wrong with the connection is never the policy's fault, and
a server that is being started again is waited for as long as an answer may take.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

from b1k_envs.base import Observation, ProtocolYear
from b1k_envs.errors import B1kEvalError, HostFaultError, PolicyFaultError
from b1k_policies.base import ActionChunk, EpisodeInfo
from b1k_policies.remote.client import RemotePolicy
from b1k_policies.remote.wire.address import QUERY_TIMEOUT_S

MOST_DEATHS = 3
"""How often the server may die of one question before the episode is an error."""

_RETRY_WAIT_S = 0.5
_CONNECTION = ("policy_connection_lost", "policy_query_timeout")


class SharedPolicy(RemotePolicy):
    """Asks the model that all workers of a run share; see the module header."""

    computes_elsewhere = True

    def __init__(self, port: int, key: str, protocol: ProtocolYear) -> None:
        """Connect, as soon as the server can be used.

        Args:
            port: Its port on the loopback.
            key: Its key.
            protocol: Protocol of the run.

        Raises:
            UnavailableError: There is no server within the time for an answer.
        """
        self._deaths = 0
        self._asked_s = 0.0
        super().__init__(
            f"ws://127.0.0.1:{port}?wait={QUERY_TIMEOUT_S:g}",
            protocol,
            api_key=key,
            most_reconnections=math.inf,
            retry_wait_s=_RETRY_WAIT_S,
        )

    def reset(self, episode: EpisodeInfo) -> None:
        """See `RemotePolicy.reset`."""
        self._deaths = 0
        super().reset(episode)

    def infer(self, observation: Observation) -> ActionChunk:
        """Ask the server.

        Raises:
            HostFaultError: The server cannot be reached, or dies of this question again and again.
            PolicyFaultError: The policy's own fault, as `RemotePolicy.infer`.
        """
        self._deaths = 0
        begun = self._asked_s = time.perf_counter()
        try:
            chunk = super().infer(observation)
        except PolicyFaultError as fault:
            if fault.reason in _CONNECTION:
                raise HostFaultError(f"the shared model cannot be asked: {fault}") from fault
            raise
        assert chunk.latency_s is not None
        # A question that was asked again took what its last asking took, without the wait for
        # others' questions and without the server's start.
        lost = self._asked_s - begun
        waited = min(self.server_timing.get("wait_ms", 0.0) / 1e3, chunk.latency_s - lost)
        return replace(chunk, latency_s=chunk.latency_s - lost - waited, wait_s=lost + waited)

    def _reconnect(self, lost: B1kEvalError, deadline: float) -> None:
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise HostFaultError(
                f"the connection to the shared model broke {self._deaths} times at one question "
                f"({lost}): it seems to kill the model's process"
            )
        super()._reconnect(lost, deadline)
        self._asked_s = time.perf_counter()
