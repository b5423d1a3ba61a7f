"""The visible geoms of the R1Pro in the twin: shells on the links that do not collide.

Shapes are our own, on the general look of the Galaxea R1 Pro, sized to the link frames of
`r1pro.kinematics` and to the collision shapes of `robot`. The rubber of a finger lies where its
collision pad lies, since fingers in a wrist picture are what a policy steers by. No camera may
see its own housing: everything on a camera's link stays behind the camera's origin.

All shapes are written for the left arm; links whose frames mirror in y are mirrored for the right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.robot.body import PAD_HALF, PAD_INNER
from twin_assets import meshes, shapes
from twin_assets.meshes import Mesh
from twin_assets.textures import add_material, visual_mesh

MATERIALS: dict[str, tuple[tuple[float, float, float], float, float]] = {
    "white": ((0.90, 0.905, 0.91), 0.35, 0.55),
    "grey": ((0.60, 0.61, 0.63), 0.40, 0.50),
    "dark": ((0.16, 0.165, 0.18), 0.30, 0.40),
    "rubber": ((0.11, 0.11, 0.115), 0.10, 0.10),
    "glass": ((0.02, 0.03, 0.07), 0.90, 0.95),
    "light": ((0.12, 0.55, 0.95), 0.20, 0.30),
}
"""Red, green, blue in [0, 1]; specular; shininess. Reflectance is 0: it costs a render pass."""

Parts = Sequence[tuple[str, Mesh]]  # material, shape in the link's frame

_MIRRORED = ("arm_base_link", "arm_link1", "arm_link2", "arm_link5", "arm_link6", "arm_link7")
"""Arm links whose right frame is the left one mirrored in y; the others are the same on both sides.
"""

Vector = Sequence[float]  # x, y, z [m]

X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def add_robot_looks(spec: mujoco.MjSpec) -> None:
    """Dress the links that `robot.add_robot` made; call it once, before compiling.

    Adds materials `r1pro_<name>` and per link and material one mesh geom
    `<link>_looks_<material>` in group `GROUP_VISUAL`, without contact and without mass.
    """
    for name, (rgb, specular, shininess) in MATERIALS.items():
        add_material(
            spec,
            f"r1pro_{name}",
            (*rgb, 1.0),
            specular=specular,
            shininess=shininess,
            emission=0.6 if name == "light" else 0.0,
        )
    for link in r1pro.kinematics()["links"]:
        by_material: dict[str, list[Mesh]] = {}
        for material, shape in link_looks(link):
            by_material.setdefault(material, []).append(shape)
        for material, parts in by_material.items():
            name = f"{link}_looks_{material}"
            visual_mesh(spec, spec.body(link), name, meshes.merge(parts), f"r1pro_{material}")


def link_looks(link: str) -> Parts:
    """Return a link's materials and shapes, in its own frame [m]; empty if it is not visible."""
    bare = link.removeprefix("left_").removeprefix("right_")
    for stem in ("steer_motor_link", "wheel_motor_link"):
        bare = stem if bare.startswith(stem) else bare
    parts = _LOOKS[bare]() if bare in _LOOKS else []
    if link.startswith("right_") and bare in _MIRRORED:
        return [(material, meshes.scaled(shape, (1, -1, 1))) for material, shape in parts]
    return parts


# --- building blocks ------------------------------------------------------------------------
# Surfaces that another shape covers are left out, because the software renderer draws every face.


def _drum(axis: Vector, centre: Vector, radius: float, half: float, segments: int = 16) -> Mesh:
    """Make a cylinder of half length `half` along an axis."""
    return meshes.moved(meshes.aimed(shapes.disc(radius, half, segments), axis), centre)


def _band(axis: Vector, centre: Vector, radius: float, half: float, segments: int = 16) -> Mesh:
    """Make the wall of a cylinder, for a dark ring between two shells."""
    wall = shapes.revolve([(radius, -half), (radius, half)], segments)
    return meshes.moved(meshes.aimed(wall, axis), centre)


def _cap(axis: Vector, base: Vector, radius: float, height: float, segments: int = 14) -> Mesh:
    """Make a flat button standing on a surface at `base`, without the hidden side."""
    lid = shapes.revolve([(radius, 0), (radius, height), (0, height)], segments)
    return meshes.moved(meshes.aimed(lid, axis), base)


