"""A workbench around the MuJoCo twin: puts robot, gloves and door where a test wants them.

Nothing here is computed by the code under test except the hand's own pose, which
`test_kinematics_truth.py` holds against an independent chain.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.tasks.table import get_task
from b1k_policies.base import EpisodeInfo

Array = npt.NDArray[np.float64]

TASK = get_task("clean_boxing_gloves")
GLOVES = ("boxing_glove_1", "boxing_glove_2")
FINGER_TIP = 0.023  # [m] from the tool centre to the fingertips, along the approach

# Trunk [rad] and the arms' joints [rad] that hold a hand forward, its fingers closing along y:
# 0.62 m before the base, 0.25 m to its side and 0.83 m up, the height of the washer's button.
TRUNK = np.array([1.025, -1.45, -0.47, 0.0])
FORWARD = {
    "left": np.array([-0.076, 0.033, -0.064, -1.201, 0.038, -0.34, 0.051]),
    "right": np.array([-0.076, -0.033, 0.064, -1.201, -0.038, -0.34, -0.051]),
}
TUCKED = {"left": np.zeros(7), "right": np.zeros(7)}


def make_twin(
    protocol: str = "2026", *, split: str = "public-test", max_steps: int = 5000
) -> TwinEnv:
    return TwinEnv(TASK, protocol=protocol, split=split, max_steps=max_steps)  # type: ignore[arg-type]


def episode_info(protocol: str = "2026", instance: int = 0, seed: int = 7) -> EpisodeInfo:
    return EpisodeInfo(
        task=TASK.name,
        task_index=TASK.index,
        instruction="clean the boxing gloves",
        instance=instance,
        rollout=0,
        seed=seed,
        protocol=protocol,  # type: ignore[arg-type]
    )


def action(
    *,
    base: tuple[float, float, float] = (0.0, 0.0, 0.0),
    left: Array = TUCKED["left"],
    right: Array = TUCKED["right"],
    grip_left: float = 1.0,
    grip_right: float = 1.0,
    trunk: Array = TRUNK,
) -> npt.NDArray[np.float32]:
    """One row, written out column by column."""
    return np.array([*base, *trunk, *left, grip_left, *right, grip_right], dtype=np.float32)


class Bench:
    """A twin whose state a test may write; what it writes into the model, `restore` undoes."""

    def __init__(self, env: TwinEnv, instance: int = 0) -> None:
        self.env = env
        self._nominal = (env._model.body_pos.copy(), env._model.opt.gravity.copy())
        self.model: Any = env._model
        self.data: Any = env._data
        self.states = env._states
        self.grasp = env._grasp
        env.reset(instance, 0, 0)

    def restore(self) -> None:
        self.model.body_pos[:], self.model.opt.gravity[:] = self._nominal

    # --- writing ----------------------------------------------------------------------------

    def settle(self) -> None:
        """Make positions and contacts those of the state just written, without moving time."""
        self.data.qvel[:] = 0.0
        mujoco.mj_step1(self.model, self.data)
        self.env._forget_step()

    def joint(self, name: str, value: float) -> None:
        self.data.qpos[self.model.joint(name).qposadr[0]] = value

    def pose_robot(
        self,
        base: tuple[float, float, float] | None = None,
        *,
        trunk: Array = TRUNK,
        left: Array = TUCKED["left"],
        right: Array = TUCKED["right"],
    ) -> None:
        if base is not None:
            for axis, value in zip(("x", "y", "rz"), base, strict=True):
                self.joint(f"base_footprint_{axis}_joint", value)
        for i, value in enumerate(trunk, start=1):
            self.joint(f"torso_joint{i}", value)
        for arm, joints in (("left", left), ("right", right)):
            for i, value in enumerate(joints, start=1):
                self.joint(f"{arm}_arm_joint{i}", value)
        self.settle()

    def fingers(self, arm: str, opening: float) -> None:
        self.joint(f"{arm}_gripper_finger_joint1", opening)
        self.joint(f"{arm}_gripper_finger_joint2", -opening)

    def door(self, angle: float) -> None:
        self.joint("washer_door_joint", angle)
        self.settle()

    def put_glove(
        self, glove: str, position: npt.ArrayLike, rotation: npt.ArrayLike | None = None
    ) -> None:
        """Lay a glove's origin somewhere, with a rotation matrix (palm down, knuckles +x)."""
        quat = np.array([1.0, 0.0, 0.0, 0.0])
        if rotation is not None:
            mujoco.mju_mat2Quat(quat, np.asarray(rotation, dtype=np.float64).ravel())
        address = self.model.joint(f"{glove}_joint").qposadr[0]
        self.data.qpos[address : address + 3] = position
        self.data.qpos[address + 3 : address + 7] = quat
        self.settle()

    def glove_into_hand(self, glove: str, arm: str = "left", *, aside: float = 0.0) -> None:
        """Cuff between the fingers, knuckles away from the hand; `aside` shifts it along y [m]."""
        centre, turn = self.hand(arm)
        rotation = np.column_stack([-turn[:, 2], turn[:, 1], turn[:, 0]])
        cuff = np.array([-0.095, 0.0, -0.012])  # in the glove's frame
        self.put_glove(glove, centre - rotation @ cuff + aside * turn[:, 1], rotation)

    def glove_into_drum(self, glove: str, x: float = 0.0, y: float = 0.0) -> None:
        """Lie on the drum's floor, crosswise, `x` from the washer's centre."""
        washer = self.body("washer")
        crosswise = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        self.put_glove(glove, washer + [x, y, -0.15], crosswise)

    def washer_at(self, position: npt.ArrayLike) -> None:
        """Move the whole washer, which is bolted to the world."""
        self.model.body_pos[self.model.body("washer").id] = position
        self.settle()

    def handle_into_hand(self, arm: str = "left") -> None:
        """Move the washer so that the middle of the door's handle is between the fingers."""
        centre, _ = self.hand(arm)
        hinge, handle = np.array([-0.312, 0.235, -0.02]), np.array([-0.088, -0.405, 0.0])
        self.washer_at(centre - hinge - handle)

    def weightless(self) -> None:
        self.model.opt.gravity[:] = 0.0

    # --- reading ----------------------------------------------------------------------------

    def body(self, name: str) -> Array:
        return np.array(self.data.body(name).xpos)

    def turn(self, name: str) -> Array:
        return np.array(self.data.body(name).xmat).reshape(3, 3)

    def hand(self, arm: str = "left") -> tuple[Array, Array]:
        """Point between the finger pads and the gripper link's rotation, world frame."""
        site = self.data.site(f"{arm}_eef")
        return site.xpos.copy(), site.xmat.reshape(3, 3).copy()

    def opening(self, arm: str) -> tuple[float, float]:
        return (
            float(self.data.joint(f"{arm}_gripper_finger_joint1").qpos[0]),
            -float(self.data.joint(f"{arm}_gripper_finger_joint2").qpos[0]),
        )

    def held(self, arm: str) -> str | None:
        body = self.grasp.held_body(arm)  # type: ignore[arg-type]
        return self.model.body(body).name if body >= 0 else None

    def touching(self, body: str) -> set[str]:
        """Names of the bodies in contact with one."""
        names: set[str] = set()
        for contact in self.data.contact:
            pair = [self.model.body(self.model.geom_bodyid[g]).name for g in contact.geom]
            if body in pair:
                names.add(pair[1 - pair.index(body)])
        return names

    def fingers_on(self, body: str, arm: str = "left") -> int:
        return sum(f"{arm}_gripper_finger_link{i}" in self.touching(body) for i in (1, 2))


