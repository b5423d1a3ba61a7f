"""Stages that fetch a glove from the counter, place it in the drum, or put it back."""

from __future__ import annotations

from functools import partial

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.states import GloveTruth
from b1k_policies.expert.clean_boxing_gloves.belief import GloveBelief
from b1k_policies.expert.clean_boxing_gloves.moves import GloveMoves
from b1k_policies.expert.legs import CLOSED, OPEN, Leg, Posture, Stage, after, backwards

DOOR_OPEN = 1.0
"""Below this door opening [rad] no glove is carried into the washer any more."""

_COUNTER_YAW = np.pi / 2  # of a base that faces the counter [rad]
_MAX_TURN = 0.50  # of the base against the counter [rad]; beyond it the base's corner touches
_BASE_CLEARANCE = 0.33  # of the base's origin from the counter's front, when it is turned [m]
_FUNNEL_RADIUS, _FUNNEL_SLOPE, _FUNNEL_DEPTH = 0.007, 8.0, 0.16  # [m], [m/m], [m]
# A grasp that missed could miss again at the same point, so each try shifts it [m].
_DEEPER = (0.0, 0.015, -0.012)  # along the cuff
_INTO_DRUM = (0.26, 0.21)  # depth of the first and second glove, behind the washer's front [m]


def fetch(moves: GloveMoves, belief: GloveBelief, tries: int, glove: str) -> Stage:
    """Take the glove by its cuff, because the gripper opens 0.10 m and the fist is wider."""
    arm = moves.arm
    deeper = _DEEPER[tries % len(_DEEPER)]

    def base_yaw(b: GloveBelief) -> float:
        low, high = _COUNTER_YAW - _MAX_TURN, _COUNTER_YAW + _MAX_TURN
        return float(np.clip(b.glove_yaw(glove), low, high))

    # The trunk's yaw joint turns by what the base may not.
    rest = float(np.clip(belief.glove_yaw(glove) - base_yaw(belief), -_MAX_TURN, _MAX_TURN))

    def along(b: GloveBelief) -> Float64Array:
        yaw = base_yaw(b) + rest
        return np.array([np.cos(yaw), np.sin(yaw), 0.0])

    def point(b: GloveBelief, back: float) -> Float64Array:
        cuff = b.on_glove(glove, scene.GLOVE_CUFF)
        return np.asarray(cuff + (deeper - back) * along(b))

    def before(b: GloveBelief) -> Float64Array:
        return b.base_with_hand_at(point(b, 0.20), base_yaw(b), arm)

    def at_cuff(b: GloveBelief) -> Float64Array:
        return b.base_with_hand_at(point(b, 0.0), base_yaw(b), arm)

    def funnel(b: GloveBelief) -> Float64Array:
        # The farther the hand is off the cuff's axis, the farther back it waits, or an open
        # finger would push the glove away instead of passing beside it.
        offset = b.hand(arm) - point(b, 0.0)
        forward = along(b)
        aside = abs(float(forward[0] * offset[1] - forward[1] * offset[0]))
        back = min(_FUNNEL_SLOPE * max(aside - _FUNNEL_RADIUS, 0.0), _FUNNEL_DEPTH)
        return b.base_with_hand_at(point(b, back), base_yaw(b), arm)

    def stand_y(posture: Posture) -> float:
        """Return the world y at which the base would stand for the grasp [m]."""
        hand, _ = arm.forward(posture.trunk, posture.left)
        yaw = base_yaw(belief)
        return float(point(belief, 0.0)[1] - np.sin(yaw) * hand[0] - np.cos(yaw) * hand[1])

    front = belief.truth.positions[scene.COUNTERTOP][1] - scene.COUNTER_HALF[1]
    near = moves.pick.turned(rest)
    reachable = stand_y(near) <= front - _BASE_CLEARANCE
    pick = near if reachable else moves.pick_far.turned(rest)
    doing = partial(Leg, skill="pick up from", posture=pick)
    legs = (
        moves.leave(OPEN),
        moves.via(pick, (-0.10, 0.25, 1.0), OPEN),
        moves.drive(pick, before, OPEN),
        doing(base=funnel, grip=OPEN, until=moves.arrived(at_cuff), speed=0.3),
        doing(
            base=funnel,
            grip=CLOSED,
            until=lambda b, _n: b.truth.held["left"] == glove,
            speed=0.1,
            patience=moves.grasp_patience,
        ),
    )

    def valid(truth: GloveTruth, _leg: int) -> bool:
        return truth.held["left"] != glove

    return Stage(key=("fetch", glove), legs=legs, valid=valid)


