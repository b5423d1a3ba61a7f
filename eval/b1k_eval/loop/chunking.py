"""Which action of which chunk comes next, and when the policy is asked again.

A strategy is asked once per control step, in order: `wants_inference(step)`, then `add` if it
did, then `action(step)`. It never touches a number of a single chunk; where chunks overlap and
are averaged, grippers and base are averaged like the joints and nothing is clipped.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from typing import Any

import numpy as np

from b1k_envs.base import Float32Array
from b1k_envs.errors import UsageError


class Chunking(ABC):
    """How a sequence of chunks becomes a sequence of actions. Steps count from 0.

    Attributes:
        needs_hold: Whether `hold` must be called before the first chunk is added.
        needs_latency: Whether it goes by how long each inference was measured to take, so that
            none may share its call with those of other episodes.
        stalled: Steps of this episode for which no chunk had a row.
    """

    needs_hold: bool = False
    needs_latency: bool = False
    stalled: int = 0

    @abstractmethod
    def reset(self) -> None:
        """Forget the chunks of the previous episode."""

    @abstractmethod
    def wants_inference(self, step: int) -> bool:
        """Whether a new chunk is due before the action of `step`."""

    def hold(self, action: Float32Array) -> None:
        """Take the action, float32 [23], that keeps the robot where it is at the start."""
        return None

    @abstractmethod
    def add(self, step: int, actions: Float32Array, latency_s: float = 0.0) -> None:
        """Take a chunk, float32 [T, 23], whose first row is meant for `step`.

        Args:
            step: The present step.
            actions: The chunk.
            latency_s: How long it took to compute [s]; only strategies that let the world go on
                meanwhile care.
        """

    @abstractmethod
    def action(self, step: int) -> Float32Array:
        """The action of `step`, float32 [23]; may be a view of a chunk, so read only."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Name and parameters, for run.json."""


def check_horizon(horizon: int, chunk_length: int) -> None:
    """Hold a horizon against a chunk length.

    Raises:
        UsageError: Not 1 <= horizon <= chunk_length.
    """
    if not 1 <= horizon <= chunk_length:
        single = "; it gives one action at a time: leave --horizon out" if chunk_length == 1 else ""
        raise UsageError(
            f"--horizon {horizon} must lie between 1 and the policy's chunk length, "
            f"{chunk_length}{single}"
        )


class RecedingHorizon(Chunking):
    """Execute the first h actions of every chunk, then ask again."""

    def __init__(self, horizon: int, chunk_length: int) -> None:
        """Fix h.

        Raises:
            UsageError: Not 1 <= horizon <= chunk_length.
        """
        check_horizon(horizon, chunk_length)
        self.horizon = horizon
        self._start = -horizon
        self._actions = np.empty((0, 0), dtype=np.float32)

    def reset(self) -> None:
        """Forget the chunk in hand."""
        self._start = -self.horizon
        self._actions = np.empty((0, 0), dtype=np.float32)

    def wants_inference(self, step: int) -> bool:
        """Every h steps."""
        return step - self._start >= self.horizon

    def add(self, step: int, actions: Float32Array, latency_s: float = 0.0) -> None:
        """Replace the chunk in hand."""
        self._start = step
        self._actions = actions

    def action(self, step: int) -> Float32Array:
        """Row `step - start` of the chunk in hand."""
        row: Float32Array = self._actions[step - self._start]
        return row

    def describe(self) -> dict[str, Any]:
        """Name and h."""
        return {"name": "receding", "horizon": self.horizon}


class TemporalEnsemble(Chunking):
    """Ask every k steps and average every prediction that was made for the present step.

    The predictions are ordered oldest first, and prediction i weighs exp(-decay * i): with
    decay > 0 the oldest weighs most, with 0 all weigh the same. Source: ACT, Zhao et al. 2023
    (tonyzhaozh/act, `imitate_episodes.py`, `temporal_agg`, decay 0.01).
    """

    def __init__(self, every: int, decay: float, chunk_length: int) -> None:
        """Fix k and the decay.

        Raises:
            UsageError: Not 1 <= every <= chunk_length, or decay negative or not finite.
        """
        if not 1 <= every <= chunk_length:
            raise UsageError(
                f"--ensemble-every {every} must lie between 1 and the policy's chunk length, "
                f"{chunk_length}"
            )
        if not (math.isfinite(decay) and decay >= 0):
            raise UsageError(f"--ensemble-decay {decay} must be finite and at least 0")
        self.every = every
        self.decay = decay
        self._next = 0
        self._chunks: deque[tuple[int, Float32Array]] = deque()
        most = -(-chunk_length // every)
        self._weights = np.exp(-decay * np.arange(most))

    def reset(self) -> None:
        """Forget all chunks."""
        self._next = 0
        self._chunks.clear()

    def wants_inference(self, step: int) -> bool:
        """Every k steps."""
        return step >= self._next

    def add(self, step: int, actions: Float32Array, latency_s: float = 0.0) -> None:
        """Keep the chunk as long as one of its rows is still to come."""
        self._next = step + self.every
        self._chunks.append((step, actions))

    def action(self, step: int) -> Float32Array:
        """The weighted mean of all rows meant for `step`, float32 [23].

        Computed as the oldest row plus the mean of the differences from it, so that predictions
        that agree come out exactly: a mean of fully open grippers must not round to 0.9999999,
        which does not release a grasp.
        """
        chunks = self._chunks
        while step - chunks[0][0] >= len(chunks[0][1]):
            chunks.popleft()
        oldest: Float32Array = chunks[0][1][step - chunks[0][0]]
        if len(chunks) == 1:
            return oldest
        rows = np.array([actions[step - start] for start, actions in chunks], dtype=np.float64)
        weights = self._weights[: len(rows)]
        mean = rows[0] + weights @ (rows - rows[0]) / weights.sum()
        return mean.astype(np.float32)  # type: ignore[no-any-return]

    def describe(self) -> dict[str, Any]:
        """Name, k and decay."""
        return {"name": "ensemble", "every": self.every, "decay": self.decay}
