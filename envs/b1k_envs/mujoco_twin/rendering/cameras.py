"""The three robot cameras: pictures and depth at native resolution, and the cameras' poses.

A MuJoCo camera has USD/OpenGL axes (+x right, +y up, looking along -z). The evaluator records poses
with the same axes, so no axis is turned here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from b1k_envs import r1pro
from b1k_envs.base import VIEWS, Float32Array, UInt8Array, View
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.model import RenderQuality
from b1k_envs.mujoco_twin.rendering.screen import Screen
from b1k_envs.mujoco_twin.rendering.visible import Scenery
from b1k_envs.mujoco_twin.robot.body import BASE_BODY

CameraName = TypeVar("CameraName", bound=str)


class CameraRig:
    """Renders the cameras of one model. A rig belongs to the thread that first renders with it."""

    def __init__(self, model: mujoco.MjModel, quality: RenderQuality = "fast") -> None:
        self._model = model
        self._quality = quality
        self._made: tuple[Scenery, Screen] | None = None

    def render(self, data: mujoco.MjData, camera: str, height: int, width: int) -> UInt8Array:
        """Render a camera from up-to-date kinematics.

        Args:
            data: State whose positions (`xpos`, `cam_xpos`, ...) are current.
            camera: Name of a camera of the model.
            height: Rows [px].
            width: Columns [px].

        Returns:
            uint8 [height, width, 3] RGB, a new read-only array.

        Raises:
            UnavailableError: No OpenGL here.
        """
        return self.render_all(data, {camera: (height, width)})[camera]

    def render_all(
        self, data: mujoco.MjData, sizes: Mapping[CameraName, tuple[int, int]]
    ) -> dict[CameraName, UInt8Array]:
        """Render several cameras, rows and columns [px] by name; pictures and errors as `render`.

        Every picture is drawn before the first is read, see `Screen`.
        """
        scenery, screen = self._ready()
        pictures: dict[CameraName, UInt8Array] = {}
        for place, (camera, (height, width)) in enumerate(sizes.items()):
            screen.draw(scenery.look(data, camera, width / height), height, width, place)
        for place, (camera, (height, width)) in enumerate(sizes.items()):
            pictures[camera] = screen.colours(height, width, place)
            pictures[camera].setflags(write=False)
        return pictures

    def depth(self, data: mujoco.MjData, camera: str, height: int, width: int) -> Float32Array:
        """Render the distance along a camera's axis; arguments and errors as of `render`.

        Returns:
            float32 [height, width] [m], inf where nothing is nearer than the far plane, a new
            read-only array.
        """
        scenery, screen = self._ready()
        distance = screen.distances(scenery.look(data, camera, width / height), height, width)
        distance.setflags(write=False)
        return distance

    def segment(
        self, data: mujoco.MjData, camera: str, height: int, width: int
    ) -> npt.NDArray[np.int32]:
        """Render the geom ids that a camera sees, int32 [height, width], -1 where there is none."""
        scenery, screen = self._ready()
        return screen.geoms(scenery.look(data, camera, width / height), height, width)

    def _ready(self) -> tuple[Scenery, Screen]:
        if self._made is None:
            screen = Screen(self._model)
            # On a CPU a prototype's head picture took 15-17 ms without shadows and 45-50 ms with
            # them, so they are a choice.
            self._made = Scenery(self._model, shadows=self._quality == "high"), screen
        return self._made

    def close(self) -> None:
        """Free the GL context; must run on the rendering thread."""
        made, self._made = self._made, None
        if made is not None:
            made[1].close()


def camera_to_base(model: mujoco.MjModel, data: mujoco.MjData, view: View) -> Float32Array:
    """Return a camera's pose in the base frame, float32 [4, 4], USD camera axes, read-only."""
    base, camera = model.body(BASE_BODY).id, model.camera(view).id
    base_rotation = data.xmat[base].reshape(3, 3)
    pose = np.eye(4)
    pose[:3, :3] = base_rotation.T @ data.cam_xmat[camera].reshape(3, 3)
    pose[:3, 3] = base_rotation.T @ (data.cam_xpos[camera] - data.xpos[base])
    result = pose.astype(np.float32)
    result.setflags(write=False)
    return result


def recorded_poses(poses: dict[View, Float32Array]) -> Float32Array:
    """Return the evaluator's `cam_rel_poses`, float32 [21]: position, quaternion xyzw per block."""
    blocks: list[npt.NDArray[np.floating[Any]]] = []
    for view in r1pro.CAM_REL_POSES_ORDER:
        quat = np.zeros(4)  # w, x, y, z
        mujoco.mju_mat2Quat(quat, poses[view][:3, :3].astype(np.float64).ravel())
        blocks += [poses[view][:3, 3], quat[[1, 2, 3, 0]]]
    result = np.concatenate(blocks).astype(np.float32)
    result.setflags(write=False)
    return result


def native_pictures(rig: CameraRig, data: mujoco.MjData) -> dict[View, UInt8Array]:
    """Render all three views at their native resolution, uint8 [size, size, 3] RGB."""
    return rig.render_all(data, {view: (r1pro.CAMERAS[view].size,) * 2 for view in VIEWS})


def native_depth(rig: CameraRig, data: mujoco.MjData) -> dict[View, Float32Array]:
    """Render the depth of all three views at their native resolution, float32 [size, size] [m]."""
    return {
        view: rig.depth(data, view, r1pro.CAMERAS[view].size, r1pro.CAMERAS[view].size)
        for view in VIEWS
    }
