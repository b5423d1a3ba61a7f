"""Forward kinematics of one R1Pro arm, computed by MuJoCo.

Hand poses are those of the site `<arm>_eef` (`robot.body.EEF_SITE`) in the robot's base frame: the
hand approaches along its -z, the fingers close along its y, its x is the picture's up.

There is no inverse kinematics: an expert holds its hand in a few fixed postures, which are numbers
in its file (`scripts/expert_postures.py` finds them).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from b1k_envs import r1pro
from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.robot.body import EEF_SITE, add_movable_chain


class ArmKinematics:
    """The pose of one hand for any trunk and arm posture."""

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

    def forward(
        self, trunk: Float64Array, joints: Float64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return the hand's pose in the base frame.

        Args:
            trunk: float64 [4] [rad].
            joints: float64 [7] [rad].

        Returns:
            Position float64 [3] [m] and rotation float64 [3, 3], both new arrays.
        """
        data = self._data
        data.qpos[self._trunk], data.qpos[self._arm] = trunk, joints
        mujoco.mj_kinematics(self._model, data)  # positions alone; mj_forward does the dynamics too
        rotation = data.site_xmat[self._site].reshape(3, 3).copy()
        return data.site_xpos[self._site].copy(), rotation


def _addresses(model: mujoco.MjModel, names: tuple[str, ...]) -> npt.NDArray[np.intp]:
    return np.array([model.joint(name).qposadr[0] for name in names])
