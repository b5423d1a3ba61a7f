"""What the expert does: stages made of legs, chosen anew from the state of the world.

A leg moves the base towards a pose that is computed from where things are *now*, moves trunk and
arm towards a posture, and ends on a condition. Reaching is done by the holonomic base with the
hand held in a posture: that keeps the arm away from its joint limits, and a posture is solved by
IK once, from one canonical start. Via-points are passed at speed, never stopped at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin import scene
from b1k_envs.mujoco_twin.grasping import GRASP_WINDOW_STEPS
from b1k_envs.mujoco_twin.states import OPEN_FRACTION
from b1k_envs.mujoco_twin.truth import TwinTruth
from b1k_policies.expert.belief import Belief, wrap
from b1k_policies.expert.kinematics import ArmKinematics, hand_rotation

OPEN, CLOSED = r1pro.GRIPPER_OPEN, r1pro.GRIPPER_CLOSED

# Trunk postures [rad]: the hand's workspace is a shell around the shoulder, so the trunk carries
# the shoulder to about 0.4 m above the work: washer 0.45 m, button 0.83 m, counter 0.95 m.
LOW = np.array([1.5, -2.5, -1.3, 0.0])
HALF_LOW = np.array([1.3, -2.1, -0.95, 0.0])
MIDDLE = r1pro.RESET_JOINT_POSITION[6:10]
HIGH = np.array([0.45, -0.4, 0.0, 0.0])
LEANING = np.array([0.6, -0.4, -0.3, 0.0])

PITCH = 0.45  # of the hand while it carries a glove [rad]: the same for picking and placing

DOOR_WIDE_OPEN = 1.35  # [rad]: the drum can be reached past the leaf
DOOR_OPEN = 1.0  # below this nothing is carried in any more
DOOR_PULL_TO = 1.80
BASE_CLEARANCE = 0.33  # [m] of the base's origin from the counter's front, when it is turned
FUNNEL_RADIUS, FUNNEL_SLOPE = 0.007, 8.0  # [m], [m/m]
MAX_TURN = 0.50  # of the base against the counter [rad]; more and its corner touches
CLEAR = 0.10  # [m] between the hand and a front it has left

Target = Callable[[Belief], Float64Array]
Test = Callable[[Belief, int], bool]


@dataclass(frozen=True, eq=False)
class Posture:
    """Trunk float64 [4] and left arm float64 [7] [rad]."""

    trunk: Float64Array
    left: Float64Array


@dataclass(frozen=True, eq=False)
class Leg:
    """One piece of motion.

    Attributes:
        posture: Where trunk and arm go; None keeps the last command.
        base: Where the base goes, from the belief: x, y, yaw in the world.
        grip: Left gripper command.
        until: Ends the leg; asked after every predicted step with the steps spent in the leg.
        via: Pass the base target at speed instead of stopping there.
        speed: Limit of the base speed [m/s].
        patience: Steps after which the leg has failed and the stage starts again.
    """

    posture: Posture | None
    base: Target
    grip: float
    until: Test
    via: bool = False
    speed: float = 0.6
    patience: int = 240


@dataclass(frozen=True, eq=False)
class Stage:
    """A named sequence of legs.

    Attributes:
        key: What this stage is for, e.g. ("fetch", "boxing_glove_1").
        skill: Name of the dataset's skill that it shows.
        legs: In order.
        valid: Whether the stage still makes sense, given the truth and the leg it is in.
    """

    key: tuple[str, ...]
    skill: tuple[str, ...]
    legs: tuple[Leg, ...]
    valid: Callable[[TwinTruth, int], bool]


def choose(truth: TwinTruth) -> tuple[str, ...]:
    """Which stage the state of the world calls for."""
    if not any(truth.dusty.values()):
        return ("rest",)
    held = truth.held["left"]
    if held in scene.GLOVES:
        return ("place", str(held)) if truth.door_angle > DOOR_OPEN else ("drop", str(held))
    outside = [g for g in scene.GLOVES if truth.dusty[g] and not truth.in_washer[g]]
    if outside:
        if truth.door_angle < DOOR_WIDE_OPEN:
            return ("open",)
        # The farther one first: its neighbour then never stands in the hand's way.
        return ("fetch", outside[0])
    if truth.door_angle > 0.5 * OPEN_FRACTION * scene.DOOR_RANGE:
        return ("close",)
    return ("press",)


class Playbook:
    """Builds the stages; owns the postures they use."""

    def __init__(self, arm: ArmKinematics, protocol: str) -> None:
        self._arm = arm
        self._window = GRASP_WINDOW_STEPS["2025" if protocol == "2025" else "2026"]
        self.handle = self._posture(LOW, (0.60, 0.25, 0.45), 0.0)
        self.pick = self._posture(HIGH, (0.70, 0.24, 0.955), PITCH)
        self.lift = self._posture(HIGH, (0.70, 0.24, 1.07), PITCH)
        self.pick_far = self._posture(LEANING, (0.95, 0.24, 0.955), PITCH)
        self.insert = self._posture(LOW, (0.64, 0.24, 0.475), PITCH)
        self.push = self._posture(HALF_LOW, (0.60, 0.25, 0.59), 0.0)
        self.press = self._posture(MIDDLE, (0.62, 0.25, 0.83), 0.0)

    def _posture(
        self, trunk: Float64Array, hand: tuple[float, float, float], pitch: float
    ) -> Posture:
        solution = self._arm.inverse(trunk, np.array(hand), hand_rotation(pitch, 0.0))
        assert solution.reached, f"the expert's posture at {hand} cannot be reached"
        return Posture(trunk, solution.joints)

    def build(self, key: tuple[str, ...], belief: Belief, tries: int) -> Stage:
        """The stage for a key, from the situation at hand."""
        maker = {
            "open": self._open,
            "fetch": self._fetch,
            "place": self._place,
            "drop": self._drop,
            "close": self._close,
            "press": self._press,
            "rest": self._rest,
        }[key[0]]
        return maker(key, belief, tries)

    # --- pieces -----------------------------------------------------------------------------

    def _at(self, belief: Belief, target: Float64Array, radius: float) -> bool:
        return bool(np.hypot(*(belief.base[:2] - target[:2])) < radius)

    def _arrived(self, base: Target, radius: float = 0.012, angle: float = 0.03) -> Test:
        def test(belief: Belief, steps: int) -> bool:
            target = base(belief)
            # With noise on the actions the base wanders: what cannot be had exactly is taken
            # a little less exactly after a while.
            slack = min(1.0 + steps / 45.0, 2.2)
            turned = abs(wrap(belief.base[2] - target[2]))
            return self._at(belief, target, radius * slack) and turned < angle * slack

        return test

    def _settled(self, posture: Posture, inner: Test, tolerance: float = 0.03) -> Test:
        def test(belief: Belief, steps: int) -> bool:
            return (
                inner(belief, steps)
                and float(np.abs(belief.left - posture.left).max()) < tolerance + steps / 3000.0
                and float(np.abs(belief.trunk - posture.trunk).max()) < tolerance + steps / 3000.0
            )

        return test

    def _back_off(self, grip: float) -> Leg:
        """Leave the washer's or the counter's front backwards until the hand is clear of it."""

        def clear(belief: Belief, _steps: int) -> bool:
            hand = belief.hand(self._arm)
            washer = belief.truth.positions[scene.WASHER]
            counter = belief.truth.positions[scene.COUNTERTOP]
            front = washer[0] - scene.WASHER_HALF[0]
            beside_washer = hand[0] > front - 0.55 and hand[1] < washer[1] + 0.55
            over_counter = hand[1] > counter[1] - scene.COUNTER_HALF[1] - CLEAR
            return not (beside_washer or over_counter)

        def base(belief: Belief) -> Float64Array:
            x, y, yaw = belief.base
            return np.array([x - 0.5 * np.cos(yaw), y - 0.5 * np.sin(yaw), yaw])

        return Leg(None, base, grip, clear, via=True, speed=0.45)

    def _via(self, posture: Posture, x: float, y: float, yaw: float, grip: float) -> Leg:
        point = np.array([x, y, yaw])

        def passed(belief: Belief, _steps: int) -> bool:
            return self._at(belief, point, 0.25)

        return Leg(posture, lambda _b: point, grip, passed, via=True)

    # --- stages -----------------------------------------------------------------------------

    def _open(self, key: tuple[str, ...], belief: Belief, tries: int) -> Stage:
        depth = 0.004 * (tries % 3)

        def before(b: Belief) -> Float64Array:
            handle = b.on_door(scene.HANDLE, b.door_angle)
            return b.base_with_hand_at(handle - [0.16, 0, 0], 0.0, self._arm)

        def onto(b: Belief) -> Float64Array:
            handle = b.on_door(scene.HANDLE, b.door_angle)
            return b.base_with_hand_at(handle + [depth, 0, 0], 0.0, self._arm)

        def pull(b: Belief) -> Float64Array:
            handle = b.on_door(scene.HANDLE, min(b.door_angle + 0.30, DOOR_PULL_TO + 0.1))
            return b.base_with_hand_at(handle, 0.0, self._arm)

        def away(b: Belief) -> Float64Array:
            return np.array([b.base[0] - 0.5, b.base[1], 0.0])

        start_x = belief.base[0]
        washer = belief.truth.positions[scene.WASHER]
        legs = (
            self._back_off(OPEN),
            self._via(self.handle, washer[0] - 1.25, washer[1] - 0.35, 0.0, OPEN),
            Leg(self.handle, before, OPEN, self._settled(self.handle, self._arrived(before, 0.02))),
            Leg(self.handle, onto, OPEN, self._arrived(onto, 0.010), speed=0.2),
            Leg(
                self.handle,
                onto,
                CLOSED,
                lambda b, _n: b.truth.held["left"] == scene.WASHER_DOOR,
                speed=0.1,
                patience=self._window + 40,
            ),
            Leg(
                self.handle,
                pull,
                CLOSED,
                lambda b, _n: b.door_angle > DOOR_PULL_TO,
                speed=0.35,
                patience=240,
            ),
            Leg(self.handle, pull, OPEN, lambda _b, n: n >= 6, speed=0.05),
            Leg(
                self.handle,
                away,
                OPEN,
                lambda b, n: n > 12 and b.hand(self._arm)[0] < b.on_door(scene.HANDLE, b.door_angle)[0] - 0.12,
                via=True,
                speed=0.4,
            ),
        )
        del start_x

        def valid(truth: TwinTruth, leg: int) -> bool:
            holding = truth.held["left"] == scene.WASHER_DOOR
            return holding or leg != 5

        skills = ("move to",) * 3 + ("open door",) * 5
        return Stage(key, skills, legs, valid)

    def _fetch(self, key: tuple[str, ...], belief: Belief, tries: int) -> Stage:
        glove = key[1]
        depth = (0.0, 0.015, -0.012)[tries % 3]

        def yaw(b: Belief) -> float:
            return float(np.clip(b.glove_yaw(glove), np.pi / 2 - MAX_TURN, np.pi / 2 + MAX_TURN))

        # What the base may not turn, the trunk's yaw joint does.
        rest = float(np.clip(belief.glove_yaw(glove) - yaw(belief), -MAX_TURN, MAX_TURN))

        def along(b: Belief) -> Float64Array:
            return np.array([np.cos(yaw(b) + rest), np.sin(yaw(b) + rest), 0.0])

        def point(b: Belief, back: float) -> Float64Array:
            cuff = b.on_glove(glove, scene.GLOVE_CUFF)
            return np.asarray(cuff + (depth - back) * along(b))

        def before(b: Belief) -> Float64Array:
            return b.base_with_hand_at(point(b, 0.20), yaw(b), self._arm)

        def onto(b: Belief) -> Float64Array:
            # A funnel: the farther the hand is off the cuff's axis, the farther back it waits,
            # or an open finger would push the glove away instead of passing beside it.
            offset = (b.hand(self._arm) - point(b, 0.0))[:2]
            side = abs(float(offset @ np.array([-along(b)[1], along(b)[0]])))
            back = min(FUNNEL_SLOPE * max(side - FUNNEL_RADIUS, 0.0), 0.16)
            return b.base_with_hand_at(point(b, back), yaw(b), self._arm)

        front = belief.truth.positions[scene.COUNTERTOP][1] - scene.COUNTER_HALF[1]
        near = _turned(self.pick, rest)
        hand = self._arm.forward(near.trunk, near.left)[0]
        stand = point(belief, 0.0)[1] - np.sin(yaw(belief)) * hand[0] - np.cos(yaw(belief)) * hand[1]
        far = stand > front - BASE_CLEARANCE
        pick = _turned(self.pick_far if far else self.pick, rest)
        legs = (
            self._back_off(OPEN),
            self._via(pick, -0.10, 0.25, 1.0, OPEN),
            Leg(pick, before, OPEN, self._settled(pick, self._arrived(before, 0.02))),
            Leg(pick, onto, OPEN, self._arrived(lambda b: b.base_with_hand_at(point(b, 0.0), yaw(b), self._arm), 0.012), speed=0.3),
            Leg(
                pick,
                onto,
                CLOSED,
                lambda b, _n: b.truth.held["left"] == glove,
                speed=0.1,
                patience=self._window + 40,
            ),
        )

        def valid(truth: TwinTruth, leg: int) -> bool:
            return truth.held["left"] != glove

        skills = ("move to",) * 3 + ("pick up from",) * 2
        return Stage(key, skills, legs, valid)

    def _place(self, key: tuple[str, ...], belief: Belief, tries: int) -> Stage:
        glove = key[1]
        first = not any(belief.truth.in_washer.values())
        depth = 0.26 if first else 0.21

        def inside(b: Belief, x: float) -> Float64Array:
            washer = b.truth.positions[scene.WASHER]
            return np.array([washer[0] - scene.WASHER_HALF[0] + x, washer[1], 0.0])

        def glove_at(b: Belief, x: float) -> Float64Array:
            """Base pose that brings the glove, not the hand, to a depth on the drum's axis."""
            shift = inside(b, x) - b.carried(glove, self._arm)
            return np.array([b.base[0] + shift[0], b.base[1] + shift[1], 0.0])

        def lifted(b: Belief) -> Float64Array:
            return np.array(b.base)

        def back(b: Belief) -> Float64Array:
            return np.array([b.base[0], b.base[1] - 0.5, b.base[2]])

        def before(b: Belief) -> Float64Array:
            return glove_at(b, -0.24)

        def into(b: Belief) -> Float64Array:
            return glove_at(b, depth)

        def stay(b: Belief) -> Float64Array:
            return np.array([b.base[0], b.base[1], 0.0])

        def out(b: Belief) -> Float64Array:
            return np.array([b.base[0] - 0.5, b.base[1], 0.0])

        legs = (
            Leg(self.lift, lifted, CLOSED, lambda b, _n: b.hand(self._arm)[2] > 1.03, speed=0.1),
            Leg(self.lift, back, CLOSED, lambda b, _n: b.hand(self._arm)[1] < 1.40, via=True),
            # Around the open leaf, which a carried glove would sweep shut.
            self._via(self.insert, -0.25, -0.10, 0.50, CLOSED),
            self._via(self.insert, -0.05, -0.28, 0.0, CLOSED),
            Leg(self.insert, before, CLOSED, self._settled(self.insert, self._arrived(before, 0.02))),
            Leg(self.insert, into, CLOSED, self._arrived(into, 0.02), speed=0.3),
            Leg(self.insert, stay, OPEN, lambda _b, n: n >= 12, speed=0.1),
            Leg(
                self.insert,
                out,
                OPEN,
                lambda b, _n: b.hand(self._arm)[0] < inside(b, -0.05)[0],
                via=True,
                speed=0.4,
            ),
        )

        def valid(truth: TwinTruth, leg: int) -> bool:
            if leg >= 6:
                return True
            return truth.held["left"] == glove and truth.door_angle > DOOR_OPEN

        skills = ("pick up from",) + ("move to",) * 4 + ("place in",) * 3
        return Stage(key, skills, legs, valid)

    def _drop(self, key: tuple[str, ...], belief: Belief, tries: int) -> Stage:
        """Holding a glove before a closed door: put it back on the counter."""
        glove = key[1]
        counter = belief.truth.positions[scene.COUNTERTOP]
        spot = np.array([counter[0] + 0.1, counter[1] - 0.10, 0.0])

        def over(b: Belief) -> Float64Array:
            return b.base_with_hand_at(spot, np.pi / 2, self._arm)

        legs = (
            self._via(self.lift, -0.10, 0.25, 1.0, CLOSED),
            Leg(self.lift, over, CLOSED, self._settled(self.lift, self._arrived(over, 0.03))),
            Leg(self.pick, over, CLOSED, self._settled(self.pick, self._arrived(over, 0.03))),
            Leg(self.pick, over, OPEN, lambda _b, n: n >= 10),
            Leg(self.lift, over, OPEN, lambda b, _n: b.hand(self._arm)[2] > 1.03),
        )
        skills = ("move to",) + ("place in",) * 4

        def valid(truth: TwinTruth, leg: int) -> bool:
            return truth.held["left"] == glove or leg >= 3

        return Stage(key, skills, legs, valid)

    def _close(self, key: tuple[str, ...], belief: Belief, tries: int) -> Stage:
        # The face is pushed above the handle: a bar beside the fingers drags the door back open.
        face = scene.DOOR_CENTRE[0] - scene.DOOR_HALF_THICKNESS
        radius, height = 0.33, 0.14

        def against(b: Belief, angle: float, gap: float) -> Float64Array:
            # The fingertips touch a closed door, the side of the hand one that stands open.
            off = gap + 0.023 * abs(np.cos(angle)) + 0.062 * abs(np.sin(angle))
            return b.on_door((face - off, -radius, height), angle)

        def beside(b: Belief) -> Float64Array:
            return b.base_with_hand_at(against(b, b.door_angle, 0.09), 0.0, self._arm)

        def around(b: Belief) -> Float64Array:
            target = beside(b)
            tip = b.on_door(scene.HANDLE, b.door_angle)[0] - 0.25
            return np.array([tip - b.hand_in_base(self._arm)[0], target[1], 0.0])

        def push(b: Belief) -> Float64Array:
            lead = b.door_angle - 0.35
            gap = 0.0 if lead > 0 else 0.4 * radius * lead
            return b.base_with_hand_at(against(b, max(lead, 0.0), gap), 0.0, self._arm)

        def away(b: Belief) -> Float64Array:
            return np.array([b.base[0] - 0.5, b.base[1], 0.0])

        legs = (
            self._back_off(CLOSED),
            Leg(self.push, around, CLOSED, self._settled(self.push, self._arrived(around, 0.04, 0.1), 0.1)),
            Leg(self.push, beside, CLOSED, self._arrived(beside, 0.04, 0.1), speed=0.4),
            Leg(
                self.push,
                push,
                CLOSED,
                lambda b, _n: b.door_angle < 0.4 * OPEN_FRACTION * scene.DOOR_RANGE,
                speed=0.35,
                patience=260,
            ),
            Leg(self.push, away, CLOSED, lambda _b, n: n >= 15, via=True, speed=0.3),
        )
        skills = ("move to",) * 2 + ("close door",) * 3
        return Stage(key, skills, legs, lambda _t, _leg: True)

    def _press(self, key: tuple[str, ...], belief: Belief, tries: int) -> Stage:
        tip = 0.023  # from the tool centre to the fingertips

        def point(b: Belief, back: float) -> Float64Array:
            button = b.truth.positions[scene.WASHER_BUTTON] + scene.BUTTON_FACE
            return np.asarray(button - [tip + back, 0.0, 0.0])

        def before(b: Belief) -> Float64Array:
            return b.base_with_hand_at(point(b, 0.10), 0.0, self._arm)

        def onto(b: Belief) -> Float64Array:
            return b.base_with_hand_at(point(b, -0.010), 0.0, self._arm)

        legs = (
            self._back_off(CLOSED),
            Leg(self.press, before, CLOSED, self._settled(self.press, self._arrived(before, 0.015))),
            Leg(self.press, onto, CLOSED, lambda b, _n: b.truth.washer_on, speed=0.15, patience=90),
            Leg(self.press, before, CLOSED, self._arrived(before, 0.03), speed=0.2),
        )
        skills = ("move to",) * 2 + ("turn on switch",) * 2
        return Stage(key, skills, legs, lambda _t, _leg: True)

    def _rest(self, key: tuple[str, ...], belief: Belief, tries: int) -> Stage:
        here = belief.base.copy()
        leg = Leg(None, lambda _b: here, OPEN, lambda _b, _n: False, patience=10**9)
        return Stage(key, ("move to",), (leg,), lambda _t, _leg: True)


def _turned(posture: Posture, yaw: float) -> Posture:
    """The posture with its upper body turned by the trunk's yaw joint."""
    return replace(posture, trunk=posture.trunk + np.array([0.0, 0.0, 0.0, yaw]))
