"""What every room has: floor, ceiling and walls, sky, lights, cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.engine import mujoco
from twin_assets.textures import visual_plane

Span = tuple[float, float]
Place = Sequence[float]


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
