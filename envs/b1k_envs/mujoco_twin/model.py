"""Compile the twin's MuJoCo model, and write an instance into it.

One model serves all instances: what an instance changes (furniture, colours, lights) are fields of
the compiled model, so no instance needs another compile or GL upload. The twins of a process share
one compile, which takes 0.2 s; a copy takes 7 ms.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Literal

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import VIEWS
from b1k_envs.mujoco_twin.engine import GROUP_VISUAL, mujoco
from b1k_envs.mujoco_twin.instances import Instance
from b1k_envs.mujoco_twin.looks import add_looks
from b1k_envs.mujoco_twin.robot import body as robot
from b1k_envs.mujoco_twin.robot.grasping import add_grasp_constraints
from b1k_envs.mujoco_twin.scenes.base import Scene

RenderQuality = Literal["fast", "high"]

PHYSICS_HZ = 240.0
SUBSTEPS = round(PHYSICS_HZ / r1pro.CONTROL_HZ)

SHADOW_LIGHT = "light_ceiling"
_HIDDEN_GROUP = 5


def build_model(scene: Scene, render_quality: RenderQuality = "fast") -> mujoco.MjModel:
    """Return a compiled model of robot, room and looks, owned by the caller.

    Args:
        scene: The room.
        render_quality: `fast` has no shadows and no multisampling, which makes a software renderer
            5-10 times faster; `high` has both, for videos.
    """
    return copy.copy(_compiled(scene, render_quality))


@lru_cache(maxsize=4)
def _compiled(scene: Scene, render_quality: RenderQuality) -> mujoco.MjModel:
    """Compile the model that copies are made of; 9 MB, never changed."""
    spec = mujoco.MjSpec()
    spec.modelname = "b1k_twin"
    spec.compiler.degree = False
    spec.option.timestep = 1.0 / PHYSICS_HZ
    # Euler has a tracking error of 4 cm with these servos, and MuJoCo gives no warning.
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    spec.option.iterations = 20
    robot.add_robot(spec)
    scene.build(spec)
    add_grasp_constraints(spec, free_bodies=tuple(scene.things), jointed_links=scene.links)
    add_looks(spec, "robot")
    add_looks(spec, scene.task)

    # znear and zfar are multiples of the extent: with the room's own extent, objects near a wrist
    # camera would be clipped.
    spec.stat.extent = 1.0
    spec.stat.center = [0.0, 0.5, 0.8]
    spec.visual.map.znear = 0.02
    spec.visual.map.zfar = 12.0
    high = render_quality == "high"
    spec.light(SHADOW_LIGHT).castshadow = high
    spec.visual.quality.offsamples = 4 if high else 0
    spec.visual.quality.shadowsize = 2048 if high else 0
    spec.visual.global_.offwidth = max(c.size for c in r1pro.CAMERAS.values())
    spec.visual.global_.offheight = spec.visual.global_.offwidth
    return spec.compile()


class Dresser:
    """Writes instances and looks into a compiled model, starting from the nominal values."""

    def __init__(self, model: mujoco.MjModel, scene: Scene) -> None:
        self._model = model
        self._furniture = {name: model.body(name).id for name in scene.furniture}
        self._materials = [model.material(name).id for name in scene.materials]
        self._switches = {
            name: (np.array([model.geom(geom).id for geom in switch.geoms]), switch)
            for name, switch in scene.switches.items()
        }
        self._body_pos = model.body_pos.copy()
        self._colours = model.mat_rgba.copy()
        self._diffuse = model.light_diffuse.copy()
        self._cameras = {view: model.camera(view).id for view in VIEWS}
        self._cam_pos, self._cam_quat = model.cam_pos.copy(), model.cam_quat.copy()

    def place(self, instance: Instance) -> None:
        """Move the furniture, tint the materials, set lights and cameras."""
        model = self._model
        for name, index in self._furniture.items():
            model.body_pos[index][:2] = self._body_pos[index][:2] + instance.shifts[name]
        for index, tint in zip(self._materials, instance.tints, strict=True):
            model.mat_rgba[index][:3] = np.clip(self._colours[index][:3] * tint, 0.0, 1.0)
        model.light_diffuse[:] = self._diffuse * instance.light
        for view, camera in self._cameras.items():
            model.cam_pos[camera], model.cam_quat[camera] = (
                self._cam_pos[camera],
                self._cam_quat[camera],
            )
            mount = instance.mounts.get(view)
            if mount is not None:
                nominal, away = self._cam_quat[camera], np.zeros(3)
                mujoco.mju_rotVecQuat(away, np.array(mount.shift), nominal)
                model.cam_pos[camera] += away
                mujoco.mju_mulQuat(model.cam_quat[camera], nominal, np.array(mount.turn))

    def show(self, look: frozenset[str]) -> None:
        """Turn these switches of the scene on, and the others off."""
        for name, (geoms, switch) in self._switches.items():
            on = name in look
            if switch.off is None:
                self._model.geom_group[geoms] = GROUP_VISUAL if on else _HIDDEN_GROUP
            colour = switch.on if on else switch.off
            if colour is not None:
                self._model.geom_rgba[geoms] = colour
