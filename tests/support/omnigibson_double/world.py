"""The physics under the double: one MuJoCo twin per scene, moved from outside, piece by piece.

Nothing of OmniGibson's shapes or habits is here. A `TwinScene` can do what the double needs and
`TwinEnv` does not offer: take a pose, step without an action, step a fraction, remember a whole
state and go back to it. A control step with an action is `TwinEnv.step` itself.
"""

from __future__ import annotations

import atexit
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from b1k_envs import r1pro
from b1k_envs.base import ProtocolYear, Split
from b1k_envs.mujoco_twin.engine import GROUP_OBJECT_COLLISION
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.mujoco_twin.model import SUBSTEPS
from b1k_envs.mujoco_twin.robot.body import BASE_BODY, EEF_SITE, MODELLED_BASE_JOINTS
from b1k_envs.mujoco_twin.robot.proprio import ProprioReader
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout
from b1k_envs.tasks.table import get_task

Array = npt.NDArray[np.float64]

TASK = get_task("clean_boxing_gloves")
SEED_INSTANCE = 0
"""Instance of the twin's training split that the double's scene file is made from."""

PHYSICS_SUBSTEPS = 2
"""MuJoCo steps in one of OmniGibson's physics steps: 1/120 s at 240 Hz."""

URDF_BASE_MASS = 47.63
"""Mass of the base link before anybody changes it [kg]."""

SCENE_SPACING = 25.0
"""Scene i stands this far times i along world x [m]."""

_ROOM = (layout.ROOM_X, layout.ROOM_Y)
_FLOAT32 = 1e-6  # [m, rad]
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
PLACED = (
    "body_pos",
    "body_quat",
    "mat_rgba",
    "light_diffuse",
    "geom_contype",
    "geom_conaffinity",
    "body_gravcomp",
)
"""Fields of the model that an instance, or a body put into another scene, writes."""

_POOL: dict[tuple[ProtocolYear, int], TwinEnv] = {}
_NOMINAL: dict[tuple[ProtocolYear, int], dict[str, Array]] = {}


@dataclass(frozen=True)
class Snapshot:
    """Everything of a scene that a reset brings back."""

    physics: Array
    efforts: Array
    placed: Mapping[str, Array]
    anchors: Array
    hands: Mapping[str, tuple[int, int, int]]
    frozen: Mapping[str, Array]
    toggle: Any
    rule: Any
    dust: Mapping[str, int]
    at_rest: bool


def twin(protocol: ProtocolYear, index: int = 0) -> TwinEnv:
    """Give the compiled twin of scene `index`; compiled once a process, and used again."""
    key = (protocol, index)
    if key not in _POOL:
        env = TwinEnv(TASK, protocol=protocol, split="train", max_steps=10**9)
        _POOL[key] = env
        _NOMINAL[key] = {name: getattr(env._model, name).copy() for name in (*PLACED, "cam_fovy")}
    return _POOL[key]


@atexit.register
def _close_pool() -> None:
    for env in _POOL.values():
        env.close()


