"""The visible geoms of washer and dryer: one make, but easy to tell apart.

Dimensions and frames are `scene`'s: origin at the centre of the casing, front facing -x, and what
moves hangs on the bodies that move. Solids of revolution are drawn about +z, which is then aimed
at -x: in their profiles the height is the distance in front of the casing's centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.scene import LED, LED_OFF
from twin_assets import textures
from twin_assets.meshes import Mesh, aimed, moved, transform
from twin_assets.shapes import (
    annulus,
    capsule,
    disc,
    loft,
    plate_with_hole,
    revolve,
    rounded_box,
    rounded_rectangle,
)
from twin_assets.textures import Parts, add_material, visual_mesh, visual_plane

_FRONT = scene.WASHER_HALF[0]
_FORWARD = (-1.0, 0.0, 0.0)
_PANEL_X, _PANEL_Z, _PANEL_HALF = -_FRONT - 0.006, 0.359, (0.279, 0.069)


def add_washer_looks(spec: mujoco.MjSpec) -> None:
    """Add the looks of the bodies washer, washer_door, washer_button and dryer."""
    _add_materials(spec)
    _dress_washer(spec)
    _dress_door(spec)
    _dress_button(spec)
    _dress_dryer(spec)


def _add_materials(spec: mujoco.MjSpec) -> None:
    add_material(spec, "casing", (0.86, 0.87, 0.88, 1), specular=0.15, shininess=0.5)
    add_material(spec, "seam", (0.16, 0.17, 0.18, 1))
    add_material(spec, "rubber", (0.30, 0.31, 0.33, 1), specular=0.1)
    add_material(spec, "chrome", (0.74, 0.76, 0.79, 1), specular=0.6, shininess=0.7)
    add_material(spec, "steel", (0.46, 0.48, 0.50, 1), specular=0.1)
    add_material(spec, "drum", (1, 1, 1, 1), textures.perforated_steel())
    add_material(spec, "handle", (0.15, 0.16, 0.18, 1), specular=0.5, shininess=0.6)
    add_material(spec, "glass", (0.07, 0.10, 0.14, 0.62), specular=0.7, shininess=0.8)
    add_material(spec, "dark_glass", (0.06, 0.07, 0.09, 1), specular=0.7, shininess=0.8)
    add_material(spec, "button", (0.10, 0.36, 0.72, 1), specular=0.35, shininess=0.6)
    add_material(spec, "mark", (0.95, 0.96, 0.97, 1))
    add_material(spec, "led", (1, 1, 1, 1), emission=0.7)
    add_material(spec, "dryer_door", (0.80, 0.82, 0.84, 1), specular=0.2)
    add_material(spec, "washer_panel", (1, 1, 1, 1), textures.washer_panel())
    add_material(spec, "dryer_panel", (1, 1, 1, 1), textures.dryer_panel())


def _casing() -> Mesh:
    """Make the sheet-metal hood, open in front, of rings from the back to the front edge."""
    hx, hy, hz = scene.WASHER_HALF
    rings = [
        rounded_rectangle(hz - inset, hy - inset, 0.030 - inset / 2, 3, height)
        for inset, height in ((0.010, -hx), (0, -hx + 0.01), (0, hx - 0.016), (0.005, hx - 0.005))
    ]
    rings.append(rounded_rectangle(hz - 0.016, hy - 0.016, 0.016, 3, hx))
    return aimed(loft(rings, caps=False), _FORWARD)


def _feet_and_gaps(parts: Parts) -> None:
    """Add the feet, and the dark ground that shows in the gaps between front panels and hood."""
    hx, hy, hz = scene.WASHER_HALF
    for x in (-hx + 0.06, hx - 0.06):
        for y in (-hy + 0.06, hy - 0.06):
            parts.add("seam", disc(0.025, 0.012, 8), (x, y, -hz - 0.008))
    for side in (-1, 1):
        parts.box("seam", (-hx + 0.005, 0, side * (hz - 0.018)), (0.003, hy - 0.016, 0.006))
        parts.box("seam", (-hx + 0.005, side * (hy - 0.018), 0), (0.003, 0.006, hz - 0.012))


def _drum() -> Mesh:
    """Make the drum's wall, seen from inside, with a texture that closes on itself."""
    steps, radius = 32, scene.DRUM_RADIUS - 0.002
    angle = np.arange(steps + 1) * (2 * np.pi / steps)
    ends = np.array([0.262, -scene.DRUM_X[1] + 0.012])
    ring = np.column_stack([np.cos(angle), np.sin(angle)])
    vertices = np.vstack([np.column_stack([radius * ring, np.full(steps + 1, z)]) for z in ends])
    normals = np.vstack([np.column_stack([-ring, np.zeros(steps + 1)])] * 2)
    uv = np.vstack(
        [np.column_stack([angle / (2 * np.pi) * 9, np.full(steps + 1, v)]) for v in (0, 3)]
    )
    k = np.arange(steps)
    other = k + steps + 1
    faces = np.vstack(
        [np.column_stack([k, k + 1, other + 1]), np.column_stack([k, other + 1, other])]
    ).astype(np.int32)
    return aimed(Mesh(vertices=vertices, faces=faces, normals=normals, uv=uv), _FORWARD)


