"""ToggledOn: a switch that a finger flips by touching it for five control steps.

A step counts when a finger link is in contact with the object and some finger reaches into the
sphere at the object's toggle marker. Wrist and palm do not count.

Source: BEHAVIOR-1K, OmniGibson/omnigibson/object_states/toggle.py (ToggledOn).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.shapes import BodyShapes

TOGGLE_STEPS = 5
"""Consecutive control steps of touch that flip a toggle."""

_FAR = 0.2  # a finger whose origin is farther away cannot touch the marker [m]


class Toggle:
    """A button that flips once per touch of exactly `TOGGLE_STEPS` steps.

    One step without touch resets the count; holding longer does nothing more. While the owner is
    open the value is forced off and the count to zero (`requires_closed`).
    """

    def __init__(self) -> None:
        self.on = False
        self._touched_steps = 0

    def reset(self) -> None:
        """Set the toggle off and untouched."""
        self.on = False
        self._touched_steps = 0

    def update(self, *, touched: bool, owner_open: bool = False) -> None:
        """Advance by one control step."""
        if owner_open:
            self.reset()
            return
        self._touched_steps = self._touched_steps + 1 if touched else 0
        if self._touched_steps == TOGGLE_STEPS:  # not >=: a longer touch must not flip it again
            self.on = not self.on


class ToggleMarker:
    """The sphere at the toggle of one object."""

    def __init__(
        self,
        model: mujoco.MjModel,
        owner: tuple[str, ...],
        carrier: str,
        centre: tuple[float, float, float],
        radius: float,
    ) -> None:
        """Find the bodies.

        Args:
            model: The compiled twin.
            owner: All bodies of the object.
            carrier: The body that the marker moves with.
            centre: Centre of the sphere in that body's frame [m].
            radius: Radius of the sphere [m].
        """
        self._model, self._centre, self._radius = model, centre, radius
        self._owner = {model.body(name).id for name in owner}
        self._carrier = model.body(carrier).id

    def touched(self, data: mujoco.MjData, fingers: Mapping[int, BodyShapes]) -> bool:
        """Return whether this step counts; `fingers` has the finger links' bodies and shapes."""
        # Cheapest test first: at most steps no finger is near, and nothing else is computed.
        carrier = data.xpos[self._carrier]
        if all(_distance(data.xpos[finger], carrier) > _FAR for finger in fingers):
            return False
        # Contact anywhere on the object counts, and reaching the sphere need not be the same
        # finger's, as upstream.
        if not data.ncon:
            return False
        pairs = self._model.geom_bodyid[data.contact.geom].tolist()
        owner = self._owner
        if not any(
            (a in fingers and b in owner) or (b in fingers and a in owner) for a, b in pairs
        ):
            return False
        centre = carrier + data.xmat[self._carrier].reshape(3, 3) @ self._centre
        return any(self._reaches(data, shapes, centre) for shapes in fingers.values())

    def _reaches(self, data: mujoco.MjData, finger: BodyShapes, centre: Float64Array) -> bool:
        for geom in finger.geoms:
            local = data.geom_xmat[geom].reshape(3, 3).T @ (centre - data.geom_xpos[geom])
            outside = np.maximum(np.abs(local) - self._model.geom_size[geom], 0.0)
            if np.linalg.norm(outside) <= self._radius:
                return True
        return False


def _distance(first: Float64Array, second: Float64Array) -> float:
    return math.dist(first.tolist(), second.tolist())
