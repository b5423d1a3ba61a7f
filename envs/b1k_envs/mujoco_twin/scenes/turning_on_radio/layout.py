"""The living room of task 0 as a MuJoCo scene: bodies, their places and collision shapes.

Sizes and places are ours; of the real scene only the toggle marker's size is known, a sphere of
about 11 mm in radius. `assets/turning_on_radio.xml` has the visible geoms.

World frame: z up, floor at 0, the nominal start pose at the origin facing +x towards the table,
with the sofa behind it. The radio's own frame has its origin in the middle of the cabinet and its
front facing -x.
"""

from __future__ import annotations

from typing import Any

from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.scenes.building import add_box, add_push_button, add_walls

TABLE, SOFA, SHELF, LAMP = "table", "sofa", "shelf", "lamp_stand"
RADIO, BUTTON = "radio", "radio_button"
BDDL_BODIES = {"radio_receiver.n.01_1": RADIO, "table.n.02_1": TABLE}

# Inner faces of the walls, and the ceiling [m].
ROOM_X, ROOM_Y, ROOM_HEIGHT = (-2.4, 3.1), (-2.2, 2.4), 2.5

TABLE_POS, TABLE_HALF = (1.75, 0.0), (0.30, 0.55)
TABLE_TOP, TABLE_SLAB = 0.52, 0.04
SOFA_POS, SOFA_HALF = (2.62, 0.0), (0.42, 0.95)
SHELF_POS, SHELF_HALF = (1.6, 2.22), (0.50, 0.17, 0.90)
LAMP_POS = (2.75, 1.45)

RADIO_HALF = (0.055, 0.135, 0.085)
RADIO_MASS = 1.6
RADIO_NOMINAL = (1.58, 0.0, 0.0)  # x, y [m], yaw [rad]
BUTTON_AT = (-RADIO_HALF[0], -0.090, 0.030)  # in the radio's frame
BUTTON_RADIUS, BUTTON_TRAVEL = 0.016, 0.004
BUTTON_FACE = (-0.010, 0.0, 0.0)  # middle of the cap's front, in the button's frame


def add_scene(spec: mujoco.MjSpec) -> None:
    """Add room, furniture and the radio, without looks."""
    world = spec.worldbody
    add_walls(world, ROOM_X, ROOM_Y)
    table = world.add_body(name=TABLE, pos=(*TABLE_POS, 0))
    hx, hy = TABLE_HALF
    add_box(table, f"{TABLE}_top", (0, 0, TABLE_TOP - TABLE_SLAB / 2), (hx, hy, TABLE_SLAB / 2))
    leg = (TABLE_TOP - TABLE_SLAB) / 2
    for k, (x, y) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
        at = (x * (hx - 0.05), y * (hy - 0.05), leg)
        add_box(table, f"{TABLE}_leg{k}", at, (0.025, 0.025, leg))
    sofa = world.add_body(name=SOFA, pos=(*SOFA_POS, 0))
    sx, sy = SOFA_HALF
    add_box(sofa, f"{SOFA}_seat", (0, 0, 0.21), (sx, sy, 0.21))
    add_box(sofa, f"{SOFA}_back", (sx - 0.12, 0, 0.42), (0.12, sy, 0.42))
    for name, side in (("left", 1), ("right", -1)):
        add_box(sofa, f"{SOFA}_{name}", (0, side * (sy - 0.10), 0.30), (sx, 0.10, 0.30))
    shelf = world.add_body(name=SHELF, pos=(*SHELF_POS, SHELF_HALF[2]))
    add_box(shelf, f"{SHELF}_case", (0, 0, 0), SHELF_HALF)
    lamp = world.add_body(name=LAMP, pos=(*LAMP_POS, 0))
    add_box(lamp, f"{LAMP}_post", (0, 0, 0.75), (0.10, 0.10, 0.75))
    _add_radio(world)
    spec.add_exclude(bodyname1=RADIO, bodyname2=BUTTON)  # its joint stop does the stopping


def _add_radio(world: Any) -> None:  # noqa: ANN401 - MjsBody
    x, y, _ = RADIO_NOMINAL
    radio = world.add_body(name=RADIO, pos=(x, y, TABLE_TOP + RADIO_HALF[2]))
    radio.add_freejoint(name=f"{RADIO}_joint")
    friction = {"friction": [1.0, 0.02, 0.002], "condim": 4, "solref": [0.01, 1.0]}
    add_box(radio, f"{RADIO}_cabinet", (0, 0, 0), RADIO_HALF, mass=RADIO_MASS, **friction)
    button = radio.add_body(name=BUTTON, pos=BUTTON_AT)
    add_push_button(
        button,
        f"{BUTTON}_joint",
        travel=BUTTON_TRAVEL,
        stiffness=300.0,
        radius=BUTTON_RADIUS,
        half=0.008,
        middle=-0.002,
        mass=0.02,
    )
