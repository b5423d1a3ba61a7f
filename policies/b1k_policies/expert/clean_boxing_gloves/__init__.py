"""The expert for clean_boxing_gloves: decides what to do next from the state of the world alone."""

from __future__ import annotations

from b1k_envs.base import Float64Array, ProtocolYear
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.states import GloveTruth
from b1k_policies.expert.clean_boxing_gloves.belief import GloveBelief
from b1k_policies.expert.clean_boxing_gloves.gloves import DOOR_OPEN, fetch, place, put_back
from b1k_policies.expert.clean_boxing_gloves.moves import GloveMoves
from b1k_policies.expert.clean_boxing_gloves.washer import (
    SHUT,
    close_door,
    open_door,
    press_button,
)
from b1k_policies.expert.kinematics import ArmKinematics
from b1k_policies.expert.legs import Stage, rest

DOOR_WIDE_OPEN = 1.35
"""From this opening on the hand can reach the drum past the door [rad]."""


def make_expert(arm: ArmKinematics, protocol: ProtocolYear) -> GloveExpert:
    """Make the expert of this task for one episode."""
    return GloveExpert(arm, protocol)


class GloveExpert:
    """See the module header and `TaskExpert`."""

    def __init__(self, arm: ArmKinematics, protocol: ProtocolYear) -> None:
        self._moves = GloveMoves(arm, protocol)

    def believe(self, truth: GloveTruth, velocity: Float64Array) -> GloveBelief:
        """Return the belief to plan from."""
        return GloveBelief(
            truth=truth,
            base=truth.base,
            velocity=velocity,
            trunk=truth.trunk,
            left=truth.arms["left"],
            door_angle=truth.door_angle,
        )

    def choose(self, truth: GloveTruth) -> tuple[str, ...]:
        """Return the key of the stage that the state of the world calls for."""
        if not any(truth.dusty.values()):
            return ("rest",)
        held = truth.held["left"]
        # A glove in the hand comes first: it can go into the open drum or back, nothing else.
        if held in scene.GLOVES:
            return ("place" if truth.door_angle > DOOR_OPEN else "put back", str(held))
        outside = [g for g in scene.GLOVES if truth.dusty[g] and not truth.in_washer[g]]
        if outside:
            return ("fetch", outside[0]) if truth.door_angle >= DOOR_WIDE_OPEN else ("open",)
        return ("close",) if truth.door_angle > SHUT else ("press",)

    def build(self, key: tuple[str, ...], belief: GloveBelief, tries: int) -> Stage:
        """Build the stage for a key; grasps vary a little with the number of tries."""
        if key[0] == "rest":
            return rest(belief)
        about_washer = {"open": open_door, "close": close_door, "press": press_button}
        if key[0] in about_washer:
            return about_washer[key[0]](self._moves, belief, tries)
        about_glove = {"fetch": fetch, "place": place, "put back": put_back}
        return about_glove[key[0]](self._moves, belief, tries, key[1])

    def progress(self, truth: GloveTruth) -> float:
        """Return the share of the task that is done, weighted by rough human durations."""
        if not any(truth.dusty.values()):
            return 1.0
        inside = sum(truth.in_washer[g] or not truth.dusty[g] for g in scene.GLOVES)
        is_open = truth.door_angle > DOOR_OPEN
        if inside == len(scene.GLOVES):
            return 0.8 if is_open else 0.9
        held = truth.held["left"]
        carrying = held in scene.GLOVES and not truth.in_washer[str(held)]
        return 0.15 * is_open + 0.3 * inside + 0.12 * carrying
