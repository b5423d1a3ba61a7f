"""Recognises the twin's own instances in a scene that an instance file was loaded into.

A file's numbers pass through float32, and 25 physics steps of settling move a glove by a fraction
of a millimetre. From there on the twin is another one: of recorded expert episodes about one in
three fails when the start differs by 1e-7. So a scene that lies where the twin would lay it is
given the twin's own state, and replays are the twin's to the bit. Anything else, such as a robot
that kept the joints or the glove of the episode before, is left exactly as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from b1k_envs.base import Split
from b1k_envs.mujoco_twin.instances import Instance, make_instance
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.scene import SCENE
from omnigibson_double.world import TwinScene

_NEAR = 2e-3  # [m, rad]: more than settling moves, less than instances differ


@cache
def instances() -> tuple[tuple[Split, int, Instance], ...]:
    """Every numbered instance of the twin."""
    return tuple(
        (split, number, make_instance(SCENE, split, number))
        for split, count in SCENE.counts.items()
        for number in range(count)
    )


def settle_on_instance(scene: TwinScene) -> tuple[Split, int] | None:
    """Give the scene the twin's state if it is one of the twin's; say which."""
    for split, number in _at_this_start(scene, scene.joint_positions()[[0, 1, 5]]):
        before = scene.snapshot()
        washer_on, door = scene.states.toggle.on, scene.door_angle
        free = all(scene.held(arm) is None for arm in ("left", "right"))
        scene.take_instance(split, number)
        after = scene.snapshot()
        same = np.abs(before.physics - after.physics)[1 : 1 + scene.model.nq].max() < _NEAR
        if same and free and not washer_on and abs(door) < _NEAR and before.dust == after.dust:
            return split, number
        scene.restore(before)
    return None


def _at_this_start(scene: TwinScene, base: np.ndarray) -> Iterator[tuple[Split, int]]:
    washer = scene.model.body(layout.WASHER).pos[:2] - layout.WASHER_POS[:2]
    counter = scene.model.body(layout.COUNTERTOP).pos[:2] - layout.COUNTER_POS
    for split, number, instance in instances():
        offsets = (
            base - instance.start,
            washer - instance.shifts[layout.WASHER],
            counter - instance.shifts[layout.COUNTERTOP],
        )
        if all(np.abs(offset).max() < _NEAR for offset in offsets):
            yield split, number
