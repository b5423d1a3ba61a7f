"""The visible geoms of the living room: rug, sofa, low table, shelf, lamp, and the radio.

Only looks: nothing added here collides or weighs anything. Ours, drawn to be cheap on a CPU.
"""

from __future__ import annotations

from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.scenes.turning_on_radio import layout as scene
from b1k_envs.mujoco_twin.scenes.turning_on_radio.scene import DIAL, DIAL_OFF
from twin_assets import textures
from twin_assets.building import add_cameras, add_lights, add_sky, dress_walls
from twin_assets.meshes import aimed, moved, planar_uv
from twin_assets.shapes import annulus, capsule, disc, revolve, rounded_box
from twin_assets.textures import Parts, add_material, visual_mesh, visual_plane

_X, _Y, _H = scene.ROOM_X, scene.ROOM_Y, scene.ROOM_HEIGHT
_FORWARD = (-1.0, 0.0, 0.0)  # out of the radio's front


def add_scene_looks(spec: mujoco.MjSpec) -> None:
    """Dress a model that has the robot and `layout.add_scene`'s bodies, light it, add cameras."""
    _add_materials(spec)
    _add_shell(spec)
    _add_furniture(spec)
    _add_radio(spec)
    (tx, ty), (lx, ly) = scene.TABLE_POS, scene.LAMP_POS
    add_lights(
        spec,
        {
            "light_ceiling": ((0.4, 0.2, _H - 0.05), (0, 0, -1), (0.46, 0.44, 0.40)),
            "light_lamp": ((lx - 0.1, ly - 0.1, 1.9), (-0.6, -0.6, -0.5), (0.26, 0.22, 0.15)),
            "light_fill": ((-1.8, -1.6, 1.9), (0.7, 0.6, -0.25), (0.28, 0.27, 0.26)),
        },
    )
    add_cameras(
        spec,
        {
            "overview": ((-1.9, -1.9, 2.1), (1.3, 0.3, 0.6), 60.0),
            "radio_close": ((tx - 0.75, ty - 0.32, 0.86), (tx - 0.2, ty, 0.6), 40.0),
        },
    )


def _add_materials(spec: mujoco.MjSpec) -> None:
    add_material(spec, "floor", (0.80, 0.72, 0.62, 1), textures.wood(), repeat=(1.4, 1.4))
    add_material(spec, "wall", (0.82, 0.78, 0.70, 1))
    add_material(spec, "oak", (0.92, 0.84, 0.74, 1), textures.wood(), specular=0.15)
    add_material(spec, "walnut", (0.55, 0.42, 0.34, 1), textures.wood(), specular=0.2)
    add_material(spec, "sofa", (0.28, 0.46, 0.50, 1))
    add_material(spec, "rug", (0.86, 0.62, 0.58, 1), textures.wicker(), repeat=(5, 5))
    add_material(spec, "grille", (0.74, 0.70, 0.60, 1), textures.perforated_steel())
    add_material(spec, "view", (1, 1, 1, 1), textures.window_view(), emission=0.4)
    for name, rgb in {
        "trim": (0.93, 0.93, 0.91),
        "dark": (0.13, 0.14, 0.15),
        "cream": (0.93, 0.88, 0.76),
        "cushion": (0.88, 0.62, 0.24),
        "red": (0.80, 0.12, 0.10),
        "green": (0.28, 0.50, 0.34),
        "blue": (0.20, 0.34, 0.56),
    }.items():
        add_material(spec, name, (*rgb, 1), specular=0.1)
    add_material(spec, "metal", (0.70, 0.71, 0.73, 1), specular=0.6)
    add_material(spec, "dial", (1, 1, 1, 1), emission=0.5)
    add_material(spec, "ceiling", (0.92, 0.92, 0.90, 1), emission=0.55)
    add_material(spec, "shade", (1.0, 0.93, 0.76, 1), emission=0.8)
    add_sky(spec)


