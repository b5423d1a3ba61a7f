"""Postures of the left arm for this task, and how the robot leaves washer and counter.

A hand that carries a glove points down by 0.45 rad, the same for picking and placing. Above each
posture stand the hand's position in the base frame [m] and its pitch [rad], for which
`scripts/expert_postures.py` found the joints.
"""

from __future__ import annotations

import numpy as np

from b1k_envs import r1pro
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_policies.expert.clean_boxing_gloves.belief import GloveBelief
from b1k_policies.expert.legs import Leg, Moves, Posture

# Trunk postures [rad]: the hand's workspace is a shell around the shoulder, so the trunk carries
# the shoulder to about 0.4 m above the work: drum 0.45 m, button 0.83 m, counter 0.95 m.
_LOW = np.array([1.5, -2.5, -1.3, 0.0])
_HALF_LOW = np.array([1.3, -2.1, -0.95, 0.0])
_MIDDLE = r1pro.RESET_JOINT_POSITION[6:10]
_HIGH = np.array([0.45, -0.4, 0.0, 0.0])
_LEANING = np.array([0.6, -0.4, -0.3, 0.0])


class GloveMoves(Moves):
    """See the module header."""

    # (0.60, 0.25, 0.45), pitch 0
    handle = Posture(
        _LOW,
        np.array(
            [
                -0.29734125387956695,
                0.0192915091428852,
                -0.05370520673431567,
                -0.9169001500186365,
                0.024172611496718826,
                -0.6569498025520575,
                0.03895773814873455,
            ]
        ),
    )
    # (0.70, 0.24, 0.955), pitch 0.45
    pick = Posture(
        _HIGH,
        np.array(
            [
                -0.5013420506338796,
                -0.006848545155357178,
                -0.04629176959994081,
                -0.8084570717210933,
                0.03234946099111237,
                0.13855109597485957,
                0.038529588689348734,
            ]
        ),
    )
    # (0.95, 0.24, 0.955), pitch 0.45
    pick_far = Posture(
        _LEANING,
        np.array(
            [
                -0.8426278590798437,
                0.0025258592208600343,
                -0.05206915711667168,
                -1.299062889051601,
                0.04472819304018784,
                0.519460828875006,
                0.0569490894218525,
            ]
        ),
    )
    # (0.70, 0.24, 1.07), pitch 0.45
    lift = Posture(
        _HIGH,
        np.array(
            [
                -0.46900280610127554,
                0.002466165994086837,
                -0.05182202265405841,
                -1.3084947374295937,
                0.0500233085133892,
                0.6051426027721092,
                0.06002854661373908,
            ]
        ),
    )
    # (0.64, 0.24, 0.475), pitch 0.45
    insert = Posture(
        _LOW,
        np.array(
            [
                -0.33245778677696336,
                0.012637847288568729,
                -0.06529149160504938,
                -1.3778895119166585,
                0.04321117014856773,
                0.2876654254686857,
                0.06423991598462016,
            ]
        ),
    )
    # (0.60, 0.25, 0.59), pitch 0
    push = Posture(
        _HALF_LOW,
        np.array(
            [
                -0.26315072295212055,
                0.014262926029054013,
                -0.04871188233858513,
                -0.7962977628697201,
                0.024931649734559743,
                -0.6614221862622642,
                0.03143870488426682,
            ]
        ),
    )
    # (0.62, 0.25, 0.83), pitch 0
    press = Posture(
        _MIDDLE,
        np.array(
            [
                -0.0760779595201111,
                0.03345887343107148,
                -0.06436847556977555,
                -1.2014593173161907,
                0.03752440333513933,
                -0.34005645096748466,
                0.05077272486811147,
            ]
        ),
    )

    def leave(self, grip: float) -> Leg:
        """Back away from the washer or the counter until the hand is clear of it."""

        def clear(belief: GloveBelief, _steps: int) -> bool:
            hand = belief.hand(self.arm)
            washer = belief.truth.positions[scene.WASHER]
            counter = belief.truth.positions[scene.COUNTERTOP]
            front = washer[0] - scene.WASHER_HALF[0]
            beside_washer = hand[0] > front - 0.55 and hand[1] < washer[1] + 0.55
            over_counter = hand[1] > counter[1] - scene.COUNTER_HALF[1] - 0.10
            return not (beside_washer or over_counter)

        return self.back_off(grip, clear)