def _hull_ring(circles: Sequence[Vector], inset: float, points: int, z: float) -> Float64Array:
    """Return the hull's outline of circles (x, y, radius) [m], shrunk by `inset`; [points, 3]."""
    angle = (np.arange(points) + 0.5) * (2 * np.pi / points)
    normal = np.column_stack([np.cos(angle), np.sin(angle)])
    centre = np.array([circle[:2] for circle in circles])
    radius = np.array([circle[2] for circle in circles]) - inset
    reach = np.argmax(normal @ centre.T + radius, axis=1)
    flat = centre[reach] + radius[reach, None] * normal
    return np.column_stack([flat, np.full(points, z)])


def _hull_stack(
    circles: Sequence[Vector],
    levels: Sequence[tuple[float, float]],
    points: int,
    caps: bool = True,
) -> Mesh:
    """Stack layers (z, inset) of one outline: a plate with bevelled edges, a chassis."""
    rings = [_hull_ring(circles, inset, points, z) for z, inset in levels]
    return shapes.loft(rings, caps=caps)


def _cheek(
    axis: str,
    span: tuple[float, float],
    start: tuple[float, float],
    end: tuple[float, float],
    points: int = 16,
) -> Mesh:
    """Make a plate with round ends across a joint, its face at span[1] bevelled.

    Args:
        axis: "x" or "y", the joint's axis, across the plate.
        span: Where the plate begins and ends along the axis [m].
        start: Height z and radius of one end [m].
        end: The same of the other end.
        points: Corners of the outline.
    """
    (inner, outer), bevel = span, 0.004
    circles = [(0.0, *start), (0.0, *end)]
    levels = [(inner, 0.0), (outer - bevel, 0.0), (outer, bevel)]
    plate = _hull_stack(circles, levels, points)  # axes: across, z, along the joint
    order = [2, 0, 1] if axis == "x" else [0, 2, 1]
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[order]
    return meshes.transform(plate, matrix)


def _shell(
    levels: Sequence[tuple[float, float, float]],
    exponent: float,
    points: int = 16,
    centre: Vector = (0, 0, 0),
    caps: bool = True,
) -> Mesh:
    """Make a soft tube along +z or -z through levels (z, half x, half y) [m]."""
    rings = [shapes.superellipse(hx, hy, exponent, points, z) for z, hx, hy in sorted(levels)]
    return meshes.moved(shapes.loft(rings, caps=caps), centre)


def _box(centre: Vector, half: Vector, radius: float, segments: int = 1) -> Mesh:
    return meshes.moved(shapes.rounded_box(half, radius, segments), centre)


def _pair(material: str, axis: int, shape: Mesh) -> Parts:
    """Return the shape and its mirror image across a plane through the origin."""
    factors = [1.0, 1.0, 1.0]
    factors[axis] = -1.0
    return [(material, shape), (material, meshes.scaled(shape, factors))]


def _shifted(parts: Parts, offset: Vector) -> Parts:
    return [(material, meshes.moved(shape, offset)) for material, shape in parts]


# --- base and torso -------------------------------------------------------------------------

_PLAN = ((0.165, 0.225, 0.105), (0.165, -0.225, 0.105), (-0.285, 0.0, 0.150))
"""Plan of the chassis: circles (x, y, radius) [m] over the three wheels."""


def _base() -> Parts:
    skirt = [(0.070, 0.045), (0.078, 0.035), (0.108, 0.025)]
    shell = [(0.105, 0.012), (0.118, 0.0), (0.215, 0.0), (0.240, 0.010), (0.252, 0.030)]
    deck = [(0.250, 0.045), (0.264, 0.047)]
    foot = [(-0.079, 0.05, 0.09), (-0.079, -0.05, 0.09)]
    bearing = _cheek("y", (0.080, 0.100), (0.0, 0.062), (-0.07, 0.075), 20)
    return [
        ("dark", _hull_stack(_PLAN, skirt, 32)),
        ("white", _hull_stack(_PLAN, shell, 32)),
        ("light", _hull_stack(_PLAN, [(0.149, -0.0012), (0.156, -0.0012)], 32, caps=False)),
        ("dark", _hull_stack(_PLAN, deck, 32)),
        ("grey", _hull_stack(foot, [(0.25, -0.03), (0.285, 0.0), (0.30, 0.004)], 28)),
        *_shifted(_pair("dark", 1, bearing), (-0.079, 0, 0.34265)),
        ("dark", _box((0.262, 0, 0.190), (0.010, 0.09, 0.018), 0.008)),
        ("glass", _box((0.2665, 0, 0.190), (0.007, 0.05, 0.010), 0.005)),
    ]


