"""Things that furnish the utility room: cabinets, a shelf of supplies, a laundry basket."""

from __future__ import annotations

import numpy as np

from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from twin_assets.meshes import Mesh, flip, merge, moved, planar_uv
from twin_assets.shapes import capsule, disc, loft, rounded_box, superellipse
from twin_assets.textures import Parts, add_material, visual_mesh, visual_plane


def add_shelves(spec: mujoco.MjSpec) -> None:
    """Add wall cabinets beside the window, and a shelf with supplies above the machines."""
    parts = Parts()
    for x, half in ((-1.26, 0.23), (0.37, 0.22)):
        parts.box("cabinet", (x, scene.ROOM_Y[1] - 0.15, 1.76), (half, 0.148, 0.33))
        parts.box("dark", (x, scene.ROOM_Y[1] - 0.299, 1.76), (half - 0.001, 0.0005, 0.329))
        for side in (-1, 1):
            centre = x + side * half / 2
            parts.box(
                "cabinet",
                (centre, scene.ROOM_Y[1] - 0.309, 1.76),
                (half / 2 - 0.002, 0.009, 0.328),
                0.003,
                1,
            )
            grip = (x + side * 0.028, scene.ROOM_Y[1] - 0.345)
            parts.add("metal", capsule((*grip, 1.50), (*grip, 1.60), 0.005, 6, 1))
            for z in (1.505, 1.595):
                parts.box("metal", (grip[0], scene.ROOM_Y[1] - 0.33, z), (0.003, 0.014, 0.003))
    y_low, y_high, top = -0.98, 0.34, 1.50
    middle, half = (y_low + y_high) / 2, (y_high - y_low) / 2
    board = moved(
        rounded_box((0.14, half, 0.014), 0.0), (scene.ROOM_X[1] - 0.14, middle, top - 0.014)
    )
    visual_mesh(spec, spec.worldbody, "room_shelf_board", planar_uv(board, 0, 1, 0.4), "wood")
    for y in (y_low + 0.15, middle, y_high - 0.15):
        parts.box("metal", (scene.ROOM_X[1] - 0.10, y, top - 0.037), (0.10, 0.008, 0.008))
        parts.box("metal", (scene.ROOM_X[1] - 0.006, y, top - 0.10), (0.006, 0.008, 0.07))
    x = scene.ROOM_X[1] - 0.14
    _bottle(parts, "blue", "orange", (x, 0.22, top), 1.0)
    _bottle(parts, "orange", "blue", (x + 0.02, 0.08, top), 0.85)
    _bottle(parts, "trim", "teal", (x, -0.05, top), 0.95)
    parts.box("yellow", (x, -0.22, top + 0.11), (0.05, 0.075, 0.11), 0.003, 1)  # powder
    parts.box("trim", (x - 0.0505, -0.22, top + 0.12), (0.001, 0.055, 0.05))
    parts.box("blue", (x - 0.052, -0.22, top + 0.135), (0.001, 0.040, 0.016))
    parts.box("wood_box", (x, -0.42, top + 0.08), (0.09, 0.10, 0.08), 0.004, 1)
    parts.box("trim", (x - 0.0905, -0.42, top + 0.08), (0.001, 0.04, 0.025))
    for k, colour in enumerate(("teal", "cream", "rose", "cream")):  # folded towels
        z = top + 0.026 + 0.050 * k
        parts.box(colour, (x, -0.70 + 0.006 * (-1) ** k, z), (0.105, 0.125, 0.0245), 0.022, 2)
        parts.box(
            colour,
            (x - 0.004, -0.70 + 0.006 * (-1) ** k, z + 0.006),
            (0.108, 0.122, 0.010),
            0.010,
            2,
        )
    parts.add("cream", disc(0.05, 0.055, 18, 0.006), (x, -0.90, top + 0.055))  # jar of pegs
    parts.add("wood_box", disc(0.052, 0.008, 18, 0.003), (x, -0.90, top + 0.118))
    add_material(spec, "wood_box", (0.72, 0.58, 0.40, 1))
    parts.emit(spec, spec.worldbody, "room_shelf")


