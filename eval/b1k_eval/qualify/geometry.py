"""Testing whether pictures moved as a camera did, by points that stand still in the world.

Points are tracked through the pictures. The path of a point that stands still follows from the
cameras' poses and its position, of which only the distance is unknown. So each track is compared
with a series of poses at its best distance, and a series is right if many tracks agree with it to a
fraction of a pixel. Points on the robot agree with no series. Near walls, texture and the depth of
the scene do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from b1k_envs.base import Float64Array, UInt8Array

AGREES_PX = 1.0
"""Largest root mean square distance of a track from its predicted path, at native size [px]."""

_MOST_CORNERS = 500
_INVERSE_DISTANCES = np.concatenate([[0.0], np.geomspace(0.05, 10.0, 40)])  # [1/m]; 0: far away
_FINE = np.linspace(0.0, 1.0, 17)
_OPENCV = np.diag([1.0, -1.0, -1.0])  # USD camera axes to OpenCV's and back
_RETURNS_PX = 0.3


def track_points(pictures: Sequence[UInt8Array]) -> Float64Array:
    """Follow corners of the first picture through all of them.

    Args:
        pictures: uint8 [H, W, 3] each, of one camera, in order.

    Returns:
        float64 [N, T, 2], x and y [px] with pixel centres at half-integers; only those corners that
        are found again in every picture, forwards and backwards.
    """
    import cv2

    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    here: Any = cv2.goodFeaturesToTrack(grey[0], _MOST_CORNERS, 0.003, 5)
    if here is None:
        return np.zeros((0, len(grey), 2))
    found = np.ones(len(here), dtype=bool)
    path = [here[:, 0]]
    for before, after in pairwise(grey):
        there, forth = _follow(before, after, here)
        again, back = _follow(after, before, there)
        # A point that does not come back to where it was has slid to another one.
        found &= forth & back
        found &= np.abs(again - here).max(axis=(1, 2)) < _RETURNS_PX
        here = there
        path.append(here[:, 0])
    tracks: Float64Array = np.stack(path, axis=1)[found].astype(np.float64) + 0.5
    return tracks


def _follow(before: Any, after: Any, points: Any) -> tuple[Any, Any]:  # noqa: ANN401 - cv2's
    """Find points of one picture in another: float32 [N, 1, 2], and which were found."""
    import cv2

    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, points.copy(), winSize=(21, 21), maxLevel=3
    )
    return there, found[:, 0] == 1


def travelled(tracks: Float64Array) -> Float64Array:
    """Return how far each track went from its start, the larger of both axes, float64 [N] [px]."""
    farthest: Float64Array = np.abs(tracks - tracks[:, :1]).max(axis=(1, 2), initial=0.0)
    return farthest


def misses(
    tracks: Float64Array, cameras: Sequence[Float64Array], intrinsics: Float64Array
) -> Float64Array:
    """Return the distances of tracks from the paths that a series of camera poses predicts.

    Args:
        tracks: float64 [N, T, 2] [px].
        cameras: T poses, camera to world, float64 [4, 4], USD axes [m].
        intrinsics: K of the pictures' size, float64 [3, 3], OpenCV axes [px].

    Returns:
        float64 [N], root mean square [px] at the best distance of each track; infinite where a
        point would be behind a camera at every distance.
    """
    first = cameras[0]
    ones = np.ones((len(tracks), 1))
    rays = np.concatenate([tracks[:, 0], ones], axis=1) @ np.linalg.inv(intrinsics).T
    rays = rays @ _OPENCV @ first[:3, :3].T  # (N, 3) in the world

    def squares(inverse: Float64Array) -> Float64Array:
        """Sum the squared misses at inverse distances [N or 1, D] [1/m]: float64 [N, D]."""
        total = np.zeros((len(tracks), inverse.shape[1]))
        for step, camera in enumerate(cameras[1:], start=1):
            shift = inverse[..., None] * (first[:3, 3] - camera[:3, 3])
            seen = (rays[:, None] + shift) @ camera[:3, :3] @ _OPENCV @ intrinsics.T  # (N, D, 3)
            # A point behind the camera has no pixel: its NaN becomes infinite below.
            depth = np.where(seen[..., 2] > 1e-6, seen[..., 2], np.nan)
            total += ((seen[..., :2] / depth[..., None] - tracks[:, step, None]) ** 2).sum(axis=-1)
        known: Float64Array = np.nan_to_num(total, nan=np.inf)
        return known

    # One table of distances for all tracks, then a finer one around the best of each.
    coarse = squares(_INVERSE_DISTANCES[None])
    best = np.clip(coarse.argmin(axis=1), 1, len(_INVERSE_DISTANCES) - 2)
    low, high = _INVERSE_DISTANCES[best - 1], _INVERSE_DISTANCES[best + 1]
    fine = squares(low[:, None] + (high - low)[:, None] * _FINE)
    result: Float64Array = np.sqrt(fine.min(axis=1, initial=np.inf) / (len(cameras) - 1))
    return result