class TwinScene:
    """One scene; see the module header. World coordinates are the twin's plus `offset`."""

    def __init__(self, protocol: ProtocolYear, index: int) -> None:
        self.protocol, self.index = protocol, index
        self.offset = np.array([SCENE_SPACING * index, 0.0, 0.0])
        self.env = twin(protocol, index)
        self.model, self.data = self.env._model, self.env._data
        self.states = self.env._states
        for name, value in _NOMINAL[protocol, index].items():
            getattr(self.model, name)[:] = value
        self.command: npt.NDArray[np.float32] | None = None
        self.washer_rule_enabled = True
        self.tick = 0
        self._at_rest = False
        self._reader = ProprioReader(self.model, "2025")  # has every field
        self.base_mass = URDF_BASE_MASS
        self.take_instance("train", SEED_INSTANCE)

    def take_instance(self, split: Split, number: int) -> None:
        """Put the twin into one of its own initial states; dryer, colours and lights included."""
        nominal = _NOMINAL[self.protocol, self.index]
        self.write_fields({name: nominal[name] for name in PLACED})
        self.env._split = split
        self.env.reset(number, 0, 0)
        self.command = None
        self._at_rest = True

    # --- time -------------------------------------------------------------------------------

    def control_step(self) -> None:
        """Move by 1/30 s under the last command, or hold still if there is none.

        A world that was put to rest and that nobody commands stays where it is, to the bit: it
        would move by a micrometre, and whether a recorded episode succeeds hangs on less.
        """
        self.tick += 1
        dust = dict(self.states.dust_counts)
        if self.command is not None:
            self.env.step(self.command)
        elif self._at_rest:
            self.states.update()
        else:
            self._idle_step()
        self._at_rest = self._at_rest and self.command is None
        if not self.washer_rule_enabled:
            self.states.dust_counts = dust

    def _idle_step(self) -> None:
        """Do what `TwinEnv.step` does, with nobody commanding and no hand letting go."""
        model, data, grasp = self.model, self.data, self.env._grasp
        nothing = np.zeros(r1pro.ACTION_DIM, dtype=np.float32)
        for arm in r1pro.ARMS:
            holds = grasp.held_body(arm) >= 0
            nothing[r1pro.ACTION_SLICES[f"gripper_{arm}"]] = -1.0 if holds else r1pro.GRIPPER_OPEN
        grasp.before_step(nothing, data)
        mujoco.mj_step2(model, data)
        mujoco.mj_step(model, data, SUBSTEPS - 1)
        mujoco.mj_step1(model, data)
        grasp.after_step(nothing, data)
        self.states.update()

    def physics_step(self) -> None:
        """Move by 1/120 s: physics only, no grasping, no object states."""
        mujoco.mj_step(self.model, self.data, PHYSICS_SUBSTEPS)
        self.written()

    def written(self) -> None:
        """Make positions and contacts those of what was just written."""
        self._at_rest = False
        mujoco.mj_step1(self.model, self.data)

    # --- remembering ------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Remember everything, held objects and joints included."""
        physics = np.zeros(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, physics, _STATE)
        grasp, controller = self.env._grasp, self.env._controller
        return Snapshot(
            physics=physics,
            efforts=self.data.qfrc_actuator.copy(),
            placed=self.fields(PLACED),
            anchors=self.model.eq_data.copy(),
            hands={a: (h.candidate, h.persisted, h.held) for a, h in grasp._hands.items()},
            frozen=copy.deepcopy(controller._frozen),
            toggle=copy.deepcopy(self.states.toggle),
            rule=copy.deepcopy(self.states._rule),
            dust=dict(self.states.dust_counts),
            at_rest=self._at_rest,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back; the controllers then hold what they find."""
        self.write_fields(snapshot.placed)
        self.model.eq_data[:] = snapshot.anchors
        mujoco.mj_setState(self.model, self.data, snapshot.physics, _STATE)
        self.data.qfrc_actuator[:] = snapshot.efforts
        grasp, controller = self.env._grasp, self.env._controller
        for arm, (candidate, persisted, held) in snapshot.hands.items():
            hand = grasp._hands[arm]
            hand.candidate, hand.persisted, hand.held = candidate, persisted, held
        controller._frozen = copy.deepcopy(dict(snapshot.frozen))
        self.states.toggle = copy.deepcopy(snapshot.toggle)
        self.states._rule = copy.deepcopy(snapshot.rule)
        self.states.dust_counts = dict(snapshot.dust)
        self.forget_command()
        self._at_rest = snapshot.at_rest

    def forget_command(self) -> None:
        """Let the controllers hold the present posture."""
        self.command = None
        self.env._controller.hold(self.data)
        self.written()

    def fields(self, names: Sequence[str]) -> dict[str, Array]:
        """Copies of fields of the model."""
        return {name: getattr(self.model, name).copy() for name in names}

    def write_fields(self, fields: Mapping[str, Array]) -> None:
        """Write fields of the model."""
        for name, value in fields.items():
            getattr(self.model, name)[:] = value

    # --- robot ------------------------------------------------------------------------------

    @property
    def base_mass(self) -> float:
        """Mass of the base link [kg]."""
        return float(self.model.body_mass[self.model.body(BASE_BODY).id])

    @base_mass.setter
    def base_mass(self, mass: float) -> None:
        self.model.body_mass[self.model.body(BASE_BODY).id] = mass

    def set_grasp_window(self, steps: int) -> None:
        """Control steps that a candidate must persist."""
        self.env._grasp._window = steps

    def held(self, arm: str) -> str | None:
        """Name of the body in a hand."""
        body = self.env._grasp.held_body(arm)  # type: ignore[arg-type]
        return self.model.body(body).name if body >= 0 else None

    def set_base(self, position: Sequence[float], yaw: float) -> None:
        """Put the base somewhere, scene frame, without touching the rest of the posture.

        Where it stands already, to within float32, it is left alone: see `control_step`.
        """
        values = np.array([position[0], position[1], yaw], dtype=np.float64)
        places = [self.model.joint(name).qposadr[0] for name in MODELLED_BASE_JOINTS]
        if np.abs(self.data.qpos[places] - values).max() > _FLOAT32:
            self.data.qpos[places] = values
            self.written()

    def joint_addresses(self) -> tuple[list[int], list[int], list[int], list[float]]:
        """Of the modelled joints: place among the 28, qpos and qvel address, sign."""
        places, positions, velocities, signs = [], [], [], []
        for place, name in enumerate(r1pro.JOINT_ORDER):
            if name.startswith("base_") and name not in MODELLED_BASE_JOINTS:
                continue
            joint = self.model.joint(name)
            places.append(place)
            positions.append(int(joint.qposadr[0]))
            velocities.append(int(joint.dofadr[0]))
            signs.append(-1.0 if name.endswith("finger_joint2") else 1.0)
        return places, positions, velocities, signs

    def joint_positions(self) -> Array:
        """28 values [rad, m], fingers as openings."""
        places, positions, _, signs = self.joint_addresses()
        values = np.zeros(len(r1pro.JOINT_ORDER))
        values[places] = self.data.qpos[positions] * signs
        return values

    def joint_velocities(self) -> Array:
        """28 values [rad/s, m/s]."""
        places, _, velocities, signs = self.joint_addresses()
        values = np.zeros(len(r1pro.JOINT_ORDER))
        values[places] = self.data.qvel[velocities] * signs
        return values

    def set_joint_positions(self, values: npt.ArrayLike) -> None:
        """Write all 28; velocities become zero."""
        places, positions, velocities, signs = self.joint_addresses()
        self.data.qpos[positions] = np.asarray(values, dtype=np.float64)[places] * signs
        self.data.qvel[velocities] = 0.0
        self.written()

    def release(self) -> None:
        """Open every grasp constraint."""
        self.env._grasp.reset(self.data)

    def still_robot(self) -> None:
        """Zero the robot's velocities."""
        _, _, velocities, _ = self.joint_addresses()
        self.data.qvel[velocities] = 0.0

    def proprio_fields(self) -> dict[str, Array]:
        """Every proprioceptive field by its name, 2025's conventions."""
        return self._reader._fields(self.data)

    # --- poses, scene frame -----------------------------------------------------------------

    def body_pose(self, body: str) -> tuple[Array, Array]:
        """Position [m] and rotation matrix of a body."""
        found = self.data.body(body)
        return found.xpos.copy(), found.xmat.reshape(3, 3).copy()

    def eef_pose(self, arm: str) -> tuple[Array, Array]:
        """The same of the point between the finger pads."""
        site = self.data.site(EEF_SITE[arm])  # type: ignore[index]
        return site.xpos.copy(), site.xmat.reshape(3, 3).copy()

    def camera_pose(self, view: str) -> tuple[Array, Array]:
        """The same of a camera, USD axes."""
        camera = self.data.cam(view)
        return camera.xpos.copy(), camera.xmat.reshape(3, 3).copy()

    # --- objects ----------------------------------------------------------------------------

    def put_free_body(self, body: str, pos: Array, quat: Array, velocity: Array) -> None:
        """Write a glove's pose (quaternion w, x, y, z) and its velocity [6].

        Beyond the walls is another scene's room: nothing of this one touches it there, and it
        stays where it was put (MuJoCo's walls are half spaces, and would hurl it back).
        """
        away = not all(low < at < high for at, (low, high) in zip(pos, _ROOM, strict=False))
        index = self.model.body(body).id
        geoms = self.model.geom_bodyid == index
        for name in ("geom_contype", "geom_conaffinity"):
            nominal = _NOMINAL[self.protocol, self.index][name]
            getattr(self.model, name)[geoms] = 0 if away else nominal[geoms]
        self.model.body_gravcomp[index] = 1.0 if away else 0.0
        joint = self.model.joint(f"{body}_joint")
        start, dof = int(joint.qposadr[0]), int(joint.dofadr[0])
        self.data.qpos[start : start + 3] = pos
        self.data.qpos[start + 3 : start + 7] = quat
        self.data.qvel[dof : dof + 6] = velocity
        self.written()

    def put_furniture(self, body: str, pos: Array, quat: Array) -> None:
        """Move what is bolted to the world; its own frame is the one that `body_pose` gives."""
        index = self.model.body(body).id
        self.model.body_pos[index] = pos
        self.model.body_quat[index] = quat
        self.written()

    def still_body(self, body: str) -> None:
        """Zero the velocities of a body's joints, and of those that hang on it."""
        root = self.model.body(body).id
        for joint in range(self.model.njnt):
            if self.model.body_rootid[self.model.jnt_bodyid[joint]] == root:
                dof = self.model.jnt_dofadr[joint]
                free = self.model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE
                self.data.qvel[dof : dof + (6 if free else 1)] = 0.0

    @property
    def door_angle(self) -> float:
        """Opening of the washer's door [rad]."""
        return self.states.door_angle

    def set_door(self, angle: float, velocity: float = 0.0) -> None:
        """Swing the washer's door."""
        joint = self.model.joint(layout.DOOR_JOINT)
        self.data.qpos[joint.qposadr[0]] = angle
        self.data.qvel[joint.dofadr[0]] = velocity
        self.written()

    def box(self, bodies: Sequence[str]) -> tuple[Array, Array]:
        """Axis-aligned bounds of bodies' collision shapes, lower and upper corner."""
        wanted = {self.model.body(name).id for name in bodies}
        lows, highs = [], []
        for geom in range(self.model.ngeom):
            if self.model.geom_bodyid[geom] not in wanted:
                continue
            if self.model.geom_group[geom] != GROUP_OBJECT_COLLISION:
                continue
            centre, half = self.model.geom_aabb[geom, :3], self.model.geom_aabb[geom, 3:]
            rotation = self.data.geom_xmat[geom].reshape(3, 3)
            middle = self.data.geom_xpos[geom] + rotation @ centre
            reach = np.abs(rotation) @ half
            lows.append(middle - reach)
            highs.append(middle + reach)
        return np.min(lows, axis=0), np.max(highs, axis=0)
