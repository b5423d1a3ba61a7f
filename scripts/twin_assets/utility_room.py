"""The looks of the utility room: surfaces, furniture, things on shelves, lights, cameras.

Only looks: every geom added here is in GROUP_VISUAL, collides with nothing and weighs nothing, so
a model behaves the same without them. Machines and gloves are dressed by
their own modules.

The real room's looks are not published; this one is ours, drawn to be cheap on a CPU: no shadows,
no reflections, three lights, one mesh per body and material.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from twin_assets import textures
from twin_assets.building import add_cameras, add_lights, add_sky, dress_walls
from twin_assets.gloves import add_glove_looks
from twin_assets.meshes import Mesh, flip, merge, moved, planar_uv
from twin_assets.shapes import capsule, disc, loft, revolve, rounded_box, rounded_rectangle
from twin_assets.textures import Parts, add_material, visual_mesh, visual_plane
from twin_assets.utility_props import add_basket, add_shelves
from twin_assets.washer import add_washer_looks

_X, _Y, _H = scene.ROOM_X, scene.ROOM_Y, scene.ROOM_HEIGHT
_CENTRE = (sum(_X) / 2, sum(_Y) / 2)
_HALF = ((_X[1] - _X[0]) / 2, (_Y[1] - _Y[0]) / 2)
_ROOM_DOOR_Y, _ROOM_DOOR_HALF, _ROOM_DOOR_H = 1.16, 0.40, 2.03  # in the wall behind the washer
_WINDOW, _WINDOW_HALF = (-0.42, 1.72), (0.52, 0.36)  # x, z in the wall behind the counter
_SINK, _SINK_HALF = (-0.78, 0.02), (0.19, 0.17)  # in the counter's frame


def add_scene_looks(spec: mujoco.MjSpec) -> None:
    """Add looks, lights, cameras to a model that has the robot and `layout.add_scene`'s bodies."""
    _add_materials(spec)
    _add_shell(spec)
    _add_room_door(spec)
    _add_window(spec)
    _add_counter(spec)
    add_shelves(spec)
    add_basket(spec)
    add_washer_looks(spec)
    add_glove_looks(spec)
    _add_lights(spec)
    _add_cameras(spec)


def _add_materials(spec: mujoco.MjSpec) -> None:
    tile = 1 / 1.2  # the picture is 4 tiles of 0.3 m
    add_material(spec, "floor", (0.92, 0.92, 0.92, 1), textures.floor_tiles(), repeat=(tile, tile))
    add_material(spec, "wall", (0.76, 0.79, 0.74, 1))
    add_material(spec, "splash", (1, 1, 1, 1), textures.subway_tiles(), repeat=(2, 2))
    add_material(spec, "worktop", (0.92, 0.92, 0.92, 1), textures.speckled_stone(), specular=0.2)
    add_material(spec, "cabinet", (0.36, 0.48, 0.52, 1), specular=0.1)
    add_material(spec, "wood", (1, 1, 1, 1), textures.wood())
    add_material(spec, "wicker", (1, 1, 1, 1), textures.wicker())
    add_material(spec, "view", (1, 1, 1, 1), textures.window_view(), emission=0.75)
    for name, rgb in {
        "trim": (0.93, 0.93, 0.91),
        "room_door": (0.88, 0.86, 0.80),
        "recess": (0.70, 0.68, 0.62),
        "dark": (0.13, 0.14, 0.15),
        "metal": (0.68, 0.69, 0.71),
        "basin": (0.60, 0.62, 0.64),
        "blue": (0.16, 0.36, 0.66),
        "orange": (0.91, 0.49, 0.13),
        "green": (0.28, 0.56, 0.34),
        "cream": (0.93, 0.88, 0.76),
        "rose": (0.78, 0.52, 0.52),
        "teal": (0.36, 0.62, 0.63),
        "yellow": (0.93, 0.78, 0.28),
    }.items():
        specular = 0.6 if name in ("metal", "basin") else 0.1
        add_material(spec, name, (*rgb, 1), specular=specular)
    add_material(spec, "ceiling", (0.92, 0.92, 0.90, 1), emission=0.55)
    add_material(spec, "lamp", (1.0, 0.98, 0.94, 1), emission=1.0)
    add_sky(spec)


