"""A policy's answers, disturbed on their way to the robot: lost chunks and changed commands."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from b1k_envs.base import Float32Array
from b1k_envs.r1pro import ACTION_SLICES
from b1k_eval.disturbances.axes import Disturbance
from b1k_eval.disturbances.shown import draws

_GRIPPERS = ("gripper_left", "gripper_right")
_ARMS = ("arm_left", "arm_right")


class Answers:
    """Disturbs the answers of one episode after another; `reset` first."""

    def __init__(self, disturbances: Sequence[Disturbance]) -> None:
        self._all = tuple(each for each in disturbances if each.dose)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self._seed = seed
        self._grips: deque[Float32Array] = deque()

    def lost(self, step: int) -> bool:
        """Whether the answer to a question asked at this step never arrives."""
        # The first answer always does: without one there is nothing to go on with.
        return step > 0 and any(
            draws(self._seed, each, step).fresh.random() < each.dose
            for each in self._all
            if each.axis.name == "dropped"
        )

    def command(self, action: Float32Array) -> Float32Array:
        """Return the command of a control step as the robot gets it, float32 [23]."""
        for each in self._all:
            name, dose = each.axis.name, each.dose
            if name == "base-scale":
                action = _scaled(action, "base", dose)
            elif name == "arm-scale":
                for arm in _ARMS:
                    if each.part in (None, arm):
                        action = _scaled(action, arm, dose)
            elif name == "gripper-delay":
                action = self._late(action, int(dose))
        return action

    def _late(self, action: Float32Array, steps: int) -> Float32Array:
        now = np.concatenate([action[ACTION_SLICES[name]] for name in _GRIPPERS])
        self._grips.append(now)
        then = self._grips.popleft() if len(self._grips) > steps else self._grips[0]
        late = action.copy()
        for name, value in zip(_GRIPPERS, then, strict=True):
            late[ACTION_SLICES[name]] = value
        return late


def _scaled(action: Float32Array, part: str, dose: float) -> Float32Array:
    scaled = action.copy()
    scaled[ACTION_SLICES[part]] *= np.float32(1.0 + dose)
    return scaled