def _dress_washer(spec: mujoco.MjSpec) -> None:
    body, parts = spec.body(scene.WASHER), Parts()
    hy = scene.WASHER_HALF[1]
    parts.add("casing", _casing())
    panel_bottom, kick_top = 0.282, -0.324
    half_front = (panel_bottom - kick_top) / 2 - 0.0015
    front = plate_with_hole(
        half_front,
        hy - 0.0175,
        0.004,
        scene.OPENING_RADIUS + 0.012,
        corner=0.004,
        edge=0.003,
        segments=40,
    )
    # `plate_with_hole` puts the hole in the plate's middle, so that must be at the drum's height.
    assert abs((panel_bottom + kick_top) / 2 - scene.DRUM_Z) < 0.002
    parts.add("casing", aimed(front, _FORWARD), (-_FRONT + 0.004, 0, scene.DRUM_Z))
    parts.box("casing", (-_FRONT + 0.004, 0, -0.380), (0.004, hy - 0.0175, 0.052), 0.003)
    parts.box("casing", (_PANEL_X + 0.008, 0, _PANEL_Z), (0.008, hy - 0.017, 0.0725), 0.005)
    for z in (panel_bottom, kick_top):
        parts.box("seam", (-_FRONT + 0.004, 0, z), (0.003, hy - 0.018, 0.006))
    parts.box("seam", (-_FRONT - 0.0005, -0.20, -0.382), (0.001, 0.052, 0.036))
    parts.box("casing", (-_FRONT - 0.001, -0.20, -0.382), (0.002, 0.050, 0.034), 0.002)
    _feet_and_gaps(parts)

    gasket = [
        *((0.206, 0.309), (0.199, 0.317), (0.189, 0.313), (0.185, 0.292)),
        *((0.192, 0.272), (scene.DRUM_RADIUS, 0.260)),
    ]
    centre = (0.0, 0.0, scene.DRUM_Z)
    parts.add("rubber", aimed(revolve(gasket, 40), _FORWARD), centre)
    back = -scene.DRUM_X[1]
    plate = [
        *((scene.DRUM_RADIUS, back + 0.014), (0.228, back + 0.004), (0.130, back + 0.004)),
        *((0.115, back + 0.016), (0.055, back + 0.020), (0.045, back + 0.032), (0, back + 0.034)),
    ]
    parts.add("steel", aimed(revolve(plate, 32), _FORWARD), centre)
    for degrees in (90, 210, 330):
        parts.add("steel", _rib(degrees), centre)

    parts.box("seam", (_PANEL_X - 0.001, 0.195, _PANEL_Z), (0.002, 0.078, 0.054))
    parts.box("casing", (_PANEL_X - 0.003, 0.195, _PANEL_Z + 0.002), (0.004, 0.075, 0.050), 0.003)
    parts.box("seam", (_PANEL_X - 0.0065, 0.195, _PANEL_Z - 0.030), (0.001, 0.050, 0.010))
    knob_y = 0.018
    parts.add(
        "chrome",
        aimed(disc(0.036, 0.004, 24, 0.002), _FORWARD),
        (_PANEL_X - 0.003, knob_y, _PANEL_Z),
    )
    parts.add(
        "casing",
        aimed(disc(0.029, 0.012, 20, 0.004), _FORWARD),
        (_PANEL_X - 0.014, knob_y, _PANEL_Z),
    )
    parts.box("seam", (_PANEL_X - 0.026, knob_y, _PANEL_Z + 0.015), (0.001, 0.002, 0.010))
    for z in (-0.09, 0.09):  # hinge
        parts.box(
            "chrome",
            (-_FRONT - 0.007, scene.HINGE[1] + 0.010, scene.DRUM_Z + z),
            (0.010, 0.010, 0.030),
            0.004,
        )
    parts.box("seam", (-_FRONT - 0.001, -0.218, scene.DRUM_Z), (0.003, 0.010, 0.030), 0.002)
    parts.emit(spec, body, "washer_look")

    visual_mesh(spec, body, "washer_look_drum", moved(_drum(), centre), "drum")
    _panel_picture(body, "washer")
    ring = aimed(
        annulus(scene.BUTTON_RADIUS + 0.002, scene.BUTTON_RADIUS + 0.010, 0.003, 20, 0.002),
        _FORWARD,
    )
    at = (_PANEL_X - 0.001, scene.BUTTON[1], scene.BUTTON[2])
    visual_mesh(spec, body, LED, moved(ring, at), "led", rgba=LED_OFF)


