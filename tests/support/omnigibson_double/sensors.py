"""Robot cameras: sized at 1080, late by two renders, with OmniGibson's default lens."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from omnigibson_double.frames import Moment
from omnigibson_double.tensors import pose, tensor, torch
from omnigibson_double.touch import Touched, TouchedDict

if TYPE_CHECKING:
    from b1k_envs.base import View
    from omnigibson_double.scene import Scene

FOCAL_LENGTH = 17.0  # [mm]
DEFAULT_APERTURE = 20.995  # [mm]
RENDERS_AFTER_CHANGE = 4
MODALITIES = frozenset({"rgb", "depth_linear"})
STAMPED = "OMNIGIBSON_DOUBLE_STAMPED"
"""Variable: where it is set, pictures are cheap: the tick of the frame in red and green, the view
in blue. An env's start draws 40 otherwise, which takes over a second in software."""


class _CameraParameters(TouchedDict):
    owner = "camera_parameters"


class VisionSensor(Touched):
    """One camera of one robot."""

    def __init__(
        self, scene: Scene, name: str, view: View, *, height: int, width: int, modalities: set[str]
    ) -> None:
        unknown = modalities - MODALITIES
        if unknown:
            raise NotImplementedError(f"the double's cameras have no {sorted(unknown)}")
        self._scene, self._view = scene, view
        self.name = name
        self.modalities = modalities
        self._height, self._width = height, width
        self.focal_length = FOCAL_LENGTH
        self._aperture = DEFAULT_APERTURE
        self._has_parameters = False
        self._drawn: tuple[Moment, tuple[int, int], Any] | None = None
        self.horizontal_aperture = DEFAULT_APERTURE
        self._render(RENDERS_AFTER_CHANGE)

    # --- lens and size ----------------------------------------------------------------------

    @property
    def horizontal_aperture(self) -> float:
        return self._aperture

    @horizontal_aperture.setter
    def horizontal_aperture(self, length: float) -> None:
        self._aperture = float(length)
        if self._view != "head" and self._aperture == DEFAULT_APERTURE:
            return  # the twin's own lens, which differs from this one in the seventh digit
        model = self._scene.physics.model
        fovy = np.degrees(2 * np.arctan(self._aperture / 2 / self.focal_length))
        model.cam_fovy[model.camera(self._view).id] = fovy

    @property
    def image_height(self) -> int:
        return self._height

    @image_height.setter
    def image_height(self, height: int) -> None:
        self._height = int(height)
        self._render(RENDERS_AFTER_CHANGE)

    @property
    def image_width(self) -> int:
        return self._width

    @image_width.setter
    def image_width(self, width: int) -> None:
        self._width = int(width)
        self._render(RENDERS_AFTER_CHANGE)

    def _render(self, times: int) -> None:
        sim = importlib.import_module("omnigibson").sim
        for _ in range(times):
            sim.render()

    # --- what it gives ----------------------------------------------------------------------

    def get_obs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Whatever the last render left; uint8 [height, width, 4], float32 [height, width]."""
        obs = {"rgb": self._rgb()} if "rgb" in self.modalities else {}
        if "depth_linear" in self.modalities:
            obs["depth_linear"] = tensor(self._sized(self._shown().depth(self._view)))
        return obs, {}

    def _shown(self) -> Moment:
        sim = importlib.import_module("omnigibson").sim
        moment = sim.in_the_picture(self._scene.idx)
        assert moment is not None, "nothing has been rendered yet"
        return moment

    def _rgb(self) -> Any:
        moment, size = self._shown(), (self._height, self._width)
        if os.environ.get(STAMPED):
            # Pixels of four bytes at once; channel by channel it took 10 to 30 ms a picture.
            stamp = (moment.tick % 256, moment.tick // 256, len(self._view), 255)
            pixel = np.array(stamp, dtype=np.uint8).view(np.uint32)
            return torch.from_numpy(np.full(size, pixel).view(np.uint8).reshape(*size, 4))
        if self._drawn is None or self._drawn[0] is not moment or self._drawn[1] != size:
            rgba = np.full((*size, 4), 255, dtype=np.uint8)
            rgba[:, :, :3] = self._sized(moment.picture(self._view))
            self._drawn = (moment, size, torch.from_numpy(rgba))
        return self._drawn[2].clone()

    def _sized(self, picture: Any) -> Any:
        """A picture of native size as this camera has it."""
        size = (self._height, self._width)
        if picture.shape[:2] == size:
            return picture
        return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_NEAREST)

    @property
    def camera_parameters(self) -> dict[str, Any]:
        """Of the frame in the picture; all zeros at the first access, which renders 4 times."""
        if not self._has_parameters:
            self._has_parameters = True
            self._render(RENDERS_AFTER_CHANGE)
            return _CameraParameters(cameraViewTransform=np.zeros(16, dtype=np.float32))
        position, rotation = self._shown().camera_pose(self._view)
        camera_to_world = np.eye(4)
        camera_to_world[:3, :3] = rotation
        camera_to_world[:3, 3] = position + self._scene.physics.offset
        row_vectors = np.linalg.inv(camera_to_world).T  # USD: points are rows, times the matrix
        return _CameraParameters(
            cameraViewTransform=row_vectors.ravel().astype(np.float32),
            cameraFocalLength=self.focal_length,
            cameraAperture=tensor([self._aperture, self._aperture]),
            renderProductResolution=np.array([self._width, self._height], dtype=np.int32),
        )

    def get_position_orientation(self, frame: str = "world") -> tuple[Any, Any]:
        """Of the prim: now, whatever is in the picture."""
        position, rotation = self._scene.physics.camera_pose(self._view)
        return pose(self._scene.outward(position, frame), rotation)

    def add_modality(self, modality: str) -> None:
        if modality not in MODALITIES:
            raise NotImplementedError(f"the double's cameras have no {modality}")
        self.modalities.add(modality)

    def remove_modality(self, modality: str) -> None:
        self.modalities.discard(modality)