def _add_shell(spec: mujoco.MjSpec) -> None:
    """Add walls, skirting boards, the rug, and a picture behind the sofa."""
    world, parts = spec.worldbody, Parts()
    dress_walls(world, _X, _Y, _H)
    x, y = scene.TABLE_POS
    rug = (x - 0.15, y, 0.004)
    visual_plane(world, "room_rug", rug, (1, 0, 0), (0, 1, 0), (0.85, 1.15), "rug")
    h, t = 0.045, 0.008
    for x_wall in (_X[0] + t, _X[1] - t):
        parts.box("trim", (x_wall, sum(_Y) / 2, h), (t, (_Y[1] - _Y[0]) / 2, h))
    for y_wall in (_Y[0] + t, _Y[1] - t):
        parts.box("trim", (sum(_X) / 2, y_wall, h), ((_X[1] - _X[0]) / 2, t, h))
    parts.box("dark", (_X[1] - 0.012, 0.0, 1.55), (0.012, 0.50, 0.32), 0.003)
    parts.box("cream", (_X[1] - 0.025, 0.0, 1.55), (0.001, 0.47, 0.29))
    picture = (_X[1] - 0.028, 0.0, 1.55)
    visual_plane(world, "room_picture", picture, (0, -1, 0), (0, 0, 1), (0.40, 0.22), "view")
    parts.emit(spec, world, "room_shell")


def _add_furniture(spec: mujoco.MjSpec) -> None:
    table, (hx, hy), top, slab = Parts(), scene.TABLE_HALF, scene.TABLE_TOP, scene.TABLE_SLAB
    board = moved(rounded_box((hx, hy, slab / 2), 0.008, 2), (0, 0, top - slab / 2))
    body = spec.body(scene.TABLE)
    visual_mesh(spec, body, "table_look_top", planar_uv(board, 1, 0, 0.5), "oak")
    leg = (top - slab) / 2
    for x in (-1, 1):
        for y in (-1, 1):
            table.box("walnut", (x * (hx - 0.05), y * (hy - 0.05), leg), (0.022, 0.022, leg), 0.006)
    table.box("walnut", (0, 0, 0.16), (hx - 0.05, hy - 0.05, 0.01), 0.004)
    for k, colour in enumerate(("blue", "cream", "red")):  # magazines below, a cup's coaster on top
        table.box(colour, (0.02, 0.15 + 0.015 * k, 0.175 + 0.012 * k), (0.11, 0.15, 0.0055))
    table.emit(spec, body, "table_look")

    sofa, (sx, sy) = Parts(), scene.SOFA_HALF
    sofa.box("sofa", (0, 0, 0.18), (sx - 0.01, sy - 0.01, 0.13), 0.03, 2)
    sofa.box("sofa", (sx - 0.12, 0, 0.46), (0.12, sy - 0.02, 0.38), 0.06, 3)
    for side in (-1, 1):
        sofa.box("sofa", (0, side * (sy - 0.10), 0.32), (sx, 0.10, 0.28), 0.06, 3)
        sofa.box("sofa", (-0.10, side * 0.41, 0.36), (0.30, 0.40, 0.08), 0.05, 3)
        sofa.box("sofa", (0.16, side * 0.41, 0.60), (0.07, 0.38, 0.20), 0.06, 3)
    sofa.box("cushion", (0.03, 0.62, 0.58), (0.06, 0.17, 0.16), 0.055, 3)
    sofa.box("cream", (0.03, -0.60, 0.58), (0.06, 0.17, 0.16), 0.055, 3)
    for x in (-1, 1):
        for y in (-1, 1):
            sofa.box("dark", (x * (sx - 0.06), y * (sy - 0.06), 0.03), (0.02, 0.02, 0.03))
    sofa.emit(spec, spec.body(scene.SOFA), "sofa_look")

    shelf, (wx, wy, wz) = Parts(), scene.SHELF_HALF
    for side in (-1, 1):
        shelf.box("oak", (side * (wx - 0.012), 0, 0), (0.012, wy, wz))
    shelf.box("walnut", (0, wy - 0.006, 0), (wx - 0.02, 0.006, wz - 0.005))
    for k in range(5):
        z = -wz + 0.012 + k * (2 * wz - 0.024) / 4
        shelf.box("oak", (0, 0, z), (wx - 0.02, wy, 0.012))
        colours = ("red", "cream", "blue", "green", "cushion", "dark", "sofa")
        for book in range(11 if k < 4 else 0):  # of uneven heights, and a gap at one end
            height = 0.10 + 0.022 * ((book * 5 + k * 3) % 4)
            at = (-wx + 0.075 + 0.062 * book + 0.09 * (k % 2), -0.02, z + 0.012 + height)
            shelf.box(colours[(book * 3 + k) % 7], at, (0.024, 0.11, height), 0.003)
    shelf.emit(spec, spec.body(scene.SHELF), "shelf_look")

    lamp = Parts()
    lamp.add("dark", disc(0.15, 0.012, 24, 0.006), (0, 0, 0.012))
    lamp.add("metal", capsule((0, 0, 0.02), (0, 0, 1.5), 0.012, 8, 2))
    shade = [(0.0, 0.0), (0.20, 0.0), (0.14, 0.28), (0.0, 0.28)]
    lamp.add("shade", revolve(shade, 24), (0, 0, 1.40))
    lamp.emit(spec, spec.body(scene.LAMP), "lamp_look")