def _bottle(
    parts: Parts, colour: str, cap: str, at: tuple[float, float, float], size: float
) -> None:
    """Add a detergent jug with shoulder, handle, label and screw cap."""
    profile = (
        *((0.000, 0.052, 0.085, 4.0), (0.010, 0.058, 0.092, 4.0), (0.150, 0.058, 0.092, 4.0)),
        *((0.190, 0.050, 0.078, 3.0), (0.225, 0.032, 0.040, 2.0), (0.235, 0.026, 0.026, 2.0)),
    )
    body = [superellipse(size * b, size * a, e, 16, size * z) for z, a, b, e in profile]
    turned = [ring[:, [1, 0, 2]] * (-1, 1, 1) for ring in body]
    parts.add(colour, loft(turned), at)
    parts.add(
        cap, disc(0.030 * size, 0.020 * size, 14, 0.004), (at[0], at[1], at[2] + 0.252 * size)
    )
    front = at[0] - 0.0585 * size
    parts.box("trim", (front, at[1], at[2] + 0.085 * size), (0.001, 0.062 * size, 0.050 * size))
    parts.box(
        cap, (front - 0.0015, at[1], at[2] + 0.095 * size), (0.001, 0.046 * size, 0.016 * size)
    )


def add_basket(spec: mujoco.MjSpec) -> None:
    """Add a laundry basket with towels in the corner beyond the dryer, and a picture on a wall."""
    x, y = 1.62, -1.36
    points, heights = 28, ((0.20, 0.14, 0.0), (0.225, 0.165, 0.18), (0.24, 0.18, 0.40))

    def wall(inset: float) -> Mesh:
        rings = [superellipse(b - inset, a - inset, 3.5, points + 1, z) for a, b, z in heights]
        angle = np.arange(points + 1) * (2 * np.pi / points)  # the seam twice, for the texture
        c, s = np.cos(angle), np.sin(angle)
        for ring, (a, b, _) in zip(rings, heights, strict=True):
            reach = (np.abs(c) ** 3.5 + np.abs(s) ** 3.5) ** (-1 / 3.5)
            ring[:, 0], ring[:, 1] = (b - inset) * reach * c, (a - inset) * reach * s
        vertices = np.vstack(rings)
        k = (np.arange(2)[:, None] * (points + 1) + np.arange(points)).ravel()
        up = k + points + 1
        faces = np.vstack([np.column_stack([k, k + 1, up + 1]), np.column_stack([k, up + 1, up])])
        normals = vertices * (1, 1, 0)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        uv = np.column_stack([np.tile(angle, 3) * 1.6, vertices[:, 2] * 8])
        return Mesh(vertices=vertices, faces=faces, normals=normals, uv=uv)

    basket = moved(merge([wall(0.0), flip(wall(0.012))]), (x, y, 0))
    visual_mesh(spec, spec.worldbody, "room_basket", basket, "wicker")
    parts = Parts()
    rim = [
        superellipse(b, a, 3.5, points, z)
        for a, b, z in (
            (0.245, 0.185, 0.39),
            (0.250, 0.190, 0.405),
            (0.240, 0.180, 0.415),
            (0.228, 0.168, 0.405),
        )
    ]
    parts.add("wood_box", loft(rim, closed=True), (x, y, 0))
    for colour, centre, half in (
        ("cream", (x, y - 0.02, 0.33), (0.155, 0.21, 0.07)),
        ("teal", (x - 0.02, y + 0.06, 0.385), (0.11, 0.13, 0.055)),
        ("rose", (x + 0.01, y - 0.10, 0.39), (0.12, 0.09, 0.06)),
        ("blue", (x - 0.186, y + 0.08, 0.36), (0.014, 0.09, 0.09)),
    ):
        parts.box(colour, centre, half, min(half) * 0.95, 3)
    wall_y = scene.ROOM_Y[0]
    parts.box("dark", (0.5, wall_y + 0.012, 1.55), (0.36, 0.012, 0.27), 0.003, 1)
    parts.box("cream", (0.5, wall_y + 0.0245, 1.55), (0.335, 0.001, 0.245))
    visual_plane(
        spec.worldbody,
        "room_picture",
        (0.5, wall_y + 0.027, 1.55),
        (-1, 0, 0),
        (0, 0, 1),
        (0.25, 0.17),
        "view",
        spacing=2.0,
    )
    parts.emit(spec, spec.worldbody, "room_basket_look")