def rotation_angle(first: Array, second: Array) -> float:
    """Angle between two rotation matrices [rad]."""
    return float(np.arccos(np.clip((np.trace(first.T @ second) - 1.0) / 2.0, -1.0, 1.0)))


# --- fingerprints ---------------------------------------------------------------------------


def wild_actions(count: int, seed: int = 3) -> npt.NDArray[np.float32]:
    """Reproducible actions that drive, turn, and swing both arms, float32 [count, 23]."""
    random = np.random.default_rng(seed)
    rows = np.empty((count, 23), dtype=np.float32)
    rows[:, 0:3] = random.uniform(-1, 1, (count, 3))
    rows[:, 3:7] = TRUNK + random.uniform(-0.1, 0.1, (count, 4))
    for columns, grip, arm in ((slice(7, 14), 14, "left"), (slice(15, 22), 22, "right")):
        rows[:, columns] = FORWARD[arm] + random.uniform(-0.5, 0.5, (count, 7))
        rows[:, grip] = random.uniform(-1, 1, count)
    return rows


def trajectory(env: TwinEnv, instance: int, count: int = 60, *, rollout: int = 0, seed: int = 0):
    """qpos after reset and after each of `wild_actions`, float64 [count + 1, nq]."""
    env.reset(instance, rollout, seed)
    rows = [env._data.qpos.copy()]
    for row in wild_actions(count):
        env.step(row)
        rows.append(env._data.qpos.copy())
    return np.array(rows)


def picture_hashes(env: TwinEnv) -> dict[str, str]:
    """SHA-256 of each view's bytes, now."""
    images = env.observe().images
    return {view: sha256(image.tobytes()).hexdigest() for view, image in images.items()}


def fingerprint(env: TwinEnv, instance: int) -> dict[str, str]:
    """What must be the same wherever this instance is run on this machine."""
    env.reset(instance, 0, 0)
    return {
        **picture_hashes(env),
        "qpos": sha256(trajectory(env, instance).tobytes()).hexdigest(),
        "last head": picture_hashes(env)["head"],
    }


if __name__ == "__main__":
    # Asked by test_instances.py in a process of its own: twin_bench.py SPLIT INSTANCE
    world = make_twin(split=sys.argv[1])
    json.dump(fingerprint(world, int(sys.argv[2])), sys.stdout)
    world.close()
