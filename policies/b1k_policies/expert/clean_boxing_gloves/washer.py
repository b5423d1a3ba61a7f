"""Stages that open the washer, close it, and press its button."""

from __future__ import annotations

from functools import partial

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.states import OPEN_FRACTION, GloveTruth
from b1k_policies.expert.clean_boxing_gloves.belief import GloveBelief
from b1k_policies.expert.clean_boxing_gloves.moves import GloveMoves
from b1k_policies.expert.legs import CLOSED, OPEN, Leg, Stage, after, backwards

SHUT = 0.4 * OPEN_FRACTION * scene.DOOR_RANGE
"""The expert takes the door for shut below this [rad], 0.4 of the angle at which it is Open."""

_PULL_TO = 1.80  # opening at which the handle is let go [rad]
_PULL_LEAD = 0.30  # the base aims at the handle's place this much further along its arc [rad]
_PUSH_LEAD = 0.35  # the same while pushing [rad]
_FINGERTIP = 0.023  # from the tool centre to the fingertips [m]
_HAND_HALF_WIDTH = 0.062  # of the gripper link's collision box [m]


def open_door(moves: GloveMoves, belief: GloveBelief, tries: int) -> Stage:
    """Take the handle and follow its arc with the base; the grasp lets it turn in the hand."""
    deeper = 0.004 * (tries % 3)
    washer = belief.truth.positions[scene.WASHER]
    arm = moves.arm

    def handle(b: GloveBelief, angle: float, dx: float) -> Float64Array:
        point = b.on_door(scene.HANDLE, angle) + np.array([dx, 0.0, 0.0])
        return b.base_with_hand_at(point, 0.0, arm)

    def before(b: GloveBelief) -> Float64Array:
        return handle(b, b.door_angle, -0.16)

    def onto(b: GloveBelief) -> Float64Array:
        return handle(b, b.door_angle, deeper)

    def pull(b: GloveBelief) -> Float64Array:
        return handle(b, min(b.door_angle + _PULL_LEAD, _PULL_TO + 0.1), 0.0)

    def let_go(b: GloveBelief, steps: int) -> bool:
        return steps > 12 and b.hand(arm)[0] < b.on_door(scene.HANDLE, b.door_angle)[0] - 0.12

    doing = partial(Leg, skill="open door", posture=moves.handle)
    legs = (
        moves.leave(OPEN),
        moves.via(moves.handle, (washer[0] - 1.25, washer[1] - 0.35, 0.0), OPEN),
        moves.drive(moves.handle, before, OPEN),
        doing(base=onto, grip=OPEN, until=moves.arrived(onto, 0.010), speed=0.2),
        doing(
            base=onto,
            grip=CLOSED,
            until=lambda b, _n: b.truth.held["left"] == scene.WASHER_DOOR,
            speed=0.1,
            patience=moves.grasp_patience,
        ),
        doing(base=pull, grip=CLOSED, until=lambda b, _n: b.door_angle > _PULL_TO, speed=0.35),
        doing(base=pull, grip=OPEN, until=after(6), speed=0.05),
        doing(base=backwards, grip=OPEN, until=let_go, via=True, speed=0.4),
    )
    pulling = 5  # index of the leg during which a lost handle makes the stage pointless

    def valid(truth: GloveTruth, leg: int) -> bool:
        return leg != pulling or truth.held["left"] == scene.WASHER_DOOR

    return Stage(key=("open",), legs=legs, valid=valid)


def close_door(moves: GloveMoves, belief: GloveBelief, tries: int) -> Stage:
    """Go around the open door and push its outer face with the fist, along its arc."""
    del belief, tries
    # Push above the handle: with its bar beside the fingers, the hand drags the door open again.
    face = scene.DOOR_CENTRE[0] - scene.DOOR_HALF_THICKNESS
    radius, height = 0.33, 0.14
    arm = moves.arm

    def against(b: GloveBelief, angle: float, gap: float) -> Float64Array:
        # A closed door is touched by the fingertips, an open one by the side of the hand.
        reach = _FINGERTIP * abs(np.cos(angle)) + _HAND_HALF_WIDTH * abs(np.sin(angle))
        point = b.on_door((face - reach - gap, -radius, height), angle)
        return b.base_with_hand_at(point, 0.0, arm)

    def beside(b: GloveBelief) -> Float64Array:
        return against(b, b.door_angle, 0.09)

    def around(b: GloveBelief) -> Float64Array:
        in_front = b.on_door(scene.HANDLE, b.door_angle)[0] - 0.25
        return np.array([in_front - b.hand_in_base(arm)[0], beside(b)[1], 0.0])

    def push(b: GloveBelief) -> Float64Array:
        lead = b.door_angle - _PUSH_LEAD
        return against(b, max(lead, 0.0), 0.4 * radius * min(lead, 0.0))

    doing = partial(Leg, skill="close door", posture=moves.push, grip=CLOSED)
    legs = (
        moves.leave(CLOSED),
        moves.drive(moves.push, around, CLOSED, radius=0.04, angle=0.1, tolerance=0.1),
        doing(base=beside, until=moves.arrived(beside, 0.04, 0.1), speed=0.4),
        doing(base=push, until=lambda b, _n: b.door_angle < SHUT, speed=0.35),
        doing(base=backwards, until=after(15), via=True, speed=0.3),
    )
    return Stage(key=("close",), legs=legs, valid=lambda _truth, _leg: True)


def press_button(moves: GloveMoves, belief: GloveBelief, tries: int) -> Stage:
    """Push the power button with the closed fingertips until the washer is on."""
    del belief, tries

    def tip_at(b: GloveBelief, beyond: float) -> Float64Array:
        face = b.truth.positions[scene.WASHER_BUTTON] + scene.BUTTON_FACE
        point = face + np.array([beyond - _FINGERTIP, 0.0, 0.0])
        return b.base_with_hand_at(point, 0.0, moves.arm)

    def before(b: GloveBelief) -> Float64Array:
        return tip_at(b, -0.10)

    def onto(b: GloveBelief) -> Float64Array:
        return tip_at(b, 0.010)

    doing = partial(Leg, skill="turn on switch", posture=moves.press, grip=CLOSED)
    legs = (
        moves.leave(CLOSED),
        moves.drive(moves.press, before, CLOSED, radius=0.015),
        doing(base=onto, until=lambda b, _n: b.truth.washer_on, speed=0.15, patience=90),
        doing(base=before, until=moves.arrived(before, 0.03), speed=0.2),
    )
    return Stage(key=("press",), legs=legs, valid=lambda _truth, _leg: True)
