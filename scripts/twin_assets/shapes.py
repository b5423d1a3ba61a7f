"""Small closed shapes as triangle meshes; numpy only.

Solids are watertight: corners that coincide are one vertex, and each edge belongs to two faces that
run through it in opposite directions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float64Array
from b1k_envs.errors import UsageError
from twin_assets.meshes import WELD, Mesh, aimed, flip, moved, welded


def superellipse(
    half_x: float, half_y: float, exponent: float = 2.0, points: int = 24, z: float = 0.0
) -> Float64Array:
    """Make a ring for `loft`: |x/half_x|^e + |y/half_y|^e = 1 at height z.

    Exponent 2 is an ellipse, 4 a soft rectangle, 8 nearly a rectangle; the larger it is, the
    closer the points crowd in the corners. Rings with equally many points fit each other.

    Returns:
        float64 [points, 3] [m], counter-clockwise seen from +z.
    """
    angle = np.arange(points) * (2 * np.pi / points)
    flat = np.column_stack([np.cos(angle), np.sin(angle)]).round(12)
    flat = np.sign(flat) * np.abs(flat) ** (2 / exponent)
    return np.column_stack([flat * [half_x, half_y], np.full(points, z)])


def loft(rings: Sequence[npt.ArrayLike], *, caps: bool = True, closed: bool = False) -> Mesh:
    """Make a tube through rings with equally many points.

    Args:
        rings: At least two float64 [k, 3] [m], each counter-clockwise seen from the side the
            next ring lies on, and star-shaped about its mean where it is capped.
        caps: Close the first and the last ring with a fan; such a tube always faces outward.
        closed: Join the last ring to the first (a frame, a plate with a hole); no caps then.

    Raises:
        UsageError: Fewer than two rings, or rings of different point counts.
    """
    stack = [np.asarray(ring, dtype=np.float64) for ring in rings]
    shapes = {ring.shape for ring in stack}
    if len(stack) < 2 or len(shapes) != 1 or stack[0].ndim != 2 or stack[0].shape[1] != 3:
        got = [list(ring.shape) for ring in stack]
        raise UsageError(f"loft needs two or more rings of one shape [k, 3], got {got}")
    count, points = len(stack), len(stack[0])
    vertices = np.concatenate(stack)
    here = np.arange(count if closed else count - 1)[:, None] * points
    there = (here + points) % (count * points)
    k, after = np.arange(points), (np.arange(points) + 1) % points
    faces = [
        np.stack([here + k, here + after, there + after], axis=-1).reshape(-1, 3),
        np.stack([here + k, there + after, there + k], axis=-1).reshape(-1, 3),
    ]
    if caps and not closed:
        first, last = len(vertices), len(vertices) + 1
        end = (count - 1) * points
        vertices = np.vstack([vertices, stack[0].mean(axis=0), stack[-1].mean(axis=0)])
        faces.append(np.stack([np.full(points, first), after, k], axis=-1))
        faces.append(np.stack([np.full(points, last), end + k, end + after], axis=-1))
    mesh = welded(vertices, np.concatenate(faces))
    return flip(mesh) if (caps or closed) and mesh.volume < 0 else mesh


def revolve(profile: npt.ArrayLike, segments: int = 32, *, closed: bool = False) -> Mesh:
    """Make a surface of revolution about z.

    Args:
        profile: float64 [k, 2], radius >= 0 and height [m]. The outside is to the right of the
            path: upward with the axis on the left gives a wall that faces away from the axis.
            A profile that begins and ends on the axis gives a watertight solid.
        segments: Steps around the axis, 3 or more.
        closed: Join the last point to the first: the cross-section of a ring, any direction.

    Raises:
        UsageError: The profile's shape is wrong, a radius is negative or segments below 3.
    """
    points = np.asarray(profile, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or points[:, 0].min() < 0:
        raise UsageError(f"profile must be [k, 2] of (radius >= 0, height), got {points.tolist()}")
    if segments < 3:
        raise UsageError(f"segments must be 3 or more, got {segments}")
    angle = np.arange(segments) * (2 * np.pi / segments)
    c, s = np.cos(angle), np.sin(angle)
    rings = [np.column_stack([r * c, r * s, np.full(segments, z)]) for r, z in points]
    mesh = loft(rings, caps=False, closed=closed)
    return flip(mesh) if closed and mesh.volume < 0 else mesh


def annulus(
    inner: float, outer: float, half_thickness: float, segments: int = 32, bevel: float = 0.0
) -> Mesh:
    """Make a flat ring about z, symmetric about z = 0, outer edges bevelled by `bevel` [m]."""
    h, b = half_thickness, bevel
    section = [
        (inner, -h),
        (outer - b, -h),
        (outer, -h + b),
        (outer, h - b),
        (outer - b, h),
        (inner, h),
    ]
    return revolve(section, segments, closed=True)


def disc(radius: float, half_thickness: float, segments: int = 24, bevel: float = 0.0) -> Mesh:
    """Make a solid cylinder about z, symmetric about z = 0, edges bevelled by `bevel` [m]."""
    h, b = half_thickness, bevel
    return revolve(
        [(0, -h), (radius - b, -h), (radius, -h + b), (radius, h - b), (radius - b, h), (0, h)],
        segments,
    )


def rounded_rectangle(
    half_x: float, half_y: float, radius: float, segments: int = 4, z: float = 0.0
) -> Float64Array:
    """Make a ring for `loft`: a rectangle with round corners of `segments` steps each.

    Returns:
        float64 [4 (segments + 1), 3] [m], counter-clockwise seen from +z.
    """
    arc = np.linspace(0, np.pi / 2, segments + 1)
    angle = np.concatenate([arc + quarter * np.pi / 2 for quarter in range(4)])
    sign_x = np.repeat([1.0, -1.0, -1.0, 1.0], segments + 1)
    sign_y = np.repeat([1.0, 1.0, -1.0, -1.0], segments + 1)
    return np.column_stack(
        [
            sign_x * (half_x - radius) + radius * np.cos(angle),
            sign_y * (half_y - radius) + radius * np.sin(angle),
            np.full(len(angle), z),
        ]
    )


def rounded_box(half: Sequence[float], radius: float, segments: int = 4) -> Mesh:
    """Make a box about the origin with every edge and corner rounded.

    Args:
        half: Half the outer size along x, y, z [m].
        radius: Radius of edges and corners [m], at most the smallest of `half`.
        segments: Steps of a quarter circle.

    Raises:
        UsageError: The radius does not fit the box.
    """
    hx, hy, hz = half
    if not 0 <= radius <= min(half) + WELD:
        raise UsageError(
            f"radius must be between 0 and {min(half):g} m (the half size), got {radius:g}"
        )
    if radius == 0:
        return loft([rounded_rectangle(hx, hy, 0, 1, z) for z in (-hz, hz)])
    rings = []
    for sign in (-1.0, 1.0):
        quarter = np.linspace(0, np.pi / 2, segments + 1)
        for phi in quarter[::-1] if sign < 0 else quarter:
            shrink = radius * (1 - np.cos(phi))
            z = sign * (hz - radius + radius * np.sin(phi))
            rings.append(rounded_rectangle(hx - shrink, hy - shrink, radius - shrink, segments, z))
    return loft(rings)


def plate_with_hole(
    half_x: float,
    half_y: float,
    half_z: float,
    hole_radius: float,
    *,
    corner: float = 0.0,
    edge: float = 0.0,
    segments: int = 48,
) -> Mesh:
    """Make a plate about the origin with a round hole along z, e.g. a washer's front panel.

    Args:
        half_x: Half width [m].
        half_y: Half height [m].
        half_z: Half thickness [m].
        hole_radius: Radius of the hole [m], smaller than half_x and half_y.
        corner: Radius of the four outer corners [m].
        edge: Bevel of the rim of the hole and of the outer edges at +z [m].
        segments: Points around the hole, a multiple of 8 keeps the corners exact.
    """
    if not hole_radius + edge < min(half_x, half_y):
        raise UsageError(
            f"a hole of radius {hole_radius:g} m with a rim of {edge:g} m does not fit a plate of"
            f" half size {half_x:g} x {half_y:g} m"
        )
    even = np.arange(segments) * (2 * np.pi / segments)
    at_corners = rounded_rectangle(half_x, half_y, corner, 4)
    angle = np.concatenate([even, np.arctan2(at_corners[:, 1], at_corners[:, 0]) % (2 * np.pi)])
    angle = np.unique(angle.round(6))
    ray = np.column_stack([np.cos(angle), np.sin(angle)])

    def outer(inset: float, z: float) -> Float64Array:
        reach = _reach_of_rectangle(half_x - inset, half_y - inset, max(corner - inset, 0.0), ray)
        return np.column_stack([reach[:, None] * ray, np.full(len(ray), z)])

    def hole(radius: float, z: float) -> Float64Array:
        return np.column_stack([radius * ray, np.full(len(ray), z)])

    h = half_z
    rings = [
        *(outer(0, -h), outer(0, h - edge), outer(edge, h)),
        *(hole(hole_radius + edge, h), hole(hole_radius, h - edge), hole(hole_radius, -h)),
    ]
    return loft(rings, closed=True)


def capsule(
    start: Sequence[float], end: Sequence[float], radius: float, segments: int = 16, rings: int = 4
) -> Mesh:
    """Make a cylinder with round ends between two points [m]."""
    return tapered_capsule(start, end, radius, radius, segments, rings)


def tapered_capsule(
    start: Sequence[float],
    end: Sequence[float],
    start_radius: float,
    end_radius: float,
    segments: int = 16,
    rings: int = 4,
) -> Mesh:
    """Make the hull of two balls, e.g. for a limb.

    Args:
        start: Centre of the first ball, x, y, z [m].
        end: Centre of the second ball [m].
        start_radius: Radius of the first ball [m].
        end_radius: Radius of the second ball [m].
        segments: Steps around the axis.
        rings: Steps from each pole to the straight part.

    Raises:
        UsageError: One ball contains the other.
    """
    way = np.asarray(end, dtype=np.float64) - np.asarray(start, dtype=np.float64)
    length = float(np.linalg.norm(way))
    if not abs(start_radius - end_radius) < length:
        raise UsageError(
            f"a ball of radius {max(start_radius, end_radius):g} m holds the other end"
            f" {length:g} m away: no limb between them"
        )
    tangent = float(np.arcsin((start_radius - end_radius) / length))
    low = np.linspace(-np.pi / 2, tangent, rings + 1)
    high = np.linspace(tangent, np.pi / 2, rings + 1)
    radius = np.concatenate([start_radius * np.cos(low), end_radius * np.cos(high)])
    height = np.concatenate([start_radius * np.sin(low), length + end_radius * np.sin(high)])
    radius[[0, -1]] = 0.0
    return moved(aimed(revolve(np.column_stack([radius, height]), segments), way.tolist()), start)


def ball(radius: float, segments: int = 16, rings: int = 8) -> Mesh:
    """Make a ball about the origin."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)
    profile = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    profile[[0, -1], 0] = 0.0
    return revolve(profile, segments)


def _reach_of_rectangle(
    half_x: float, half_y: float, corner: float, ray: Float64Array
) -> Float64Array:
    """Return the distance from the centre to a rounded rectangle along unit rays, float64 [k]."""
    flat = np.abs(ray)
    with np.errstate(divide="ignore"):
        reach = np.min(np.array([half_x, half_y]) / flat, axis=1)
    centre = np.array([half_x - corner, half_y - corner])
    along = flat @ centre
    gap = along**2 - centre @ centre + corner**2
    in_corner = np.all(reach[:, None] * flat > centre, axis=1)
    return np.asarray(np.where(in_corner, along + np.sqrt(np.maximum(gap, 0.0)), reach))