def _add_shell(spec: mujoco.MjSpec) -> None:
    """Add floor, walls, ceiling, skirting boards, and the tiles behind the counter."""
    world = spec.worldbody
    cx, cy = _CENTRE
    up = (0.0, 0.0, 1.0)
    dress_walls(world, _X, _Y, _H)
    counter_x, counter_half = scene.COUNTER_POS[0], scene.COUNTER_HALF[0]
    visual_plane(
        world,
        "room_splash",
        (counter_x, _Y[1] - 0.004, 1.115),
        (1, 0, 0),
        up,
        (counter_half, 0.215),
        "splash",
    )

    parts, h, t = Parts(), 0.045, 0.008
    door_low, door_high = (_ROOM_DOOR_Y + s * (_ROOM_DOOR_HALF + 0.07) for s in (-1, 1))
    for y0, y1 in ((_Y[0], door_low), (door_high, _Y[1])):
        parts.box("trim", (_X[1] - t, (y0 + y1) / 2, h), (t, (y1 - y0) / 2, h))
    parts.box("trim", (_X[0] + t, cy, h), (t, _HALF[1], h))
    for y in (_Y[0] + t, _Y[1] - t):
        parts.box("trim", (cx, y, h), (_HALF[0], t, h))
    parts.box("lamp", (0.1, 0.3, _H - 0.03), (0.60, 0.10, 0.02), 0.01)
    parts.box("trim", (0.1, 0.3, _H - 0.012), (0.64, 0.13, 0.012))
    parts.emit(spec, world, "room_shell")


def _add_room_door(spec: mujoco.MjSpec) -> None:
    """Add a panelled door with frame and lever handle."""
    parts, x, y = Parts(), _X[1], _ROOM_DOOR_Y
    half, height = _ROOM_DOOR_HALF, _ROOM_DOOR_H
    parts.box("room_door", (x - 0.006, y, height / 2), (0.008, half, height / 2))
    for side in (-1, 1):
        parts.box(
            "trim",
            (x - 0.014, y + side * (half + 0.035), height / 2 + 0.03),
            (0.014, 0.037, height / 2 + 0.03),
            0.006,
        )
    parts.box("trim", (x - 0.014, y, height + 0.035), (0.0138, half + 0.002, 0.034), 0.006)
    for z, half_z in ((0.55, 0.36), (1.46, 0.42)):
        for side in (-1, 1):
            at = y + side * half * 0.47
            parts.box("recess", (x - 0.0145, at, z), (0.001, half * 0.36, half_z))
            parts.box(
                "room_door",
                (x - 0.0165, at, z),
                (0.003, half * 0.36 - 0.014, half_z - 0.014),
                0.003,
                1,
            )
    handle_y = y + half - 0.07
    parts.box("metal", (x - 0.017, handle_y, 1.02), (0.004, 0.022, 0.10), 0.004)
    parts.add("metal", capsule((x - 0.02, handle_y, 1.06), (x - 0.06, handle_y, 1.06), 0.010, 6, 1))
    parts.add(
        "metal", capsule((x - 0.06, handle_y, 1.06), (x - 0.06, handle_y - 0.12, 1.06), 0.010, 6, 1)
    )
    for z in (0.25, 1.8):
        parts.add(
            "metal",
            capsule((x - 0.02, y - half, z - 0.04), (x - 0.02, y - half, z + 0.04), 0.008, 6, 1),
        )
    parts.emit(spec, spec.worldbody, "room_door")


def _add_window(spec: mujoco.MjSpec) -> None:
    """Add a window of two sashes above the counter, with a sill and a plant."""
    world, parts = spec.worldbody, Parts()
    (x, z), (hx, hz) = _WINDOW, _WINDOW_HALF
    y = _Y[1]
    visual_plane(
        world,
        "room_window_view",
        (x, y - 0.003, z),
        (1, 0, 0),
        (0, 0, 1),
        (hx, hz),
        "view",
        spacing=2.0,
    )
    for side in (-1, 1):
        parts.box("trim", (x + side * (hx + 0.02), y - 0.02, z), (0.035, 0.02, hz + 0.05), 0.005)
        parts.box("trim", (x, y - 0.02, z + side * (hz + 0.02)), (hx, 0.0198, 0.032), 0.005)
    parts.box("trim", (x, y - 0.018, z), (0.028, 0.016, hz), 0.004)
    parts.box("trim", (x, y - 0.06, z - hz - 0.045), (hx + 0.09, 0.06, 0.014), 0.006)
    parts.box("metal", (x - 0.02, y - 0.042, z - 0.02), (0.006, 0.008, 0.045), 0.004)
    pot = (x + 0.40, y - 0.065, z - hz - 0.031)
    parts.add(
        "orange",
        revolve(
            [
                (0, 0),
                (0.032, 0),
                (0.043, 0.07),
                (0.047, 0.07),
                (0.047, 0.085),
                (0.038, 0.085),
                (0, 0.075),
            ],
            14,
        ),
        pot,
    )
    for k in range(7):
        angle = 2.4 * k
        tip = (0.075 * np.cos(angle), 0.04 * np.sin(angle), 0.15 + 0.012 * k)
        parts.add("green", _leaf((0, 0, 0.07), tip, 0.014), pot)
    parts.emit(spec, world, "room_window")


