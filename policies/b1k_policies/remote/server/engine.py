"""What answers the observations of a server: a policy.

One that has no memory between inferences serves everybody, many at a time. Any other is small and
remembers its episode: every env of a connection gets its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from b1k_envs.base import Observation
from b1k_envs.errors import UsageError
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy, PrivilegedPolicy, Query
from b1k_policies.seeding import inference_seed


@dataclass(eq=False)
class EpisodeMemory:
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
    memory: EpisodeMemory = field(default_factory=EpisodeMemory)


class Engine:
    """Chunks for observations of any number of connections; used on one thread.

    Attributes:
        policy: The one that serves everybody; otherwise the first, which says what they all are.
        most_together: Largest batch that `chunks` takes; None for any.
    """

    def __init__(self, make: Callable[[], Policy]) -> None:
        """Build a policy; owned from now on.

        Args:
            make: Gives a new one.

        Raises:
            UsageError: It reads the simulator's truth, which no server is sent.
        """
        self._make = make
        self.policy = first = make()
        if isinstance(first, PrivilegedPolicy):
            first.close()
            raise UsageError(
                f"--policy {first.name} reads the simulator's own state, which no evaluator "
                "sends: serve a checkpoint (--ckpt), or zero, hold, random or replay:FILE"
            )
        self.most_together = None if first.stateless else 1

    def chunks(self, asks: Sequence[Ask]) -> list[ActionChunk]:
        """One chunk per ask, in order; what it raises holds for all of them.

        The n-th inference of an episode has the seed that it has in a run without a server.
        """
        queries = [
            Query(
                observation=ask.observation,
                instruction=ask.episode.instruction,
                seed=inference_seed(ask.episode.seed, ask.inference),
            )
            for ask in asks
        ]
        if self.policy.stateless:
            return self.policy.infer_batch(queries)
        return [
            self._own(ask).infer_batch([query])[0] for ask, query in zip(asks, queries, strict=True)
        ]

    def describe(self) -> dict[str, Any]:
        """What produces the actions, and what of this machine it uses; JSON values."""
        return {**self.policy.describe(), **self.policy.describe_here()}

    def close(self) -> None:
        """Release the model."""
        self.policy.close()

    def _own(self, ask: Ask) -> Policy:
        """The policy of an episode."""
        if ask.memory.policy is None:
            ask.memory.policy = self._make()
            ask.memory.policy.reset(ask.episode)
        return ask.memory.policy