def _steer() -> Parts:
    return [("dark", _band(Z, (0, 0, -0.045), 0.040, 0.04))]


def _wheel() -> Parts:
    tread = [(0.045, -0.024), (0.063, -0.024), (0.070, -0.015)]
    profile = [*tread, *((radius, -y) for radius, y in reversed(tread))]
    return [
        ("rubber", meshes.aimed(shapes.revolve(profile, 20), Y)),
        ("grey", _drum(Y, (0, 0, 0), 0.046, 0.021, 14)),
    ]


def _torso_lower() -> Parts:
    length = 0.4
    return [
        *_pair("white", 1, _cheek("y", (0.044, 0.076), (0.0, 0.072), (length, 0.062), 20)),
        ("dark", _cheek("y", (-0.046, 0.046), (0.07, 0.046), (0.31, 0.042))),
        ("dark", _band(Y, (0, 0, 0), 0.060, 0.082)),
        ("dark", _drum(Y, (0, 0, length), 0.050, 0.082)),
        *_pair("grey", 1, _cap(Y, (0, 0.082, length), 0.030, 0.004)),
    ]


def _torso_upper() -> Parts:
    length = 0.3
    return [
        ("white", _cheek("y", (-0.042, 0.042), (0.0, 0.058), (length, 0.052), 20)),
        *_pair("dark", 1, _cheek("y", (0.038, 0.0435), (0.09, 0.034), (0.22, 0.032))),
        ("dark", _drum(Y, (0, 0, length), 0.046, 0.072)),
        *_pair("grey", 1, _cap(Y, (0, 0.072, length), 0.028, 0.004)),
    ]


def _waist() -> Parts:
    collar = [(0.046, 0.046, 0.066), (0.058, 0.064, 0.070), (0.076, 0.067, 0.070)]
    return [
        *_pair("white", 1, _cheek("y", (0.044, 0.068), (0.0, 0.056), (0.035, 0.050), 18)),
        ("white", _shell([*collar, (0.082, 0.060, 0.062)], 2.6, 22)),
        ("dark", _band(Z, (0, 0, 0.090), 0.057, 0.014, 20)),
    ]


def _chest() -> Parts:
    levels = (
        *((0.004, 0.056, 0.062), (0.012, 0.064, 0.072), (0.060, 0.078, 0.090)),
        *((0.140, 0.088, 0.105), (0.240, 0.090, 0.112), (0.315, 0.086, 0.112)),
        *((0.347, 0.077, 0.102), (0.364, 0.060, 0.082)),
    )
    return [
        ("white", _shell(levels, 4.5, 28)),
        ("dark", _box((0.0835, 0, 0.215), (0.010, 0.058, 0.085), 0.009)),
        ("light", _box((0.0930, 0, 0.275), (0.0022, 0.034, 0.003), 0.002)),
        ("grey", _box((-0.088, 0, 0.2), (0.016, 0.075, 0.11), 0.014)),
        ("dark", _band(Z, (-0.012, 0, 0.40), 0.034, 0.050)),
        ("grey", _cap(Z, (-0.012, 0, 0.360), 0.045, 0.022, 20)),
    ]


def _head() -> Parts:
    # Optical frame of the left lens: x right, y down, z forward; nothing reaches z = 0.
    middle = 0.060
    levels = (
        *((-0.142, 0.034, 0.020), (-0.137, 0.052, 0.033), (-0.118, 0.067, 0.044)),
        *((-0.085, 0.074, 0.049), (-0.036, 0.071, 0.045)),
    )
    lenses = [("grey", _cap(Z, (0, 0, -0.0025), 0.0125, 0.001, 18))]
    lenses.append(("glass", _cap(Z, (0, 0, -0.0025), 0.0095, 0.0018, 16)))
    return [
        ("white", _shell(levels, 3.0, 26, (middle, 0.012, 0))),
        ("dark", _box((middle, 0.012, -0.034), (0.067, 0.041, 0.007), 0.006)),
        ("dark", _box((middle, 0, -0.0175), (0.0875, 0.0155, 0.0155), 0.011, 2)),
        *lenses,
        *_shifted(lenses, (2 * middle, 0, 0)),
    ]


