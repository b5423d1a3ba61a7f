"""Remembered moments of a scene, and the pictures that are drawn of them later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
import numpy.typing as npt

from b1k_envs import r1pro
from omnigibson_double.world import PLACED, Array, TwinScene


@dataclass(frozen=True, eq=False)
class Moment:
    """What a renderer needs of one instant; scene frame.

    `tick` counts the simulator steps of the scene since it was made.
    """

    scene: TwinScene
    tick: int
    qpos: Array
    model: Mapping[str, Array]
    look: frozenset[str]

    def picture(self, view: str) -> npt.NDArray[np.uint8]:
        """Render at the camera's native size: [size, size, 3] RGB."""
        size = r1pro.CAMERAS[view].size  # type: ignore[index]
        with self._posed() as data:
            return self.scene.env._rig.render(data, view, size, size)

    def depth(self, view: str) -> npt.NDArray[np.float32]:
        """The same of distances to the image plane: [size, size] [m], inf where nothing is."""
        size = r1pro.CAMERAS[view].size  # type: ignore[index]
        with self._posed() as data:
            return self.scene.env._rig.depth(data, view, size, size)

    def camera_pose(self, view: str) -> tuple[Array, Array]:
        """Position and rotation matrix of a camera, USD axes."""
        with self._posed() as data:
            camera = data.cam(view)
            return camera.xpos.copy(), camera.xmat.reshape(3, 3).copy()

    @contextlib.contextmanager
    def _posed(self) -> Iterator[mujoco.MjData]:
        scene, now = self.scene, moment_of(self.scene)
        data = mujoco.MjData(scene.model)
        scene.write_fields(self.model)
        scene.env._dresser.show(self.look)
        data.qpos[:] = self.qpos
        mujoco.mj_kinematics(scene.model, data)
        mujoco.mj_comPos(scene.model, data)
        mujoco.mj_camlight(scene.model, data)
        try:
            yield data
        finally:
            scene.write_fields(now.model)
            scene.env._dresser.show(now.look)


def moment_of(scene: TwinScene) -> Moment:
    """What the cameras would see now."""
    return Moment(
        scene=scene,
        tick=scene.tick,
        qpos=scene.data.qpos.copy(),
        model=scene.fields((*PLACED, "cam_fovy")),
        look=scene.states.look(),
    )
