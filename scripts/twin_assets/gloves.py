"""The visible geoms of the boxing gloves, dusty and clean.

A glove is three swept tubes in the frame of `scene` (+x to the knuckles, z up when it lies palm
down): a cuff as wide as its collision box, because grippers hold it there; a fist whose tube
curls over the knuckles and back under the palm; a thumb along the side. The thumb is on the side
where the collision thumb is, so a mirrored collision shape makes the other hand.

Dust is `DUST_PARTICLES` flat blobs per glove, one geom each, which are the simulator's state, and
a mottled translucent veil over the whole glove, which lets a policy see it in a small picture. An
env hides them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.scene import dust_geoms
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.states import DUST_PARTICLES
from twin_assets import textures
from twin_assets.meshes import Int32Array, Mesh, add_mesh, merge, moved, scaled
from twin_assets.shapes import loft, revolve, rounded_box, superellipse
from twin_assets.textures import Parts, add_material, visual, visual_mesh

DUST_RGBA = (0.47, 0.43, 0.37, 1.0)
VEIL_RGBA = (1.0, 1.0, 1.0, 0.64)
_VEIL_OFFSET = 0.0014  # [m] above the leather

_BLOB = (0.0080, 0.0028)  # radius and half thickness of an average particle [m]


def dust_points() -> Float64Array:
    """Return the places of the particles on the glove whose thumb is at +y.

    Returns:
        float64 [20, 3], on the surface, in the glove's frame [m].
    """
    return _dust()[0]


def add_glove_looks(spec: mujoco.MjSpec) -> None:
    """Add leather and dust to both gloves."""
    add_material(spec, "leather", (1, 1, 1, 1), textures.leather(), specular=0.35, shininess=0.45)
    add_material(spec, "glove_cuff", (0.90, 0.89, 0.86, 1), specular=0.1)
    add_material(spec, "glove_strap", (0.11, 0.11, 0.13, 1), specular=0.15)
    add_material(spec, "glove_lining", (0.09, 0.05, 0.05, 1))
    add_material(spec, "dustveil", (1, 1, 1, 1), textures.dust())
    add_mesh(spec, "dust_blob", _blob())
    for glove in scene.GLOVES:
        _dress(spec, glove)


def _dress(spec: mujoco.MjSpec, glove: str) -> None:
    body = spec.body(glove)
    mirrored = _thumb_side(spec, glove) < 0
    hand = (1.0, -1.0 if mirrored else 1.0, 1.0)
    leather = scaled(merge([_fist(0.0), _thumb(0.0)]), hand)
    visual_mesh(spec, body, f"{glove}_leather", leather, "leather")
    parts = Parts()
    parts.add("glove_cuff", scaled(_cuff(), hand))
    parts.add("glove_lining", scaled(_lining(), hand))
    parts.add("glove_strap", scaled(_strap(), hand))
    parts.emit(spec, body, f"{glove}_look")
    *particles, veil_name = dust_geoms(glove)
    veil = merge([_fist(_VEIL_OFFSET), _thumb(_VEIL_OFFSET), _cuff_veil()])
    visual_mesh(spec, body, veil_name, scaled(veil, hand), "dustveil", rgba=VEIL_RGBA)
    _add_dust(body, particles, mirrored)


def _thumb_side(spec: mujoco.MjSpec, glove: str) -> float:
    """Return the sum of y of the collision thumb's ends [m]; its sign says the thumb's side."""
    ends = np.asarray(spec.geom(f"{glove}_thumb").fromto)
    return float(ends[1] + ends[4])


def _add_dust(body: Any, particles: Sequence[str], mirrored: bool) -> None:  # noqa: ANN401 - MjsBody
    points, normals, sizes = _dust()
    for k, name in enumerate(particles):
        side = np.array([1.0, -1.0 if mirrored else 1.0, 1.0])
        shade = 0.92 + 0.16 * sizes[k, 1]
        rgba = [min(1.0, c * shade) for c in DUST_RGBA[:3]]
        quat = np.zeros(4)
        mujoco.mju_quatZ2Vec(quat, normals[k] * side)
        visual(
            body,
            name,
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname="dust_blob",
            pos=(points[k] * side).tolist(),
            quat=quat,
            rgba=[*rgba, 1.0],
        )


def _blob() -> Mesh:
    """Make a flat lump about the origin, thicker in the middle, z along the surface normal."""
    r, h = _BLOB
    lump = revolve([(0, -h), (r, -0.2 * h), (0.62 * r, 0.8 * h), (0, h)], 7)
    uneven = 1 + 0.16 * np.sin(2 * np.arctan2(lump.vertices[:, 1], lump.vertices[:, 0]) + 1)
    vertices = lump.vertices * np.column_stack([uneven, uneven, np.ones_like(uneven)])
    return Mesh(vertices=vertices, faces=lump.faces)


# --- Shapes ---------------------------------------------------------------------------------

# Along the curl of the fist: x and z of the centre, direction [deg] in the x-z plane (negative
# bends down), half width along y, half thickness across, exponent of the superellipse.
_FIST = np.array(
    [
        [-0.066, -0.012, 0, 0.030, 0.029, 3.0],
        [-0.052, -0.010, 5, 0.0375, 0.0365, 3.0],
        [-0.030, -0.003, 20, 0.047, 0.041, 2.7],
        [0.000, 0.009, 18, 0.058, 0.043, 2.6],
        [0.035, 0.019, 4, 0.0655, 0.0405, 2.6],
        [0.066, 0.018, -22, 0.068, 0.040, 2.6],
        [0.090, 0.006, -60, 0.067, 0.040, 2.6],
        [0.097, -0.012, -98, 0.065, 0.038, 2.5],
        [0.084, -0.025, -150, 0.063, 0.030, 2.5],
        [0.055, -0.029, -178, 0.060, 0.025, 2.5],
        [0.028, -0.029, -182, 0.055, 0.0235, 2.4],
        [0.012, -0.028, -184, 0.047, 0.018, 2.2],
        [0.004, -0.027, -184, 0.032, 0.009, 2.0],
        [0.002, -0.027, -184, 0.006, 0.002, 2.0],
    ]
)

# Along the thumb, seen from above: x and y of the centre, direction [deg] in the x-y plane, half
# height along z, half thickness across, exponent.
_THUMB = np.array(
    [
        [-0.040, 0.036, 35, 0.012, 0.008, 2.0],
        [-0.026, 0.046, 28, 0.022, 0.018, 2.0],
        [-0.002, 0.056, 12, 0.027, 0.026, 2.2],
        [0.030, 0.059, 0, 0.028, 0.0275, 2.2],
        [0.058, 0.057, -8, 0.027, 0.027, 2.2],
        [0.075, 0.0545, -12, 0.020, 0.020, 2.0],
        [0.0835, 0.0525, -14, 0.010, 0.010, 2.0],
        [0.0855, 0.052, -14, 0.0015, 0.0015, 2.0],
    ]
)
_THUMB_Z = -0.010


def _fist(offset: float) -> Mesh:
    return _swept(_FIST, rings=20, points=18, upright=True, offset=offset, v=(0.0, 1.0))


def _thumb(offset: float) -> Mesh:
    return _swept(_THUMB, rings=9, points=10, upright=False, offset=offset, v=(0.62, 0.95))


def _smooth(stations: Float64Array, count: int) -> Float64Array:
    """Interpolate the stations by Catmull-Rom, evenly in station number."""
    padded = np.vstack([2 * stations[0] - stations[1], stations, 2 * stations[-1] - stations[-2]])
    at = np.linspace(0, len(stations) - 1, count)
    k = np.minimum(at.astype(np.int64), len(stations) - 2)
    t = (at - k)[:, None]
    a, b, c, d = (padded[k + i] for i in range(4))
    return np.asarray(
        0.5
        * (
            2 * b
            + (c - a) * t
            + (2 * a - 5 * b + 4 * c - d) * t**2
            + (3 * b - a - 3 * c + d) * t**3
        )
    )


def _swept(
    stations: Float64Array,
    *,
    rings: int,
    points: int,
    upright: bool,
    offset: float,
    v: tuple[float, float],
) -> Mesh:
    """Make a tube with texture: u around it (1/4 is the back), v along it, grown by `offset`."""
    x, other, degrees, half_side, half_across, exponent = _smooth(stations, rings).T
    angle = np.radians(degrees)
    around = np.arange(points + 1) * (2 * np.pi / points)  # the seam twice, for the texture
    c, s = np.cos(around), np.sin(around)
    e = exponent[:, None]
    reach = (np.abs(c) ** e + np.abs(s) ** e) ** (-1 / e)
    side = half_side[:, None] * reach * c
    across = half_across[:, None] * reach * s
    px = x[:, None] - np.sin(angle)[:, None] * across
    pother = other[:, None] + np.cos(angle)[:, None] * across
    grid = (
        np.stack([px, side, pother], axis=-1)
        if upright
        else np.stack([px, pother, _THUMB_Z - side], axis=-1)
    )
    along = np.gradient(grid, axis=0)
    turn = np.roll(grid[:, :-1], -1, axis=1) - np.roll(grid[:, :-1], 1, axis=1)
    normals = np.cross(turn, along[:, :-1])
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    if upright:
        normals = -normals
    outward = normals[len(x) // 2, points // 4] @ (
        grid[len(x) // 2, points // 4] - grid[len(x) // 2, :-1].mean(axis=0)
    )
    if outward < 0:
        normals = -normals
    normals = np.concatenate([normals, normals[:, :1]], axis=1)
    grid = grid + offset * normals
    u = np.broadcast_to(around / (2 * np.pi), grid.shape[:2])
    w = np.broadcast_to(np.linspace(*v, rings)[:, None], grid.shape[:2])
    faces = _grid_faces(rings, points + 1)
    vertices = grid.reshape(-1, 3)
    a, b, d = vertices[faces].transpose(1, 0, 2)
    facing = np.einsum("ij,ij->i", np.cross(b - a, d - a), normals.reshape(-1, 3)[faces[:, 0]])
    if facing.sum() < 0:
        faces = faces[:, ::-1]
    return Mesh(
        vertices=vertices,
        faces=faces,
        normals=normals.reshape(-1, 3),
        uv=np.stack([u, w], axis=-1).reshape(-1, 2),
    )


def _grid_faces(rows: int, columns: int) -> Int32Array:
    k = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    return np.concatenate(
        [
            np.stack([k, k + 1, k + columns + 1], axis=-1),
            np.stack([k, k + columns + 1, k + columns], axis=-1),
        ]
    ).astype(np.int32)


def _cuff_rings(profile: Sequence[tuple[float, float]], points: int = 20) -> list[Float64Array]:
    """Make rings across the cuff at heights x, each the collision section grown by a margin [m]."""
    _, cy, cz = scene.GLOVE_CUFF
    _, hy, hz = scene.GLOVE_CUFF_HALF
    rings = []
    for x, margin in profile:
        # Drawn about +z and stood up: (across y, across z, along) becomes (along, y, z).
        ring = superellipse(hy + margin, hz + margin, 6.0, points, x)
        rings.append(np.column_stack([ring[:, 2], ring[:, 0] + cy, ring[:, 1] + cz]))
    return rings


def _cuff_ends() -> tuple[float, float]:
    return (
        scene.GLOVE_CUFF[0] - scene.GLOVE_CUFF_HALF[0],
        scene.GLOVE_CUFF[0] + scene.GLOVE_CUFF_HALF[0],
    )


def _cuff() -> Mesh:
    """Make the padded cuff with a rolled edge around the hole for the hand."""
    back, front = _cuff_ends()
    profile = [
        *((front + 0.004, -0.006), (front - 0.006, -0.001), (front - 0.020, 0.0)),
        *((back + 0.012, 0.0), (back + 0.004, -0.0005), (back, -0.004), (back + 0.003, -0.009)),
    ]
    return _outward(loft(_cuff_rings(profile), caps=False))


def _lining() -> Mesh:
    """Make the dark inside of the cuff, seen from behind."""
    back, _ = _cuff_ends()
    tube = loft(_cuff_rings([(back + 0.0030, -0.0088), (back + 0.040, -0.011)]), caps=False)
    floor = loft(_cuff_rings([(back + 0.040, -0.010), (back + 0.041, -0.010)]))
    inside = _outward(tube)
    return merge([Mesh(vertices=inside.vertices, faces=inside.faces[:, ::-1]), floor])


def _strap() -> Mesh:
    """Make a hook-and-loop strap around the cuff, its end overlapping on the back of the hand."""
    back, front = _cuff_ends()
    low, high = back + 0.030, front - 0.030
    band = _outward(
        loft(
            _cuff_rings([(low, -0.001), (low, 0.0012), (high, 0.0012), (high, -0.001)]),
            caps=False,
        )
    )
    _, hy, hz = scene.GLOVE_CUFF_HALF
    end = rounded_box(((high - low) / 2 + 0.003, hy * 0.45, 0.0014), 0.001, 1)
    at = ((low + high) / 2, hy * 0.35, scene.GLOVE_CUFF[2] + hz + 0.0016)
    return merge([band, moved(end, at)])


def _cuff_veil() -> Mesh:
    """Make the dust over the cuff, with texture coordinates along x and around."""
    back, front = _cuff_ends()
    rings = _cuff_rings(
        [(front + 0.001, 0.0), (front - 0.008, 0.0042), (back + 0.024, 0.0042), (back, 0.0008)]
    )
    mesh = _outward(loft(rings, caps=False))
    around = mesh.vertices[:, 1] + mesh.vertices[:, 2]
    uv = np.column_stack([around * 9, mesh.vertices[:, 0] * 9])
    radial = mesh.vertices * (0, 1, 1) - (0, 0, scene.GLOVE_CUFF[2])
    normals = radial / np.linalg.norm(radial, axis=1, keepdims=True)
    return Mesh(vertices=mesh.vertices, faces=mesh.faces, normals=normals, uv=uv)


def _outward(tube: Mesh) -> Mesh:
    """Turn an open tube around the cuff's axis to face away from the axis."""
    corners = tube.vertices[tube.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    centre = corners.mean(axis=1) - scene.GLOVE_CUFF
    outward = float((normal * centre * (0, 1, 1)).sum())
    return tube if outward > 0 else Mesh(vertices=tube.vertices, faces=tube.faces[:, ::-1])


# --- Dust -----------------------------------------------------------------------------------


@cache
def _dust() -> tuple[Float64Array, Float64Array, Float64Array]:
    """Draw points [20, 3], outward normals [20, 3] and two numbers [20, 2] for the particles.

    Candidates are drawn on the upper surface by area, those below another part's surface are
    dropped, and the particles are the candidates that keep farthest from each other.
    """
    draw = random.Random(31)
    back, front = _cuff_ends()
    cuff = _outward(loft(_cuff_rings([(front - 0.01, 0.0), (back + 0.012, 0.0)]), caps=False))
    shells = [_fist(0.0), _thumb(0.0), cuff]
    corners = np.concatenate([mesh.vertices[mesh.faces] for mesh in shells])
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    normal = cross / np.maximum(area, 1e-15)[:, None]
    weight = np.where(normal[:, 2] > 0.05, area, 0.0)
    total = np.cumsum(weight) / weight.sum()
    points: list[Float64Array] = []
    normals: list[Float64Array] = []
    while len(points) < 160:
        face = int(np.searchsorted(total, draw.random()))
        u, v = draw.random(), draw.random()
        if u + v > 1:
            u, v = 1 - u, 1 - v
        a, b, c = corners[face]
        point = a + u * (b - a) + v * (c - a)
        if _is_outside(point + 0.002 * normal[face], corners, normal):
            points.append(point)
            normals.append(normal[face])
    chosen = [0]
    cloud = np.array(points)
    distance = np.linalg.norm(cloud - cloud[0], axis=1)
    while len(chosen) < DUST_PARTICLES:
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(cloud - cloud[chosen[-1]], axis=1))
    sizes = np.array([[draw.random(), draw.random()] for _ in chosen])
    return cloud[chosen], np.array(normals)[chosen], sizes


def _is_outside(point: Float64Array, corners: Float64Array, normal: Float64Array) -> bool:
    """Return whether a ray straight up from a point meets no triangle of the glove."""
    a, b, c = (corners[:, i, :2] - point[:2] for i in range(3))

    def side(p: Float64Array, q: Float64Array) -> Float64Array:
        return np.asarray(p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0])

    s = np.stack([side(a, b), side(b, c), side(c, a)])
    inside = np.all(s > 0, axis=0) | np.all(s < 0, axis=0)
    plane = np.einsum("ij,ij->i", corners[:, 0] - point, normal)
    above = plane / np.where(np.abs(normal[:, 2]) < 1e-9, np.inf, normal[:, 2]) > 0
    return not bool(np.any(inside & above))