def _rib(degrees: float) -> Mesh:
    """Make one of the drum's lifters, a low ridge along its axis."""
    foot, top = (0.030, 0.012), 0.026
    length, height = 0.19, scene.DRUM_RADIUS - 0.001
    ring = np.array([[-foot[0], 0.0], [-foot[1], top], [foot[1], top], [foot[0], 0.0]])
    rings = [
        np.column_stack([height - size * ring[:, 1], size * ring[:, 0], np.full(4, z)])
        for size, z in ((0.7, -length + 0.05), (1.0, -length + 0.09), (1.0, 0.20), (0.6, 0.245))
    ]
    # After aiming, the profile's +x is the machine's +z: 0 degrees is the top of the drum.
    c, s = np.cos(np.radians(degrees - 90)), np.sin(np.radians(degrees - 90))
    turn = np.eye(4)
    turn[:2, :2] = [[c, -s], [s, c]]
    return aimed(transform(loft(rings), turn), _FORWARD)


def _panel_picture(body: Any, machine: str) -> None:  # noqa: ANN401 - MjsBody
    visual_plane(
        body,
        f"{machine}_look_panel",
        (_PANEL_X - 0.0006, 0, _PANEL_Z),
        right=(0, -1, 0),
        up=(0, 0, 1),
        half=_PANEL_HALF,
        material=f"{machine}_panel",
    )


def _dress_door(spec: mujoco.MjSpec) -> None:
    body, parts = spec.body(scene.WASHER_DOOR), Parts()
    r, h = scene.DOOR_RADIUS, scene.DOOR_HALF_THICKNESS
    section = [
        *((0.150, -h), (r - 0.006, -h), (r, -h + 0.006), (r, h - 0.010)),
        *((r - 0.008, h), (r - 0.030, h + 0.004), (0.168, h), (0.160, 0.004)),
    ]
    centre = scene.DOOR_CENTRE
    parts.add("casing", aimed(revolve(section, 40, closed=True), _FORWARD), centre)
    bezel = [
        (0.146, -0.012),
        (0.170, h - 0.004),
        (0.171, h + 0.003),
        (0.163, h + 0.006),
        (0.146, 0.006),
    ]
    parts.add("chrome", aimed(revolve(bezel, 40, closed=True), _FORWARD), centre)
    seal = [(0.150, -h - 0.006), (0.176, -h - 0.006), (0.180, -h + 0.001), (0.148, -h + 0.001)]
    parts.add("rubber", aimed(revolve(seal, 40, closed=True), _FORWARD), centre)
    x, y, _ = scene.HANDLE
    half, radius = scene.HANDLE_HALF_LENGTH, scene.HANDLE_RADIUS
    parts.add("handle", capsule((x, y, -half), (x, y, half), radius, 12, 3))
    face = scene.DOOR_CENTRE[0] - h
    for z in (-half, half):
        parts.add("handle", capsule((x, y, z), (face, y, z), radius * 0.95, 10, 2))
        foot = aimed(disc(0.018, 0.004, 14, 0.002), _FORWARD)
        parts.add("handle", foot, (face - 0.003, y, z))
    parts.box("chrome", (h + 0.004, centre[1] - r + 0.018, 0), (0.010, 0.005, 0.016), 0.002)
    parts.box("casing", (-0.012, -0.022, 0), (0.010, 0.024, 0.125), 0.006)
    parts.emit(spec, body, "washer_door_look")

    front = revolve([(0.150, 0.004), (0.110, 0.012), (0.060, 0.016), (0, 0.018)], 32)
    bowl = revolve([(0, -0.062), (0.070, -0.058), (0.118, -0.044), (0.146, -0.012)], 32)
    for name, mesh in (("front", front), ("bowl", bowl)):
        visual_mesh(
            spec,
            body,
            f"washer_door_look_glass_{name}",
            moved(aimed(mesh, _FORWARD), centre),
            "glass",
        )


