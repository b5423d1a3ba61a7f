"""Compile the twin's MuJoCo model, and place an instance into it.

One model serves every instance of a process: what an instance changes (furniture, colours, lights)
are plain fields of the compiled model, so no instance costs a new compile or a new GL upload.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.instances import Instance
from b1k_envs.mujoco_twin.robot import body as robot
from b1k_envs.mujoco_twin.robot import looks as robot_looks
from b1k_envs.mujoco_twin.robot.grasping import add_grasp_constraints
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import glove_looks, washer_looks
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import looks as scene_looks

RenderQuality = Literal["fast", "high"]

PHYSICS_HZ = 240.0
SUBSTEPS = round(PHYSICS_HZ / r1pro.CONTROL_HZ)

SHADOW_LIGHT = "light_ceiling"
_HIDDEN_GROUP = 5


def build_model(render_quality: RenderQuality = "fast") -> mujoco.MjModel:
    """Robot, room and looks in one compiled model.

    Args:
        render_quality: `fast` has no shadows and no multisampling, which on a software renderer
            is 5-10 times quicker; `high` has both, for videos people look at.
    """
    spec = mujoco.MjSpec()
    spec.modelname = "b1k_twin"
    spec.compiler.degree = False
    spec.option.timestep = 1.0 / PHYSICS_HZ
    # Euler tracks 4 cm off with these servos, and says nothing.
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    spec.option.iterations = 20
    robot.add_robot(spec)
    scene.add_scene(spec)
    add_grasp_constraints(spec, free_bodies=scene.GLOVES, jointed_links=(scene.WASHER_DOOR,))
    robot_looks.add_robot_looks(spec)
    scene_looks.add_scene_looks(spec)

    # znear and zfar are multiples of the extent: with a room's extent, what is near a wrist
    # camera would be clipped away.
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


@dataclass(frozen=True)
class Look:
    """What changes in the picture without moving: dust per glove, and the washer's light."""

    dusty: tuple[bool, bool] = (True, True)
    running: bool = False


@dataclass
class Dresser:
    """Writes instances and looks into a compiled model, always from the nominal values."""

    model: mujoco.MjModel
    _body_pos: Float64Array = field(init=False)

    def __post_init__(self) -> None:
        model = self.model
        self._body_pos = model.body_pos.copy()
        self._materials = [model.material(name).id for name in scene_looks.JITTERED_MATERIALS]
        self._colours = model.mat_rgba.copy()
        self._diffuse = model.light_diffuse.copy()
        self._dust = [
            np.array(
                [
                    model.geom(name).id
                    for name in (
                        *glove_looks.dust_particle_names(glove),
                        glove_looks.dust_veil_name(glove),
                    )
                ]
            )
            for glove in scene.GLOVES
        ]
        self._led = model.geom(washer_looks.LED).id

    def place(self, instance: Instance) -> None:
        """Move the furniture, tint the materials, set the lights."""
        model = self.model
        for body, shift in (
            (scene.WASHER, instance.washer_shift),
            (scene.DRYER, instance.dryer_shift),
            (scene.COUNTERTOP, instance.counter_shift),
        ):
            index = model.body(body).id
            model.body_pos[index][:2] = self._body_pos[index][:2] + shift
        for index, tint in zip(self._materials, instance.tints, strict=True):
            model.mat_rgba[index][:3] = np.clip(self._colours[index][:3] * tint, 0.0, 1.0)
        model.light_diffuse[:] = self._diffuse * instance.light

    def show(self, look: Look) -> None:
        """Show or hide the dust, light the washer's lamp."""
        for geoms, dusty in zip(self._dust, look.dusty, strict=True):
            self.model.geom_group[geoms] = robot.GROUP_VISUAL if dusty else _HIDDEN_GROUP
        self.model.geom_rgba[self._led] = (
            washer_looks.LED_ON if look.running else washer_looks.LED_OFF
        )
