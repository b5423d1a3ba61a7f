"""The three robot cameras: pictures and depth at native resolution, and the cameras' poses.

A MuJoCo camera has USD/OpenGL axes (+x right, +y up, looking along -z). The evaluator records poses
with the same axes, so no axis is turned here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_envs import r1pro
from b1k_envs.base import VIEWS, Float32Array, UInt8Array, View
from b1k_envs.mujoco_twin.engine import GROUP_VISUAL, mujoco
from b1k_envs.mujoco_twin.model import RenderQuality
from b1k_envs.mujoco_twin.rendering.gl import ensure_gl
from b1k_envs.mujoco_twin.robot.body import BASE_BODY

_FAR_TOLERANCE = 1e-4  # relative to the far plane's distance, which empty pixels have


class CameraRig:
    """Renders the cameras of one model. A rig belongs to the thread that first renders with it."""

    def __init__(self, model: mujoco.MjModel, quality: RenderQuality = "fast") -> None:
        self._model = model
        self._quality = quality
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[GROUP_VISUAL] = 1
        self._option.sitegroup[:] = 0

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
        renderer = self._renderer(height, width)
        renderer.update_scene(data, camera, self._option)
        picture: UInt8Array = renderer.render()
        picture.setflags(write=False)
        return picture

    def depth(self, data: mujoco.MjData, camera: str, height: int, width: int) -> Float32Array:
        """Render the distance along a camera's axis; arguments and errors as of `render`.

        Returns:
            float32 [height, width] [m], inf where nothing is nearer than the far plane, a new
            read-only array.
        """
        renderer = self._renderer(height, width)
        renderer.enable_depth_rendering()
        try:
            renderer.update_scene(data, camera, self._option)
            distance: Float32Array = renderer.render()
        finally:
            renderer.disable_depth_rendering()
        # MuJoCo gives its clipping planes as multiples of the model's extent.
        far = self._model.vis.map.zfar * self._model.stat.extent
        distance[distance > far * (1.0 - _FAR_TOLERANCE)] = np.inf
        distance.setflags(write=False)
        return distance

    def segment(
        self, data: mujoco.MjData, camera: str, height: int, width: int
    ) -> npt.NDArray[np.int32]:
        """Render the geom ids that a camera sees, int32 [height, width], -1 where there is none."""
        renderer = self._renderer(height, width)
        renderer.enable_segmentation_rendering()
        try:
            renderer.update_scene(data, camera, self._option)
            return np.asarray(renderer.render()[:, :, 0], dtype=np.int32)
        finally:
            renderer.disable_segmentation_rendering()

    def _renderer(self, height: int, width: int) -> mujoco.Renderer:
        renderer = self._renderers.get((height, width))
        if renderer is None:
            ensure_gl()
            renderer = mujoco.Renderer(self._model, height, width)
            # On a CPU a prototype's head picture took 15-17 ms without shadows and 45-50 ms with
            # them, so they are a choice. Reflections cost another render pass and are off.
            shadows = self._quality == "high"
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
            self._renderers[height, width] = renderer
        return renderer

    def close(self) -> None:
        """Free the GL contexts; must run on the rendering thread."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()


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
    return {
        view: rig.render(data, view, r1pro.CAMERAS[view].size, r1pro.CAMERAS[view].size)
        for view in VIEWS
    }


def native_depth(rig: CameraRig, data: mujoco.MjData) -> dict[View, Float32Array]:
    """Render the depth of all three views at their native resolution, float32 [size, size] [m]."""
    return {
        view: rig.depth(data, view, r1pro.CAMERAS[view].size, r1pro.CAMERAS[view].size)
        for view in VIEWS
    }