def _dress_button(spec: mujoco.MjSpec) -> None:
    body, parts = spec.body(scene.WASHER_BUTTON), Parts()
    radius = scene.BUTTON_RADIUS
    parts.add("button", aimed(disc(radius, 0.012, 18, 0.003), _FORWARD), (-0.006, 0, 0))
    face = -0.0185
    parts.add("mark", aimed(annulus(0.0075, 0.0105, 0.0008, 12), _FORWARD), (face, 0, -0.001))
    parts.box("button", (face - 0.0004, 0, 0.009), (0.0006, 0.0042, 0.004))
    parts.box("mark", (face - 0.0006, 0, 0.007), (0.0006, 0.0014, 0.0062))
    parts.emit(spec, body, "washer_button_look")


def _dress_dryer(spec: mujoco.MjSpec) -> None:
    body, parts = spec.body(scene.DRYER), Parts()
    hy = scene.WASHER_HALF[1]
    parts.add("casing", _casing())
    _feet_and_gaps(parts)
    parts.box("casing", (-_FRONT + 0.004, 0, -0.075), (0.004, hy - 0.0175, 0.356), 0.003)
    parts.box("seam", (-_FRONT + 0.004, 0, 0.283), (0.003, hy - 0.018, 0.006))
    parts.box("casing", (_PANEL_X + 0.008, 0, _PANEL_Z), (0.008, hy - 0.017, 0.0725), 0.005)

    door_z = 0.045
    door = loft(
        [
            rounded_rectangle(0.205 - inset, 0.215 - inset, 0.060 - inset, 5, height)
            for inset, height in ((0, 0), (0, 0.020), (0.006, 0.028), (0.022, 0.032))
        ]
    )
    parts.add("dryer_door", aimed(door, _FORWARD), (-_FRONT - 0.002, 0, door_z))
    frame = loft([rounded_rectangle(0.211, 0.221, 0.064, 5, z) for z in (0.0, 0.003)])
    parts.add("seam", aimed(frame, _FORWARD), (-_FRONT, 0, door_z))
    face = -_FRONT - 0.034
    port = [(0.078, 0.0), (0.098, 0.0), (0.096, 0.008), (0.084, 0.010), (0.078, 0.002)]
    parts.add("chrome", aimed(revolve(port, 32, closed=True), _FORWARD), (face, 0, door_z + 0.02))
    pane = revolve([(0.080, 0.0015), (0.040, 0.005), (0, 0.006)], 24)
    parts.add("dark_glass", aimed(pane, _FORWARD), (face, 0, door_z + 0.02))
    parts.box("seam", (face - 0.0005, 0.172, door_z), (0.0015, 0.014, 0.070))  # recessed grip
    for z in (-0.11, 0.11):
        parts.box("chrome", (-_FRONT - 0.012, -0.222, door_z + z), (0.010, 0.010, 0.028), 0.003)
    _lint_panel(parts)
    knob = (_PANEL_X - 0.012, -0.20, _PANEL_Z)
    parts.add("chrome", aimed(disc(0.040, 0.012, 24, 0.005), _FORWARD), knob)
    parts.box("seam", (_PANEL_X - 0.025, -0.20, _PANEL_Z), (0.001, 0.003, 0.030))
    parts.emit(spec, body, "dryer_look")
    _panel_picture(body, "dryer")


def _lint_panel(parts: Parts, centre: Sequence[float] = (-_FRONT - 0.001, 0.0, -0.315)) -> None:
    """Add the flap over the lint filter, whose louvres tell the dryer from the washer."""
    x, y, z = centre
    parts.box("seam", (x, y, z), (0.002, 0.202, 0.072))
    parts.add("dryer_door", rounded_box((0.003, 0.198, 0.068), 0.003, 2), (x - 0.001, y, z))
    for k in range(5):
        parts.box("seam", (x - 0.0045, y, z - 0.044 + 0.022 * k), (0.0008, 0.150, 0.004))
