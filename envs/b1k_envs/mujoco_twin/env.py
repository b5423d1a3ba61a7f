"""The MuJoCo twin as an Env: one robot, a task's room, the real BDDL problem.

A success here proves a policy's interface, its control loop and its behaviour in that room. It
does not prove a benchmark score: pixels and contacts differ from OmniGibson's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import (
    VIEWS,
    AgentPositions,
    Checks,
    Env,
    EnvInfo,
    Float32Array,
    Float64Array,
    GoalStatus,
    Observation,
    ProgressVariant,
    ProtocolYear,
    Split,
    StepResult,
    UInt8Array,
    VideoFrame,
    View,
)
from b1k_envs.errors import EnvError, UsageError
from b1k_envs.mujoco_twin.changes import NO_CHANGES, WorldChanges, changed_instance, weigh
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.instances import Instance, make_instance
from b1k_envs.mujoco_twin.model import (
    PHYSICS_HZ,
    SUBSTEPS,
    Dresser,
    RenderQuality,
    build_model,
)
from b1k_envs.mujoco_twin.rendering.cameras import (
    CameraRig,
    camera_to_base,
    native_depth,
    native_pictures,
    recorded_poses,
)
from b1k_envs.mujoco_twin.rendering.studio import Shown
from b1k_envs.mujoco_twin.rendering.video_rig import VideoRig
from b1k_envs.mujoco_twin.robot.body import BASE_BODY, EEF_SITE, MODELLED_BASE_JOINTS
from b1k_envs.mujoco_twin.robot.control import Controller
from b1k_envs.mujoco_twin.robot.grasping import GRASP_WINDOW_STEPS, AssistedGrasp
from b1k_envs.mujoco_twin.robot.proprio import ProprioReader
from b1k_envs.mujoco_twin.scenes import load_scene
from b1k_envs.mujoco_twin.scenes.base import Scene
from b1k_envs.mujoco_twin.scenes.building import yaw_quat
from b1k_envs.mujoco_twin.states import NEAR_DISTANCE
from b1k_envs.mujoco_twin.truth import TwinTruth
from b1k_envs.poses import camera_matrices
from b1k_envs.tasks import subgoals, task_progress
from b1k_envs.tasks.described import TWIN_TASKS
from b1k_envs.tasks.goals import GoalTracker
from b1k_envs.tasks.table import Task

_SETTLE_SUBSTEPS = 50


def require_twin_scene(task: Task) -> Scene:
    """Return the twin's room for a task.

    Raises:
        UsageError: There is none; the message names the tasks that have one.
    """
    if task.name not in TWIN_TASKS:
        raise UsageError(
            f"task {task.index} ({task.name}) has no scene in the MuJoCo twin, which has: "
            f"{', '.join(TWIN_TASKS)}. All other tasks need OmniGibson (--sim omnigibson)"
        )
    return load_scene(task.name)


def twin_info(
    task: Task,
    protocol: ProtocolYear,
    split: Split,
    max_steps: int,
    *,
    render_quality: RenderQuality = "fast",
    depth: bool = False,
) -> EnvInfo:
    """Describe a twin without building it; arguments as of `TwinEnv`."""
    return EnvInfo(
        sim="mujoco",
        sim_version=mujoco.__version__,
        protocol=protocol,
        task=task.name,
        task_index=task.index,
        control_hz=r1pro.CONTROL_HZ,
        max_steps=max_steps,
        settings={
            "split": split,
            "physics_hz": PHYSICS_HZ,
            "grasp_window_steps": GRASP_WINDOW_STEPS[protocol],
            "base_mass_kg": r1pro.BASE_MASS,
            "render_quality": render_quality,
            "near_distance_m": NEAR_DISTANCE,
            **({"depth": True} if depth else {}),
        },
    )


class TwinEnv(Env):
    """See the module header. Not thread-safe, except for the tickets that `frame` returns."""

    def __init__(
        self,
        task: Task,
        *,
        protocol: ProtocolYear,
        split: Split,
        max_steps: int,
        render_quality: RenderQuality = "fast",
        depth: bool = False,
        changes: WorldChanges = NO_CHANGES,
    ) -> None:
        """Compile the model; the OpenGL context is made at the first picture.

        Args:
            task: Task with a twin scene.
            protocol: Challenge year: proprio layout and grasp window.
            split: Set that `reset` takes its instances from.
            max_steps: Time limit; an episode lasts one action more, as in the evaluator.
            render_quality: `fast` or `high`.
            depth: Whether observations with pictures have depth.
            changes: How the world differs from the instances that it draws.

        Raises:
            UsageError: The task has no twin scene.
        """
        self._scene = require_twin_scene(task)
        self._task, self._split = task, split
        self._protocol: ProtocolYear = protocol
        self._quality: RenderQuality = render_quality
        self._max_steps = max_steps
        self._changes = changes
        self._model = build_model(self._scene, render_quality)
        weigh(self._model, self._scene, changes)
        self._data = mujoco.MjData(self._model)
        self._dresser = Dresser(self._model, self._scene)
        self._controller = Controller(self._model)
        self._grasp = AssistedGrasp(self._model, self._controller, protocol)
        self._states = self._scene.states(self._model, self._data, self._grasp)
        self._goal = GoalTracker(task.name, self._states)
        self._proprio = ProprioReader(self._model, protocol)
        self._rig = CameraRig(self._model, render_quality)
        self._video = VideoRig(task.name, render_quality)
        self._base = self._model.body(BASE_BODY).id
        self._eef = [self._model.site(EEF_SITE[arm]).id for arm in r1pro.ARMS]
        self._closed = False
        self._instance: Instance | None = None
        self._look: frozenset[str] = frozenset()
        self._step = 0
        self._pictures: Mapping[View, UInt8Array] | None = None
        self._with_depth = depth
        self._depth: Mapping[View, Float32Array] | None = None
        self._goal_now: GoalStatus | None = None
        self.info = twin_info(
            task, protocol, split, max_steps, render_quality=render_quality, depth=depth
        )

    # --- Env --------------------------------------------------------------------------------

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        """See `Env.reset`; rollout and seed have no effect, unless the world is changed."""
        drawn = make_instance(self._scene, self._split, instance)
        self._instance = changed_instance(self._scene, drawn, self._changes, seed)
        model, data = self._model, self._data
        mujoco.mj_resetData(model, data)
        self._dresser.place(self._instance)
        self._place(self._instance)
        self._controller.reset()
        self._grasp.reset(data)
        self._states.reset()
        mujoco.mj_forward(model, data)
        self._controller.hold(data)
        # As the evaluator does after loading an instance: let things come to rest, here for 0.2 s.
        mujoco.mj_step(model, data, _SETTLE_SUBSTEPS)
        data.qvel[:] = 0.0
        data.time = 0.0
        mujoco.mj_step1(model, data)
        self._step = 0
        self._states.update()
        self._show()
        self._goal.start()
        self._forget_step()

    def step(self, action: Float32Array) -> StepResult:
        """See `Env.step`."""
        r1pro.check_action(action)
        if self._instance is None:
            raise EnvError("step was called before reset")
        model, data = self._model, self._data
        truncated = self._step >= self._max_steps
        self._grasp.before_step(action, data)
        self._controller.apply(action, data)
        # step2 first and step1 last: positions and contacts are those of the present state
        # when states and cameras read them, at no extra cost.
        mujoco.mj_step2(model, data)
        mujoco.mj_step(model, data, SUBSTEPS - 1)
        mujoco.mj_step1(model, data)
        if _diverged(data):
            raise EnvError(f"the physics diverged at step {self._step}")
        self._grasp.after_step(action, data)
        self._states.update()
        self._step += 1
        self._show()
        self._forget_step()
        return StepResult(
            step=self._step,
            time=self._step / r1pro.CONTROL_HZ,
            terminated=self.goal().success,
            truncated=truncated,
            agent=AgentPositions(
                base=data.xpos[self._base].copy(),
                left_eef=data.site_xpos[self._eef[0]].copy(),
                right_eef=data.site_xpos[self._eef[1]].copy(),
            ),
        )

    def observe(self, *, images: bool = True) -> Observation:
        """See `Env.observe`."""
        if self._instance is None:
            raise EnvError("observe was called before reset")
        if self._closed:  # a new GL context would be made, and never freed
            raise EnvError("observe was called after close")
        if images and self._pictures is None:
            self._pictures = MappingProxyType(native_pictures(self._rig, self._data))
            if self._with_depth:
                self._depth = MappingProxyType(native_depth(self._rig, self._data))
        depth = (self._depth if images else {}) if self._with_depth else None
        recorded = recorded_poses(
            {view: camera_to_base(self._model, self._data, view) for view in VIEWS}
        )
        return Observation(
            images=self._pictures if images and self._pictures is not None else {},
            camera_to_base=camera_matrices(recorded),  # of these, so that both say the same
            cam_rel_poses=recorded,
            proprio=self._proprio.read(self._data),
            protocol=self._protocol,
            task_index=self._task.index,
            step=self._step,
            time=self._step / r1pro.CONTROL_HZ,
            depth=depth,
        )

    def goal(self) -> GoalStatus:
        """See `Env.goal`; evaluated once per step."""
        if self._goal_now is None:
            self._goal_now = self._goal.status()
        return self._goal_now

    def subgoals(self) -> dict[str, bool]:
        """See `Env.subgoals`."""
        return subgoals.evaluate(self._task.name, self._states)

    def checks(self, variant: ProgressVariant) -> Checks:
        """See `Env.checks`."""
        return task_progress.evaluate(self._task.name, self._states, variant)

    def frame(self, *, light: bool = False) -> VideoFrame:
        """Return this step's pictures if they exist, else a ticket; see `Env.frame`."""
        if self._instance is None:
            raise EnvError("frame was called before reset")
        if self._pictures is not None and not light:
            pictures = self._pictures
            return VideoFrame(redeem=lambda: pictures, holds_pictures=True)
        return self._video.ticket(self.shown())

    def privileged_state(self) -> TwinTruth:
        """Return a copy of the simulator's state, for the scripted expert."""
        data, model = self._data, self._model
        base = [model.joint(name).qposadr[0] for name in MODELLED_BASE_JOINTS]
        held: dict[r1pro.Arm, str | None] = {}
        for arm in r1pro.ARMS:
            body = self._grasp.held_body(arm)
            held[arm] = model.body(body).name if body >= 0 else None
        watched = self._scene.watched
        return self._states.truth(
            step=self._step,
            base=data.qpos[base].copy(),
            trunk=_joint_positions(model, data, r1pro.TRUNK_JOINTS),
            arms={arm: _joint_positions(model, data, r1pro.ARM_JOINTS[arm]) for arm in r1pro.ARMS},
            positions={name: data.body(name).xpos.copy() for name in watched},
            rotations={name: data.body(name).xmat.reshape(3, 3).copy() for name in watched},
            held=held,
        )

    def shown(self) -> Shown:
        """A copy of all that a picture of this step depends on, for a `Studio`."""
        if self._instance is None:
            raise EnvError("shown was called before reset")
        return Shown(self._instance, self._look, self._data.qpos.copy())

    def close(self) -> None:
        """Free the GL contexts and end the process that renders the video."""
        if not self._closed:
            self._closed = True
            self._rig.close()
            self._video.close()

    # --- internals --------------------------------------------------------------------------

    def _place(self, instance: Instance) -> None:
        model, data = self._model, self._data
        posture = dict(zip(r1pro.JOINT_ORDER, r1pro.RESET_JOINT_POSITION, strict=True))
        posture |= dict(zip(MODELLED_BASE_JOINTS, instance.start, strict=True))
        for index in range(model.njnt):
            joint = model.joint(index)
            if joint.name in posture:
                sign = r1pro.FINGER_SIGNS[1] if joint.name.endswith("finger_joint2") else 1.0
                data.qpos[joint.qposadr[0]] = sign * posture[joint.name]
        for name, (x, y, yaw) in instance.things.items():
            address = model.joint(f"{name}_joint").qposadr[0]
            data.qpos[address : address + 3] = (x, y, self._scene.things[name].height)
            data.qpos[address + 3 : address + 7] = yaw_quat(yaw)

    def _show(self) -> None:
        look = self._states.look()
        if look != self._look or self._step == 0:
            self._look = look
            self._dresser.show(look)

    def _forget_step(self) -> None:
        self._pictures = self._depth = None
        self._goal_now = None


def _joint_positions(
    model: mujoco.MjModel, data: mujoco.MjData, names: tuple[str, ...]
) -> Float64Array:
    return np.array([data.qpos[model.joint(name).qposadr[0]] for name in names])


def _diverged(data: mujoco.MjData) -> bool:
    """Return whether MuJoCo found bad state: it then resets the simulation and goes on."""
    kind = mujoco.mjtWarning
    fatal = (kind.mjWARN_BADQPOS, kind.mjWARN_BADQVEL, kind.mjWARN_BADQACC)
    return any(data.warning[number].number for number in fatal)
