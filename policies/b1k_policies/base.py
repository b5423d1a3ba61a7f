"""What a policy is, and what it hands to the runner.

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
    """What the policy says it is doing.

    Attributes:
        index: Index in the policy's own list of skills; None if it only has names.
        name: Name, when known from the checkpoint's own files.
        probability: The policy's confidence in [0, 1]; None if it gives none.
    """

    index: int | None = None
    name: str | None = None
    probability: float | None = None

    @property
    def label(self) -> str | None:
        """What to call it for people: the name, else the index; None without either."""
        if self.name is None and self.index is not None:
            return f"skill {self.index}"
        return self.name


@dataclass(frozen=True, kw_only=True, eq=False)  # eq: arrays have no single truth value
class ActionChunk:
    """Consecutive actions from one inference, absolute and ready to execute.

    Attributes:
        actions: float32 [T, 23], T >= 1, earliest step first, columns as in `b1k_envs.r1pro`.
            Owned by the chunk and made read-only.
        skill: The policy's own word on the current skill; None if it has none.
        progress: The policy's own estimate of task progress in [0, 1]; None if it has none.
        latency_s: Wall time of the inference [s]; None lets the runner measure it.

    Raises:
        ActionError: Wrong dtype or shape, or a value that is not finite.
    """

    actions: Float32Array
    skill: Skill | None = None
    progress: float | None = None
    latency_s: float | None = None

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
        rollout: Try number on the instance.
        seed: Seed of this episode, derived from the run's; the only source of randomness.
        protocol: Challenge generation, which fixes the proprio layout.
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
        observation: What the robot sees now.
        instruction: The task in words.
        seed: Of this inference's randomness; see `seeding.inference_seed`.
    """

    observation: Observation
    instruction: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Resizing:
    """What a policy does first with a picture; a client may do it, and send fewer bytes.

    Attributes:
        size: Height and width [px].
        filter: As of the contract.
        antialias: Likewise.
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
        needs_depth: Whether observations must have depth as well.
        skipped_rows: Rows at the start of the model's own chunk that are no longer to be
            executed and not in `infer`'s; a horizon may count them.
        remarks: What a person should read before trusting a result; shown once a run.
        stateless: Whether an answer follows from its `Query` alone. One such policy serves the
            episodes of many worlds at once, all by `infer_batch`; of any other each world has its
            own.
        prompt: Instruction that it follows instead of the task's; None for the task's.
        resize: What it does first with a picture; None for what cannot be done elsewhere.
        origin: A line about contract and device for people; None where there is nothing to say.
        episode_remarks: Likewise, of the latest episode, and known only when it has been played.
    """

    name: str
    chunk_length: int
    needs_images: bool = True
    needs_depth: bool = False
    skipped_rows: int = 0
    remarks: tuple[str, ...] = ()
    stateless: bool = False
    prompt: str | None = None
    resize: Resizing | None = None
    origin: str | None = None

    @property
    def episode_remarks(self) -> tuple[str, ...]:
        """None, unless a policy has some."""
        return ()

    @abstractmethod
    def reset(self, episode: EpisodeInfo) -> None:
        """Forget everything of the previous episode."""

    @abstractmethod
    def infer(self, observation: Observation) -> ActionChunk:
        """Decide the next `chunk_length` actions, the first to be executed right now."""

    def infer_batch(self, queries: Sequence[Query]) -> list[ActionChunk]:
        """One chunk per query, in order; one by one, unless a policy can do better.

        What is raised holds for all of them: to learn whose it is, ask for each alone.
        """
        return [self.infer(query.observation) for query in queries]

    def elsewhere(self) -> Callable[..., Policy] | None:
        """What makes the same policy in another process, without trying it again.

        Returns:
            To be pickled; takes `gpu`, the number of the GPU to prefer. None for a policy that is
            made from its word on the command line.
        """
        return None

    def check_masked(self, mask: Callable[[Float32Array], Float32Array]) -> None:
        """Refuse to be shown a proprioception of which parts are hidden, before it is.

        Args:
            mask: Hides them.

        Raises:
            B1kEvalError: The policy reads what is hidden.
        """
        return None

    def describe(self) -> dict[str, Any]:
        """What produced the actions, for run.json (JSON values)."""
        return {"name": self.name, "chunk_length": self.chunk_length}

    def describe_here(self) -> dict[str, Any]:
        """What of this machine the policy uses: recorded per session, never compared."""
        return {}

    def close(self) -> None:
        """Release memory and connections; safe to call twice."""
        return None


class PrivilegedPolicy(Policy):
    """A policy that reads the simulator's truth. Its runs are marked `privileged`."""

    needs_images = False

    @abstractmethod
    def bind(self, privileged_state: Callable[[], Any]) -> None:
        """Take the reader of the simulator's state; called before every `reset`."""
