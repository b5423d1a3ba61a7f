"""Asynchronous chunk execution: the world goes on while the policy computes.

A chunk that is requested at step s and takes d control steps to compute arrives at step s + d.
Until then the previous chunk is executed. The new one is entered at row d, the row meant for that
moment. One inference runs at a time: the policy is asked again once its last answer has arrived
and `horizon` steps have passed since the last request. If the old chunk runs out before the new
one arrives, the robot stalls: joints and grippers keep their last command, the base stops.

The simulator does not run in wall time: latency is counted in control steps, rounded up, because
a robot can use an answer only at its next control step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from b1k_envs.base import Float32Array
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import ACTION_SLICES, CONTROL_HZ
from b1k_eval.loop.chunking import Chunking, check_horizon

_ROUNDING = 1e-9
"""Steps by which a latency may exceed a whole number, so that 100 ms are 3 steps and not 4."""


def delay_steps(latency_s: float) -> int:
    """Return the control steps until an answer with this latency can be used."""
    return max(0, math.ceil(latency_s * CONTROL_HZ - _ROUNDING))


class RealTime(Chunking):
    """Receding horizon with latency; with latency 0 it equals `RecedingHorizon`."""

    needs_hold = True

    def __init__(self, horizon: int, chunk_length: int, latency_s: float | None) -> None:
        """Set horizon and latency.

        Args:
            horizon: Fewest steps between two requests.
            chunk_length: T of every chunk.
            latency_s: Latency of every inference [s]; None to use what each was measured to take.

        Raises:
            UsageError: Not 1 <= horizon <= chunk_length, or the latency negative or not finite.
        """
        check_horizon(horizon, chunk_length)
        if latency_s is not None and not (math.isfinite(latency_s) and latency_s >= 0):
            raise UsageError(f"--latency {1e3 * latency_s:g} must be finite and at least 0 ms")
        self.horizon = horizon
        self.latency_s = latency_s
        self.needs_latency = latency_s is None
        self._forget()

    def _forget(self) -> None:
        self.stalled = 0
        self._asked: int | None = None
        self._start = 0
        self._actions = np.empty((0, 0), dtype=np.float32)
        self._coming: tuple[int, int, Float32Array] | None = None
        self._last: Float32Array | None = None

    def reset(self) -> None:
        """Drop the current chunk and the one on its way."""
        self._forget()

    def hold(self, action: Float32Array) -> None:
        """Set the action to send until the first chunk arrives."""
        self._last = action

    def wants_inference(self, step: int) -> bool:
        """Return True if the policy is idle and `horizon` steps have passed since it was asked."""
        self._arrive(step)
        if self._coming is not None:
            return False
        return self._asked is None or step - self._asked >= self.horizon

    def add(self, step: int, actions: Float32Array, latency_s: float = 0.0) -> None:
        """Take the chunk requested at `step`; it arrives `latency_s` later."""
        delay = delay_steps(latency_s if self.latency_s is None else self.latency_s)
        self._asked = step
        self._coming = (step + delay, step, actions)

    def lost(self, step: int) -> None:
        """Ask again once `horizon` steps have passed, as if the answer had come."""
        self._asked = step

    def action(self, step: int) -> Float32Array:
        """Return the current chunk's row for `step`; where it has none, stall."""
        self._arrive(step)
        row = step - self._start
        if row < len(self._actions):
            action: Float32Array = self._actions[row]
        else:
            self.stalled += 1
            if self._last is None:
                raise RuntimeError("action before hold")
            action = self._last.copy()
            action[ACTION_SLICES["base"]] = 0.0  # a velocity: repeated, it would drive on blindly
        self._last = action
        return action

    def describe(self) -> dict[str, Any]:
        """See `Chunking.describe`."""
        latency = "measured" if self.latency_s is None else 1e3 * self.latency_s
        return {"name": "realtime", "horizon": self.horizon, "latency_ms": latency}

    def _arrive(self, step: int) -> None:
        if self._coming is not None and step >= self._coming[0]:
            _, self._start, self._actions = self._coming
            self._coming = None
