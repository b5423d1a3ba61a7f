"""What answers the observations of a server: a checkpoint, or a policy without one.

A checkpoint has no memory between inferences but a number, so one of it serves everybody, many at a
time. Any other policy is small and remembers its episode: every env of a connection gets its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from b1k_envs.base import Observation
from b1k_envs.errors import UsageError
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy, PrivilegedPolicy
from b1k_policies.seeding import inference_seed

if TYPE_CHECKING:
    from b1k_policies.xvla.policy import XVLAPolicy


@dataclass(eq=False)
class Memory:
    """What an engine keeps of one episode of one env; its own, and only on its thread."""

    policy: Policy | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Ask:
    """One observation of one env that needs a chunk.

    Attributes:
        observation: What the robot sees now.
        episode: Which episode; brings instruction and seed.
        inference: Inferences of the episode before this one.
        memory: The episode's own.
    """

    observation: Observation
    episode: EpisodeInfo
    inference: int
    memory: Memory = field(default_factory=Memory)


class Engine(ABC):
    """Chunks for observations of any number of connections; used on one thread.

    Attributes:
        name: Short name.
        chunk_length: Rows of every chunk.
        skipped_rows: As of `Policy`.
        needs_images: Whether pictures are looked at.
        most_together: Largest batch that `chunks` takes; None for any.
        remarks: As of `Policy`.
    """

    name: str
    chunk_length: int
    skipped_rows: int
    needs_images: bool
    most_together: int | None
    remarks: tuple[str, ...]

    @abstractmethod
    def chunks(self, asks: Sequence[Ask]) -> list[ActionChunk]:
        """One chunk per ask, in order; what it raises holds for all of them."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What produces the actions, JSON values."""

    @abstractmethod
    def close(self) -> None:
        """Release the model."""

    def _take_over(self, policy: Policy) -> None:
        self.name = policy.name
        self.chunk_length = policy.chunk_length
        self.skipped_rows = policy.skipped_rows
        self.needs_images = policy.needs_images
        self.remarks = policy.remarks


class CheckpointEngine(Engine):
    """A checkpoint, asked for many observations at once.

    The n-th inference of an episode starts from the noise it has in a run without a server.
    """

    most_together = None

    def __init__(self, policy: XVLAPolicy) -> None:
        """Serve a loaded checkpoint; owned from now on."""
        self._policy = policy
        self._take_over(policy)

    @property
    def policy(self) -> XVLAPolicy:
        """The checkpoint."""
        return self._policy

    def chunks(self, asks: Sequence[Ask]) -> list[ActionChunk]:
        """See `XVLAPolicy.infer_batch`."""
        from b1k_policies.xvla.policy import Query

        return self._policy.infer_batch(
            [
                Query(
                    observation=ask.observation,
                    instruction=ask.episode.instruction,
                    seed=inference_seed(ask.episode.seed, ask.inference),
                )
                for ask in asks
            ]
        )

    def describe(self) -> dict[str, Any]:
        """As the checkpoint, and what of this machine it uses."""
        return {**self._policy.describe(), **self._policy.describe_here()}

    def close(self) -> None:
        """Release the checkpoint."""
        self._policy.close()


class PolicyEngine(Engine):
    """Any policy that reads nothing but observations, one of it per episode."""

    most_together = 1

    def __init__(self, make: Callable[[], Policy]) -> None:
        """Build one, to see what it is.

        Raises:
            UsageError: It reads the simulator's truth, which no server is sent.
        """
        self._make = make
        first = make()
        try:
            if isinstance(first, PrivilegedPolicy):
                raise UsageError(
                    f"--policy {first.name} reads the simulator's own state, which no evaluator "
                    "sends: serve a checkpoint (--ckpt), or zero, hold, random or replay:FILE"
                )
            self._take_over(first)
            self._described = first.describe()
        finally:
            first.close()

    def chunks(self, asks: Sequence[Ask]) -> list[ActionChunk]:
        """Each from its own policy."""
        found = []
        for ask in asks:
            if ask.memory.policy is None:
                ask.memory.policy = self._make()
                ask.memory.policy.reset(ask.episode)
            found.append(ask.memory.policy.infer(ask.observation))
        return found

    def describe(self) -> dict[str, Any]:
        """As the policy."""
        return self._described

    def close(self) -> None:
        """Nothing is held here."""
