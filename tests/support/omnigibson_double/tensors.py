"""Torch for the double, and the few conversions it needs. Only `omnigibson` packages import it."""

from __future__ import annotations

import importlib
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

torch: Any = importlib.import_module("torch")


def tensor(values: npt.ArrayLike) -> Any:
    """float32, as nearly everything OmniGibson hands out."""
    return torch.from_numpy(np.array(values, dtype=np.float32))


def numbers(values: Any) -> npt.NDArray[np.float64]:
    """Take what OmniGibson takes: a tensor, an array or a list."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, np.float64)


def quat_xyzw(rotation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Quaternion x, y, z, w of a rotation matrix."""
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, rotation.ravel())
    return quat[[1, 2, 3, 0]]


def quat_wxyz(quat: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The same numbers in MuJoCo's order, of unit length again after float32."""
    turned = np.asarray(quat, dtype=np.float64)[[3, 0, 1, 2]]
    return turned / np.linalg.norm(turned)


def yaw_of(quat: npt.ArrayLike) -> float:
    """Turn about z of a quaternion x, y, z, w [rad]."""
    x, y, z, w = np.asarray(quat, dtype=np.float64)
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


def pose(position: npt.NDArray[np.float64], rotation: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    """Position and quaternion x, y, z, w as tensors."""
    return tensor(position), tensor(quat_xyzw(rotation))
