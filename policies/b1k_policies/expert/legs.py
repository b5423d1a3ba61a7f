"""The expert's building blocks: postures, legs and stages, and helpers that make legs.

A leg moves the base towards a pose that is computed from where things are *now*, moves trunk and
arm towards a posture, and ends on a condition. The holonomic base does the reaching, with the arm
held in a posture, which keeps the arm away from its joint limits. The robot passes via-points at
speed and never stops at them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from b1k_envs import base, r1pro
from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.robot.grasping import GRASP_WINDOW_STEPS
from b1k_policies.expert.belief import Belief, wrap
from b1k_policies.expert.kinematics import ArmKinematics

OPEN, CLOSED = r1pro.GRIPPER_OPEN, r1pro.GRIPPER_CLOSED

Target = Callable[[Any], Float64Array]
"""Computes a base pose x, y [m], yaw [rad] in the world from the task's own belief."""

Test = Callable[[Any, int], bool]
"""Says whether a leg is over, from the task's own belief and the steps spent in the leg."""


@dataclass(frozen=True, eq=False)
class Posture:
    """Joint positions of the trunk, float64 [4], and the left arm, float64 [7] [rad]."""

    trunk: Float64Array
    left: Float64Array

    def turned(self, yaw: float) -> Posture:
        """Return the posture with the upper body turned by the trunk's yaw joint [rad]."""
        return replace(self, trunk=self.trunk + np.array([0.0, 0.0, 0.0, yaw]))


@dataclass(frozen=True, eq=False, kw_only=True)
class Leg:
    """One piece of motion.

    Attributes:
        skill: The skill that this piece shows, in the dataset's words.
        posture: Goal of trunk and arm; None keeps the last command.
        base: Goal of the base.
        grip: Left gripper command in [-1, 1].
        until: Condition that ends the leg.
        via: Pass the base target at speed instead of stopping there.
        speed: Limit of the base speed [m/s].
        patience: Control steps after which the leg has failed and a stage is chosen anew.
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
        key: Its purpose, e.g. ("fetch", "boxing_glove_1").
        legs: The legs in order.
        valid: Says whether the stage still makes sense, from the truth and the present leg's index.
    """

    key: tuple[str, ...]
    legs: tuple[Leg, ...]
    valid: Callable[[Any, int], bool]


class TaskExpert(Protocol):
    """What the expert knows of one task; the module of the task's name makes one."""

    def believe(self, truth: Any, velocity: Float64Array) -> Belief:  # noqa: ANN401 - its own truth
        """Return the belief to plan from; the base velocity is the previous prediction's."""

    def choose(self, truth: Any) -> tuple[str, ...]:  # noqa: ANN401
        """Return the key of the stage that the state of the world calls for."""

    def build(self, key: tuple[str, ...], belief: Any, tries: int) -> Stage:  # noqa: ANN401
        """Build the stage for a key; `tries` is how often the same stage has just failed."""

    def progress(self, truth: Any) -> float:  # noqa: ANN401
        """Return the share of the task that is done, in [0, 1]."""


class Moves:
    """The pieces from which stages are built, for one arm and one grasp window."""

    def __init__(self, arm: ArmKinematics, protocol: base.ProtocolYear) -> None:
        self.arm = arm
        # The window begins only when both fingers touch, hence the steps on top of it.
        self.grasp_patience = GRASP_WINDOW_STEPS[protocol] + 40

    # --- conditions -------------------------------------------------------------------------

    def arrived(self, base: Target, radius: float = 0.012, angle: float = 0.03) -> Test:
        """Make the condition that the base is within a radius [m] and angle [rad] of its target."""

        def test(belief: Belief, steps: int) -> bool:
            target = base(belief)
            # Noise on the actions makes the base wander, so the tolerance grows with the steps.
            slack = min(1.0 + steps / 45.0, 2.2)
            turned = abs(wrap(belief.base[2] - target[2]))
            return _distance(belief, target) < radius * slack and turned < angle * slack

        return test

    def settled(self, posture: Posture, inner: Test, tolerance: float = 0.03) -> Test:
        """Make the condition that another one holds and trunk and arm are in a posture [rad]."""

        def test(belief: Belief, steps: int) -> bool:
            slack = tolerance + steps / 3000.0
            return (
                inner(belief, steps)
                and float(np.abs(belief.left - posture.left).max()) < slack
                and float(np.abs(belief.trunk - posture.trunk).max()) < slack
            )

        return test

    # --- legs -------------------------------------------------------------------------------

    def back_off(self, grip: float, clear: Test) -> Leg:
        """Drive backwards until the hand is clear of the thing it worked at."""
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
        """Pass within 0.25 m of a base pose without stopping, while the posture changes."""
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
        """Go to a base pose and a posture, and settle in both."""
        return Leg(
            skill="move to",
            posture=posture,
            base=base,
            grip=grip,
            until=self.settled(posture, self.arrived(base, radius, angle), tolerance),
        )


def rest(belief: Belief) -> Stage:
    """Stay in place: there is nothing left to do."""
    here = belief.base.copy()
    leg = Leg(
        skill="move to",
        posture=None,
        base=lambda _belief: here,
        grip=OPEN,
        until=lambda _belief, _steps: False,
        patience=10**9,
    )
    return Stage(key=("rest",), legs=(leg,), valid=lambda _truth, _leg: True)


def backwards(belief: Belief) -> Float64Array:
    """Return a base target half a metre behind the robot."""
    x, y, yaw = belief.base
    return np.array([x - 0.5 * np.cos(yaw), y - 0.5 * np.sin(yaw), yaw])


def after(steps: int) -> Test:
    """Make the condition that a number of control steps has passed in the leg."""
    return lambda _belief, spent: spent >= steps


def _distance(belief: Belief, target: Float64Array) -> float:
    return float(np.hypot(*(belief.base[:2] - target[:2])))
