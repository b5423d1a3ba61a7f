"""The policy that answers the observations of a server.

A stateless policy serves all clients, many at a time. Of any other, every env of a connection gets
its own.
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
    """The engine's state for one episode of one env; used on its thread only."""

    policy: Policy | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Ask:
    """One observation of one env that needs a chunk.

    Attributes:
        observation: The present observation.
        episode: The episode, with instruction and seed.
        inference: Inferences of the episode before this one.
        progress: The policy's own progress at the last of them; None if it gave none.
        memory: The engine's state for the episode.
    """

    observation: Observation
    episode: EpisodeInfo
    inference: int
    progress: float | None = None
    memory: EpisodeMemory = field(default_factory=EpisodeMemory)


class Engine:
    """Computes chunks for any number of connections; used on one thread.

    Attributes:
        policy: The policy that serves all; if it is not stateless, one that describes them all.
        most_together: Largest batch that `chunks` takes; None for any.
    """

    def __init__(self, make: Callable[[], Policy]) -> None:
        """Build a policy with `make`.

        Raises:
            UsageError: It reads the simulator's state, which a server does not have.
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
        """Return one chunk per ask, in order; an error concerns all of them.

        The n-th inference of an episode has the same seed as in a run without a server.
        """
        queries = [
            Query(
                observation=ask.observation,
                instruction=ask.episode.instruction,
                seed=inference_seed(ask.episode.seed, ask.inference),
                progress=ask.progress,
            )
            for ask in asks
        ]
        if self.policy.stateless:
            return self.policy.infer_batch(queries)
        return [
            self._own(ask).infer_batch([query])[0] for ask, query in zip(asks, queries, strict=True)
        ]

    def describe(self) -> dict[str, Any]:
        """Describe the policy and what it uses of this machine; JSON values."""
        return {**self.policy.describe(), **self.policy.describe_here()}

    def close(self) -> None:
        """Release the model."""
        self.policy.close()

    def _own(self, ask: Ask) -> Policy:
        """Return the policy of an episode."""
        if ask.memory.policy is None:
            ask.memory.policy = self._make()
            ask.memory.policy.reset(ask.episode)
        return ask.memory.policy
