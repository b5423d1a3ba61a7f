"""Object states of the twin with OmniGibson's semantics, read through one function.

`TwinStates.holds` answers the predicates that goals and sub-goals ask for. It reads the
simulation and never changes it, except for the two pieces of state that are not physics: the dust
particles on each glove and the washer's toggle.

Source of the semantics: BEHAVIOR-1K, OmniGibson/omnigibson/object_states/ (covered.py,
open_state.py, inside.py, on_top.py, toggle.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from b1k_envs import r1pro
from b1k_envs.base import Float64Array
from b1k_envs.errors import EnvError
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.robot.body import BASE_BODY, GROUP_OBJECT_COLLISION
from b1k_envs.mujoco_twin.robot.grasping import AssistedGrasp
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.glove_looks import DUST_PARTICLES
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.rules import Toggle, WasherRule
from b1k_envs.mujoco_twin.shapes import BodyShapes

OPEN_FRACTION = 0.05
"""A joint is open beyond this fraction of its range."""

NEAR_DISTANCE = 0.80
"""`near`: the base's origin is within this of the object's footprint, horizontally [m]. Ours, for
sub-goals only; no official predicate says it."""

TOGGLE_RADIUS = 0.03
"""Sphere around the power button that a finger must reach into [m]."""

_FAR_FROM_BUTTON = 0.2  # [m]: no finger whose origin is this far away touches the button

AGENT, DUST, FLOOR = "agent.n.01_1", "dust.n.01_1", "floor.n.01_1"
_FOOTPRINT_HALF = {scene.WASHER: scene.WASHER_HALF, scene.COUNTERTOP: scene.COUNTER_HALF}
_OBJECT_RAYS = np.array([g == GROUP_OBJECT_COLLISION for g in range(6)], dtype=np.uint8)


class TwinStates:
    """States of one model; `update` must be called once per control step, after the physics."""

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        grasp: AssistedGrasp,
        dust_points: Mapping[str, Float64Array],
    ) -> None:
        """Bind to a model.

        Args:
            model: The compiled twin.
            data: Its state; read afresh at every question.
            grasp: Who holds what.
            dust_points: Per glove, float64 [DUST_PARTICLES, 3], particles in its frame [m].
        """
        self._model, self._data, self._grasp = model, data, grasp
        self._dust_points = dust_points
        self._bodies: dict[str, int] = {
            name: int(model.body(body).id) for name, body in scene.BDDL_BODIES.items()
        }
        self._gloves = {g: model.body(g).id for g in scene.GLOVES}
        self._base = model.body(BASE_BODY).id
        self._washer = model.body(scene.WASHER).id
        self._washer_parts = {
            model.body(b).id for b in (scene.WASHER, scene.WASHER_DOOR, scene.WASHER_BUTTON)
        }
        self._door = model.joint(scene.DOOR_JOINT)
        self._door_qpos = int(self._door.qposadr[0])
        self._button = model.body(scene.WASHER_BUTTON).id
        self._fingers = [
            model.body(f"{arm}_gripper_finger_link{i}").id for arm in r1pro.ARMS for i in (1, 2)
        ]
        self._shapes = {
            body: BodyShapes(model, body) for body in (*self._gloves.values(), *self._fingers)
        }
        self.toggle = Toggle()
        self._rule = WasherRule()
        self.dust_counts = dict.fromkeys(scene.GLOVES, DUST_PARTICLES)
        self._predicates: dict[str, Callable[..., bool]] = {
            "covered": self._covered,
            "open": self._open,
            "toggled_on": self._toggled_on,
            "inside": self._inside,
            "ontop": self._on_top,
            "grasped": self._grasped,
            "near": self._near,
        }

    # --- the reader's interface (goals.StateReader) -----------------------------------------

    def objects(self) -> Collection[str]:
        """BDDL instance names that the scene has."""
        return {*self._bodies, AGENT, DUST, FLOOR}

    def holds(self, predicate: str, *instances: str) -> bool:
        """Truth of a predicate of BDDL instances, now.

        Raises:
            EnvError: The twin has no such state.
        """
        evaluate = self._predicates.get(predicate)
        if evaluate is None:
            raise EnvError(
                f"the twin has no state '{predicate}'; it has {', '.join(self._predicates)}"
            )
        return evaluate(*instances)

    # --- time -------------------------------------------------------------------------------

    def reset(self) -> None:
        """All dust back on, washer off."""
        self.toggle.reset()
        self._rule.reset()
        self.dust_counts = dict.fromkeys(scene.GLOVES, DUST_PARTICLES)

    def update(self) -> None:
        """Advance toggle and washer rule by one control step."""
        is_open = self._open("washer.n.03_1")
        self.toggle.update(touched=not is_open and self._button_touched(), owner_open=is_open)
        for glove in self._rule.update(
            on=self.toggle.on,
            is_open=is_open,
            dust_in_drum=self._dust_in_drum,
            in_drum=self._gloves_in_drum,
        ):
            self.dust_counts[glove] = 0

    # --- figures ----------------------------------------------------------------------------

    @property
    def door_angle(self) -> float:
        """Opening angle of the washer door [rad]."""
        return float(self._data.qpos[self._door_qpos])

    def _depth_in_drum(self, point: Sequence[float]) -> float:
        """How far a world point, x, y, z [m], lies inside the drum; negative outside [m].

        The drum is the washer's fillable volume, a cylinder. The depth is the smallest of the
        distances to its wall and ends, so a point that moves by d changes it by d at most.
        """
        at = self._data.xpos[self._washer].tolist()
        turn = self._data.xmat[self._washer].tolist()  # rows of the washer-to-world rotation
        dx, dy, dz = point[0] - at[0], point[1] - at[1], point[2] - at[2]
        along = turn[0] * dx + turn[3] * dy + turn[6] * dz
        across = turn[1] * dx + turn[4] * dy + turn[7] * dz
        up = turn[2] * dx + turn[5] * dy + turn[8] * dz
        low, high = scene.DRUM_X
        to_wall = scene.DRUM_RADIUS - math.hypot(across, up - scene.DRUM_Z)
        return float(min(along - low, high - along, to_wall))

    def _within_drum(self, point: Sequence[float]) -> bool:
        return self._depth_in_drum(point) >= 0.0

    # --- predicates -------------------------------------------------------------------------

    def _body(self, instance: str) -> int:
        try:
            return self._bodies[instance]
        except KeyError:
            raise EnvError(f"{instance} is no body of this scene") from None

    def _covered(self, instance: str, system: str) -> bool:
        if system != DUST:
            raise EnvError(f"the twin has no particle system {system}; it has {DUST}")
        self._body(instance)
        return self.dust_counts.get(scene.BDDL_BODIES[instance], 0) >= 1

    def _open(self, instance: str) -> bool:
        if self._body(instance) != self._washer:
            raise EnvError(f"{instance} cannot be opened; washer.n.03_1 can")
        low, high = self._door.range
        return bool(self._data.qpos[self._door_qpos] > low + OPEN_FRACTION * (high - low))

    def _toggled_on(self, instance: str) -> bool:
        if self._body(instance) != self._washer:
            raise EnvError(f"{instance} cannot be toggled; washer.n.03_1 can")
        return self.toggle.on

    def _inside(self, instance: str, container: str) -> bool:
        # The drum is the washer's only fillable volume and lies within its bounding box.
        if self._body(container) != self._washer:
            return False
        body = self._body(instance)
        shapes = self._shapes.get(body)
        if shapes is None:
            return False  # furniture
        # Asked of both gloves at every step, and seldom close: the exact centre costs five times
        # as much as to see that it cannot matter.
        depth = self._depth_in_drum(self._data.xpos[body].tolist())
        if abs(depth) > shapes.centre_bound:
            return depth > 0.0
        return self._depth_in_drum(shapes.box_centre(self._data).tolist()) >= 0.0

    def _on_top(self, instance: str, support: str) -> bool:
        upper, lower = self._body(instance), self._body(support)
        touching = {upper, lower}
        if not any(
            {int(a), int(b)} == touching
            for a, b in self._model.geom_bodyid[self._data.contact.geom]
        ):
            return False
        centre = self._shapes[upper].box_centre(self._data)
        return self._ray_meets(centre, -1.0, upper, lower) and not self._ray_meets(
            centre, 1.0, upper, lower
        )

    def _ray_meets(self, start: Float64Array, up: float, skip: int, wanted: int) -> bool:
        hit = np.full(1, -1, dtype=np.int32)
        direction = np.array([0.0, 0.0, up])
        mujoco.mj_ray(self._model, self._data, start, direction, _OBJECT_RAYS, True, skip, hit)
        return hit[0] >= 0 and bool(self._model.geom_bodyid[hit[0]] == wanted)

    def _grasped(self, agent: str, instance: str) -> bool:
        _check_agent(agent)
        return self._grasp.holds(self._body(instance))

    def _near(self, agent: str, instance: str) -> bool:
        _check_agent(agent)
        body = self._body(instance)
        half = _FOOTPRINT_HALF.get(scene.BDDL_BODIES[instance], (0.0, 0.0))
        base, centre = self._data.xpos[self._base].tolist(), self._data.xpos[body].tolist()
        outside = (max(abs(base[i] - centre[i]) - half[i], 0.0) for i in (0, 1))
        return math.hypot(*outside) <= NEAR_DISTANCE

    # --- washer -----------------------------------------------------------------------------

    def _button_touched(self) -> bool:
        """A finger link is in contact with the washer and a finger reaches the button's sphere."""
        button = self._data.xpos[self._button]
        if all(_distance(self._data.xpos[f], button) > _FAR_FROM_BUTTON for f in self._fingers):
            return False
        if not self._data.ncon:
            return False
        pairs = self._model.geom_bodyid[self._data.contact.geom].tolist()
        fingers, parts = self._fingers, self._washer_parts
        if not any(
            (a in fingers and b in parts) or (b in fingers and a in parts) for a, b in pairs
        ):
            return False
        return any(self._reaches_button(body) for body in fingers)

    def _reaches_button(self, finger: int) -> bool:
        centre = self._data.xpos[self._button] + self._data.xmat[self._button].reshape(3, 3) @ (
            scene.BUTTON_FACE
        )
        for geom in self._shapes[finger].geoms:
            local = self._data.geom_xmat[geom].reshape(3, 3).T @ (
                centre - self._data.geom_xpos[geom]
            )
            outside = np.maximum(np.abs(local) - self._model.geom_size[geom], 0.0)
            if np.linalg.norm(outside) <= TOGGLE_RADIUS:
                return True
        return False

    def _dust_in_drum(self) -> bool:
        return any(
            self.dust_counts[glove] and any(map(self._within_drum, self._on_glove(glove)))
            for glove in self._gloves
        )

    def _gloves_in_drum(self) -> list[str]:
        inside = []
        for glove, body in self._gloves.items():
            rotation = self._data.xmat[body].reshape(3, 3)
            surface = self._data.xpos[body] + self._shapes[body].surface @ rotation.T
            if any(map(self._within_drum, surface)):
                inside.append(glove)
        return inside

    def _on_glove(self, glove: str) -> Float64Array:
        body = self._gloves[glove]
        points: Float64Array = (
            self._data.xpos[body] + self._dust_points[glove] @ self._data.xmat[body].reshape(3, 3).T
        )
        return points


def _check_agent(agent: str) -> None:
    if agent != AGENT:
        raise EnvError(f"{agent} is no agent of this scene; {AGENT} is")


def _distance(first: Float64Array, second: Float64Array) -> float:
    return math.dist(first.tolist(), second.tolist())
