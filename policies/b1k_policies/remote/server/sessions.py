"""State of one connection: its episode, the current chunk, and the rows already played.

All envs of a connection move in step, as the evaluator steps them. An evaluator that asks at every
step is answered from the current chunk until the horizon is reached; one that asks for K actions
gets the next K rows. State changes only once an answer is complete, so that a question whose
inference failed can be asked again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from b1k_envs.base import Float32Array, Observation, ProtocolYear
from b1k_envs.errors import B1kEvalError, UsageError
from b1k_envs.tasks.table import Task, check_protocol, get_task
from b1k_policies.base import ActionChunk, EpisodeInfo
from b1k_policies.remote.server.engine import Ask, EpisodeMemory
from b1k_policies.remote.wire.messages import Announcement

NOT_TOLD = -1
"""Instance of an episode whose evaluator does not name it."""


class RequestError(B1kEvalError):
    """A request that cannot be answered; the text is for the client's author."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Settings of every session of a server.

    Attributes:
        chunk_length: Rows of every chunk.
        horizon: Rows of a chunk that are played before the next inference.
        seed: Base of the episodes' seeds if the client sends none.
        task: The task; None to use the one that observations name.
        prompt: The task in words; None for the task's own instruction.
        protocol: Layout that observations must have; None for either.
        images: Whether observations must have pictures.
        frank: Tell clients what an error is, instead of where it is logged: for a server whose
            clients are of the same run.
    """

    chunk_length: int
    horizon: int
    seed: int = 0
    task: Task | None = None
    prompt: str | None = None
    protocol: ProtocolYear | None = None
    images: bool = True
    frank: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.horizon <= self.chunk_length:
            raise UsageError(
                f"--horizon {self.horizon} must lie between 1 and the policy's chunk length, "
                f"{self.chunk_length}"
            )
        if self.task is not None and self.protocol is not None:
            check_protocol(self.task, self.protocol)

    @property
    def task_index(self) -> int | None:
        """Index of `task`."""
        return None if self.task is None else self.task.index


@dataclass(frozen=True, kw_only=True, eq=False)
class SessionAnswer:
    """The answer to one question.

    Attributes:
        action: float32 [N, 23], one row per env.
        action_chunk: float32 [N, K, 23] whose row 0 is `action`; None if not requested, or if
            chunks have fewer than K rows.
        chunks: Per env the chunk that the rows are from.
    """

    action: Float32Array
    action_chunk: Float32Array | None
    chunks: tuple[ActionChunk, ...]


@dataclass
class _Env:
    episode: EpisodeInfo
    task_index: int
    memory: EpisodeMemory = field(default_factory=EpisodeMemory)


def session_seed(seed: int, episode: int, env: int) -> int:
    """Return the seed of a connection's n-th episode in one of its envs, in [0, 2^31)."""
    text = f"b1k-server/{seed}/{episode}/{env}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


class Session:
    """State of one connection. Call `ask`, and then `answer` with the inferred chunks, if any.

    Attributes:
        terms: Settings of every session.
        step: Control steps of the episode, from the actions sent or as told by the client.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._number = -1
        self.reset(None)  # some clients never announce their first episode

    def reset(self, told: Announcement | None) -> None:
        """Begin an episode; `told` is the client's announcement, if any.

        A second reset before the first observation begins the same episode.
        """
        if self._number < 0 or self._envs:
            self._number += 1
        self._told = told
        self._envs: list[_Env] = []
        self._chunks: tuple[ActionChunk, ...] = ()
        self._row = 0
        self._inference = 0 if told is None else told.inference
        self.step = self._asked = 0 if told is None else told.step

    def ask(
        self, observations: Sequence[Observation], rows: int | None, *, anew: bool = False
    ) -> list[Ask]:
        """Return the inferences needed for an answer: one ask per env, or none.

        Args:
            observations: Per env, of the same step.
            rows: K of a client that plays K actions before it asks again; None for 1.
            anew: Always infer, for a client that does its own chunking.

        Raises:
            RequestError: They do not fit this episode or this server.
        """
        self._check(observations)
        self._asked = observations[0].step
        if not self._envs:
            self._envs = [self._begin(env, one) for env, one in enumerate(observations)]
        if not anew and self._played(rows) <= self._left():
            return []
        return [
            Ask(
                observation=one,
                episode=env.episode,
                inference=self._inference,
                progress=progress,
                memory=env.memory,
            )
            for one, env, progress in zip(observations, self._envs, self._progress(), strict=True)
        ]

    def answer(self, inferred: Sequence[ActionChunk], rows: int | None) -> SessionAnswer:
        """Return the next rows, which then count as played.

        Args:
            inferred: One chunk per ask of `ask`.
            rows: As in `ask`.
        """
        if inferred:
            self._chunks, self._row = tuple(inferred), 0
            self._inference += 1
        count = self._played(rows)
        stacked = np.stack([c.actions[self._row : self._row + count] for c in self._chunks])
        self._row += count
        self.step = self._asked + count
        whole = rows is not None and rows == count
        return SessionAnswer(
            action=stacked[:, 0],
            action_chunk=stacked if whole else None,
            chunks=self._chunks,
        )

    # --- inside ----------------------------------------------------------------------------------

    def _played(self, rows: int | None) -> int:
        """Return the rows a client plays before it asks again: K if a chunk has K, else 1."""
        fits = rows is not None and 1 <= rows <= self.terms.chunk_length
        return rows if rows is not None and fits else 1

    def _progress(self) -> list[float | None]:
        """Return each env's progress at the last inference."""
        if self._chunks:
            return [chunk.progress for chunk in self._chunks]
        told = None if self._told is None else self._told.progress
        return [told if env == 0 else None for env in range(len(self._envs))]

    def _left(self) -> int:
        return self.terms.horizon - self._row if self._chunks else 0

    def _check(self, observations: Sequence[Observation]) -> None:
        terms, count = self.terms, len(observations)
        if self._envs and count != len(self._envs):
            raise RequestError(f"{count} envs after {len(self._envs)}, without a reset")
        for one in observations:
            if terms.protocol is not None and one.protocol != terms.protocol:
                raise RequestError(
                    f"a proprio of {one.protocol}, this server takes {terms.protocol}"
                )
        for env, one in zip(self._envs, observations, strict=False):
            if (one.task_index, one.protocol) != (env.task_index, env.episode.protocol):
                raise RequestError("another task or proprio within an episode, without a reset")

    def _begin(self, env: int, observation: Observation) -> _Env:
        told, terms = self._told, self.terms
        try:
            task = terms.task or get_task(observation.task_index)
            check_protocol(task, observation.protocol)
        except UsageError as error:
            raise RequestError(str(error)) from error
        if told is not None and env == 0:
            seed = told.seed
        else:
            base = terms.seed if told is None else told.seed
            seed = session_seed(base, self._number, env)
        return _Env(
            episode=EpisodeInfo(
                task=task.name,
                task_index=task.index,
                instruction=terms.prompt or task.instruction,
                instance=NOT_TOLD if told is None else told.instance,
                rollout=self._number if told is None else told.rollout,
                seed=seed,
                protocol=observation.protocol,
            ),
            task_index=observation.task_index,
        )
