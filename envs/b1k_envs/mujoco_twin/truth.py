"""What the scripted expert may read of the twin: a copy, taken at one instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from b1k_envs import r1pro
from b1k_envs.base import Float64Array


@dataclass(frozen=True, kw_only=True, eq=False)
class TwinTruth:
    """Privileged state; world frame, m, rad.

    Attributes:
        step: Control steps since reset.
        base: x, y, yaw of the robot base, float64 [3].
        trunk: Joint positions, float64 [4].
        arms: Joint positions per arm, float64 [7].
        positions: Position of each body of interest, float64 [3].
        rotations: Rotation matrix of each, float64 [3, 3].
        held: Body held by each arm, None if none.
        door_angle: Opening of the washer door [rad].
        washer_on: ToggledOn of the washer.
        dusty: Per glove body, whether any dust is left.
        in_washer: Per glove body, whether it is Inside the washer.
    """

    step: int
    base: Float64Array
    trunk: Float64Array
    arms: Mapping[r1pro.Arm, Float64Array]
    positions: Mapping[str, Float64Array]
    rotations: Mapping[str, Float64Array]
    held: Mapping[r1pro.Arm, str | None]
    door_angle: float
    washer_on: bool
    dusty: Mapping[str, bool]
    in_washer: Mapping[str, bool]
