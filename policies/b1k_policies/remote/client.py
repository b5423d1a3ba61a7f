"""A policy behind a WebSocket: any server of the official evaluator's protocol, or one of ours.

Faults are attributed as in `persisting`; after a reconnection no reset is sent. A server's error is
the policy's fault; a message that we cannot build is ours.

A server of ours, known by its metadata, is also sent seed, step and the number of previous
inferences. So an episode is the same as without a server, and continues after a reconnection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from b1k_envs.base import Observation, ProtocolYear
from b1k_envs.errors import (
    B1kEvalError,
    HostFaultError,
    PolicyFaultError,
    UnavailableError,
    UsageError,
)
from b1k_policies.base import ActionChunk, EpisodeInfo, Resizing
from b1k_policies.remote.persisting import (
    MOST_RECONNECTIONS,
    RETRY_WAIT_S,
    START_WAIT_S,
    ServerPolicy,
)
from b1k_policies.remote.wire.address import parse_address
from b1k_policies.remote.wire.codec import WireError, pack
from b1k_policies.remote.wire.depth import wanted_depth
from b1k_policies.remote.wire.dialogue import Dialogue, gist
from b1k_policies.remote.wire.link import Link, api_key_here, require_websockets
from b1k_policies.remote.wire.messages import (
    Announcement,
    Answer,
    NoChunkError,
    read_answer,
    reset_message,
    to_wire,
)
from b1k_policies.remote.wire.metadata import ServerInfo, json_value, read_info
from b1k_policies.remote.wire.pictures import require_torch, resized
from b1k_policies.xvla.checks.preflight import probe_observation


class RemotePolicy(ServerPolicy):
    """A policy server, asked as the official evaluator asks it.

    Attributes:
        server_timing: The server's timings of its latest answer, by name.
    """

    def __init__(
        self,
        spec: str,
        protocol: ProtocolYear = "2026",
        *,
        api_key: str | None = None,
        query_timeout_s: float | None = None,
        most_reconnections: float = MOST_RECONNECTIONS,
        retry_wait_s: float = RETRY_WAIT_S,
        start_wait_s: float = START_WAIT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Wait for the server and read its metadata.

        Args:
            spec: `ws://HOST:PORT` or `wss://HOST:PORT`, options as in `wire.address`.
            protocol: Protocol of the run; it decides on the leading dimension, see `Address.batch`.
            api_key: Key to send; None for that of the environment, if any.
            query_timeout_s: Time limit of an answer [s]; None for that of the address.
            most_reconnections: See `MOST_RECONNECTIONS`; infinite if only the time limit counts.
            retry_wait_s: See `RETRY_WAIT_S`.
            start_wait_s: See `START_WAIT_S`.
            sleep: Waits that many seconds.

        Raises:
            UsageError: The address is invalid, or asks for longer chunks than the server has.
            UnavailableError: There is no server, it refuses us, or a package is missing.
        """
        address = parse_address(spec)
        require_websockets()
        self._key = api_key or api_key_here()
        self._link = Link(address, self._key)
        super().__init__(
            address,
            self._link,
            query_timeout_s=query_timeout_s,
            most_reconnections=most_reconnections,
            retry_wait_s=retry_wait_s,
            sleep=sleep,
        )
        self._dialogue = Dialogue(self._link)
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
        self._greeted = False
        if self.info is None and self._rows is not None:
            self._try_chunk(protocol)

    # --- the Policy ---------------------------------------------------------------------------

    def reset(self, episode: EpisodeInfo) -> None:
        """Tell the server that an episode begins.

        Raises:
            HostFaultError: There is no server. The policy was not asked anything yet, so this is
                not its fault.
            EndsRunError: See `Dialogue`.
        """
        self._dialogue.forget_remarks()
        self._told = Announcement(
            seed=episode.seed, instance=episode.instance, rollout=episode.rollout
        )
        deadline = time.monotonic() + self._query_timeout_s
        self._begin(lambda: self._greet(deadline), deadline)

    def infer(self, observation: Observation) -> ActionChunk:
        """Ask the server.

        Raises:
            PolicyFaultError: `policy_query_timeout`, `policy_connection_lost`, or `policy_error`
                for an answer that cannot be read.
            ActionError: The action is not finite or has a wrong shape.
            HostFaultError: The observation cannot be sent.
            EndsRunError: The server's answers do not match the questions.
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
            self._link.drop()  # a late answer would be taken for the answer to the next question
            raise
        self._told = replace(
            self._told, inference=self._told.inference + 1, progress=answer.progress
        )
        self.server_timing = answer.timing
        return ActionChunk(
            actions=answer.actions,
            skill=answer.skill,
            progress=answer.progress,
            latency_s=time.perf_counter() - begun - self._dialogue.listened_s,
        )

    @property
    def episode_remarks(self) -> tuple[str, ...]:
        """The server's deviations from the protocol since the latest reset."""
        return tuple(f"{self.address}: {text}" for text in self._dialogue.remarks)

    def describe(self) -> dict[str, Any]:
        """Return the server's address and metadata; never the key."""
        return {
            "name": self.name,
            "chunk_length": self.chunk_length,
            "address": str(self.address),
            "batch": self._batch,
            "query_timeout_s": self._query_timeout_s,
            **({"depth": True} if self.needs_depth else {}),
            "metadata": json_value(self._metadata),
        }

    # --- at the start -------------------------------------------------------------------------

    def _read_info(self) -> ServerInfo | None:
        try:
            info = read_info(self._metadata)
            if info is not None and isinstance(info.images, Resizing):
                require_torch(info.images)
        except B1kEvalError as error:
            self._link.close()
            if isinstance(error, WireError):
                raise UnavailableError(f"{self.address}: {error}") from error
            raise
        return info

    def _rows_to_ask(self) -> int | None:
        """Return the number of actions to ask for; None for one, as the official evaluator does."""
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
        """Try on a made-up observation whether a server that is not ours returns chunks.

        Most do not, and the chunk length cannot change once a run has a horizon. The reset of the
        first episode makes the server forget this observation.
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
        remarks = (f"{self.address}: {text}" for text in (*server, *of_depth))
        return (*remarks, *self._key_remarks(self._key))

    # --- questions and answers ------------------------------------------------------------------

    def _question(self, observation: Observation) -> bytes:
        """Build the message of an observation, or raise HostFaultError."""
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
                    channels="rgb" if ours else "rgba",  # the evaluator's pictures are RGBA
                    rows=self._rows,
                    extended=ours,
                    depth=self.needs_depth,
                )
            )
        except B1kEvalError as error:
            raise HostFaultError(f"an observation cannot be sent: {error}") from error

    def _answer(self, data: bytes, deadline: float) -> Answer:
        """Send a question and read the answer."""
        try:
            found = self._persist(lambda: self._ask(data, deadline), deadline)
            if isinstance(found, str):
                raise self._reported(gist(found))
            return read_answer(found, rows=self._rows, extended=self.info is not None)
        except WireError as error:
            raise PolicyFaultError(f"the server's answer cannot be read: {error}") from error

    def _ask(self, data: bytes, deadline: float) -> object:
        if self.info is not None and not self._greeted:
            self._greet(deadline)
        return self._dialogue.ask(data, deadline)

    def _greet(self, deadline: float) -> None:
        told = self._told if self.info is not None else None
        self._dialogue.begin(pack(reset_message(told)), deadline)
        self._greeted = True

    def _reconnected(self, metadata: dict[Any, Any]) -> None:
        # A new connection is a new session: ours must be told the episode again.
        self._greeted = False
        self._dialogue.connected()
        self._check_same(metadata)

    def _check_same(self, metadata: dict[Any, Any]) -> None:
        """Raise HostFaultError if a server that came back is not what the run was started with."""
        try:
            info = read_info(metadata)
        except B1kEvalError as error:
            raise HostFaultError(f"{self.address} came back as something else: {error}") from error
        if info != self.info:
            now = "a server that is not ours" if info is None else repr(info.name)
            why = "with other metadata than this run was begun with: start a new run"
            raise HostFaultError(f"{self.address} came back as {now}, {why}")
