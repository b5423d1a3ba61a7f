"""Reading camera poses as the evaluator records them, and checking matrices."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from b1k_envs.base import Float32Array, View
from b1k_envs.poses import camera_matrices
from b1k_policies.remote.wire.limits import WireError

_UNIT = 1e-3
"""How far a rotation may be from orthonormal; float32 rounding leaves 1e-6."""


def camera_poses(recorded: Float32Array) -> MappingProxyType[View, Float32Array]:
    """Return the matrices of a received `cam_rel_poses`; see `b1k_envs.poses.camera_matrices`.

    Raises:
        WireError: A quaternion is finite and its length is not 1.
    """
    try:
        return camera_matrices(recorded)
    except ValueError as error:
        raise WireError(str(error)) from error


def check_rigid(poses: Float32Array) -> None:
    """Check that matrices are poses; one with a number that is not finite is not checked.

    Args:
        poses: float32 [N, 4, 4].

    Raises:
        WireError: A matrix does not consist of a rotation, a position, and 0 0 0 1.
    """
    finite = poses[np.isfinite(poses).all(axis=(1, 2))]
    with np.errstate(invalid="ignore", over="ignore"):
        turns = finite[:, :3, :3].astype(np.float64)
        product = turns @ np.swapaxes(turns, -1, -2)
        rigid = (
            (np.abs(product - np.eye(3)) <= _UNIT).all()
            and (np.linalg.det(turns) > 0).all()
            and (finite[:, 3, :] == (0, 0, 0, 1)).all()
        )
    if not rigid:
        raise WireError("a pose must be a rotation, a position, and 0 0 0 1")
