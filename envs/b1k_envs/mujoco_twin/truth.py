"""The state of the twin that a scripted expert may read: a copy, taken at one instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from b1k_envs import r1pro
from b1k_envs.base import Float64Array


@dataclass(frozen=True, kw_only=True, eq=False)
class TwinTruth:
    """Privileged state; world frame, m, rad. A scene may add fields of its own.

    Attributes:
        step: Control steps since reset.
        base: x, y, yaw of the robot base, float64 [3].
        trunk: Joint positions, float64 [4].
        arms: Joint positions of each arm, float64 [7].
        positions: Position of each body in `Scene.watched`, float64 [3].
        rotations: Rotation matrix of each, body to world, float64 [3, 3].
        held: Body held by each arm, None if none.
    """

    step: int
    base: Float64Array
    trunk: Float64Array
    arms: Mapping[r1pro.Arm, Float64Array]
    positions: Mapping[str, Float64Array]
    rotations: Mapping[str, Float64Array]
    held: Mapping[r1pro.Arm, str | None]
