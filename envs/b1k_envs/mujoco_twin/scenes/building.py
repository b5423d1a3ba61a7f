"""Building blocks of every room: walls, boxes that collide, buttons.

All figures are this project's own; nothing here is taken from the real scenes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.engine import GROUP_OBJECT_COLLISION, mujoco

Span = tuple[float, float]

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