# --- arm: the left one, hanging down at zero --------------------------------------------------


def _arm_base() -> Parts:
    cowl = [(0.066, -0.01), (0.066, 0.012), (0.060, 0.032), (0.054, 0.038), (0.045, 0.038)]
    return [
        ("dark", _band(Y, (0, 0.055, 0), 0.050, 0.028, 18)),
        ("white", meshes.aimed(shapes.revolve(cowl, 20), Y)),
    ]


def _arm_1() -> Parts:
    levels = [(0.006, 0.049), (0.013, 0.055), (0.034, 0.055), (0.062, 0.036)]
    neck = shapes.revolve([(radius, y) for y, radius in levels], 18)
    return [
        ("white", meshes.aimed(neck, Y)),
        ("dark", _band(X, (0, 0.081, 0), 0.050, 0.0445, 20)),
    ]


def _arm_2() -> Parts:
    limb = [
        *((-0.040, 0.045, 0.024), (-0.054, 0.055, 0.044)),
        *((-0.098, 0.049, 0.047), (-0.104, 0.042, 0.042)),
    ]
    parts = [
        *_pair("white", 0, _cheek("x", (0.044, 0.058), (0.0, 0.052), (-0.055, 0.046), 18)),
        *_pair("grey", 0, _cap(X, (0.058, 0, 0), 0.030, 0.003)),
        ("white", _shell(limb, 2.3, 18, caps=False)),
        ("dark", _band(Z, (0, 0, -0.108), 0.043, 0.0085)),
    ]
    return _shifted(parts, (-0.025, 0, 0))


def _arm_3() -> Parts:
    elbow = -0.1945
    limb = [
        *((0.0, 0.042, 0.042), (-0.007, 0.049, 0.049), (-0.045, 0.050, 0.050)),
        *((-0.135, 0.038, 0.044), (-0.146, 0.030, 0.040)),
    ]
    return [
        ("white", _shell(limb, 2.2, 18)),
        *_pair("white", 1, _cheek("y", (0.030, 0.043), (elbow, 0.041), (-0.125, 0.036), 16)),
        *_pair("grey", 1, _cap(Y, (0, 0.043, elbow), 0.024, 0.003)),
    ]


def _arm_4() -> Parts:
    limb = [(-0.030, 0.026, 0.0285), (-0.044, 0.038, 0.029), (-0.064, 0.041, 0.039)]
    parts = [
        ("dark", _band(Y, (0, 0, 0), 0.040, 0.0305)),
        ("white", _shell([*limb, (-0.079, 0.041, 0.041), (-0.084, 0.035, 0.035)], 2.4, caps=False)),
        ("dark", _band(Z, (0, 0, -0.089), 0.036, 0.008)),
    ]
    return _shifted(parts, (0, -0.035, 0))


def _arm_5() -> Parts:
    wrist = -0.16305
    limb = [
        *((0.002, 0.035, 0.035), (-0.005, 0.042, 0.042), (-0.035, 0.043, 0.043)),
        *((-0.115, 0.030, 0.035), (-0.126, 0.024, 0.031)),
    ]
    return [
        ("white", _shell(limb, 2.2)),
        *_pair("white", 1, _cheek("y", (0.024, 0.035), (wrist, 0.031), (-0.108, 0.027))),
        *_pair("grey", 1, _cap(Y, (0, 0.035, wrist), 0.018, 0.0025)),
    ]


def _arm_6() -> Parts:
    return [
        ("dark", _band(Y, (0, 0.028, 0), 0.029, 0.0245)),
        ("dark", _band(X, (0, 0.028, 0), 0.027, 0.0305)),
    ]


def _arm_7() -> Parts:
    limb = [
        *((-0.020, 0.026, 0.014), (-0.042, 0.040, 0.032)),
        *((-0.088, 0.037, 0.037), (-0.094, 0.032, 0.032)),
    ]
    parts = [
        *_pair("white", 0, _cheek("x", (0.030, 0.040), (0.0, 0.028), (-0.045, 0.030))),
        *_pair("grey", 0, _cap(X, (0.040, 0, 0), 0.016, 0.0025)),
        ("white", _shell(limb, 2.4, caps=False)),
        ("dark", _band(Z, (0, 0, -0.098), 0.033, 0.0075)),
    ]
    return _shifted(parts, (-0.0295, 0, 0))


