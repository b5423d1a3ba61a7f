"""Building blocks of every room: walls, boxes that collide, lights, cameras.

All figures are this project's own; nothing here is taken from the real scenes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.assets.textures import visual_plane
from b1k_envs.mujoco_twin.engine import GROUP_OBJECT_COLLISION, mujoco

Span = tuple[float, float]
Place = Sequence[float]

ALONG_X = (np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0)
"""Quaternion w, x, y, z that lays a cylinder's axis along x."""


def solid(**extra: Any) -> dict[str, Any]:  # noqa: ANN401 - keywords of add_geom
    """Return the keywords of a geom that collides and is not drawn."""
    return {"group": GROUP_OBJECT_COLLISION, "rgba": [0.6, 0.6, 0.6, 1.0], **extra}


def add_box(body: Any, name: str, pos: Any, half: Any, **extra: Any) -> None:  # noqa: ANN401
    """Add a box of half sizes [m] that collides."""
    body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, pos=pos, size=half, **solid(**extra))


def add_push_button(
    body: Any,  # noqa: ANN401 - MjsBody
    joint: str,
    *,
    travel: float,
    stiffness: float,
    radius: float,
    half: float,
    middle: float,
    mass: float,
) -> None:
    """Make a body a button that is pushed along its +x and springs back.

    Args:
        body: The button's body; it gives the cap its name.
        joint: Name of the slide joint.
        travel: Its length [m].
        stiffness: Of its spring [N/m].
        radius: Of the cap [m].
        half: Half of the cap's length along x [m].
        middle: The cap's middle, x in the body's frame [m].
        mass: Of the cap [kg].
    """
    body.add_joint(
        name=joint,
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[1, 0, 0],
        limited=mujoco.mjtLimited.mjLIMITED_TRUE,
        range=[0, travel],
        stiffness=stiffness,
        damping=6.0,
        armature=0.02,
    )
    body.add_geom(
        name=f"{body.name}_cap",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        quat=ALONG_X,
        pos=[middle, 0, 0],
        size=[radius, half, 0],
        mass=mass,
        **solid(),
    )


def add_walls(world: Any, x: Span, y: Span) -> None:  # noqa: ANN401 - MjsBody
    """Add the planes of the floor and of four walls, whose inner faces are at x and y [m]."""
    half = np.sqrt(0.5)
    _plane(world, "floor", (0, 0, 0), (1, 0, 0, 0))
    _plane(world, "wall_x1", (x[1], 0, 0), (half, 0, -half, 0))
    _plane(world, "wall_x0", (x[0], 0, 0), (half, 0, half, 0))
    _plane(world, "wall_y1", (0, y[1], 0), (half, half, 0, 0))
    _plane(world, "wall_y0", (0, y[0], 0), (half, -half, 0, 0))


def _plane(body: Any, name: str, pos: Any, quat: Any) -> None:  # noqa: ANN401
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        pos=pos,
        quat=quat,
        size=[4, 4, 0.1],
        **solid(),
    )


def yaw_quat(yaw: float) -> Float64Array:
    """Return the quaternion w, x, y, z of a turn about z [rad]."""
    return np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


def dress_walls(world: Any, x: Span, y: Span, height: float) -> None:  # noqa: ANN401 - MjsBody
    """Draw floor, ceiling and walls in the materials `floor`, `ceiling` and `wall`."""
    cx, cy = sum(x) / 2, sum(y) / 2
    half, up = ((x[1] - x[0]) / 2, (y[1] - y[0]) / 2), (0.0, 0.0, 1.0)
    visual_plane(world, "room_floor", (cx, cy, 0), (1, 0, 0), (0, 1, 0), half, "floor")
    visual_plane(world, "room_ceiling", (cx, cy, height), (1, 0, 0), (0, -1, 0), half, "ceiling")
    for name, centre, right, width in (
        ("room_wall_x1", (x[1], cy, height / 2), (0, -1, 0), half[1]),
        ("room_wall_x0", (x[0], cy, height / 2), (0, 1, 0), half[1]),
        ("room_wall_y1", (cx, y[1], height / 2), (1, 0, 0), half[0]),
        ("room_wall_y0", (cx, y[0], height / 2), (-1, 0, 0), half[0]),
    ):
        visual_plane(world, name, centre, right, up, (width, height / 2), "wall")


def add_sky(spec: mujoco.MjSpec) -> None:
    """Add the sky, the background of every picture."""
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.62, 0.72, 0.82],
        rgb2=[0.88, 0.90, 0.92],
        width=32,
        height=32 * 6,
    )


def add_lights(spec: mujoco.MjSpec, lights: Mapping[str, tuple[Place, Place, Place]]) -> None:
    """Add lights and a weak light from the camera.

    Args:
        spec: The model under construction.
        lights: By name: position [m], direction, diffuse colour in [0, 1]. One of them must be
            `light_ceiling`, which casts the shadows.
    """
    spec.visual.headlight.ambient = [0.27, 0.27, 0.28]
    spec.visual.headlight.diffuse = [0.10, 0.10, 0.10]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    for name, (pos, direction, diffuse) in lights.items():
        # A spot by default in every MuJoCo (`directional` became `type` in 3.3.3). A cutoff of 90
        # degrees lights half of space, without a cone's edge, which per-vertex lighting frays.
        spec.worldbody.add_light(
            name=name,
            pos=pos,
            dir=direction,
            diffuse=diffuse,
            ambient=[0, 0, 0],
            specular=[0.5 * c for c in diffuse],
            cutoff=90,
            exponent=0,
            castshadow=False,  # `build_model` turns it on for light_ceiling at high quality
        )


def add_cameras(spec: mujoco.MjSpec, cameras: Mapping[str, tuple[Place, Place, float]]) -> None:
    """Add cameras for people, by name: eye [m], what they look at [m], field of view [degrees]."""
    for name, (eye, target, fovy) in cameras.items():
        spec.worldbody.add_camera(name=name, pos=eye, quat=_look_at(eye, target), fovy=fovy)


def _look_at(eye: Sequence[float], target: Sequence[float]) -> Float64Array:
    """Return the quaternion w, x, y, z of a camera (looks along -z, y up) that sees a point."""
    back = np.subtract(eye, target)
    back /= np.linalg.norm(back)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.column_stack([right, np.cross(back, right), back]).ravel())
    return quat
