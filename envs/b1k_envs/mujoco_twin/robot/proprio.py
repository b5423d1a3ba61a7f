"""Proprioception of the twin in OmniGibson's two layouts (`r1pro.PROPRIO_LAYOUTS`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from b1k_envs import r1pro
from b1k_envs.base import Float32Array, Float64Array, ProtocolYear
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.robot.body import BASE_BODY, EEF_SITE, MODELLED_BASE_JOINTS

_FINGERS = {name for pair in r1pro.FINGER_JOINTS.values() for name in pair}


class ProprioReader:
    """Reads the proprioception of one model's state, by fields that both layouts share."""

    def __init__(self, model: mujoco.MjModel, protocol: ProtocolYear) -> None:
        self._layout = r1pro.PROPRIO_LAYOUTS[protocol]
        self._size = r1pro.PROPRIO_DIM[protocol]
        self._protocol = protocol
        modelled = [
            (position, model.joint(name))
            for position, name in enumerate(r1pro.JOINT_ORDER)
            if not name.startswith("base_") or name in MODELLED_BASE_JOINTS
        ]
        self._rows = np.array([position for position, _ in modelled])
        self._qpos = np.array([joint.qposadr[0] for _, joint in modelled])
        self._qvel = np.array([joint.dofadr[0] for _, joint in modelled])
        # OmniGibson counts a finger's opening, whichever way its joint's axis points.
        self._sign = np.array(
            [
                r1pro.FINGER_SIGNS[int(joint.name[-1]) - 1] if joint.name in _FINGERS else 1.0
                for _, joint in modelled
            ]
        )
        self._base = model.body(BASE_BODY).id
        self._eef = {arm: model.site(EEF_SITE[arm]).id for arm in r1pro.ARMS}

    def read(self, data: mujoco.MjData) -> Float32Array:
        """Return the proprioception, float32 [256] or [61], read-only; needs current positions."""
        fields = self._fields(data)
        vector = np.empty(self._size, dtype=np.float32)
        for name, where in self._layout.items():
            vector[where] = fields[name]
        vector.setflags(write=False)
        return vector

    def _joints(self, values: Float64Array, addresses: npt.NDArray[np.intp]) -> Float64Array:
        """Return 28 values in JOINT_ORDER; virtual joints that are not modelled read 0."""
        joints = np.zeros(len(r1pro.JOINT_ORDER))
        joints[self._rows] = values[addresses] * self._sign
        return joints

    def _fields(self, data: mujoco.MjData) -> dict[str, Float64Array]:
        qpos = self._joints(data.qpos, self._qpos)
        qvel = self._joints(data.qvel, self._qvel)
        yaw = qpos[5:6]
        cos, sin = float(np.cos(yaw[0])), float(np.sin(yaw[0]))
        velocity = qvel[[0, 1, 5]]
        fields: dict[str, Float64Array] = {
            "trunk_qpos": qpos[6:10],
            "trunk_qvel": qvel[6:10],
        }
        for offset, arm in enumerate(r1pro.ARMS):
            # In JOINT_ORDER the arms are interleaved, left first, after 6 base and 4 trunk joints.
            fields[f"arm_{arm}_qpos"] = qpos[10 + offset : 24 : 2]
            fields[f"arm_{arm}_qvel"] = qvel[10 + offset : 24 : 2]
            fields[f"gripper_{arm}_qpos"] = qpos[24 + 2 * offset : 26 + 2 * offset]
            fields[f"gripper_{arm}_qvel"] = qvel[24 + 2 * offset : 26 + 2 * offset]
            position, quat = self._eef_in_base(data, arm)
            fields[f"eef_{arm}_pos"], fields[f"eef_{arm}_quat"] = position, quat
        if self._protocol == "2026":  # base_qvel in the robot frame; 2025 has it in the world's
            fields["base_qvel"] = np.array(
                [
                    cos * velocity[0] + sin * velocity[1],
                    -sin * velocity[0] + cos * velocity[1],
                    velocity[2],
                ]
            )
            return fields
        # The base stays level in the twin, so roll, pitch and vertical velocity are 0.
        roll_pitch_yaw = np.array([0.0, 0.0, yaw[0]])
        fields |= {
            "base_qvel": velocity,
            "joint_qpos": qpos,
            "joint_qpos_sin": np.sin(qpos),
            "joint_qpos_cos": np.cos(qpos),
            "joint_qvel": qvel,
            "joint_qeffort": self._joints(data.qfrc_actuator, self._qvel),
            "robot_pos": data.xpos[self._base].copy(),
            "robot_ori_cos": np.cos(roll_pitch_yaw),
            "robot_ori_sin": np.sin(roll_pitch_yaw),
            "robot_2d_ori": yaw,
            "robot_2d_ori_cos": np.cos(yaw),
            "robot_2d_ori_sin": np.sin(yaw),
            "robot_lin_vel": np.array([velocity[0], velocity[1], 0.0]),
            "robot_ang_vel": np.array([0.0, 0.0, velocity[2]]),
            "base_qpos": qpos[[0, 1, 5]],
        }
        fields["base_qpos_sin"] = np.sin(fields["base_qpos"])
        fields["base_qpos_cos"] = np.cos(fields["base_qpos"])
        for arm in r1pro.ARMS:
            fields[f"arm_{arm}_qpos_sin"] = np.sin(fields[f"arm_{arm}_qpos"])
            fields[f"arm_{arm}_qpos_cos"] = np.cos(fields[f"arm_{arm}_qpos"])
        return fields

    def _eef_in_base(
        self, data: mujoco.MjData, arm: r1pro.Arm
    ) -> tuple[Float64Array, Float64Array]:
        base_rotation = data.xmat[self._base].reshape(3, 3)
        site = self._eef[arm]
        position = base_rotation.T @ (data.site_xpos[site] - data.xpos[self._base])
        quat = np.zeros(4)
        rotation = base_rotation.T @ data.site_xmat[site].reshape(3, 3)
        mujoco.mju_mat2Quat(quat, rotation.ravel())
        return position, quat[[1, 2, 3, 0]]  # MuJoCo has w first, OmniGibson last
