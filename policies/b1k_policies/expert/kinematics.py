"""Inverse kinematics of one R1Pro arm, warm-started from one canonical posture.

Damped Gauss-Newton on MuJoCo's own kinematics and Jacobians. Always the same start, never a random
one, so that the same situation gives the same command: restarts would make demonstrations
multimodal. A general IK library was measured first: 279 us per iteration against 17 us here, for
the same seven joints, and an episode asks for tens of thousands of iterations.

Hand poses are those of the site `<arm>_eef` (`robot.EEF_SITE`) in the robot's base frame: the
hand approaches along its -z, the fingers close along its y, its x is the picture's up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from b1k_envs import r1pro
from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.robot.body import EEF_SITE, add_movable_chain

CANONICAL: dict[r1pro.Arm, Float64Array] = {
    "left": np.array([-0.3, 0.25, 0.0, -1.3, 0.0, 0.0, 0.0]),
    "right": np.array([-0.3, -0.25, 0.0, -1.3, 0.0, 0.0, 0.0]),
}
"""Elbow down and a little out [rad]; the one solution branch that is used."""

_ITERATIONS = 40
_ROTATION_WEIGHT = 0.25  # [m/rad]: what an orientation error counts against a position error
_POSTURE_WEIGHT = 0.004  # pulls the redundant degree of freedom to the canonical posture
_LIMIT_MARGIN = 0.02  # [rad]


@dataclass(frozen=True)
class IkResult:
    """Joint positions float64 [7] [rad], and how far the hand stays from the target."""

    joints: Float64Array
    position_error: float
    rotation_error: float

    @property
    def reached(self) -> bool:
        """Close enough to act on: 1 cm and 0.1 rad."""
        return self.position_error < 0.01 and self.rotation_error < 0.1


class ArmKinematics:
    """Forward and inverse kinematics of one arm, for any trunk posture."""

    def __init__(self, arm: r1pro.Arm) -> None:
        self.arm: r1pro.Arm = arm
        joints = (*r1pro.TRUNK_JOINTS, *r1pro.ARM_JOINTS[arm])
        spec = mujoco.MjSpec()
        spec.compiler.degree = False
        add_movable_chain(spec, joints)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site(EEF_SITE[arm]).id
        self._trunk = _addresses(self._model, r1pro.TRUNK_JOINTS)
        self._arm = _addresses(self._model, r1pro.ARM_JOINTS[arm])
        limits = r1pro.joint_limits(r1pro.ARM_JOINTS[arm])
        self._low, self._high = limits[:, 0] + _LIMIT_MARGIN, limits[:, 1] - _LIMIT_MARGIN
        self._full_jacobian = np.zeros((6, self._model.nv))

    def forward(
        self, trunk: Float64Array, joints: Float64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Hand pose in the base frame.

        Args:
            trunk: float64 [4] [rad].
            joints: float64 [7] [rad].

        Returns:
            Position float64 [3] [m] and rotation float64 [3, 3], both new arrays.
        """
        data = self._data
        data.qpos[self._trunk], data.qpos[self._arm] = trunk, joints
        mujoco.mj_kinematics(self._model, data)
        rotation = data.site_xmat[self._site].reshape(3, 3).copy()
        return data.site_xpos[self._site].copy(), rotation

    def inverse(
        self,
        trunk: Float64Array,
        position: Float64Array,
        rotation: Float64Array,
        start: Float64Array | None = None,
    ) -> IkResult:
        """Joint positions that put the hand at a pose.

        Args:
            trunk: float64 [4] [rad].
            position: Target, float64 [3], base frame [m].
            rotation: Target, float64 [3, 3], base frame.
            start: float64 [7] to start from; a nearby solution saves iterations and keeps to its
                branch. The canonical posture if None.
        """
        canonical = CANONICAL[self.arm]
        joints = canonical.copy() if start is None else start.copy()
        residual = self._residual(trunk, joints, position, rotation)
        cost = float(residual @ residual)
        damping = 1e-3
        for _ in range(_ITERATIONS):
            jacobian = self._jacobian_at(trunk, joints)
            normal = jacobian.T @ jacobian
            gradient = jacobian.T @ residual
            step = np.linalg.solve(normal + damping * np.eye(7), gradient)
            trial = np.clip(joints + np.clip(step, -0.5, 0.5), self._low, self._high)
            trial_residual = self._residual(trunk, trial, position, rotation)
            trial_cost = float(trial_residual @ trial_residual)
            if trial_cost >= cost:
                damping *= 8.0
                if damping > 10.0:
                    break
                continue
            converged = cost - trial_cost < 1e-9
            joints, residual, cost = trial, trial_residual, trial_cost
            damping = max(damping * 0.3, 1e-6)
            if converged:
                break
        return IkResult(
            joints,
            position_error=float(np.linalg.norm(residual[:3])),
            rotation_error=float(np.linalg.norm(residual[3:6])) / _ROTATION_WEIGHT,
        )

    def _residual(
        self,
        trunk: Float64Array,
        joints: Float64Array,
        position: Float64Array,
        rotation: Float64Array,
    ) -> Float64Array:
        """Weighted pose error (6) and distance from the canonical posture (7)."""
        here, turn = self.forward(trunk, joints)
        residual = np.empty(13)
        residual[:3] = position - here
        residual[3:6] = _ROTATION_WEIGHT * _rotation_vector(rotation @ turn.T)
        residual[6:] = _POSTURE_WEIGHT * (CANONICAL[self.arm] - joints)
        return residual

    def _jacobian_at(self, trunk: Float64Array, joints: Float64Array) -> Float64Array:
        """Derivative of the negative residual, float64 [13, 7]."""
        self.forward(trunk, joints)
        full = self._full_jacobian
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacSite(self._model, self._data, full[:3], full[3:], self._site)
        jacobian = np.empty((13, 7))
        jacobian[:6] = full[:, self._arm]
        jacobian[3:6] *= _ROTATION_WEIGHT
        jacobian[6:] = _POSTURE_WEIGHT * np.eye(7)
        return jacobian


def hand_rotation(pitch: float, yaw: float) -> Float64Array:
    """Hand that approaches forward and `pitch` below the horizon, turned by `yaw` about z.

    Returns:
        float64 [3, 3]; at pitch 0 and yaw 0 it approaches along +x with its fingers along y.
    """
    cos_p, sin_p, cos_y, sin_y = np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    pitched = np.array([[sin_p, 0.0, -cos_p], [0.0, 1.0, 0.0], [cos_p, 0.0, sin_p]])
    turned = np.array([[cos_y, -sin_y, 0.0], [sin_y, cos_y, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(turned @ pitched)


def _addresses(model: mujoco.MjModel, names: tuple[str, ...]) -> npt.NDArray[np.intp]:
    return np.array([model.joint(name).qposadr[0] for name in names])


def _rotation_vector(rotation: Float64Array) -> Float64Array:
    quat, vector = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quat, rotation.ravel())
    mujoco.mju_quat2Vel(vector, quat, 1.0)
    return vector
