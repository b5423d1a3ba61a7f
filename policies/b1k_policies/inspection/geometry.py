"""Checking that the poses and K as sent put things where they are in the pictures as sent.

Both grippers are projected into every picture twice: with the camera that really took it, and with
the pose and the K of the batch, read the way the model was trained to read them. That reading is
the only thing taken from the checkpoint's files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

import numpy as np

from b1k_envs.base import VIEWS, Float32Array, Float64Array, Observation, View
from b1k_envs.poses import rigid_inverse
from b1k_envs.r1pro import ARMS, CAMERAS, PROPRIO_LAYOUTS, Arm
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.fields import CameraAxes, Direction
from b1k_policies.xvla.batch import USD_TO_OPENCV, extrinsics, pose_as

AGREES_PX = 2.0
"""Distance below which a gripper counts as in place [px]; a stated K may be off by 0.1 px."""

_NEAR = 0.01
"""Points nearer to a camera's plane than this count as behind it: pixels mean nothing there [m]."""
_SAME_POSE = 1e-4
_SAME_K = 1e-3

Pixel = tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pinhole:
    """A pinhole camera with a pose.

    Attributes:
        base_to_camera: float64 [4, 4], OpenCV axes (+y down, looks along +z).
        k: float64 [3, 3] [px].
    """

    base_to_camera: Float64Array
    k: Float64Array

    def to_camera(self, points: Float64Array) -> Float64Array:
        """Transform points [N, 3] from the base frame to the camera's, float64 [N, 3] [m]."""
        moved: Float64Array = points @ self.base_to_camera[:3, :3].T + self.base_to_camera[:3, 3]
        return moved

    def pixel(self, point: Float64Array) -> Pixel | None:
        """Project a point [3] of the base frame into the picture [px]; None behind the camera."""
        x, y, z = self.to_camera(point[None])[0]
        if z < _NEAR:
            return None
        k = self.k
        return float(k[0, 0] * x / z + k[0, 2]), float(k[1, 1] * y / z + k[1, 2])


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """One gripper in one picture.

    Attributes:
        arm: The arm it belongs to.
        truly: Where it is [px of the picture as sent]; None if behind the camera.
        as_sent: Where pose and K as sent put it [px]; None if behind the camera.
        inside: Whether `truly` lies inside the picture.
    """

    arm: Arm
    truly: Pixel | None
    as_sent: Pixel | None
    inside: bool

    @property
    def distance(self) -> float | None:
        """Distance between the two places [px]; None if one is behind the camera."""
        if self.truly is None or self.as_sent is None:
            return None
        return float(np.hypot(self.truly[0] - self.as_sent[0], self.truly[1] - self.as_sent[1]))

    @property
    def agrees(self) -> bool:
        """Whether both places are the same, or both behind the camera."""
        if self.distance is None:
            return self.truly is None and self.as_sent is None
        return self.distance <= AGREES_PX


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenImage:
    """One picture of a batch, and the two cameras it may have.

    Attributes:
        index: Its place in the batch.
        view: The view it shows.
        size: Width and height as sent [px].
        pose_of: Whose pose its row of the extrinsics is, in words: its own view's name if all is
            well, None where no poses are sent.
        as_read: Whether pose and K are those that the contract of the reading would send.
        own: The camera that took it.
        sent: The camera that pose and K as sent describe; None where none are sent.
        sightings: Both grippers; empty where no poses are sent.
    """

    index: int
    view: View
    size: int
    pose_of: str | None
    as_read: bool
    own: Pinhole
    sent: Pinhole | None
    sightings: tuple[Sighting, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "image": self.index,
            "view": self.view,
            "size": self.size,
            "pose_of": self.pose_of,
            "as_read": self.as_read,
            "grippers": [
                {
                    "arm": s.arm,
                    "true_px": None if s.truly is None else list(s.truly),
                    "sent_px": None if s.as_sent is None else list(s.as_sent),
                    "distance_px": s.distance,
                    "in_front": s.truly is not None,
                    "inside": s.inside,
                    "agrees": s.agrees,
                }
                for s in self.sightings
            ],
        }


def gripper_positions(observation: Observation) -> dict[Arm, Float64Array]:
    """Return both tool centres in the base frame, float64 [3] each [m]."""
    layout = PROPRIO_LAYOUTS[observation.protocol]
    return {arm: observation.proprio[layout[f"eef_{arm}_pos"]].astype(np.float64) for arm in ARMS}


