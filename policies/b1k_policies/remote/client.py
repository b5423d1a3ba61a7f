"""A policy behind a WebSocket: any server of the official evaluator's protocol, or one of ours.

Whose fault something is follows the 2026 rules (docs/challenge of StanfordVL/BEHAVIOR-1K): a server
has 600 s for an answer, and three reconnections an episode, after which the observation is sent
again but no reset. What the server does wrong is the policy's fault; that we cannot build a message
is ours.

A server that says in its metadata that it is ours is told more: seed, step and how many inferences
came before, so that an episode is the same as without a server, and goes on after a reconnection
where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from b1k_envs.base import Observation, ProtocolYear
from b1k_envs.errors import (
    B1kEvalError,
    EndsRunError,
    HostFaultError,
    PolicyFaultError,
    UnavailableError,
    UsageError,
)
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy, Resizing
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.address import parse_address
from b1k_policies.remote.wire.codec import WireError, pack
from b1k_policies.remote.wire.depth import wanted_depth
from b1k_policies.remote.wire.dialogue import Dialogue, gist
from b1k_policies.remote.wire.link import (
    LateError,
    Link,
    LostError,
    RefusedError,
    api_key_here,
    require_websockets,
)
from b1k_policies.remote.wire.messages import (
    Announcement,
    Answer,
    NoChunkError,
    read_answer,
    reset_message,
    to_wire,
)
from b1k_policies.remote.wire.metadata import (
    ServerInfo,
    json_value,
    read_info,
)
from b1k_policies.remote.wire.pictures import require_torch, resized
from b1k_policies.xvla.preflight import probe_observation

MOST_RECONNECTIONS = 3
"""Of an episode."""
RETRY_WAIT_S = 5.0
"""Between two attempts to reconnect."""
START_WAIT_S = 1.0
"""Between two attempts to reach a server that may be starting."""

T = TypeVar("T")


class RemotePolicy(Policy):
    """A policy server, asked as the official evaluator asks it.

    Attributes:
        address: Where it is.
        info: What a server of ours says of itself; None for any other.
        server_timing: The server's own figures for its latest answer, by name.
    """

    def __init__(
        self,
        spec: str,
        protocol: ProtocolYear = "2026",
        *,
        query_timeout_s: float | None = None,
        retry_wait_s: float = RETRY_WAIT_S,
        start_wait_s: float = START_WAIT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Wait for the server and hear what it says of itself.

        Args:
            spec: `ws://HOST:PORT` or `wss://HOST:PORT`, options as in `wire.address`.
            protocol: Of the run; decides about the leading dimension, see `Address.batch`.
            query_timeout_s: How long an answer may take [s]; None for what the address says.
            retry_wait_s: Between two attempts to reconnect [s].
            start_wait_s: Between two attempts to reach a server that may be starting [s].
            sleep: How to wait.

        Raises:
            UsageError: The address cannot be meant, or asks for a chunk that there is not.
            UnavailableError: No server is there, it will not have us, or a package is missing.
        """
        self.address = address = parse_address(spec)
        require_websockets()
        self._key = api_key_here()
        self._link = Link(address, self._key)
        self._dialogue = Dialogue(self._link)
        self._query_timeout_s = address.timeout_s if query_timeout_s is None else query_timeout_s
        self._retry_wait_s = retry_wait_s
        self._sleep = sleep
        self._metadata = self._first_metadata(start_wait_s)
        self.info = self._read_info()
        self._dialogue.foreign = self.info is None
        self._batch = protocol == "2026" if address.batch is None else address.batch
        self._rows = self._rows_to_ask()
        self.chunk_length = 1 if self._rows is None else self._rows
        self.name = str(address) if self.info is None else f"{self.info.name} (remote)"
        self.skipped_rows = 0 if self.info is None else self.info.skipped_rows
        self.needs_images = self.info is None or self.info.images != "none"
        self.needs_depth, of_depth = wanted_depth(
            self._metadata, told=address.depth, ours=self.info is not None
        )
        self.remarks = self._remarks(of_depth)
        self.server_timing: Mapping[str, float] = {}
        self._told: Announcement | None = None
        self._reconnections = 0
        self._greeted = False
        if self.info is None and self._rows is not None:
            self._try_chunk(protocol)

    # --- the Policy ---------------------------------------------------------------------------

    def reset(self, episode: EpisodeInfo) -> None:
        """Tell the server that an episode begins.

        Raises:
            HostFaultError: It cannot be told: no server is there, and nothing has been asked of
                the policy that it could have failed.
            EndsRunError: See `Dialogue`.
        """
        self._reconnections = 0
        self._dialogue.forget_remarks()
        self._told = Announcement(
            seed=episode.seed, instance=episode.instance, rollout=episode.rollout
        )
        deadline = time.monotonic() + self._query_timeout_s
        try:
            self._persist(lambda: self._greet(deadline), deadline)
        except EndsRunError:
            self._link.drop()
            raise
        except PolicyFaultError as error:
            raise HostFaultError(
                f"no server for this episode ({error}): start it again, then --resume"
            ) from error

    def infer(self, observation: Observation) -> ActionChunk:
        """Ask the server.

        Raises:
            PolicyFaultError: `policy_query_timeout`, `policy_connection_lost`, or `policy_error`
                for an answer that is none.
            ActionError: The answer is no finite action, or not of the right shape.
            HostFaultError: The observation cannot be sent.
            EndsRunError: The server's answers are not in step with the questions.
        """
        if self._told is None:
            raise RuntimeError("infer before reset")
        begun = time.perf_counter()
        data = self._question(observation)
        deadline = time.monotonic() + self._query_timeout_s
        self._told = replace(self._told, step=observation.step)
        try:
            answer = self._answer(data, deadline)
        except BaseException:
            self._link.drop()  # an answer that is still to come would be taken for the next one
            raise
        self._told = replace(self._told, inference=self._told.inference + 1)
        self.server_timing = answer.timing
        return ActionChunk(
            actions=answer.actions,
            skill=answer.skill,
            progress=answer.progress,
            latency_s=time.perf_counter() - begun - self._dialogue.listened_s,
        )

    @property
    def episode_remarks(self) -> tuple[str, ...]:
        """What the server did beside the protocol since the latest reset."""
        return tuple(f"{self.address}: {text}" for text in self._dialogue.remarks)

    def describe(self) -> dict[str, Any]:
        """The server's address and metadata; never the key."""
        return {
            "name": self.name,
            "chunk_length": self.chunk_length,
            "address": str(self.address),
            "batch": self._batch,
            "query_timeout_s": self._query_timeout_s,
            **({"depth": True} if self.needs_depth else {}),
            "metadata": json_value(self._metadata),
        }

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    # --- at the start -------------------------------------------------------------------------

    def _first_metadata(self, start_wait_s: float) -> dict[Any, Any]:
        deadline = time.monotonic() + self.address.wait_s
        while True:
            try:
                return self._link.open(time.monotonic() + self._query_timeout_s)
            except RefusedError as error:
                raise UnavailableError(str(error)) from error
            except (LostError, LateError) as error:
                if time.monotonic() + start_wait_s > deadline:
                    raise UnavailableError(
                        f"no policy server within {self.address.wait_s:g} s ({error}): start one "
                        "with `b1k-eval serve`, or give it more time with ?wait=SECONDS"
                    ) from error
            self._sleep(start_wait_s)

    def _read_info(self) -> ServerInfo | None:
        try:
            info = read_info(self._metadata)
            if info is not None and isinstance(info.images, Resizing):
                require_torch(info.images)
        except WireError as error:
            self._link.close()
            raise UnavailableError(f"{self.address}: {error}") from error
        except UnavailableError:
            self._link.close()
            raise
        return info

    def _rows_to_ask(self) -> int | None:
        """K to ask for; None to ask for one action as everybody else does."""
        wanted = self.address.chunk
        if self.info is None:
            return wanted if wanted is not None and wanted > 1 else None
        if wanted is not None and wanted > self.info.chunk_length:
            self._link.close()
            raise UsageError(
                f"--policy: chunk={wanted}, but the server's chunks have {self.info.chunk_length} "
                "actions"
            )
        return wanted or self.info.chunk_length

    def _try_chunk(self, protocol: ProtocolYear) -> None:
        """See on a made-up observation whether a server that is not ours gives chunks.

        Most do not, and chunks cannot be given up once a run has a horizon. The reset of the first
        episode makes the server forget it.
        """
        upright = np.tile(np.array([0, 0, 0, 0, 0, 0, 1], dtype=np.float32), 3)
        made_up = probe_observation(protocol)
        a_metre = {
            view: np.ones(picture.shape[:2], np.float32) for view, picture in made_up.images.items()
        }
        observation = replace(made_up, cam_rel_poses=upright, depth=a_metre)
        deadline = time.monotonic() + self._query_timeout_s
        try:
            self._greet(deadline)
            self._answer(self._question(observation), deadline)
        except NoChunkError as error:
            self._link.drop()
            raise UsageError(
                f"{self.address} answers one action at a time: leave chunk={self._rows} out, and "
                "use --horizon 1"
            ) from error
        except B1kEvalError as error:
            self._link.drop()
            raise UnavailableError(
                f"{self.address} fails on a trial observation: {error}"
            ) from error

    def _remarks(self, of_depth: tuple[str, ...] = ()) -> tuple[str, ...]:
        server = () if self.info is None else self.info.remarks
        remarks = [f"{self.address}: {text}" for text in (*server, *of_depth)]
        if self._key is not None and not self.address.is_private:
            remarks.append(f"{self.address}: the API key goes over the network unencrypted")
        return tuple(remarks)

    # --- questions and answers ------------------------------------------------------------------

    def _question(self, observation: Observation) -> bytes:
        """The message of an observation.

        Raises:
            HostFaultError: It cannot be made.
        """
        images = observation.images
        ours = self.info is not None
        try:
            if self.info is not None and isinstance(self.info.images, Resizing):
                images = resized(images, self.info.images)
            return pack(
                to_wire(
                    observation,
                    images=images,
                    batch=self._batch,
                    channels="rgb" if ours else "rgba",
                    rows=self._rows,
                    extended=ours,
                    depth=self.needs_depth,
                )
            )
        except B1kEvalError as error:
            raise HostFaultError(f"an observation cannot be sent: {error}") from error

    def _answer(self, data: bytes, deadline: float) -> Answer:
        """Ask, and read the answer."""
        try:
            found = self._persist(lambda: self._ask(data, deadline), deadline)
            if isinstance(found, str):
                raise self._reported(gist(found))
            return read_answer(found, rows=self._rows, extended=self.info is not None)
        except WireError as error:
            raise PolicyFaultError(f"the server's answer cannot be read: {error}") from error

    def _reported(self, gist: str) -> B1kEvalError:
        """The error that a server's text stands for; one of ours says whose fault it was."""
        kind, colon, rest = gist.partition(": ")
        if self.info is not None and colon:
            if kind == keys.HOST_FAULT:
                return HostFaultError(f"the server reports: {rest}")
            if kind in keys.POLICY_FAULTS:
                return PolicyFaultError(f"the server reports: {rest}", kind)
        return PolicyFaultError(f"the server reports: {gist}")

    def _ask(self, data: bytes, deadline: float) -> object:
        if self.info is not None and not self._greeted:
            self._greet(deadline)
        return self._dialogue.ask(data, deadline)

    def _greet(self, deadline: float) -> None:
        told = self._told if self.info is not None else None
        self._dialogue.begin(pack(reset_message(told)), deadline)
        self._greeted = True

    # --- the connection -------------------------------------------------------------------------

    def _persist(self, step: Callable[[], T], deadline: float) -> T:
        """Do something with the connection, again on a new one where it is lost.

        Raises:
            PolicyFaultError: `policy_connection_lost` or `policy_query_timeout`.
        """
        try:
            if not self._link.is_open:
                self._reconnect(LostError(f"{self.address}: not connected"), deadline)
            while True:
                try:
                    return step()
                except LostError as lost:
                    self._reconnect(lost, deadline)
        except LateError as error:
            self._link.drop()
            raise PolicyFaultError(
                f"no answer from {self.address} within {self._query_timeout_s:g} s",
                "policy_query_timeout",
            ) from error

    def _reconnect(self, lost: B1kEvalError, deadline: float) -> None:
        self._link.drop()
        while self._reconnections < MOST_RECONNECTIONS:
            self._reconnections += 1
            try:
                metadata = self._link.open(deadline)
            except LostError as error:
                lost = error
                if self._reconnections < MOST_RECONNECTIONS:
                    left = deadline - time.monotonic()
                    self._sleep(max(0.0, min(self._retry_wait_s, left)))
                continue
            except RefusedError as error:
                raise PolicyFaultError(str(error), "policy_connection_lost") from error
            self._greeted = False
            self._dialogue.connected()
            self._check_same(metadata)
            return
        raise PolicyFaultError(
            f"the connection is lost, and {MOST_RECONNECTIONS} reconnections in this episode are "
            f"used up: {lost}",
            "policy_connection_lost",
        ) from lost

    def _check_same(self, metadata: dict[Any, Any]) -> None:
        """Hold a server that came back to what the run was begun with.

        Raises:
            HostFaultError: It serves something else now.
        """
        try:
            info = read_info(metadata)
        except B1kEvalError as error:
            raise HostFaultError(f"{self.address} came back as something else: {error}") from error
        if info != self.info:
            now = "a server that is not ours" if info is None else repr(info.name)
            raise HostFaultError(
                f"{self.address} came back as {now}, with other metadata than this run was begun "
                "with: start a new run"
            )
