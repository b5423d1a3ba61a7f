"""Camera poses as the evaluator records them, and as matrices."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float32Array, Float64Array, View
from b1k_envs.r1pro import CAM_REL_POSES_ORDER
from b1k_policies.wire.limits import WireError

_BLOCK = 7
_UNIT = 1e-3
"""How far a quaternion's length may be from 1, a rotation from orthonormal; float32 leaves 1e-6."""


def camera_poses(recorded: Float32Array) -> MappingProxyType[View, Float32Array]:
    """The matrices of `cam_rel_poses`.

    Computed in double precision, rounded once: whoever computes them so gets the same bits.

    Args:
        recorded: float32 [21], per camera position [m] and quaternion x, y, z, w, base frame, USD
            camera axes.

    Returns:
        Per view float32 [4, 4], camera to base, read-only.

    Raises:
        WireError: A quaternion is not of length 1.
    """
    poses: dict[View, Float32Array] = {}
    for block, view in enumerate(CAM_REL_POSES_ORDER):
        numbers = recorded[_BLOCK * block : _BLOCK * (block + 1)].astype(np.float64)
        length = float(np.sqrt(numbers[3:] @ numbers[3:]))
        if not abs(length - 1) <= _UNIT:
            raise WireError(
                f"the pose of {view} has a quaternion of length {length:g}, expected 1: "
                f"{', '.join(f'{number:g}' for number in numbers[3:])} (x, y, z, w)"
            )
        pose = np.eye(4)
        pose[:3, :3] = _rotation(numbers[3:] / length)
        pose[:3, 3] = numbers[:3]
        matrix = pose.astype(np.float32)
        matrix.setflags(write=False)
        poses[view] = matrix
    return MappingProxyType(poses)


def check_rigid(poses: Float32Array) -> None:
    """Hold matrices to what poses are.

    Args:
        poses: float32 [..., 4, 4].

    Raises:
        WireError: One is not a rotation, a position, and 0 0 0 1.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # not finite is not a rotation either
        turns = poses[..., :3, :3].astype(np.float64)
        product = turns @ np.swapaxes(turns, -1, -2)
        rigid = (
            np.isfinite(poses).all()
            and (np.abs(product - np.eye(3)) <= _UNIT).all()
            and (np.linalg.det(turns) > 0).all()
            and (poses[..., 3, :] == (0, 0, 0, 1)).all()
        )
    if not rigid:
        raise WireError("a pose must be a rotation, a position, and 0 0 0 1")


def _rotation(quaternion: npt.NDArray[np.float64]) -> Float64Array:
    """float64 [3, 3] of a unit quaternion x, y, z, w."""
    x, y, z, w = (float(number) for number in quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
