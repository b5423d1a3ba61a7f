"""What the expert believes the world will be, one control step ahead at a time.

A chunk is planned by rolling the closed-loop controller forward on this prediction: the robot
follows its commands with a first-order lag, what is held moves with the hand, the door turns with
the handle, and everything else stays. It is corrected by the truth at every inference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_envs.mujoco_twin.truth import TwinTruth
from b1k_policies.expert.kinematics import ArmKinematics

_DT = 1.0 / r1pro.CONTROL_HZ
_JOINT_LAG = 0.33  # fraction of the distance to the command covered in one control step
_BASE_LAG = 0.30


@dataclass(frozen=True, eq=False)
class Command:
    """What the expert sends: body velocity in the robot frame and absolute joint targets.

    Attributes:
        velocity: vx, vy [m/s], wz [rad/s].
        trunk: float64 [4] [rad].
        left: float64 [7] [rad].
        right: float64 [7] [rad].
        grip: Left gripper command in [-1, 1].
    """

    velocity: Float64Array
    trunk: Float64Array
    left: Float64Array
    right: Float64Array
    grip: float

    def row(self) -> Float64Array:
        """The 23 columns of an action, float64."""
        action = np.zeros(r1pro.ACTION_DIM)
        action[r1pro.ACTION_SLICES["base"]] = self.velocity / r1pro.BASE_VELOCITY_LIMIT
        action[r1pro.ACTION_SLICES["trunk"]] = self.trunk
        action[r1pro.ACTION_SLICES["arm_left"]] = self.left
        action[r1pro.ACTION_SLICES["arm_right"]] = self.right
        action[r1pro.ACTION_SLICES["gripper_left"]] = self.grip
        action[r1pro.ACTION_SLICES["gripper_right"]] = r1pro.GRIPPER_OPEN
        return action


@dataclass(frozen=True, eq=False)
class Belief:
    """The world at one control step; world frame, m, rad.

    Attributes:
        truth: The last true state; everything not listed below is taken from it.
        base: x, y, yaw.
        velocity: vx, vy, wz in the world frame.
        trunk: float64 [4].
        left: float64 [7].
        door_angle: Washer door.
    """

    truth: TwinTruth
    base: Float64Array
    velocity: Float64Array
    trunk: Float64Array
    left: Float64Array
    door_angle: float

    @staticmethod
    def from_truth(truth: TwinTruth, velocity: Float64Array) -> Belief:
        """Start from the truth; the base velocity is the previous prediction's."""
        return Belief(
            truth=truth,
            base=truth.base,
            velocity=velocity,
            trunk=truth.trunk,
            left=truth.arms["left"],
            door_angle=truth.door_angle,
        )

    def advance(self, command: Command, arm: ArmKinematics) -> Belief:
        """The belief one control step later."""
        limit = r1pro.BASE_VELOCITY_LIMIT
        wanted = np.clip(command.velocity, -limit, limit)
        wanted = np.append(_turn(self.base[2]) @ wanted[:2], wanted[2])
        velocity = self.velocity + _BASE_LAG * (wanted - self.velocity)
        after = replace(
            self,
            base=self.base + _DT * velocity,
            velocity=velocity,
            trunk=self.trunk + _JOINT_LAG * (command.trunk - self.trunk),
            left=self.left + _JOINT_LAG * (command.left - self.left),
        )
        if self.truth.held["left"] == scene.WASHER_DOOR:
            return replace(after, door_angle=after.door_angle_under_hand(arm))
        return after

    # --- geometry ---------------------------------------------------------------------------

    def hand_in_base(self, arm: ArmKinematics) -> Float64Array:
        """Left hand in the base frame, float64 [3]."""
        return arm.forward(self.trunk, self.left)[0]

    def hand(self, arm: ArmKinematics) -> Float64Array:
        """Left hand in the world, float64 [3]."""
        local = self.hand_in_base(arm)
        return np.append(self.base[:2] + _turn(self.base[2]) @ local[:2], local[2])

    def base_with_hand_at(
        self, target: Float64Array, yaw: float, arm: ArmKinematics
    ) -> Float64Array:
        """Base pose that puts the hand, held as it is, above or below a world point.

        Args:
            target: float64 [2] or more, world [m]; only x and y count.
            yaw: Wanted base yaw.
            arm: Kinematics of the left arm.
        """
        return np.append(target[:2] - _turn(yaw) @ self.hand_in_base(arm)[:2], yaw)

    def on_door(self, local: tuple[float, float, float], angle: float) -> Float64Array:
        """World position of a point of the door's frame at some opening, float64 [3]."""
        washer = self.truth.positions[scene.WASHER]
        hinge = washer + scene.HINGE
        turned = _turn(-angle) @ np.array(local[:2])
        return np.array([hinge[0] + turned[0], hinge[1] + turned[1], hinge[2] + local[2]])

    def door_angle_under_hand(self, arm: ArmKinematics) -> float:
        """The opening at which the handle is nearest to the hand."""
        hinge = self.truth.positions[scene.WASHER] + scene.HINGE
        offset = self.hand(arm) - hinge
        closed = np.arctan2(scene.HANDLE[1], scene.HANDLE[0])
        angle = closed - np.arctan2(offset[1], offset[0])
        wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
        return float(np.clip(wrapped, 0.0, scene.DOOR_RANGE))

    def on_glove(self, glove: str, local: tuple[float, float, float]) -> Float64Array:
        """World position of a point of a glove's frame, float64 [3]."""
        truth = self.truth
        return np.asarray(truth.positions[glove] + truth.rotations[glove] @ np.array(local))

    def carried(self, glove: str, arm: ArmKinematics) -> Float64Array:
        """Where a glove in the left hand is now, float64 [3]."""
        truth = self.truth
        then = replace(self, base=truth.base, trunk=truth.trunk, left=truth.arms["left"])
        offset = truth.positions[glove] - then.hand(arm)
        turned = _turn(self.base[2] - truth.base[2]) @ offset[:2]
        return np.asarray(self.hand(arm) + np.append(turned, offset[2]))

    def glove_yaw(self, glove: str) -> float:
        """Direction of the knuckles in the horizontal plane."""
        forward = self.truth.rotations[glove][:, 0]
        return float(np.arctan2(forward[1], forward[0]))


def wrap(angle: float) -> float:
    """Angle in [-pi, pi)."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


def _turn(yaw: float) -> Float64Array:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin], [sin, cos]])
