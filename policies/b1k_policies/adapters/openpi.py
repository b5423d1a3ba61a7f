"""An openpi policy in this process: the object with `infer(dict) -> {"actions": ...}`.

Source: openpi's `Policy` (src/openpi/policies/policy.py) and openpi-client's `BasePolicy`. What is
tested is that interface; openpi itself, and what its models make of the pictures, is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from b1k_envs.base import Observation
from b1k_envs.errors import ActionError
from b1k_envs.r1pro import ACTION_DIM
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy, Query
from b1k_policies.remote.wire.observations import to_wire
from b1k_policies.seeding import inference_seed


class Infers(Protocol):
    """What is called of an openpi policy."""

    def infer(self, obs: dict[str, Any], /) -> Mapping[str, Any]:
        """Return a mapping with `actions`, [T, 23 or more]."""

    def reset(self) -> None:
        """Forget the episode."""


class OpenpiPolicy(Policy):
    """Answers by an openpi policy; derive from it, and make the policy in `__init__`.

    The input is what the official evaluator would send, with `prompt`; override `inputs` where the
    policy's own transforms take other keys.
    """

    name = "openpi"

    def __init__(
        self, policy: Infers, chunk_length: int, *, noise: tuple[int, int] | None = None
    ) -> None:
        """Take a policy.

        Args:
            policy: The openpi policy.
            chunk_length: Rows of its answer that are used.
            noise: The model's action horizon and width, to draw the noise from the episode's seed
                and hand it over as `noise=`, as openpi's `Policy.infer` takes it. None leaves the
                noise to the policy: the same episode then differs from run to run.
        """
        self.chunk_length = chunk_length
        self._policy, self._noise = policy, noise
        self._episode: EpisodeInfo | None = None
        self._inference = 0

    def reset(self, episode: EpisodeInfo) -> None:
        """Reset the openpi policy."""
        self._episode, self._inference = episode, 0
        self._policy.reset()

    def inputs(self, observation: Observation, instruction: str) -> dict[str, Any]:
        """Return what the openpi policy is given; its arrays are the observation's own."""
        return {**to_wire(observation, batch=False, channels="rgb"), "prompt": instruction}

    def infer(self, observation: Observation) -> ActionChunk:
        """Ask by observation; a run asks by `infer_batch`."""
        assert self._episode is not None, "infer before reset"
        seed = inference_seed(self._episode.seed, self._inference)
        self._inference += 1
        instruction = self._episode.instruction
        return self._answer(Query(observation=observation, instruction=instruction, seed=seed))

    def infer_batch(self, queries: Sequence[Query]) -> list[ActionChunk]:
        """Ask one by one: an openpi policy takes one observation."""
        return [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> ActionChunk:
        inputs = self.inputs(query.observation, query.instruction)
        drawn: dict[str, Any] = {}
        if self._noise is not None:
            random = np.random.default_rng(query.seed)
            drawn = {"noise": random.standard_normal(self._noise).astype(np.float32)}
        actions = np.asarray(self._policy.infer(inputs, **drawn)["actions"])
        if actions.ndim != 2 or len(actions) < self.chunk_length or actions.shape[1] < ACTION_DIM:
            raise ActionError(
                f"the openpi policy gave actions {list(actions.shape)}, expected at least "
                f"[{self.chunk_length}, {ACTION_DIM}]"
            )
        # A model is wider than the robot: what is beyond its columns is padding.
        used = actions[: self.chunk_length, :ACTION_DIM]
        return ActionChunk(actions=np.array(used, dtype=np.float32))
