"""The expert's building blocks: postures, legs, stages, and the pieces legs are made of.

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
from b1k_envs.base import Float64Array, Protocol
from b1k_envs.mujoco_twin.robot.grasping import GRASP_WINDOW_STEPS
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_envs.mujoco_twin.truth import TwinTruth
from b1k_policies.expert.belief import Belief, wrap
from b1k_policies.expert.kinematics import ArmKinematics, hand_rotation

OPEN, CLOSED = r1pro.GRIPPER_OPEN, r1pro.GRIPPER_CLOSED

Target = Callable[[Belief], Float64Array]
"""Base pose x, y, yaw in the world, from the belief."""

Test = Callable[[Belief, int], bool]
"""Whether a leg is over, from the belief and the steps spent in the leg."""


@dataclass(frozen=True, eq=False)
class Posture:
    """Trunk float64 [4] and left arm float64 [7] [rad]."""

    trunk: Float64Array
    left: Float64Array

    def turned(self, yaw: float) -> Posture:
        """The same with the upper body turned by the trunk's yaw joint [rad]."""
        return replace(self, trunk=self.trunk + np.array([0.0, 0.0, 0.0, yaw]))


@dataclass(frozen=True, eq=False, kw_only=True)
class Leg:
    """One piece of motion.

    Attributes:
        skill: Name of the dataset's skill that this piece shows.
        posture: Where trunk and arm go; None keeps the last command.
        base: Where the base goes.
        grip: Left gripper command.
        until: Ends the leg.
        via: Pass the base target at speed instead of stopping there.
        speed: Limit of the base speed [m/s].
        patience: Steps after which the leg has failed and the stage is chosen anew.
    """

    skill: str
    posture: Posture | None
    base: Target
    grip: float
    until: Test
    via: bool = False
    speed: float = 0.6
    patience: int = 240


@dataclass(frozen=True, eq=False, kw_only=True)
class Stage:
    """A named sequence of legs.

    Attributes:
        key: What it is for, e.g. ("fetch", "boxing_glove_1").
        legs: In order.
        valid: Whether it still makes sense, from the truth and the index of the present leg.
    """

    key: tuple[str, ...]
    legs: tuple[Leg, ...]
    valid: Callable[[TwinTruth, int], bool]


# Trunk postures [rad]: the hand's workspace is a shell around the shoulder, so the trunk carries
# the shoulder to about 0.4 m above the work: drum 0.45 m, button 0.83 m, counter 0.95 m.
_LOW = np.array([1.5, -2.5, -1.3, 0.0])
_HALF_LOW = np.array([1.3, -2.1, -0.95, 0.0])
_MIDDLE = r1pro.RESET_JOINT_POSITION[6:10]
_HIGH = np.array([0.45, -0.4, 0.0, 0.0])
_LEANING = np.array([0.6, -0.4, -0.3, 0.0])

_GLOVE_PITCH = 0.45  # of a hand that carries a glove [rad]: the same for picking and placing


class Moves:
    """Postures, and the pieces from which stages are built, for one arm and one grasp window."""

    def __init__(self, arm: ArmKinematics, protocol: Protocol) -> None:
        self.arm = arm
        self.grasp_patience = GRASP_WINDOW_STEPS[protocol] + 40
        self.handle = self._solve(_LOW, (0.60, 0.25, 0.45), 0.0)
        self.pick = self._solve(_HIGH, (0.70, 0.24, 0.955), _GLOVE_PITCH)
        self.pick_far = self._solve(_LEANING, (0.95, 0.24, 0.955), _GLOVE_PITCH)
        self.lift = self._solve(_HIGH, (0.70, 0.24, 1.07), _GLOVE_PITCH)
        self.insert = self._solve(_LOW, (0.64, 0.24, 0.475), _GLOVE_PITCH)
        self.push = self._solve(_HALF_LOW, (0.60, 0.25, 0.59), 0.0)
        self.press = self._solve(_MIDDLE, (0.62, 0.25, 0.83), 0.0)

    def _solve(
        self, trunk: Float64Array, hand: tuple[float, float, float], pitch: float
    ) -> Posture:
        solution = self.arm.inverse(trunk, np.array(hand), hand_rotation(pitch, 0.0))
        assert solution.reached, f"the expert's posture at {hand} cannot be reached"
        return Posture(trunk, solution.joints)

    # --- conditions -------------------------------------------------------------------------

    def arrived(self, base: Target, radius: float = 0.012, angle: float = 0.03) -> Test:
        """The base is within a radius [m] and an angle [rad] of its target."""

        def test(belief: Belief, steps: int) -> bool:
            target = base(belief)
            # With noise on the actions the base wanders: what cannot be had exactly is taken
            # a little less exactly after a while.
            slack = min(1.0 + steps / 45.0, 2.2)
            turned = abs(wrap(belief.base[2] - target[2]))
            return _distance(belief, target) < radius * slack and turned < angle * slack

        return test

    def settled(self, posture: Posture, inner: Test, tolerance: float = 0.03) -> Test:
        """A condition holds and trunk and arm have reached a posture, within [rad]."""

        def test(belief: Belief, steps: int) -> bool:
            slack = tolerance + steps / 3000.0
            return (
                inner(belief, steps)
                and float(np.abs(belief.left - posture.left).max()) < slack
                and float(np.abs(belief.trunk - posture.trunk).max()) < slack
            )

        return test

    # --- legs -------------------------------------------------------------------------------

    def back_off(self, grip: float) -> Leg:
        """Leave the washer's or the counter's front backwards until the hand is clear of it."""

        def clear(belief: Belief, _steps: int) -> bool:
            hand = belief.hand(self.arm)
            washer = belief.truth.positions[scene.WASHER]
            counter = belief.truth.positions[scene.COUNTERTOP]
            front = washer[0] - scene.WASHER_HALF[0]
            beside_washer = hand[0] > front - 0.55 and hand[1] < washer[1] + 0.55
            over_counter = hand[1] > counter[1] - scene.COUNTER_HALF[1] - 0.10
            return not (beside_washer or over_counter)

        return Leg(
            skill="move to",
            posture=None,
            base=backwards,
            grip=grip,
            until=clear,
            via=True,
            speed=0.45,
        )

    def via(self, posture: Posture, point: tuple[float, float, float], grip: float) -> Leg:
        """Pass within 0.25 m of a base pose on the way, changing posture meanwhile."""
        target = np.array(point)
        return Leg(
            skill="move to",
            posture=posture,
            base=lambda _belief: target,
            grip=grip,
            until=lambda belief, _steps: _distance(belief, target) < 0.25,
            via=True,
        )

    def drive(
        self,
        posture: Posture,
        base: Target,
        grip: float,
        *,
        radius: float = 0.02,
        angle: float = 0.03,
        tolerance: float = 0.03,
    ) -> Leg:
        """Go to a base pose and take a posture, and be settled in both."""
        return Leg(
            skill="move to",
            posture=posture,
            base=base,
            grip=grip,
            until=self.settled(posture, self.arrived(base, radius, angle), tolerance),
        )


def backwards(belief: Belief) -> Float64Array:
    """Base target half a metre behind the robot."""
    x, y, yaw = belief.base
    return np.array([x - 0.5 * np.cos(yaw), y - 0.5 * np.sin(yaw), yaw])


def after(steps: int) -> Test:
    """A number of control steps."""
    return lambda _belief, spent: spent >= steps


def _distance(belief: Belief, target: Float64Array) -> float:
    return float(np.hypot(*(belief.base[:2] - target[:2])))
