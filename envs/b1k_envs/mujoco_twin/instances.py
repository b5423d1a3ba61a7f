"""Numbered initial states, reproducible from (task, split, index) alone on any machine.

They are drawn with Python's `random.Random` seeded by a string, whose `random()` is specified to
give the same sequence on every platform and version. Splits have different seeds because their
names are in the string. The order in which instances are asked for does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from b1k_envs.base import Split, View
from b1k_envs.errors import UsageError
from b1k_envs.mujoco_twin.scenes.base import Scene

# Half-widths of the uniform jitter; the scene has those of the start and the things.
_FURNITURE = 0.02  # x, y [m]
_LIGHT = 0.12  # relative brightness
_TINT = 0.06  # relative, per colour channel


@dataclass(frozen=True, kw_only=True)
class Mount:
    """How a camera is mounted otherwise than nominally, in its own nominal frame (USD axes).

    Attributes:
        shift: x, y, z [m].
        turn: Quaternion w, x, y, z.
    """

    shift: tuple[float, float, float]
    turn: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One initial state; poses are x, y [m] and yaw [rad] in the world frame.

    Attributes:
        start: Pose of the robot base.
        shifts: For each piece of furniture its offset from the nominal place, x, y [m].
        things: Pose of each free thing.
        light: Factor on every light's brightness.
        tints: Three factors (r, g, b) for each tinted material, in the scene's order.
        mounts: Cameras that are mounted otherwise than nominally; instances drawn here have none.
    """

    start: tuple[float, float, float]
    shifts: Mapping[str, tuple[float, float]]
    things: Mapping[str, tuple[float, float, float]]
    light: float
    tints: tuple[tuple[float, float, float], ...]
    mounts: Mapping[View, Mount] = field(default_factory=dict)


def check_instance(scene: Scene, split: Split, index: int) -> None:
    """Refuse an index outside the split.

    Raises:
        UsageError: The index is out of range; the text names the range.
    """
    count = scene.counts[split]
    if not 0 <= index < count:
        raise UsageError(f"instance {index} is out of range: {split} has instances 0-{count - 1}")


def make_instance(scene: Scene, split: Split, index: int) -> Instance:
    """Draw the instance; the same arguments give the same numbers everywhere.

    The tints are drawn last, so that adding a material changes no pose.

    Raises:
        UsageError: Index out of range.
    """
    check_instance(scene, split, index)
    random = Random(f"b1k-eval/{scene.task}/{split}/{index}")

    def jitter(half_width: float) -> float:
        return (2.0 * random.random() - 1.0) * half_width

    def three(half_widths: tuple[float, float, float]) -> tuple[float, float, float]:
        x, y, z = half_widths
        return jitter(x), jitter(y), jitter(z)

    # The order of the draws is part of an instance: another order would give other instances.
    start = three(scene.start_jitter)
    shifts = {name: (jitter(_FURNITURE), jitter(_FURNITURE)) for name in scene.furniture}
    things = {}
    for name, thing in scene.things.items():
        (x, y, yaw), (dx, dy) = thing.pose, shifts[thing.on]
        px, py, turn = three(thing.jitter)  # on top of the furniture's shift: it stands on that
        things[name] = (x + dx + px, y + dy + py, yaw + turn)
    light = 1.0 + jitter(_LIGHT)
    tints = tuple(
        (1.0 + jitter(_TINT), 1.0 + jitter(_TINT), 1.0 + jitter(_TINT)) for _ in scene.materials
    )
    return Instance(start=start, shifts=shifts, things=things, light=light, tints=tints)