def see_images(
    observation: Observation,
    views: Sequence[View],
    size: int,
    poses: Float32Array | None,
    k: Float32Array | None,
    reading: EvalContract,
) -> tuple[SeenImage, ...]:
    """Compare what is sent with the cameras that took the pictures.

    Args:
        observation: The observation whose pictures are sent.
        views: The view that each picture shows.
        size: Width and height of the pictures as sent [px].
        poses: float32 [V, 4, 4], extrinsics as sent; None for none.
        k: float32 [V, 3, 3], intrinsics as sent; None for none.
        reading: The contract whose direction, axes and scaling of K the model reads by.
    """
    grippers = gripper_positions(observation)
    wanted = extrinsics(observation, reading) if reading.posed else None
    wanted_k = reading.intrinsics_matrices
    seen = []
    for index, view in enumerate(views):
        own = own_camera(observation, view, size)
        sent, pose_of, as_read = None, None, False
        if poses is not None and k is not None:
            # A K that the model reads unscaled is that of the native picture: scale it to compare.
            scale = 1.0 if reading.scale_intrinsics else size / CAMERAS[view].size
            sent = Pinhole(
                base_to_camera=_base_to_camera(poses[index], reading),
                k=k[index].astype(np.float64) * [[scale], [scale], [1.0]],
            )
            pose_of = whose_pose(poses[index], view, observation, reading)
            as_read = (
                wanted is not None
                and index < len(wanted)
                and np.allclose(poses[index], wanted[index], rtol=0, atol=_SAME_POSE)
                and np.allclose(k[index], wanted_k[index], rtol=0, atol=_SAME_K)
            )
        sightings = tuple(
            _sighting(arm, point, own, sent, size) for arm, point in grippers.items() if sent
        )
        seen.append(
            SeenImage(
                index=index, view=view, size=size, pose_of=pose_of, as_read=as_read, own=own,
                sent=sent, sightings=sightings,
            )
        )  # fmt: skip
    return tuple(seen)


def own_camera(observation: Observation, view: View, size: int) -> Pinhole:
    """Return the camera that took a view, for its picture resized to `size` [px]."""
    base_to_camera = USD_TO_OPENCV @ rigid_inverse(
        observation.camera_to_base[view].astype(np.float64)
    )
    k = CAMERAS[view].intrinsics * (size / CAMERAS[view].size)
    # K's last row does not scale with the picture.
    k[2, 2] = 1.0
    return Pinhole(base_to_camera=base_to_camera, k=k)


def whose_pose(
    sent: Float32Array, image: View, observation: Observation, reading: EvalContract
) -> str:
    """Say which camera's pose a matrix [4, 4] is, and how it is written if not as it is read."""
    # The expected convention and view come first: a pose that fits several ways is named by them.
    ways = list(product(get_args(Direction), get_args(CameraAxes)))
    ways.sort(key=lambda way: way != (reading.extrinsics_direction, reading.camera_axes))
    views = sorted(VIEWS, key=lambda view: view != image)
    for (direction, axes), view in product(ways, views):
        pose = pose_as(observation.camera_to_base[view], direction, axes)
        if np.abs(pose - sent).max() < _SAME_POSE:
            turned = f"as {direction}" if direction != reading.extrinsics_direction else ""
            flipped = f"with {axes} axes" if axes != reading.camera_axes else ""
            written = " ".join(filter(None, (turned, flipped)))
            return f"{view}, {written}" if written else view
    return "no camera of this observation"


def _sighting(arm: Arm, point: Float64Array, own: Pinhole, sent: Pinhole, size: int) -> Sighting:
    truly = own.pixel(point)
    inside = truly is not None and all(0 <= value < size for value in truly)
    return Sighting(arm=arm, truly=truly, as_sent=sent.pixel(point), inside=inside)


def _base_to_camera(sent: Float32Array, reading: EvalContract) -> Float64Array:
    pose = sent.astype(np.float64)
    if reading.extrinsics_direction == "camera_to_base":
        pose = rigid_inverse(pose)
    return USD_TO_OPENCV @ pose if reading.camera_axes == "usd" else pose
