"""What is to be done next, and how far along the task is, from the state of the world alone."""

from __future__ import annotations

from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_envs.mujoco_twin.truth import TwinTruth
from b1k_policies.expert.belief import Belief
from b1k_policies.expert.glove_stages import DOOR_OPEN, fetch, place, put_back
from b1k_policies.expert.legs import OPEN, Leg, Moves, Stage
from b1k_policies.expert.washer_stages import SHUT, close_door, open_door, press_button

DOOR_WIDE_OPEN = 1.35
"""The drum can be reached past the leaf [rad]."""


def choose(truth: TwinTruth) -> tuple[str, ...]:
    """Key of the stage that the state of the world calls for."""
    if not any(truth.dusty.values()):
        return ("rest",)
    held = truth.held["left"]
    if held in scene.GLOVES:
        return ("place" if truth.door_angle > DOOR_OPEN else "put back", str(held))
    outside = [g for g in scene.GLOVES if truth.dusty[g] and not truth.in_washer[g]]
    if outside:
        return ("fetch", outside[0]) if truth.door_angle >= DOOR_WIDE_OPEN else ("open",)
    return ("close",) if truth.door_angle > SHUT else ("press",)


def build(key: tuple[str, ...], moves: Moves, belief: Belief, tries: int) -> Stage:
    """The stage for a key, from the situation at hand.

    Args:
        key: From `choose`.
        moves: Postures and pieces.
        belief: The situation.
        tries: How often the same stage has just failed; grasps vary a little with it.
    """
    if key[0] == "rest":
        return _rest(belief)
    about_washer = {"open": open_door, "close": close_door, "press": press_button}
    if key[0] in about_washer:
        return about_washer[key[0]](moves, belief, tries)
    about_glove = {"fetch": fetch, "place": place, "put back": put_back}
    return about_glove[key[0]](moves, belief, tries, key[1])


def _rest(belief: Belief) -> Stage:
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


def progress(truth: TwinTruth) -> float:
    """Share of the task that is done, in [0, 1], by rough human durations of its parts."""
    if not any(truth.dusty.values()):
        return 1.0
    inside = sum(truth.in_washer[g] or not truth.dusty[g] for g in scene.GLOVES)
    is_open = truth.door_angle > DOOR_OPEN
    if inside == len(scene.GLOVES):
        return 0.8 if is_open else 0.9
    held = truth.held["left"]
    carrying = held in scene.GLOVES and not truth.in_washer[str(held)]
    return 0.15 * is_open + 0.3 * inside + 0.12 * carrying