def _leaf(start: Sequence[float], end: Sequence[float], half_width: float) -> Mesh:
    a, b = np.asarray(start), np.asarray(end)
    middle = (a + b) / 2
    flat = np.array([-(b - a)[1], (b - a)[0], 0.0])
    flat *= half_width / np.linalg.norm(flat)
    lift = np.array([0, 0, half_width * 0.4])
    vertices = np.array([a, middle + flat, b, middle - flat, middle + lift, middle - lift])
    faces = [[0, 4, 1], [1, 4, 2], [2, 4, 3], [3, 4, 0], [0, 1, 5], [1, 2, 5], [2, 3, 5], [3, 0, 5]]
    mesh = Mesh(vertices=vertices, faces=np.array(faces, dtype=np.int32))
    return mesh if mesh.volume > 0 else flip(mesh)


def _add_counter(spec: mujoco.MjSpec) -> None:
    """Add cabinets under a stone worktop with a sink at its far end."""
    body, parts = spec.body(scene.COUNTERTOP), Parts()
    hx, hy = scene.COUNTER_HALF
    top, slab = scene.COUNTER_TOP, scene.COUNTER_SLAB
    (sx, sy), (rx, ry) = _SINK, _SINK_HALF
    z, half_z = top - slab / 2, slab / 2
    stone = [
        _box((-hx, sx - rx), (-hy, hy), z, half_z),
        _box((sx + rx, hx), (-hy, hy), z, half_z),
        _box((sx - rx, sx + rx), (-hy, sy - ry), z, half_z),
        _box((sx - rx, sx + rx), (sy + ry, hy), z, half_z),
    ]
    front_edge = _box((-hx, hx), (-hy - 0.001, -hy + 0.001), z, half_z)
    ends = [_box((s * hx - 0.001, s * hx + 0.001), (-hy, hy), z, half_z) for s in (-1, 1)]
    top_mesh = merge(
        [
            planar_uv(merge(stone), 0, 1, 0.32),
            planar_uv(front_edge, 0, 2, 0.32),
            planar_uv(merge(ends), 1, 2, 0.32),
        ]
    )
    visual_mesh(spec, body, "countertop_look_top", top_mesh, "worktop")
    basin = loft(
        [
            rounded_rectangle(rx, ry, 0.03, 3, top - 0.001),
            rounded_rectangle(rx - 0.008, ry - 0.008, 0.03, 3, top - 0.010),
            rounded_rectangle(rx - 0.02, ry - 0.02, 0.03, 3, top - 0.17),
        ][::-1],
        caps=False,
    )
    parts.add("basin", flip(basin), (sx, sy, 0))
    parts.box("basin", (sx, sy, top - 0.175), (rx - 0.01, ry - 0.01, 0.005))
    parts.add("dark", disc(0.025, 0.001, 12), (sx, sy, top - 0.169))
    rim = loft(
        [
            *(rounded_rectangle(rx + 0.012, ry + 0.012, 0.03, 3, top + d) for d in (0, 0.003)),
            *(rounded_rectangle(rx - 0.004, ry - 0.004, 0.03, 3, top + d) for d in (0.003, 0)),
        ],
        closed=True,
    )
    parts.add("metal", rim, (sx, sy, 0))
    tap = (sx, sy + ry + 0.055, top)
    parts.add("metal", disc(0.026, 0.01, 14, 0.004), (tap[0], tap[1], top + 0.01))
    for start, end, radius in (
        ((0, 0, 0.01), (0, 0, 0.24), 0.013),
        ((0, 0, 0.24), (0, -0.16, 0.27), 0.011),
        ((0, -0.16, 0.27), (0, -0.16, 0.23), 0.012),
        ((0.02, 0, 0.10), (0.075, 0, 0.13), 0.007),
    ):
        parts.add("metal", capsule(start, end, radius, 10, 2), tap)

    front = 0.05 - hy  # of the carcass; doors stand before it, below the slab's edge
    carcass_z, carcass_half = (0.10 + top - slab) / 2, (top - slab - 0.10) / 2
    parts.box("cabinet", (0, front + 0.009, carcass_z), (hx - 0.01, 0.009, carcass_half))
    for x in (0.02 - hx, hx - 0.02):
        parts.box(
            "cabinet", (x, (front + hy) / 2, carcass_z), (0.01, (hy - front) / 2, carcass_half)
        )
    parts.box(
        "dark", (0, (front + hy) / 2 + 0.03, 0.05), (hx - 0.03, (hy - front) / 2 - 0.03, 0.05)
    )
    count = 4
    width = (2 * hx - 0.02) / count
    for k in range(count):
        x = -hx + 0.01 + (k + 0.5) * width
        half = width / 2 - 0.003
        for low, high in ((0.105, 0.685), (0.692, top - slab - 0.006)):
            panel = (x, front - 0.009, (low + high) / 2)
            parts.box(
                "dark", (x, front - 0.0005, panel[2]), (width / 2, 0.001, (high - low) / 2 + 0.003)
            )
            parts.box("cabinet", panel, (half, 0.009, (high - low) / 2), 0.003, 1)
            if high < 0.69:  # a shaker frame on the doors only
                inner = (half - 0.055, 0.001, (high - low) / 2 - 0.055)
                parts.box("cabinet_shade", (x, front - 0.0185, panel[2]), inner)
                parts.box(
                    "cabinet",
                    (x, front - 0.0192, panel[2]),
                    (inner[0] - 0.004, 0.001, inner[2] - 0.004),
                )
        side = 1 if k % 2 == 0 else -1
        grip = (x + side * (half - 0.03), front - 0.045)
        parts.add("metal", capsule((*grip, 0.52), (*grip, 0.64), 0.006, 6, 1))
        for z in (0.53, 0.63):
            parts.box("metal", (grip[0], front - 0.030, z), (0.004, 0.015, 0.004))
        parts.add(
            "metal",
            capsule(
                (x - 0.06, front - 0.045, 0.775), (x + 0.06, front - 0.045, 0.775), 0.006, 6, 1
            ),
        )
        for x_post in (x - 0.05, x + 0.05):
            parts.box("metal", (x_post, front - 0.030, 0.775), (0.004, 0.015, 0.004))
    add_material(spec, "cabinet_shade", (0.25, 0.34, 0.37, 1))
    parts.emit(spec, body, "countertop_look")


