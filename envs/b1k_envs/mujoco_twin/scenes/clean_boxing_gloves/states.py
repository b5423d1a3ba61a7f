"""States of the utility room: dust on the gloves, the washer's door, drum, button and rule.

Two of them are not physics: the dust particles on each glove and the washer's toggle.

Source of the semantics: BEHAVIOR-1K, OmniGibson/omnigibson/object_states/ (covered.py,
open_state.py, inside.py) and transition_rules.py (WasherRule).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.errors import EnvError
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.looks import ASSETS
from b1k_envs.mujoco_twin.robot.grasping import AssistedGrasp
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout as scene
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.rules import WasherRule
from b1k_envs.mujoco_twin.states import TwinStates
from b1k_envs.mujoco_twin.toggle import Toggle, ToggleMarker
from b1k_envs.mujoco_twin.truth import TwinTruth

OPEN_FRACTION = 0.05
"""A joint is open beyond this fraction of its range."""

TOGGLE_RADIUS = 0.03
"""Radius of the sphere around the power button that a finger must reach into [m]."""

DUST, WASHER = "dust.n.01_1", "washer.n.03_1"
RUNNING = "washer running"

DUST_PARTICLES = 20
"""Particles on each glove at the start, as in the public instances; `Covered` counts them."""

DUST_POINTS = ASSETS / "boxing_glove_dust.txt"
"""Where they lie on the glove whose thumb is at +y, x, y, z in its frame [m]."""

_FOOTPRINTS = {scene.WASHER: scene.WASHER_HALF[:2], scene.COUNTERTOP: scene.COUNTER_HALF}


def dusty(glove: str) -> str:
    """Return the name of the switch that shows a glove's dust."""
    return f"{glove} dusty"


@dataclass(frozen=True, kw_only=True, eq=False)
class GloveTruth(TwinTruth):
    """Privileged state of this room.

    Attributes:
        door_angle: Opening of the washer door [rad].
        washer_on: ToggledOn of the washer.
        dusty: For each glove body, whether any dust is left.
        in_washer: For each glove body, whether it is Inside the washer.
    """

    door_angle: float
    washer_on: bool
    dusty: Mapping[str, bool]
    in_washer: Mapping[str, bool]


class GloveStates(TwinStates):
    """See the module header."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, grasp: AssistedGrasp) -> None:
        """Bind to a model; see `TwinStates`."""
        super().__init__(
            model,
            data,
            grasp,
            bodies=scene.BDDL_BODIES,
            things=scene.GLOVES,
            footprints=_FOOTPRINTS,
            others=(DUST,),
            links={scene.WASHER: (scene.WASHER, scene.WASHER_DOOR, scene.WASHER_BUTTON)},
        )
        points = np.loadtxt(DUST_POINTS)
        self._dust_points = {
            glove: points * (1, scene.GLOVE_THUMB_SIDE[glove], 1) for glove in scene.GLOVES
        }
        self._gloves = {g: model.body(g).id for g in scene.GLOVES}
        self._washer = model.body(scene.WASHER).id
        self._door = model.joint(scene.DOOR_JOINT)
        self._door_qpos = int(self._door.qposadr[0])
        self._button = ToggleMarker(
            model,
            owner=(scene.WASHER, scene.WASHER_DOOR, scene.WASHER_BUTTON),
            carrier=scene.WASHER_BUTTON,
            centre=scene.BUTTON_FACE,
            radius=TOGGLE_RADIUS,
        )
        self.toggle = Toggle()
        self._rule = WasherRule()
        self.dust_counts = dict.fromkeys(scene.GLOVES, DUST_PARTICLES)
        self._predicates = {
            "covered": self._covered,
            "open": self._open,
            "toggled_on": self._toggled_on,
            "inside": self._inside,
            **self._predicates,
        }

    # --- time -------------------------------------------------------------------------------

    def reset(self) -> None:
        """Put all dust back on and switch the washer off."""
        self.toggle.reset()
        self._rule.reset()
        self.dust_counts = dict.fromkeys(scene.GLOVES, DUST_PARTICLES)

    def update(self) -> None:
        """Advance the toggle by one control step, then the washer rule, which reads it."""
        is_open = self._open(WASHER)
        self.toggle.update(
            touched=not is_open and self._button.touched(self._data, self._fingers),
            owner_open=is_open,
        )
        # Asked lazily: the rule looks into the drum only in the step in which the washer starts.
        for glove in self._rule.update(
            on=self.toggle.on,
            is_open=is_open,
            dust_in_drum=self._dust_in_drum,
            in_drum=self._gloves_in_drum,
        ):
            self.dust_counts[glove] = 0

    def look(self) -> frozenset[str]:
        """Return which switches are on: those of dusty gloves, and that of a running washer."""
        on = {dusty(glove) for glove, count in self.dust_counts.items() if count > 0}
        return frozenset(on | {RUNNING} if self.toggle.on else on)

    def truth(self, **common: Any) -> GloveTruth:  # noqa: ANN401 - see TwinStates
        """Return the truth of this room."""
        return GloveTruth(
            **common,
            door_angle=self.door_angle,
            washer_on=self.toggle.on,
            dusty={glove: count > 0 for glove, count in self.dust_counts.items()},
            in_washer={
                body: self._inside(name, WASHER)
                for name, body in scene.BDDL_BODIES.items()
                if body in scene.GLOVES
            },
        )

    # --- figures ----------------------------------------------------------------------------

    @property
    def door_angle(self) -> float:
        """Opening angle of the washer door [rad]."""
        return float(self._data.qpos[self._door_qpos])

    def _depth_in_drum(self, point: Sequence[float]) -> float:
        """Return how far a world point, x, y, z [m], lies inside the drum [m]; negative outside.

        The drum is the washer's fillable volume, a cylinder. The depth is the smallest of the
        distances to its wall and ends, so a point that moves by d changes it by d at most.
        """
        # Plain floats: for one point numpy's overhead would exceed the arithmetic.
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

    def _covered(self, instance: str, system: str) -> bool:
        if system != DUST:
            raise EnvError(f"the twin has no particle system {system}; it has {DUST}")
        self._body(instance)
        return self.dust_counts.get(self._names[instance], 0) >= 1

    def _open(self, instance: str) -> bool:
        self._check_door(instance)
        low, high = self._door.range
        return bool(self._data.qpos[self._door_qpos] > low + OPEN_FRACTION * (high - low))

    def open_fraction(self, instance: str) -> float:
        """See `ProgressReader.open_fraction`."""
        self._check_door(instance)
        low, high = map(float, self._door.range)
        return min(max((self.door_angle - low) / (high - low), 0.0), 1.0)

    def _check_door(self, instance: str) -> None:
        if self._body(instance) != self._washer:
            raise EnvError(f"{instance} cannot be opened; washer.n.03_1 can")

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
        # This is asked of both gloves at every step, and they are seldom close: the exact centre
        # costs five times as much as seeing that it cannot matter.
        depth = self._depth_in_drum(self._data.xpos[body].tolist())
        if abs(depth) > shapes.centre_bound:
            return depth > 0.0
        return self._depth_in_drum(shapes.box_centre(self._data).tolist()) >= 0.0

    # --- washer -----------------------------------------------------------------------------

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
