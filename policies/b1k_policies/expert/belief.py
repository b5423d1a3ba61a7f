"""The expert's prediction of the world, one control step at a time.

A chunk is planned by rolling the closed-loop controller forward on this prediction: the robot
follows its commands with a first-order lag, and everything else stays where it is, unless the
task's own belief says how it moves with the hand. The truth corrects it at every inference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.truth import TwinTruth
from b1k_policies.expert.kinematics import ArmKinematics

if TYPE_CHECKING:
    from typing_extensions import Self

_DT = 1.0 / r1pro.CONTROL_HZ
# Fraction of the distance to the command covered in one control step. The twin's servos have
# kp / kv of 10 to 17 per second, which makes 0.28 to 0.43.
_JOINT_LAG = 0.33
_BASE_LAG = 0.30  # the same for the base velocity


@dataclass(frozen=True, eq=False)
class Command:
    """One command of the expert: base velocity in the robot frame and absolute joint targets.

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
        """Return the command as the 23 columns of an action, float64."""
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
    """

    truth: TwinTruth
    base: Float64Array
    velocity: Float64Array
    trunk: Float64Array
    left: Float64Array

    def advance(self, command: Command, arm: ArmKinematics) -> Self:
        """Return the belief one control step later."""
        del arm  # used by tasks in which things follow the hand
        limit = r1pro.BASE_VELOCITY_LIMIT
        wanted = np.clip(command.velocity, -limit, limit)
        wanted = np.append(turned(self.base[2]) @ wanted[:2], wanted[2])
        velocity = self.velocity + _BASE_LAG * (wanted - self.velocity)
        return replace(
            self,
            base=self.base + _DT * velocity,
            velocity=velocity,
            trunk=self.trunk + _JOINT_LAG * (command.trunk - self.trunk),
            left=self.left + _JOINT_LAG * (command.left - self.left),
        )

    # --- geometry ---------------------------------------------------------------------------

    def hand_in_base(self, arm: ArmKinematics) -> Float64Array:
        """Return the left hand's position in the base frame, float64 [3] [m]."""
        return arm.forward(self.trunk, self.left)[0]

    def hand(self, arm: ArmKinematics) -> Float64Array:
        """Return the left hand's position in the world, float64 [3] [m]."""
        local = self.hand_in_base(arm)
        return np.append(self.base[:2] + turned(self.base[2]) @ local[:2], local[2])

    def base_with_hand_at(
        self, target: Float64Array, yaw: float, arm: ArmKinematics
    ) -> Float64Array:
        """Return the base pose that puts the hand above or below a world point.

        The arm keeps its present posture.

        Args:
            target: float64 [2] or more, world [m]; only x and y count.
            yaw: Wanted base yaw [rad].
            arm: Kinematics of the left arm.
        """
        return np.append(target[:2] - turned(yaw) @ self.hand_in_base(arm)[:2], yaw)


def wrap(angle: float) -> float:
    """Return the same angle [rad] in [-pi, pi)."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


def turned(yaw: float) -> Float64Array:
    """Return the rotation matrix of a yaw [rad], float64 [2, 2]."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin], [sin, cos]])
