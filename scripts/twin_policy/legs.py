"""The course of task 31 as a row of legs, and the number in [0, 1] that says where on it one is.

The expert's stages, each with its legs, stand one behind the other, for the first and the second
glove apart. A progress is (leg + share of the leg) / `LEGS`. Where a hand closes or lets go, the
share is a clock, since no picture says for how long it has been doing so: it runs for `CLOCK_STEPS`
and then stays. In the other legs it is a half: with a clock there, a policy learns to slow down by
the time that has passed and not by the place it has come to, and stops wherever it is late.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.layout import GLOVES
from b1k_policies.expert.policy import ExpertMemory

_STAGES: tuple[tuple[tuple[str, ...], int], ...] = (
    (("open",), 8),
    (("fetch", GLOVES[0]), 5),
    (("place", GLOVES[0]), 8),
    (("fetch", GLOVES[1]), 5),
    (("place", GLOVES[1]), 8),
    (("close",), 5),
    (("press",), 4),
    (("rest",), 1),
)
FIRST_LEG: Mapping[tuple[str, ...], int] = MappingProxyType(
    {key: sum(n for _, n in _STAGES[:i]) for i, (key, _) in enumerate(_STAGES)}
)
"""Number of the first leg of each stage."""
LEGS = sum(n for _, n in _STAGES)
SECOND_GLOVE_FROM = FIRST_LEG["fetch", GLOVES[1]]
"""From this leg on the glove to be handled is the second."""
CLOCKED = frozenset(
    FIRST_LEG[key] + leg
    for key, legs in {
        ("open",): (4, 6),
        ("fetch", GLOVES[0]): (4,),
        ("fetch", GLOVES[1]): (4,),
        ("place", GLOVES[0]): (6,),
        ("place", GLOVES[1]): (6,),
        ("close",): (4,),
    }.items()
    for leg in legs
)
"""Legs in which a hand closes or lets go, or that end by the time."""
CLOCK_STEPS = 40
"""Control steps for which the clock of such a leg runs."""

SKILLS = (
    "attach", "chop", "close door", "close drawer", "close lid", "hand over", "hang", "hold",
    "ignite", "insert", "move to", "open door", "open drawer", "open lid", "pick up from",
    "place in", "place in next to", "place on", "place on next to", "place under", "pour", "press",
    "pull tray", "push to", "push tray", "release", "spray", "sweep off", "sweep surface",
    "tip over", "turn off switch", "turn on switch", "turn to", "wipe hard",
)  # fmt: skip
"""The 34 skills of the dataset's annotations, in the order of this policy's classifier."""


def leg_of(memory: ExpertMemory) -> tuple[int, int, int]:
    """Where the expert is: number of the leg, control steps spent in it, index of its skill."""
    assert memory.stage is not None
    key = memory.stage.key
    if key[0] == "put back":  # only after a door has swung shut before a carried glove
        key = ("fetch", key[1])
    last = len(memory.stage.legs) - 1
    leg = min(memory.leg, last)
    count = dict(_STAGES)[key]
    number = FIRST_LEG[key] + min(leg, count - 1)
    return number, memory.steps, SKILLS.index(memory.stage.legs[leg].skill)


def progress_of(
    leg: npt.NDArray[np.integer], steps: npt.NDArray[np.integer]
) -> npt.NDArray[np.float32]:
    """The progress, float32, of legs and the control steps spent in them."""
    share = np.where(np.isin(leg, [*CLOCKED]), np.minimum(steps / CLOCK_STEPS, 0.98), 0.5)
    return ((leg + share) / LEGS).astype(np.float32)