# --- hand -----------------------------------------------------------------------------------


def _gripper() -> Parts:
    hand = [
        *((0.008, 0.0285, 0.066), (0.016, 0.030, 0.068), (0.032, 0.0305, 0.066)),
        *((0.047, 0.0305, 0.053), (0.058, 0.027, 0.034)),
    ]
    return [
        ("white", _shell(hand, 4.0, 24)),
        ("dark", _shell([(0.001, 0.025, 0.065), (0.010, 0.027, 0.067)], 6.0, 24)),
        *_pair("grey", 0, _band(Y, (0.014, 0, -0.0065), 0.0035, 0.068, 8)),
        *_pair("dark", 1, _box((0, 0.070, -0.003), (0.022, 0.003, 0.009), 0.002)),
        ("dark", _box((0.037, 0.0029, 0.030), (0.012, 0.020, 0.007), 0.003)),
    ]


def _realsense() -> Parts:
    # Looks along its +z; everything lies behind z = 0.
    return [
        ("grey", _box((0, -0.022, -0.0145), (0.0125, 0.045, 0.0125), 0.0115, 2)),
        ("dark", _box((0, -0.022, -0.0055), (0.0095, 0.040, 0.004), 0.0038)),
        *(("glass", _cap(Z, (0, y, -0.002), 0.006, 0.0012, 12)) for y in (0.0, -0.05)),
    ]


_RIB = ((0.0, 0.0), (0.014, 0.0), (0.0155, 0.0012))
_PAD_PROFILE = [
    (-PAD_HALF[2], 0.0015),
    *((-0.0345 + 0.0167 * k + step, depth) for k in range(4) for step, depth in _RIB),
    (0.0325, 0.0015),
]
"""Height z and depth of the rubber's face behind the collision pad's [m]: ribs and grooves."""


def _flat_ring(half_x: float, near: float, far: float, z: float) -> Float64Array:
    """Make a rectangle between y = near and y = far for `shapes.loft`, float64 [4, 3]."""
    x = half_x
    return np.array([(x, near, z), (x, far, z), (-x, far, z), (-x, near, z)])


def _finger(side: float) -> Parts:
    """Make a finger whose pad faces -y * side; frame as of the collision pad in `robot.body`."""
    inner, depth, length = -PAD_INNER, 0.003, PAD_HALF[2]
    ribs = [(z, inner + groove) for z, groove in _PAD_PROFILE]
    pad = shapes.loft([_flat_ring(PAD_HALF[0], y, inner + depth, z) for z, y in ribs])
    outline = [(-length, 0.0085, 0.0020), (-0.032, 0.0105, 0.0030), (0.005, 0.0110, 0.0050)]
    back = shapes.loft(
        [
            np.add(shapes.superellipse(hx, hy, 6.0, 12, z), [0, inner + depth + hy - 0.0005, 0])
            for z, hx, hy in (*outline, (0.028, 0.0110, 0.0080))
        ]
    )
    carriage = _box((0, 0, 0.0305), (0.021, 0.0125, 0.0055), 0.002)
    parts = [("rubber", pad), ("grey", back), ("dark", carriage)]
    return [(material, meshes.scaled(shape, (1, side, 1))) for material, shape in parts]


_LOOKS: dict[str, Callable[[], Parts]] = {
    "base_link": _base,
    "steer_motor_link": _steer,
    "wheel_motor_link": _wheel,
    "torso_link1": _torso_lower,
    "torso_link2": _torso_upper,
    "torso_link3": _waist,
    "torso_link4": _chest,
    "zed_link": _head,
    "arm_base_link": _arm_base,
    "arm_link1": _arm_1,
    "arm_link2": _arm_2,
    "arm_link3": _arm_3,
    "arm_link4": _arm_4,
    "arm_link5": _arm_5,
    "arm_link6": _arm_6,
    "arm_link7": _arm_7,
    "gripper_link": _gripper,
    "realsense_link": _realsense,
    "gripper_finger_link1": lambda: _finger(1.0),
    "gripper_finger_link2": lambda: _finger(-1.0),
}