def _box(x: tuple[float, float], y: tuple[float, float], z: float, half_z: float) -> Mesh:
    half = ((x[1] - x[0]) / 2, (y[1] - y[0]) / 2, half_z)
    return moved(rounded_box(half, 0.0), (sum(x) / 2, sum(y) / 2, z))


def _add_lights(spec: mujoco.MjSpec) -> None:
    """Add a ceiling lamp, daylight from the window, a weak fill from behind the start pose."""
    wx, wz = _WINDOW
    add_lights(
        spec,
        {
            "light_ceiling": ((0.1, 0.3, _H - 0.05), (0, 0, -1), (0.46, 0.45, 0.43)),
            "light_window": ((wx, _Y[1] - 0.05, wz + 0.2), (0.2, -1, -0.4), (0.20, 0.22, 0.25)),
            "light_fill": ((-1.7, -1.6, 1.9), (0.7, 0.7, -0.25), (0.27, 0.26, 0.25)),
        },
    )


def _add_cameras(spec: mujoco.MjSpec) -> None:
    add_cameras(
        spec,
        {
            "overview": ((-2.05, -1.95, 2.20), (0.32, 0.42, 0.60), 58.0),
            "washer_close": ((0.42, -0.42, 1.12), (1.40, 0.05, 0.52), 50.0),
            "counter_close": ((-0.56, 1.22, 1.52), (-0.56, 1.97, 0.93), 36.0),
        },
    )
