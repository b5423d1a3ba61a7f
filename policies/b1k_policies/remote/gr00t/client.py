"""A policy behind GR00T's protocol: its own servers, or one of ours.

Its modality config is read first and held to what can be provided (`modality`). Whether it takes
flat or nested observations it does not say, so a made-up one is tried. Faults are attributed as in
`persisting`; a server's error is the policy's fault.

GR00T's servers keep nothing between questions, so one question has the observations of all worlds
that wait, and no seed. A server of ours, known by an entry of its own in the modality config, is
told episode, step and task in `options`, which GR00T's pass over. It keeps a session per
connection, so each world has its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from b1k_envs.base import Float32Array, Observation, ProtocolYear, UInt8Array, View
from b1k_envs.errors import (
    B1kEvalError,
    HostFaultError,
    PolicyFaultError,
    UnavailableError,
    UsageError,
)
from b1k_envs.tasks.table import get_task
from b1k_policies.base import ActionChunk, EpisodeInfo, Query, ResizeFilter, Resizing
from b1k_policies.remote.gr00t import require_zmq
from b1k_policies.remote.gr00t.link import Gr00tLink, ReportedError
from b1k_policies.remote.gr00t.modality import Modality, read_modality
from b1k_policies.remote.gr00t.observations import read_actions, to_message
from b1k_policies.remote.gr00t.robot import PICTURE_SIZE, sentence
from b1k_policies.remote.persisting import (
    MOST_RECONNECTIONS,
    RETRY_WAIT_S,
    START_WAIT_S,
    ServerPolicy,
)
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.address import KeyForm, parse_address
from b1k_policies.remote.wire.limits import WireError
from b1k_policies.remote.wire.link import api_key_here
from b1k_policies.remote.wire.messages import Announcement
from b1k_policies.remote.wire.metadata import json_value, read_info
from b1k_policies.remote.wire.pictures import require_torch, resized
from b1k_policies.xvla.checks.preflight import probe_observation

_FILTER: ResizeFilter = "bilinear"
"""GR00T's evaluator renders at 256 px; antialiased, the mean over a pixel's area comes closest."""


class Gr00tPolicy(ServerPolicy):
    """A server of GR00T's protocol, asked as its BEHAVIOR evaluator asks it.

    Attributes:
        modality: What the server wants and gives.
        form: How it takes observations.
    """

    def __init__(
        self,
        spec: str,
        protocol: ProtocolYear = "2025",
        *,
        query_timeout_s: float | None = None,
        most_reconnections: float = MOST_RECONNECTIONS,
        retry_wait_s: float = RETRY_WAIT_S,
        start_wait_s: float = START_WAIT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Wait for the server, read its modality config and try it.

        Args:
            spec: `gr00t://HOST:PORT`, options as in `wire.address`.
            protocol: Protocol of the run.
            query_timeout_s: See `ServerPolicy`.
            most_reconnections: See `ServerPolicy`.
            retry_wait_s: See `ServerPolicy`.
            start_wait_s: Wait between two attempts to reach a server that may be starting [s].
            sleep: See `ServerPolicy`.

        Raises:
            UsageError: The address is invalid, or the protocol's observations lack what the server
                reads.
            UnavailableError: There is no server, it refuses us, it is not for this robot, or a
                package is missing.
        """
        address = parse_address(spec)
        require_zmq()
        token = api_key_here()
        self._link = Gr00tLink(address, token)
        super().__init__(
            address,
            self._link,
            query_timeout_s=query_timeout_s,
            most_reconnections=most_reconnections,
            retry_wait_s=retry_wait_s,
            sleep=sleep,
        )
        self._told: Announcement | None = None
        self._instruction: str | None = None
        self._greeted = False
        try:
            self._config = self._first_metadata(start_wait_s)
            self.info, self.modality = self._understood(self._config)
            self.modality.check_protocol(protocol, address)
            if self.modality.pictures:
                require_torch(_to(PICTURE_SIZE))
            self.form = self._form_to_use()
        except BaseException:
            self._link.close()
            raise
        info = self.info
        self.chunk_length = self.modality.chunk_length
        self.name = str(address) if info is None else f"{info.name} (remote)"
        self.skipped_rows = 0 if info is None else info.skipped_rows
        self.needs_images = bool(self.modality.pictures)
        self.stateless = info is None
        self.computes_elsewhere = info is not None
        self.remarks = self._remarks(token)

    # --- the Policy ---------------------------------------------------------------------------

    def reset(self, episode: EpisodeInfo) -> None:
        """Tell the server that an episode begins.

        Raises:
            HostFaultError: There is no server. The policy was not asked anything yet, so this is
                not its fault.
            PolicyFaultError: The answer is an error, or none.
        """
        self._told = Announcement(
            seed=episode.seed, instance=episode.instance, rollout=episode.rollout
        )
        self._instruction = episode.instruction
        deadline = time.monotonic() + self._query_timeout_s
        try:
            self._begin(lambda: self._greet(deadline), deadline)
        except ReportedError as error:
            raise self._reported(str(error)) from error
        except WireError as error:
            self._link.drop()
            raise PolicyFaultError(f"the answer to a reset cannot be read: {error}") from error

    def infer(self, observation: Observation) -> ActionChunk:
        """Ask the server; see `infer_batch`."""
        if self._instruction is None:
            raise RuntimeError("infer before reset")
        query = Query(observation=observation, instruction=self._instruction, seed=0)
        return self.infer_batch([query])[0]

    def infer_batch(self, queries: Sequence[Query]) -> list[ActionChunk]:
        """Ask the server about the worlds of all queries in one question.

        Raises:
            PolicyFaultError: `policy_query_timeout`, `policy_connection_lost`, or `policy_error`
                for an error of the server and for an answer that cannot be read.
            ActionError: An action is not finite or has a wrong shape.
            HostFaultError: An observation cannot be sent.
        """
        if self._told is None:
            raise RuntimeError("infer before reset")
        begun = time.perf_counter()
        deadline = time.monotonic() + self._query_timeout_s
        step = queries[0].observation.step
        question = self._question(queries, self.form)
        self._told = replace(self._told, step=step)
        try:
            found = self._persist(lambda: self._ask(question, deadline), deadline)
            actions = self._actions(found, len(queries), self.form)
            took = time.perf_counter() - begun
            chunks = [ActionChunk(actions=each, latency_s=took) for each in actions]
        except ReportedError as error:  # it answered, and can be asked again
            raise self._reported(str(error)) from error
        except WireError as error:
            self._link.drop()
            raise PolicyFaultError(f"the server's answer cannot be read: {error}") from error
        except BaseException:
            self._link.drop()
            raise
        self._told = replace(self._told, inference=self._told.inference + 1)
        return chunks

    def check_masked(self, mask: Callable[[Float32Array], Float32Array]) -> None:
        """Check that the server needs nothing that is masked.

        Raises:
            UsageError: It reads the pose in the house, which the standard track of 2025 hides.
        """
        if self.modality.global_pose:
            raise UsageError(
                f"{self.address} reads {', '.join(self.modality.global_pose)}, the robot's pose in "
                "the house, which --track standard hides: leave it out, or say --track privileged"
            )

    def describe(self) -> dict[str, Any]:
        """Return the server's address, modality config and form; never the token."""
        return {
            "name": self.name,
            "chunk_length": self.chunk_length,
            "address": str(self.address),
            "protocol": "gr00t",
            "keys": self.form,
            "query_timeout_s": self._query_timeout_s,
            "metadata": json_value(self._config),
            "remarks": list(self.remarks),
        }

    # --- at the start -------------------------------------------------------------------------

    def _understood(self, config: dict[Any, Any]) -> tuple[Any, Modality]:
        try:
            return read_info(config), read_modality(config, self.address)
        except WireError as error:
            raise UnavailableError(f"{self.address}: {error}") from error

    def _form_to_use(self) -> KeyForm:
        """Return how the server takes observations: as told, flat for ours, else what it answers.

        The first reset makes it forget the made-up observation, if it keeps anything.
        """
        forms: tuple[KeyForm, ...] = ("flat", "nested")
        if self.address.keys is not None:
            forms = (self.address.keys,)
        elif self.info is not None:
            return "flat"
        upright = np.tile(np.array([0, 0, 0, 0, 0, 0, 1], dtype=np.float32), 3)
        made_up = replace(probe_observation("2025"), cam_rel_poses=upright)
        query = Query(observation=made_up, instruction=get_task(0).instruction, seed=0)
        said = []
        for form in forms:
            deadline = time.monotonic() + self._query_timeout_s
            try:
                question = self._question([query], form)
                found = self._link.ask_packed(question, deadline)
                ActionChunk(actions=self._actions(found, 1, form)[0])
            except ReportedError as error:
                said.append(f"{form} keys: {error}")
            except B1kEvalError as error:
                raise UnavailableError(
                    f"{self.address} fails on a trial observation with {form} keys: {error}"
                ) from error
            else:
                return form
        raise UnavailableError(
            f"{self.address} answers a trial observation with an error: {'; '.join(said)}"
        )

    def _remarks(self, token: str | None) -> tuple[str, ...]:
        said = () if self.info is None else self.info.remarks
        pose = self.modality.global_pose
        tracks = (
            (
                f"{self.address} reads the robot's pose in the house ({', '.join(pose)}), which "
                "the standard track of 2025 forbids: a run of the privileged track",
            )
            if pose
            else ()
        )
        return (
            *(f"{self.address}: {text}" for text in said),
            *tracks,
            *self._key_remarks(token),
        )

    # --- questions and answers ------------------------------------------------------------------

    def _question(self, queries: Sequence[Query], form: KeyForm) -> bytes:
        """Build the message of some observations, or raise HostFaultError."""
        try:
            observation = to_message(
                [query.observation for query in queries],
                [_words(query) for query in queries],
                self.modality,
                _picture,
                form,
            )
            options = None
            if self.info is not None:
                first = queries[0].observation
                options = {keys.EXTENSION: {"step": first.step, "task_id": first.task_index}}
            return self._link.packed("get_action", {"observation": observation, "options": options})
        except B1kEvalError as error:
            raise HostFaultError(f"an observation cannot be sent: {error}") from error

    def _ask(self, question: bytes, deadline: float) -> object:
        if self.info is not None and not self._greeted:
            self._greet(deadline)
        return self._link.ask_packed(question, deadline)

    def _greet(self, deadline: float) -> None:
        options = None
        if self.info is not None and self._told is not None:
            told = asdict(self._told)
            options = {keys.EXTENSION: {k: v for k, v in told.items() if v is not None}}
        self._link.ask("reset", {"options": options}, deadline)
        self._greeted = True

    def _actions(self, found: object, worlds: int, form: KeyForm) -> Float32Array:
        rows = self.modality.chunk_length
        return read_actions(found, worlds=worlds, rows=rows, form=form)

    def _reconnected(self, metadata: dict[Any, Any]) -> None:
        self._greeted = False
        if json_value(metadata) != json_value(self._config):
            raise HostFaultError(
                f"{self.address} came back as something else, with another modality config than "
                "this run was begun with: start a new run"
            )


def _words(query: Query) -> str:
    """Return the sentence of the task as GR00T was trained on it, or what a disturbance says."""
    task = get_task(query.observation.task_index)
    return sentence(task) if query.instruction == task.instruction else query.instruction


def _picture(observation: Observation, view: View, size: int) -> UInt8Array:
    return resized({view: observation.images[view]}, _to(size))[view]


def _to(size: int) -> Resizing:
    return Resizing(size=size, filter=_FILTER, antialias=True)
