"""From the 23-number action to servo targets, with OmniGibson's controller semantics.

Base: velocity command clipped to [-1, 1], scaled, rotated by the yaw at the moment of the command
into the world-fixed frame and held for the control step (HolonomicBaseJointController). Trunk and
arms: absolute joint targets, limited by the joint ranges only (JointController, position, no input
or output limits). Grippers: [-1, 1] mapped linearly to the opening of each finger
(MultiFingerGripperController, mode smooth). So an all-zero action drives trunk and arms to 0 rad
and the grippers to half open.

Source: BEHAVIOR-1K, OmniGibson/omnigibson/eval/r1pro.yaml and controllers/.
"""

from __future__ import annotations

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import Float32Array, Float64Array
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.robot.body import MODELLED_BASE_JOINTS

_BASE_COLUMNS = r1pro.ACTION_SLICES["base"]
_POSITION_JOINTS = (*r1pro.TRUNK_JOINTS, *r1pro.ARM_JOINTS["left"], *r1pro.ARM_JOINTS["right"])
_POSITION_COLUMNS = np.r_[
    r1pro.ACTION_SLICES["trunk"],
    r1pro.ACTION_SLICES["arm_left"],
    r1pro.ACTION_SLICES["arm_right"],
]
GRIPPER_COLUMN = {arm: r1pro.ACTION_SLICES[f"gripper_{arm}"].start for arm in r1pro.ARMS}


class Controller:
    """Writes `data.ctrl` of one model; its only state is which fingers a grasp has frozen."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._base = np.array([model.actuator(name).id for name in MODELLED_BASE_JOINTS])
        self._joints = np.array([model.actuator(name).id for name in _POSITION_JOINTS])
        self._limits = r1pro.joint_limits(_POSITION_JOINTS)
        self._fingers = {
            arm: np.array([model.actuator(name).id for name in r1pro.FINGER_JOINTS[arm]])
            for arm in r1pro.ARMS
        }
        self._finger_qpos = {
            arm: np.array([model.joint(name).qposadr[0] for name in r1pro.FINGER_JOINTS[arm]])
            for arm in r1pro.ARMS
        }
        self._yaw = model.joint("base_footprint_rz_joint").qposadr[0]
        self._frozen: dict[r1pro.Arm, Float64Array] = {}

    def reset(self) -> None:
        """Forget frozen fingers."""
        self._frozen.clear()

    def freeze_fingers(self, arm: r1pro.Arm, data: mujoco.MjData) -> None:
        """Hold the fingers where they are now; otherwise they would fight the grasp constraint."""
        self._frozen[arm] = data.qpos[self._finger_qpos[arm]].copy()

    def free_fingers(self, arm: r1pro.Arm) -> None:
        """Let the fingers follow the command again."""
        self._frozen.pop(arm, None)

    def apply(self, action: Float32Array, data: mujoco.MjData) -> None:
        """Write the servo targets of one control step.

        Args:
            action: float [23], finite; columns as in `r1pro`.
            data: Simulation state; `ctrl` is written, the yaw is read.
        """
        velocity = (
            np.clip(action[_BASE_COLUMNS].astype(np.float64), -1.0, 1.0) * r1pro.BASE_VELOCITY_LIMIT
        )
        # The yaw of this moment counts for the whole control step, as upstream: a base that turns
        # while it drives does not follow an arc within a step.
        cos, sin = np.cos(data.qpos[self._yaw]), np.sin(data.qpos[self._yaw])
        data.ctrl[self._base] = (
            cos * velocity[0] - sin * velocity[1],
            sin * velocity[0] + cos * velocity[1],
            velocity[2],
        )
        # Only the joint ranges limit a target: upstream has no input or output limits here.
        data.ctrl[self._joints] = np.clip(
            action[_POSITION_COLUMNS], self._limits[:, 0], self._limits[:, 1]
        )
        for arm in r1pro.ARMS:
            frozen = self._frozen.get(arm)
            if frozen is not None:
                data.ctrl[self._fingers[arm]] = frozen
                continue
            command = min(max(float(action[GRIPPER_COLUMN[arm]]), -1.0), 1.0)
            opening = (command + 1.0) / 2.0 * r1pro.FINGER_TRAVEL
            data.ctrl[self._fingers[arm]] = np.multiply(r1pro.FINGER_SIGNS, opening)

    def hold(self, data: mujoco.MjData) -> None:
        """Set the targets to the present posture of joints and fingers, with the base still."""
        data.ctrl[self._base] = 0.0
        qpos = data.qpos
        for ids in (self._joints, *self._fingers.values()):
            for actuator in ids:
                joint = data.model.actuator_trnid[actuator, 0]
                data.ctrl[actuator] = qpos[data.model.jnt_qposadr[joint]]
