"""Numbered initial states, reproducible from (task, split, index) alone on any machine.

Drawn with Python's `random.Random` seeded by a string, whose `random()` is specified to give the
same sequence on every platform and version; splits have disjoint seeds by construction. Nothing
depends on the order in which instances are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from b1k_envs.base import Split
from b1k_envs.errors import UsageError
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene

INSTANCE_COUNTS: Mapping[Split, int] = MappingProxyType(
    {"train": 200, "public-test": 20, "hidden-test": 20}
)
TWIN_TASKS = ("clean_boxing_gloves",)
"""Tasks that have a twin scene."""

# Half-widths of the uniform jitter.
_START = (0.15, 0.25, 0.30)  # x, y [m], yaw [rad]
_GLOVE = (0.05, 0.06, 0.60)  # x, y [m], yaw [rad]
_FURNITURE = 0.02  # x, y [m]
_LIGHT = 0.12  # relative brightness
_TINT = 0.06  # relative, per colour channel


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One initial state; poses are x, y [m] and yaw [rad] in the world frame.

    Attributes:
        start: Robot base.
        gloves: Both gloves on the counter; yaw 0 points their knuckles along +x.
        washer_shift: Offset of the washer from its nominal place, x, y [m].
        dryer_shift: The same for the dryer.
        counter_shift: The same for the counter; the gloves move with it.
        light: Factor on every light's brightness.
        tints: Three factors (r, g, b) for each jittered material, in the looks' order.
    """

    start: tuple[float, float, float]
    gloves: tuple[tuple[float, float, float], tuple[float, float, float]]
    washer_shift: tuple[float, float]
    dryer_shift: tuple[float, float]
    counter_shift: tuple[float, float]
    light: float
    tints: tuple[tuple[float, float, float], ...]


def check_instance(split: Split, index: int) -> None:
    """Refuse an index outside the split.

    Raises:
        UsageError: Names the split's range.
    """
    count = INSTANCE_COUNTS[split]
    if not 0 <= index < count:
        raise UsageError(f"instance {index} is out of range: {split} has instances 0-{count - 1}")


def make_instance(task: str, split: Split, index: int, tint_count: int) -> Instance:
    """Draw the instance; the same arguments give the same numbers everywhere.

    Args:
        task: Task name.
        split: Which set.
        index: Number within the set.
        tint_count: How many material tints to draw; drawn last, so that adding a material
            changes no pose.

    Raises:
        UsageError: Index out of range.
    """
    check_instance(split, index)
    random = Random(f"b1k-eval/{task}/{split}/{index}")

    def jitter(half_width: float) -> float:
        return (2.0 * random.random() - 1.0) * half_width

    def shift() -> tuple[float, float]:
        return jitter(_FURNITURE), jitter(_FURNITURE)

    start = (jitter(_START[0]), jitter(_START[1]), jitter(_START[2]))
    washer, dryer, counter = shift(), shift(), shift()
    gloves = tuple(
        (
            x + counter[0] + jitter(_GLOVE[0]),
            y + counter[1] + jitter(_GLOVE[1]),
            scene.GLOVE_NOMINAL_YAW + jitter(_GLOVE[2]),
        )
        for x, y in scene.GLOVE_NOMINAL
    )
    return Instance(
        start=start,
        gloves=(gloves[0], gloves[1]),
        washer_shift=washer,
        dryer_shift=dryer,
        counter_shift=counter,
        light=1.0 + jitter(_LIGHT),
        tints=tuple(
            (1.0 + jitter(_TINT), 1.0 + jitter(_TINT), 1.0 + jitter(_TINT))
            for _ in range(tint_count)
        ),
    )
