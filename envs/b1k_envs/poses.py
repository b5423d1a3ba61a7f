"""Camera poses as matrices, computed in one place from the poses that the evaluator records.

Matrices are computed in double precision and rounded once, so that a policy gets the same bits
whether it runs beside the simulator or receives `cam_rel_poses` over a connection.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from b1k_envs.base import Float32Array, Float64Array, View
from b1k_envs.r1pro import CAM_REL_POSES_ORDER

_BLOCK = 7  # numbers of a camera: position 3, quaternion 4
_UNIT = 1e-3
"""How far a quaternion's length may be from 1, and a rotation from orthonormal; float32 leaves
1e-6."""


def rotation_matrix(quaternion: Float64Array) -> Float64Array:
    """Return the rotation matrix of a unit quaternion x, y, z, w, float64 [3, 3]."""
    x, y, z, w = (float(number) for number in quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def camera_matrices(recorded: Float32Array) -> MappingProxyType[View, Float32Array]:
    """Return the camera matrices of a recorded `cam_rel_poses`.

    Args:
        recorded: float32 [21], per camera position [m] and quaternion x, y, z, w, base frame, USD
            camera axes.

    Returns:
        For each view float32 [4, 4], camera to base, read-only; the rotation is NaN where the
        quaternion is not finite.

    Raises:
        ValueError: A quaternion is finite and not of length 1.
    """
    poses: dict[View, Float32Array] = {}
    for block, view in enumerate(CAM_REL_POSES_ORDER):
        # Double precision until the end: the result is rounded once, to the same bits everywhere.
        numbers = recorded[_BLOCK * block : _BLOCK * (block + 1)].astype(np.float64)
        length = float(np.sqrt(numbers[3:] @ numbers[3:]))
        # A NaN is passed on, as upstream does; any other length is an error.
        if abs(length - 1) > _UNIT and np.isfinite(length):
            raise ValueError(
                f"the pose of {view} has a quaternion of length {length:g}, expected 1: "
                f"{', '.join(f'{number:g}' for number in numbers[3:])} (x, y, z, w)"
            )
        pose = np.eye(4)
        pose[:3, :3] = rotation_matrix(numbers[3:] / length) if np.isfinite(length) else np.nan
        pose[:3, 3] = numbers[:3]
        matrix = pose.astype(np.float32)
        matrix.setflags(write=False)
        poses[view] = matrix
    return MappingProxyType(poses)


def are_rigid(poses: Float32Array) -> bool:
    """Whether matrices [N, 4, 4] of finite numbers are a rotation, a position, and 0 0 0 1 each."""
    with np.errstate(invalid="ignore", over="ignore"):
        turns = poses[:, :3, :3].astype(np.float64)
        product = turns @ np.swapaxes(turns, -1, -2)
        # A mirrored frame is orthonormal, too, and no camera has one.
        return bool(
            (np.abs(product - np.eye(3)) <= _UNIT).all()
            and (np.linalg.det(turns) > 0).all()
            and (poses[:, 3, :] == (0, 0, 0, 1)).all()
        )


def rigid_inverse(pose: Float64Array) -> Float64Array:
    """Return the inverse of a rigid pose [4, 4], float64: its rotation is transposed."""
    inverse = np.eye(4)
    inverse[:3, :3] = pose[:3, :3].T
    inverse[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return inverse
