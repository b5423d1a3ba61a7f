"""Find an arm posture that puts the hand at a pose: joint positions for an expert's file.

    python scripts/expert_postures.py --trunk 1.5,-2.5,-1.3,0 --hand 0.6,0.25,0.45 --pitch 0.0

Damped Gauss-Newton on MuJoCo's own kinematics and Jacobians. The start is always the same, so that
all postures lie on one branch: arms that jump between branches make demonstrations multimodal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from b1k_envs import r1pro
from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_policies.expert.kinematics import ArmKinematics

CANONICAL: dict[r1pro.Arm, Float64Array] = {
    "left": np.array([-0.3, 0.25, 0.0, -1.3, 0.0, 0.0, 0.0]),
    "right": np.array([-0.3, -0.25, 0.0, -1.3, 0.0, 0.0, 0.0]),
}
"""Posture with the elbow down and a little out, on the only branch that is used [rad]."""

_ITERATIONS = 40
_ROTATION_WEIGHT = 0.25  # [m/rad]: weight of an orientation error beside a position error
_POSTURE_WEIGHT = 0.004  # pulls the seventh, redundant freedom to the canonical posture
_LIMIT_MARGIN = 0.02  # [rad]


@dataclass(frozen=True)
class IkResult:
    """Joint positions, float64 [7] [rad], and the hand's distance from the target [m], [rad]."""

    joints: Float64Array
    position_error: float
    rotation_error: float

    @property
    def reached(self) -> bool:
        """Whether the hand is close enough to act: within 1 cm and 0.1 rad."""
        return self.position_error < 0.01 and self.rotation_error < 0.1


class ArmSolver(ArmKinematics):
    """Inverse kinematics of one arm, for any trunk posture."""

    def __init__(self, arm: r1pro.Arm) -> None:
        super().__init__(arm)
        limits = r1pro.joint_limits(r1pro.ARM_JOINTS[arm])
        self._low, self._high = limits[:, 0] + _LIMIT_MARGIN, limits[:, 1] - _LIMIT_MARGIN
        self._full_jacobian = np.zeros((6, self._model.nv))

    def inverse(
        self,
        trunk: Float64Array,
        position: Float64Array,
        rotation: Float64Array,
        start: Float64Array | None = None,
    ) -> IkResult:
        """Find joint positions that put the hand at a pose.

        Args:
            trunk: float64 [4] [rad].
            position: Target, float64 [3], base frame [m].
            rotation: Target, float64 [3, 3], base frame.
            start: float64 [7] [rad] to start from; a nearby solution saves iterations and keeps to
                its branch. None for the canonical posture.
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
            # After a worse step more damping makes the next one shorter; below it is relaxed again.
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
        """Return weighted pose error (6) and distance from the canonical posture (7)."""
        here, turn = self.forward(trunk, joints)
        residual = np.empty(13)
        residual[:3] = position - here
        residual[3:6] = _ROTATION_WEIGHT * _rotation_vector(rotation @ turn.T)
        residual[6:] = _POSTURE_WEIGHT * (CANONICAL[self.arm] - joints)
        return residual

    def _jacobian_at(self, trunk: Float64Array, joints: Float64Array) -> Float64Array:
        """Return the derivative of the negative residual, float64 [13, 7]."""
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
    """Return the rotation of a hand that approaches forward, `pitch` downward, turned by `yaw`.

    Returns:
        float64 [3, 3]; at pitch 0 and yaw 0 it approaches along +x with its fingers along y.
    """
    cos_p, sin_p, cos_y, sin_y = np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    pitched = np.array([[sin_p, 0.0, -cos_p], [0.0, 1.0, 0.0], [cos_p, 0.0, sin_p]])
    turned = np.array([[cos_y, -sin_y, 0.0], [sin_y, cos_y, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(turned @ pitched)


def _rotation_vector(rotation: Float64Array) -> Float64Array:
    quat, vector = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quat, rotation.ravel())
    mujoco.mju_quat2Vel(vector, quat, 1.0)
    return vector


def numbers(text: str) -> Float64Array:
    """Read numbers separated by commas."""
    return np.array([float(part) for part in text.split(",")])


def main(
    trunk: Annotated[str, typer.Option(help="Four joints [rad].")],
    hand: Annotated[str, typer.Option(help="x,y,z in the base frame [m].")],
    pitch: Annotated[float, typer.Option(help="Of the approach, below the horizon [rad].")] = 0.0,
    yaw: Annotated[float, typer.Option(help="Of the approach, to the left [rad].")] = 0.0,
) -> None:
    """Print the left arm's joints."""
    found = ArmSolver("left").inverse(numbers(trunk), numbers(hand), hand_rotation(pitch, yaw))
    print_to = Console()
    print_to.print(", ".join(repr(float(joint)) for joint in found.joints))
    if not found.reached:
        print_to.print(
            f"not reached: {found.position_error:.3f} m, {found.rotation_error:.3f} rad off"
        )
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
