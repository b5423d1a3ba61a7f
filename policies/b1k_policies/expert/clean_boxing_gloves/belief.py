"""The belief of this task's expert: the door turns with the handle, a glove moves with the hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.states import GloveTruth
from b1k_policies.expert.belief import Belief, Command, turned
from b1k_policies.expert.kinematics import ArmKinematics


@dataclass(frozen=True, eq=False)
class GloveBelief(Belief):
    """The utility room at one control step.

    Attributes:
        truth: The last true state.
        door_angle: Opening of the washer door [rad].
    """

    truth: GloveTruth
    door_angle: float

    def advance(self, command: Command, arm: ArmKinematics) -> GloveBelief:
        """Return the belief one control step later."""
        after = super().advance(command, arm)
        if self.truth.held["left"] == scene.WASHER_DOOR:
            return replace(after, door_angle=after.door_angle_under_hand(arm))
        return after

    def on_door(self, local: tuple[float, float, float], angle: float) -> Float64Array:
        """Return the world position of a point of the door's frame at an opening, float64 [3]."""
        washer = self.truth.positions[scene.WASHER]
        hinge = washer + scene.HINGE
        # The hinge's axis points down, so opening the door turns it by a negative yaw.
        offset = turned(-angle) @ np.array(local[:2])
        return np.array([hinge[0] + offset[0], hinge[1] + offset[1], hinge[2] + local[2]])

    def door_angle_under_hand(self, arm: ArmKinematics) -> float:
        """Return the opening [rad] at which the handle is nearest to the hand."""
        hinge = self.truth.positions[scene.WASHER] + scene.HINGE
        offset = self.hand(arm) - hinge
        closed = np.arctan2(scene.HANDLE[1], scene.HANDLE[0])
        angle = closed - np.arctan2(offset[1], offset[0])
        wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
        return float(np.clip(wrapped, 0.0, scene.DOOR_RANGE))

    def on_glove(self, glove: str, local: tuple[float, float, float]) -> Float64Array:
        """Return the world position of a point of a glove's frame, float64 [3]."""
        truth = self.truth
        return np.asarray(truth.positions[glove] + truth.rotations[glove] @ np.array(local))

    def carried(self, glove: str, arm: ArmKinematics) -> Float64Array:
        """Return the predicted position of a glove in the left hand, float64 [3]."""
        truth = self.truth
        # The grasp is rigid: the offset from the hand at the last truth turns with the base.
        then = replace(self, base=truth.base, trunk=truth.trunk, left=truth.arms["left"])
        offset = truth.positions[glove] - then.hand(arm)
        moved = turned(self.base[2] - truth.base[2]) @ offset[:2]
        return np.asarray(self.hand(arm) + np.append(moved, offset[2]))

    def glove_yaw(self, glove: str) -> float:
        """Return the direction of the knuckles in the horizontal plane [rad]."""
        forward = self.truth.rotations[glove][:, 0]
        return float(np.arctan2(forward[1], forward[0]))
