"""The utility room of task 31 as a MuJoCo scene: bodies, their places and collision shapes.

Known figures of the real scene (house_single_floor, utility_room_0; from a public task sheet):
counter top at 0.91 m, washer centre at 0.47 m, washer to counter about 3 m, start pose 0.9-2.0 m
from the washer and about 2.1 m from the gloves, a clothes dryer 0.6 m beside the washer. The rest
(sizes, hinge side, place of the button) is not published and is ours. Here are bodies, joints and
collision shapes only; `assets/clean_boxing_gloves.xml` has the visible geoms.

World frame: z up, floor at 0, the nominal start pose at the origin facing +x towards the washer;
the counter runs along the +y wall.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.scenes.building import (
    ALONG_X,
    add_box,
    add_push_button,
    add_walls,
    solid,
    yaw_quat,
)

WASHER, WASHER_DOOR, WASHER_BUTTON = "washer", "washer_door", "washer_button"
DRYER, COUNTERTOP = "dryer", "countertop"
GLOVES = ("boxing_glove_1", "boxing_glove_2")
DOOR_JOINT, BUTTON_JOINT = "washer_door_joint", "washer_button_joint"

BDDL_BODIES = {
    "boxing_glove.n.01_1": GLOVES[0],
    "boxing_glove.n.01_2": GLOVES[1],
    "washer.n.03_1": WASHER,
    "countertop.n.01_1": COUNTERTOP,
}
"""The body of each BDDL instance name of problem 0; floor and dust have none."""

# Inner faces of the walls, and the ceiling [m].
ROOM_X, ROOM_Y, ROOM_HEIGHT = (-2.2, 1.96), (-2.1, 2.40), 2.5

# Washer, in its own frame: origin at the centre of the casing, front facing -x, hinge on +y.
WASHER_POS = (1.62, 0.0, 0.47)
WASHER_HALF = (0.31, 0.30, 0.45)
DRUM_Z = -0.02
DRUM_RADIUS = 0.24
DRUM_X = (-0.31, 0.20)  # from the front plane to the back of the drum
OPENING_RADIUS = 0.185
HINGE = (-0.312, 0.235, DRUM_Z)
DOOR_RADIUS, DOOR_HALF_THICKNESS = 0.21, 0.018
DOOR_CENTRE = (-0.024, -0.235, 0.0)  # in the door's frame, whose origin is the hinge
DOOR_RANGE = 2.2  # [rad]
HANDLE = (-0.088, -0.405, 0.0)  # middle of the bar, in the door's frame
HANDLE_HALF_LENGTH, HANDLE_RADIUS = 0.075, 0.011
BUTTON = (-0.312, -0.18, 0.36)
BUTTON_RADIUS, BUTTON_TRAVEL = 0.022, 0.008
BUTTON_FACE = (-0.018, 0.0, 0.0)  # middle of the cap's front, in the button's frame

DRYER_POS = (1.62, -0.64, 0.47)

COUNTER_POS = (-0.45, 2.06)
COUNTER_HALF = (1.05, 0.33)
COUNTER_TOP, COUNTER_SLAB = 0.91, 0.04

# Glove, in its own frame: +x towards the knuckles, z up when it lies palm down.
# The cuff fits between the fingers, which open 0.10 m; the fist, 0.11 m thick and more, does not.
GLOVE_MASS = 0.28
GLOVE_CUFF = (-0.095, 0.0, -0.012)
GLOVE_CUFF_HALF = (0.052, 0.032, 0.036)
GLOVE_FIST = (0.045, 0.0, 0.004)
GLOVE_FIST_RADII = (0.090, 0.066, 0.056)
GLOVE_THUMB_SIDE = {GLOVES[0]: -1.0, GLOVES[1]: 1.0}  # of y: a left and a right glove
GLOVE_REST_HEIGHT = 0.051  # of the origin above what it lies on
GLOVE_NOMINAL = ((-0.36, 1.97), (-0.76, 1.97))  # x, y
GLOVE_NOMINAL_YAW = np.pi / 2  # knuckles away from the robot


def add_scene(spec: mujoco.MjSpec) -> None:
    """Add room, counter, washer, dryer and the two gloves, without looks."""
    world = spec.worldbody
    add_walls(world, ROOM_X, ROOM_Y)
    _add_counter(world)
    _add_washer(world)
    dryer = world.add_body(name=DRYER, pos=DRYER_POS)
    add_box(dryer, f"{DRYER}_casing", (0, 0, 0), WASHER_HALF)
    for glove, (x, y) in zip(GLOVES, GLOVE_NOMINAL, strict=True):
        _add_glove(world, glove, (x, y, COUNTER_TOP + GLOVE_REST_HEIGHT))
    for part in (WASHER_DOOR, WASHER_BUTTON):  # their joint stops do the stopping
        spec.add_exclude(bodyname1=WASHER, bodyname2=part)


def _add_counter(world: Any) -> None:  # noqa: ANN401
    counter = world.add_body(name=COUNTERTOP, pos=(*COUNTER_POS, 0))
    slab = (0, 0, COUNTER_TOP - COUNTER_SLAB / 2)
    add_box(counter, f"{COUNTERTOP}_slab", slab, (*COUNTER_HALF, COUNTER_SLAB / 2))
    cabinet_half = (COUNTER_TOP - COUNTER_SLAB) / 2
    add_box(
        counter,
        f"{COUNTERTOP}_cabinet",
        (0, 0.02, cabinet_half),
        (COUNTER_HALF[0] - 0.01, COUNTER_HALF[1] - 0.03, cabinet_half),
    )


def _octagon(
    body: Any,  # noqa: ANN401
    prefix: str,
    inner: float,
    outer: float,
    x: tuple[float, float],
) -> None:
    """Add eight boxes around the drum axis, from the inner to the outer apothem."""
    middle, half_radial = (inner + outer) / 2, (outer - inner) / 2
    for k in range(8):
        angle = k * np.pi / 4
        body.add_geom(
            name=f"{prefix}{k}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[sum(x) / 2, middle * np.sin(angle), DRUM_Z + middle * np.cos(angle)],
            quat=[np.cos(angle / 2), -np.sin(angle / 2), 0, 0],
            size=[(x[1] - x[0]) / 2, outer * np.tan(np.pi / 8), half_radial],
            **solid(),
        )


def _add_washer(world: Any) -> None:  # noqa: ANN401
    washer = world.add_body(name=WASHER, pos=WASHER_POS)
    hx, hy, hz = WASHER_HALF
    for name, pos, half in (
        ("left", (0, hy - 0.01, 0), (hx, 0.01, hz)),
        ("right", (0, -hy + 0.01, 0), (hx, 0.01, hz)),
        ("top", (0, 0, hz - 0.01), (hx, hy - 0.02, 0.01)),
        ("bottom", (0, 0, -hz + 0.01), (hx, hy - 0.02, 0.01)),
        ("back", (DRUM_X[1] + 0.02, 0, 0), (0.02, hy - 0.02, hz - 0.02)),
        ("front_top", (-hx + 0.01, 0, 0.335), (0.01, hy - 0.02, 0.095)),
        ("front_bottom", (-hx + 0.01, 0, -0.355), (0.01, hy - 0.02, 0.075)),
        ("front_left", (-hx + 0.01, 0.26, -0.02), (0.01, 0.02, 0.26)),
        ("front_right", (-hx + 0.01, -0.26, -0.02), (0.01, 0.02, 0.26)),
    ):
        add_box(washer, f"{WASHER}_{name}", pos, half)
    # MuJoCo has no hollow cylinder, so opening and drum are rings of boxes.
    _octagon(washer, f"{WASHER}_opening", OPENING_RADIUS, 0.27, (-hx, -hx + 0.02))
    _octagon(washer, f"{WASHER}_drum", DRUM_RADIUS, DRUM_RADIUS + 0.02, (-hx + 0.02, DRUM_X[1]))

    door = washer.add_body(name=WASHER_DOOR, pos=HINGE)
    door.add_joint(
        name=DOOR_JOINT,
        type=mujoco.mjtJoint.mjJNT_HINGE,
        axis=[0, 0, -1],
        limited=mujoco.mjtLimited.mjLIMITED_TRUE,
        range=[0, DOOR_RANGE],
        damping=1.5,
        frictionloss=0.8,
        armature=0.02,
    )
    door.add_geom(
        name=f"{WASHER_DOOR}_disc",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        pos=DOOR_CENTRE,
        quat=ALONG_X,
        size=[DOOR_RADIUS, DOOR_HALF_THICKNESS, 0],
        mass=3.0,
        **solid(),
    )
    x, y, _ = HANDLE
    face = DOOR_CENTRE[0] - DOOR_HALF_THICKNESS
    for name, fromto in (
        ("bar", [x, y, -HANDLE_HALF_LENGTH, x, y, HANDLE_HALF_LENGTH]),
        ("post0", [x, y, -HANDLE_HALF_LENGTH, face, y, -HANDLE_HALF_LENGTH]),
        ("post1", [x, y, HANDLE_HALF_LENGTH, face, y, HANDLE_HALF_LENGTH]),
    ):
        door.add_geom(
            name=f"{WASHER_DOOR}_handle_{name}",
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            fromto=fromto,
            size=[HANDLE_RADIUS, 0, 0],
            mass=0.05,
            condim=4,
            **solid(),
        )

    button = washer.add_body(name=WASHER_BUTTON, pos=BUTTON)
    add_push_button(
        button,
        BUTTON_JOINT,
        travel=BUTTON_TRAVEL,
        stiffness=400.0,
        radius=BUTTON_RADIUS,
        half=0.012,
        middle=-0.006,
        mass=0.03,
    )


def _add_glove(world: Any, name: str, pos: tuple[float, float, float]) -> None:  # noqa: ANN401
    glove = world.add_body(name=name, pos=pos, quat=yaw_quat(GLOVE_NOMINAL_YAW))
    glove.add_freejoint(name=f"{name}_joint")
    side = GLOVE_THUMB_SIDE[name]
    friction = {"friction": [1.2, 0.02, 0.002], "condim": 4, "solref": [0.01, 1.0]}
    add_box(glove, f"{name}_cuff", GLOVE_CUFF, GLOVE_CUFF_HALF, mass=0.08, **friction)
    # A glove may have only the kinds that `BodyShapes` knows: boxes, ellipsoids and capsules.
    glove.add_geom(
        name=f"{name}_fist",
        type=mujoco.mjtGeom.mjGEOM_ELLIPSOID,
        pos=GLOVE_FIST,
        size=GLOVE_FIST_RADII,
        mass=GLOVE_MASS - 0.10,
        **solid(**friction),
    )
    glove.add_geom(
        name=f"{name}_thumb",
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=[-0.01, 0.055 * side, -0.012, 0.06, 0.058 * side, -0.010],
        size=[0.028, 0, 0],
        mass=0.02,
        **solid(**friction),
    )
