"""Chunking strategies: which action comes next, and when the policy is asked again.

A strategy is called once per control step, in order: `wants_inference(step)`, then `add` if that
was true, then `action(step)`. Actions are passed on unchanged. Where overlapping chunks are
averaged, grippers and base are averaged like the joints, and nothing is clipped.
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
    """Turns a sequence of chunks into a sequence of actions. Steps count from 0.

    Attributes:
        needs_hold: Whether `hold` must be called before the first chunk is added.
        needs_latency: Whether it uses the measured latency of each inference; then an inference
            may not share its call with other episodes.
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
        """Receive the action, float32 [23], that keeps the robot in its initial posture."""
        return None

    @abstractmethod
    def add(self, step: int, actions: Float32Array, latency_s: float = 0.0) -> None:
        """Add a chunk, float32 [T, 23], whose first row is meant for `step`, the present step.

        `latency_s` is how long it took to compute [s]; only `RealTime` uses it.
        """

    def lost(self, step: int) -> None:
        """Go on without the answer to the question of `step`, which never arrives.

        Raises:
            NotImplementedError: The strategy has no row for every step then; `RealTime` has.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot go on without an answer")

    @abstractmethod
    def action(self, step: int) -> Float32Array:
        """Return the action of `step`, float32 [23]; may be a view of a chunk: do not write."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return name and parameters, for run.json."""


def check_horizon(horizon: int, chunk_length: int) -> None:
    """Check a horizon against a chunk length.

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
    """Executes the first h actions of every chunk, then asks again."""

    def __init__(self, horizon: int, chunk_length: int) -> None:
        check_horizon(horizon, chunk_length)
        self.horizon = horizon
        self._start = -horizon  # so that step 0 wants an inference
        self._actions = np.empty((0, 0), dtype=np.float32)

    def reset(self) -> None:
        """Drop the chunk."""
        self._start = -self.horizon
        self._actions = np.empty((0, 0), dtype=np.float32)

    def wants_inference(self, step: int) -> bool:
        """Return True every h steps."""
        return step - self._start >= self.horizon

    def add(self, step: int, actions: Float32Array, latency_s: float = 0.0) -> None:
        """Replace the chunk."""
        self._start = step
        self._actions = actions

    def action(self, step: int) -> Float32Array:
        """Return row `step - start` of the chunk."""
        row: Float32Array = self._actions[step - self._start]
        return row

    def describe(self) -> dict[str, Any]:
        """See `Chunking.describe`."""
        return {"name": "receding", "horizon": self.horizon}


class TemporalEnsemble(Chunking):
    """Asks every k steps and averages all predictions made for the present step.

    Ordered oldest first, prediction i has the weight exp(-decay * i): with decay > 0 the oldest
    counts most, with 0 all count the same. Source: ACT, Zhao et al. 2023 (tonyzhaozh/act,
    `imitate_episodes.py`, `temporal_agg`, decay 0.01).

    Raises:
        UsageError: Not 1 <= every <= chunk_length, or decay negative or not finite.
    """

    def __init__(self, every: int, decay: float, chunk_length: int) -> None:
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
        """Drop all chunks."""
        self._next = 0
        self._chunks.clear()

    def wants_inference(self, step: int) -> bool:
        """Return True every k steps."""
        return step >= self._next

    def add(self, step: int, actions: Float32Array, latency_s: float = 0.0) -> None:
        """Keep the chunk as long as one of its rows is still to come."""
        self._next = step + self.every
        self._chunks.append((step, actions))

    def action(self, step: int) -> Float32Array:
        """Return the weighted mean of all rows meant for `step`, float32 [23]."""
        chunks = self._chunks
        while step - chunks[0][0] >= len(chunks[0][1]):
            chunks.popleft()
        oldest: Float32Array = chunks[0][1][step - chunks[0][0]]
        if len(chunks) == 1:
            return oldest
        rows = np.array([actions[step - start] for start, actions in chunks], dtype=np.float64)
        weights = self._weights[: len(rows)]
        # The oldest row plus the mean difference from it, so that predictions that agree come out
        # exactly: fully open grippers must not round to 0.9999999, which does not release a grasp.
        mean = rows[0] + weights @ (rows - rows[0]) / weights.sum()
        return mean.astype(np.float32)  # type: ignore[no-any-return]

    def describe(self) -> dict[str, Any]:
        """See `Chunking.describe`."""
        return {"name": "ensemble", "every": self.every, "decay": self.decay}