def place(moves: GloveMoves, belief: GloveBelief, tries: int, glove: str) -> Stage:
    """Lift the glove, carry it around the open door, drive it into the drum and let go."""
    del tries
    arm = moves.arm
    depth = _INTO_DRUM[any(belief.truth.in_washer.values())]

    def on_axis(b: GloveBelief, x: float) -> Float64Array:
        """Return the point on the drum's axis that lies x [m] behind the front; z is 0."""
        washer = b.truth.positions[scene.WASHER]
        return np.array([washer[0] - scene.WASHER_HALF[0] + x, washer[1], 0.0])

    def glove_at(b: GloveBelief, x: float) -> Float64Array:
        """Return the base pose that brings the glove itself, not the hand, to that point."""
        shift = on_axis(b, x) - b.carried(glove, arm)
        return np.array([b.base[0] + shift[0], b.base[1] + shift[1], 0.0])

    def from_counter(b: GloveBelief) -> Float64Array:
        return np.array([b.base[0], b.base[1] - 0.5, b.base[2]])

    def stay(b: GloveBelief) -> Float64Array:
        return np.array([b.base[0], b.base[1], 0.0])

    def before(b: GloveBelief) -> Float64Array:
        return glove_at(b, -0.24)

    def into(b: GloveBelief) -> Float64Array:
        return glove_at(b, depth)

    lifting = partial(Leg, skill="pick up from", posture=moves.lift, grip=CLOSED)
    placing = partial(Leg, skill="place in", posture=moves.insert)
    legs = (
        lifting(
            base=lambda b: b.base,
            until=lambda b, _n: b.hand(arm)[2] > 1.03,
            speed=0.1,
        ),
        lifting(base=from_counter, until=lambda b, _n: b.hand(arm)[1] < 1.40, via=True),
        # Drive around the open door, because a carried glove would sweep it shut.
        moves.via(moves.insert, (-0.25, -0.10, 0.50), CLOSED),
        moves.via(moves.insert, (-0.05, -0.28, 0.0), CLOSED),
        moves.drive(moves.insert, before, CLOSED),
        placing(base=into, grip=CLOSED, until=moves.arrived(into, 0.02), speed=0.3),
        placing(base=stay, grip=OPEN, until=after(12), speed=0.1),
        placing(
            base=backwards,
            grip=OPEN,
            until=lambda b, _n: b.hand(arm)[0] < on_axis(b, -0.05)[0],
            via=True,
            speed=0.4,
        ),
    )
    letting_go = 6  # index of the leg; from there on the hand is meant to be empty

    def valid(truth: GloveTruth, leg: int) -> bool:
        carrying = truth.held["left"] == glove and truth.door_angle > DOOR_OPEN
        return carrying or leg >= letting_go

    return Stage(key=("place", glove), legs=legs, valid=valid)


def put_back(moves: GloveMoves, belief: GloveBelief, tries: int, glove: str) -> Stage:
    """Put a carried glove back on the counter, because the door has swung shut before it."""
    del tries
    counter = belief.truth.positions[scene.COUNTERTOP]
    spot = np.array([counter[0] + 0.1, counter[1] - 0.10, 0.0])

    def over(b: GloveBelief) -> Float64Array:
        return b.base_with_hand_at(spot, _COUNTER_YAW, moves.arm)

    doing = partial(Leg, skill="place in", base=over, grip=OPEN)
    legs = (
        moves.via(moves.lift, (-0.10, 0.25, 1.0), CLOSED),
        moves.drive(moves.lift, over, CLOSED, radius=0.03),
        moves.drive(moves.pick, over, CLOSED, radius=0.03),
        doing(posture=moves.pick, until=after(10)),
        doing(posture=moves.lift, until=lambda b, _n: b.hand(moves.arm)[2] > 1.03),
    )
    letting_go = 3  # index of the leg, as in `place`

    def valid(truth: GloveTruth, leg: int) -> bool:
        return truth.held["left"] == glove or leg >= letting_go

    return Stage(key=("put back", glove), legs=legs, valid=valid)