def _add_radio(spec: mujoco.MjSpec) -> None:
    """Add a wooden cabinet with grille, tuning scale, knobs, carrying handle, antenna, button."""
    body, parts = spec.body(scene.RADIO), Parts()
    hx, hy, hz = scene.RADIO_HALF
    cabinet = planar_uv(rounded_box((hx, hy, hz), 0.014, 3), 1, 2, 0.2)
    visual_mesh(spec, body, "radio_look_cabinet", cabinet, "walnut")
    parts.box("cream", (-hx - 0.0005, 0, 0), (0.0015, hy - 0.012, hz - 0.012), 0.001)
    grille = moved(rounded_box((0.001, 0.066, 0.046), 0.0), (-hx - 0.003, 0.048, -0.014))
    visual_mesh(spec, body, "radio_look_grille", planar_uv(grille, 1, 2, 0.05), "grille")
    parts.box("metal", (-hx - 0.002, 0.048, -0.014), (0.0012, 0.069, 0.049), 0.001)
    parts.box("dark", (-hx - 0.002, 0.030, 0.052), (0.0014, 0.086, 0.017), 0.001)
    scale = moved(rounded_box((0.001, 0.081, 0.012), 0.0), (-hx - 0.0035, 0.030, 0.052))
    visual_mesh(spec, body, DIAL, scale, "dial", rgba=DIAL_OFF)
    for k in range(9):
        mark = 0.004 if k % 2 else 0.007
        parts.box("dark", (-hx - 0.0047, 0.100 - 0.0175 * k, 0.050), (0.0004, 0.0008, mark))
    parts.box("red", (-hx - 0.0049, 0.052, 0.052), (0.0005, 0.0012, 0.0115))
    for z, radius in ((-0.020, 0.020), (-0.060, 0.013)):
        knob = aimed(disc(radius, 0.007, 20, 0.003), _FORWARD)
        parts.add("dark", knob, (-hx - 0.008, -0.090, z))
        parts.box("trim", (-hx - 0.0152, -0.090, z + radius * 0.6), (0.0006, 0.0014, radius * 0.3))
    x, y, z = scene.BUTTON_AT
    ring = aimed(annulus(0.0175, 0.0215, 0.0025, 24, 0.001), _FORWARD)
    parts.add("metal", ring, (x - 0.003, y, z))
    parts.add("metal", capsule((0.03, -0.12, hz - 0.01), (0.05, -0.20, hz + 0.30), 0.0025, 6, 1))
    parts.add("metal", capsule((0.05, -0.20, hz + 0.30), (0.05, -0.20, hz + 0.302), 0.005, 8, 2))
    for side in (-1, 1):
        parts.box("dark", (0, side * 0.09, hz + 0.012), (0.008, 0.007, 0.014), 0.003)
        parts.box("dark", (0, side * 0.10, -hz + 0.002), (0.03, 0.012, 0.002))
    parts.box("dark", (0, 0, hz + 0.027), (0.010, 0.098, 0.006), 0.004, 2)
    parts.emit(spec, body, "radio_look")
    cap = aimed(disc(scene.BUTTON_RADIUS, 0.008, 24, 0.002), _FORWARD)
    visual_mesh(
        spec, spec.body(scene.BUTTON), "radio_button_look", moved(cap, (-0.002, 0, 0)), "red"
    )
