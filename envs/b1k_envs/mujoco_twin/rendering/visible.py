"""What of a room is drawn, and in which order: without what cannot show, nearest first.

MuJoCo draws every geom of a scene, in the order of their bodies. The room's shell comes first, so
nearly all of it is drawn and then drawn over. On a CPU two thirds of a picture's cost are such
pixels and meshes outside the picture. Leaving out and reordering changes no picture, except where
two surfaces lie in exactly the same place: one pixel in 50 pictures of the twin's rooms.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.engine import GROUP_VISUAL, mujoco

_LAYERS = 6
"""Groups of geoms by distance; sorting each geom by itself gains nothing more."""

_OUT_OF_SIGHT = 5  # a geom group that no picture shows
_SHELL = ("room_wall_x0", "room_wall_y0", "room_wall_x1", "room_wall_y1", "room_ceiling")
_WALL_IN_REACH = 0.05
"""A camera that is nearer to a wall looks through it: it shows nothing nearer than 0.02 m along its
axis, which is 0.04 m in the corners of the widest picture [m]."""


class Scenery:
    """Fills a scene with what a camera sees.

    Args:
        model: The room.
        shadows: Whether geoms cast shadows, as then those outside the picture may show too.
    """

    def __init__(self, model: mujoco.MjModel, *, shadows: bool) -> None:
        self._model = model
        self._shadows = shadows
        self.scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 1)
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        # Reflections cost another pass.
        self.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[GROUP_VISUAL] = 1
        self._option.sitegroup[:] = 0
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._nothing = mujoco.MjvPerturb()
        self._shell = _shell(model)

    def look(self, data: mujoco.MjData, camera: str, aspect: float) -> mujoco.MjvScene:
        """Fill the scene with what a camera sees in a picture of this width by height.

        Args:
            data: State whose positions (`geom_xpos`, `cam_xpos`, ...) are current.
            camera: Name of a camera of the model.
            aspect: Width of the picture by its height.
        """
        model, scene = self._model, self.scene
        self._camera.fixedcamid = model.camera(camera).id
        low, high = self._shell
        position = data.cam_xpos[self._camera.fixedcamid]
        enclosed = (position > low).all() and (position < high).all()
        scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = not enclosed
        groups = model.geom_group
        kept = groups.copy()
        shown = np.flatnonzero(kept == GROUP_VISUAL)
        layers = [shown] if self._shadows else self._layers(data, shown, aspect)
        kinds = mujoco.mjtCatBit.mjCAT_STATIC | mujoco.mjtCatBit.mjCAT_DYNAMIC
        try:
            for number, layer in enumerate(layers):
                groups[:] = _OUT_OF_SIGHT
                groups[layer] = GROUP_VISUAL
                if number == 0:
                    mujoco.mjv_updateScene(
                        model, data, self._option, None, self._camera, kinds, scene
                    )
                else:
                    mujoco.mjv_addGeoms(model, data, self._option, self._nothing, kinds, scene)
        finally:
            groups[:] = kept
        return scene

    def _layers(
        self, data: mujoco.MjData, geoms: npt.NDArray[np.intp], aspect: float
    ) -> list[npt.NDArray[np.intp]]:
        """Return the geoms that reach into the picture, nearest first, in about equal parts."""
        model, camera = self._model, self._camera.fixedcamid
        up = np.tan(np.radians(model.cam_fovy[camera]) / 2)
        right = up * aspect
        # Outward normals of the picture's edges and of the plane of the camera, which looks
        # along -z; float64 [5, 3], world frame.
        normals = np.array([(1, 0, right), (-1, 0, right), (0, 1, up), (0, -1, up), (0, 0, 1)])
        outward = normals @ data.cam_xmat[camera].reshape(3, 3).T
        # Whole matrices at once: one product a geom takes five times as long.
        axes = data.geom_xmat[geoms].T.reshape(3, -1)  # (3, 3 n), columns are geoms' axes
        along = (outward @ axes).reshape(5, 3, -1)
        boxes = model.geom_aabb[geoms].T  # (6, n), centre and half sizes in the geom's frame
        away = outward @ (data.geom_xpos[geoms] - data.cam_xpos[camera]).T  # (5, n)
        away += np.einsum("kjn,jn->kn", along, boxes[:3])
        reach = np.einsum("kjn,jn->kn", np.abs(along), boxes[3:])
        seen = (away <= reach).all(axis=0)
        nearest_first = np.argsort(-away[4, seen], kind="stable")
        return np.array_split(geoms[seen][nearest_first], _LAYERS)


def _shell(model: mujoco.MjModel) -> tuple[Float64Array, Float64Array]:
    """Return two corners of the room, float64 [3] [m]; from between them no sky is seen."""
    ids = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, name) for name in _SHELL]
    if -1 in ids:
        return np.full(3, np.inf), np.full(3, -np.inf)  # nowhere
    x0, y0, x1, y1, top = model.geom_pos[ids]
    low, high = np.array((x0[0], y0[1], 0.0)), np.array((x1[0], y1[1], top[2]))
    return low + _WALL_IN_REACH, high - _WALL_IN_REACH
