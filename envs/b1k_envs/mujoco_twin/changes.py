"""Changes of the twin's world away from the instances that it draws; each is nothing at 0.

What pictures show is changed in the `Instance`, so that the video's process shows it too; masses
and friction are fields of the compiled model.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from b1k_envs.base import View
from b1k_envs.mujoco_twin.engine import GROUP_OBJECT_COLLISION, mujoco
from b1k_envs.mujoco_twin.instances import Instance, Mount
from b1k_envs.mujoco_twin.scenes.base import Scene


@dataclass(frozen=True, kw_only=True)
class WorldChanges:
    """See the module header.

    Attributes:
        light: Every lamp's brightness times 1 + this.
        colours: Each material's channels times 1 - this to 1 + this, by the episode.
        start: The robot's start is 1 + this times as far from the nominal one.
        places: The things are 1 + this times as far from their nominal places, and turned so.
        friction: The things' sliding friction times 1 + this, whatever they touch.
        mass: The things' mass and inertia times 1 + this.
        camera_turn: By view, the camera's turn about an axis of the episode's [rad].
        camera_shift: By view, how far the camera is moved in a direction of the episode's [m].
    """

    light: float = 0.0
    colours: float = 0.0
    start: float = 0.0
    places: float = 0.0
    friction: float = 0.0
    mass: float = 0.0
    camera_turn: Mapping[View, float] = field(default_factory=dict)
    camera_shift: Mapping[View, float] = field(default_factory=dict)


NO_CHANGES = WorldChanges()


def changed_instance(
    scene: Scene, instance: Instance, changes: WorldChanges, seed: int
) -> Instance:
    """Return the instance with these changes; `seed` is the episode's."""
    if changes == NO_CHANGES:
        return instance
    further = 1.0 + changes.places
    things = {}
    for name, pose in instance.things.items():
        thing = scene.things[name]
        nominal = np.array(thing.pose)
        nominal[:2] += instance.shifts[thing.on]  # it stands on that
        x, y, yaw = (nominal + further * (np.array(pose) - nominal)).tolist()
        things[name] = (x, y, yaw)
    x, y, yaw = ((1.0 + changes.start) * coordinate for coordinate in instance.start)
    spread = changes.colours * _draws(seed, "colours").uniform(-1, 1, (len(instance.tints), 3))
    return replace(
        instance,
        start=(x, y, yaw),
        things=things,
        light=instance.light * (1.0 + changes.light),
        tints=tuple(map(tuple, (np.array(instance.tints) * (1.0 + spread)).tolist())),
        mounts={
            view: _mount(view, changes, seed)
            for view in dict.fromkeys((*changes.camera_turn, *changes.camera_shift))
        },
    )


def weigh(model: mujoco.MjModel, scene: Scene, changes: WorldChanges) -> None:
    """Change masses and friction in a compiled model, once."""
    bodies = [model.body(name).id for name in scene.things]
    if changes.mass:
        model.body_mass[bodies] *= 1.0 + changes.mass
        model.body_inertia[bodies] *= 1.0 + changes.mass
        mujoco.mj_setConst(model, mujoco.MjData(model))  # what is derived from the masses
    if changes.friction:
        geoms = np.isin(model.geom_bodyid, bodies) & (model.geom_group == GROUP_OBJECT_COLLISION)
        model.geom_friction[geoms, 0] *= 1.0 + changes.friction
        # Of two geoms that touch the larger friction counts, unless one has a higher priority.
        model.geom_priority[geoms] = 1


def _draws(seed: int, what: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(what.encode())])


def _mount(view: View, changes: WorldChanges, seed: int) -> Mount:
    drawn = _draws(seed, f"camera {view}").standard_normal((2, 3))
    axis, way = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    half = changes.camera_turn.get(view, 0.0) / 2.0
    dx, dy, dz = (changes.camera_shift.get(view, 0.0) * way).tolist()
    qw, (qx, qy, qz) = float(np.cos(half)), (np.sin(half) * axis).tolist()
    return Mount(shift=(dx, dy, dz), turn=(qw, qx, qy, qz))
