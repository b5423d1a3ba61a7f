"""The expert for turning_on_radio: drives up to the button and pushes it with the closed fist."""

from __future__ import annotations

from functools import partial

import numpy as np

from b1k_envs.base import Float64Array, ProtocolYear
from b1k_envs.mujoco_twin.scenes.turning_on_radio import layout as scene
from b1k_envs.mujoco_twin.scenes.turning_on_radio.states import RadioTruth
from b1k_policies.expert.belief import Belief
from b1k_policies.expert.kinematics import ArmKinematics
from b1k_policies.expert.legs import CLOSED, Leg, Moves, Posture, Stage, rest

_PITCH = 0.3  # of the hand, below the horizon [rad]
_FINGERTIP = 0.023  # from the tool centre to the fingertips [m]
_CLEAR = 0.14  # a hand this far from the button is clear of the radio [m]

# From scripts/expert_postures.py, for the hand at (0.62, 0.22, 0.642) in the base frame [m].
_PRESS = Posture(
    np.array([1.3, -2.1, -0.95, 0.0]),
    np.array(
        [
            -0.19744208753297027,
            -0.02214925003342518,
            -0.09492004710423504,
            -1.3538102632383529,
            0.011630496627976172,
            0.13087426690469786,
            0.0982329298464003,
        ]
    ),
)


def make_expert(arm: ArmKinematics, protocol: ProtocolYear) -> RadioExpert:
    """Make the expert of this task for one episode."""
    return RadioExpert(arm, protocol)


class RadioExpert:
    """See the module header and `TaskExpert`."""

    def __init__(self, arm: ArmKinematics, protocol: ProtocolYear) -> None:
        self._moves = Moves(arm, protocol)

    def believe(self, truth: RadioTruth, velocity: Float64Array) -> Belief:
        """Return the belief to plan from; nothing but the robot moves in it."""
        return Belief(truth, truth.base, velocity, truth.trunk, truth.arms["left"])

    def choose(self, truth: RadioTruth) -> tuple[str, ...]:
        """Return the key of the stage: press until the radio is on, then rest."""
        return ("rest",) if truth.radio_on else ("press",)

    def build(self, key: tuple[str, ...], belief: Belief, tries: int) -> Stage:
        """Build the stage for a key."""
        return rest(belief) if key == ("rest",) else _press(self._moves, tries)

    def progress(self, truth: RadioTruth) -> float:
        """Return the share of the task that is done, weighted by rough human durations."""
        if truth.radio_on:
            return 1.0
        away = np.hypot(*(truth.positions[scene.BUTTON][:2] - truth.base[:2]))
        return 0.8 if away < 0.8 else 0.0


def _press(moves: Moves, tries: int) -> Stage:
    beyond = 0.010 + 0.004 * (tries % 3)  # past the button's face, deeper after a failed try [m]
    arm = moves.arm

    def tip_at(b: Belief, ahead: float) -> Float64Array:
        """Return the base pose with the fingertips `ahead` [m] past the button's face."""
        turn = b.truth.rotations[scene.BUTTON]
        yaw = float(np.arctan2(turn[1, 0], turn[0, 0]))
        face = b.truth.positions[scene.BUTTON] + turn @ np.array(scene.BUTTON_FACE)
        along = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        reach = ahead - _FINGERTIP * np.cos(_PITCH)
        return b.base_with_hand_at(face + reach * along, yaw, arm)

    def before(b: Belief) -> Float64Array:
        return tip_at(b, -0.12)

    def onto(b: Belief) -> Float64Array:
        return tip_at(b, beyond)

    def clear(b: Belief, _steps: int) -> bool:
        away = b.hand(arm)[:2] - b.truth.positions[scene.BUTTON][:2]
        return float(np.hypot(*away)) > _CLEAR

    doing = partial(Leg, skill="turn on switch", posture=_PRESS, grip=CLOSED)
    legs = (
        moves.back_off(CLOSED, clear),
        moves.drive(_PRESS, before, CLOSED, radius=0.008, angle=0.02),
        doing(base=onto, until=lambda b, _n: b.truth.radio_on, speed=0.12, patience=120),
        doing(base=before, until=moves.arrived(before, 0.03), speed=0.2),
    )
    return Stage(key=("press",), legs=legs, valid=lambda _truth, _leg: True)
