"""The interface of policies.

A row of a chunk is one control step (1/30 s) of the robot's 23 columns; their kinds and units are
in `b1k_envs.r1pro`. The kinds differ (velocities, positions, a gripper command), so neither a row
of zeros nor a repeated row means "hold still".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from b1k_envs.base import Float32Array, Observation, ProtocolYear
from b1k_envs.errors import ActionError
from b1k_envs.r1pro import ACTION_DIM

ResizeFilter = Literal["bicubic", "bilinear", "nearest"]


@dataclass(frozen=True, kw_only=True)
class Skill:
    """A policy's report of its current skill.

    Attributes:
        index: Index in the policy's own list of skills; None if it only has names.
        name: Name, if the checkpoint's files give one.
        probability: The policy's confidence in [0, 1]; None if it gives none.
    """

    index: int | None = None
    name: str | None = None
    probability: float | None = None

    @property
    def label(self) -> str | None:
        """The name, else the index, for display; None without either."""
        if self.name is None and self.index is not None:
            return f"skill {self.index}"
        return self.name


@dataclass(frozen=True, kw_only=True, eq=False)  # eq: arrays have no single truth value
class ActionChunk:
    """Consecutive actions from one inference, absolute and ready to execute.

    Attributes:
        actions: float32 [T, 23], T >= 1, earliest step first, columns as in `b1k_envs.r1pro`.
            Owned by the chunk and made read-only.
        skill: The policy's report of its current skill; None if it has none.
        progress: The policy's estimate of task progress in [0, 1]; None if it has none.
        latency_s: Wall time of the inference [s]; None lets the runner measure it.
        wait_s: Time that the question waited for others' before the inference [s], which is not
            part of the latency; None if it did not.

    Raises:
        ActionError: Wrong dtype or shape, or a value that is not finite.
    """

    actions: Float32Array
    skill: Skill | None = None
    progress: float | None = None
    latency_s: float | None = None
    wait_s: float | None = None

    def __post_init__(self) -> None:
        actions = self.actions
        if not isinstance(actions, np.ndarray):
            raise ActionError(f"actions must be a numpy array, got {type(actions).__name__}")
        fits = actions.ndim == 2 and actions.shape[0] >= 1 and actions.shape[1] == ACTION_DIM
        if actions.dtype != np.float32 or not fits:
            raise ActionError(
                f"actions must be float32 [T, {ACTION_DIM}] with T >= 1, "
                f"got {actions.dtype} {list(actions.shape)}"
            )
        if not np.isfinite(actions).all():
            row, column = np.argwhere(~np.isfinite(actions))[0]
            raise ActionError(f"actions[{row}, {column}] is {actions[row, column]}")
        if self.progress is not None and not 0.0 <= self.progress <= 1.0:
            raise ActionError(f"progress must lie in [0, 1], got {self.progress}")
        actions.setflags(write=False)


@dataclass(frozen=True, kw_only=True)
class EpisodeInfo:
    """What a policy is told when an episode starts.

    Attributes:
        task: Task name.
        task_index: Task index in the challenge table.
        instruction: The task in words, as the demonstrations were annotated.
        instance: Instance index within the split.
        rollout: Number of the attempt on the instance.
        seed: Seed of this episode, derived from the run's; the only source of randomness.
        protocol: Challenge year, which fixes the proprio layout.
    """

    task: str
    task_index: int
    instruction: str
    instance: int
    rollout: int
    seed: int
    protocol: ProtocolYear


@dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """One observation of one episode, to be answered by a chunk.

    Attributes:
        observation: The present observation.
        instruction: The task in words.
        seed: Seed of this inference; see `seeding.inference_seed`.
        progress: The policy's own progress at the previous inference of the episode; None at the
            first, and where it gave none.
    """

    observation: Observation
    instruction: str
    seed: int
    progress: float | None = None


@dataclass(frozen=True, kw_only=True)
class Resizing:
    """A policy's first step with a picture; a client may do it instead, to send fewer bytes.

    Attributes:
        size: Height and width [px].
        filter: As in the contract.
        antialias: As in the contract.
    """

    size: int
    filter: ResizeFilter
    antialias: bool


class Policy(ABC):
    """From observation to action chunk.

    Attributes:
        name: Short name for tables and folders.
        chunk_length: T of every chunk `infer` returns.
        needs_images: False lets the runner skip rendering; `infer` then gets an Observation
            whose `images` is empty.
        needs_depth: Whether observations must have depth.
        proprio_read: Names of the fields of the proprio that it reads; None for any of them.
        skipped_rows: Rows at the start of the model's own chunk that are not executed and not
            returned by `infer`; a horizon may count them.
        remarks: What a reader should know before trusting a result; shown once per run.
        stateless: Whether an answer depends on its `Query` alone. One such policy serves the
            episodes of many worlds at once, by `infer_batch`; of any other each world has its own.
        computes_elsewhere: Its answers come from another process, so that several such policies are
            asked at the same time.
        prompt: Instruction that it follows instead of the task's; None for the task's.
        resize: Its first step with a picture; None if a client cannot do it.
        origin: A line about contract and device for display, or None.
        episode_remarks: Remarks on the latest episode, known once it is over.
    """

    name: str
    chunk_length: int
    needs_images: bool = True
    needs_depth: bool = False
    proprio_read: tuple[str, ...] | None = None
    skipped_rows: int = 0
    remarks: tuple[str, ...] = ()
    stateless: bool = False
    computes_elsewhere: bool = False
    prompt: str | None = None
    resize: Resizing | None = None
    origin: str | None = None

    @property
    def episode_remarks(self) -> tuple[str, ...]:
        """See the class; none by default."""
        return ()

    @abstractmethod
    def reset(self, episode: EpisodeInfo) -> None:
        """Clear all state of the previous episode."""

    @abstractmethod
    def infer(self, observation: Observation) -> ActionChunk:
        """Return the next `chunk_length` actions, the first for the present step."""

    def infer_batch(self, queries: Sequence[Query]) -> list[ActionChunk]:
        """Return one chunk per query, in order; by default computed one by one.

        An error concerns all of them: to find its query, ask for each alone.
        """
        return [self.infer(query.observation) for query in queries]

    def elsewhere(self) -> Callable[..., Policy] | None:
        """Return a function that makes the same policy in another process, without trial calls.

        Returns:
            A picklable function with the argument `gpu`, the preferred GPU. None for a policy that
            is made from its name on the command line.
        """
        return None

    def check_masked(self, mask: Callable[[Float32Array], Float32Array]) -> None:
        """Check that the policy can work with masked proprioception, before the first episode.

        Raises:
            B1kEvalError: The policy needs what `mask` hides.
        """
        return None

    def describe(self) -> dict[str, Any]:
        """Describe the policy for run.json (JSON values)."""
        return {"name": self.name, "chunk_length": self.chunk_length}

    def describe_here(self) -> dict[str, Any]:
        """Describe what the policy uses of this machine; recorded per session, not compared."""
        return {}

    def close(self) -> None:
        """Release memory and connections; safe to call twice."""
        return None


class PrivilegedPolicy(Policy):
    """A policy that reads the simulator's state. Its runs are marked `privileged`."""

    needs_images = False

    @abstractmethod
    def bind(self, privileged_state: Callable[[], Any]) -> None:
        """Receive the function that reads the simulator's state; called before every `reset`."""
