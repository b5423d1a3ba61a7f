"""The extent of a body's collision shapes: their world-aligned box, and points on their surface."""

from __future__ import annotations

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.mujoco_twin.engine import mujoco


class BodyShapes:
    """The colliding boxes, ellipsoids and capsules of one body.

    The half extent of a turned shape along a world axis is a sum of three terms, each zero for the
    kinds that lack it: |R| b for straight parts (a box's half sizes, a capsule's axis), |R e| for
    an ellipsoid's radii, and a capsule's radius.
    """

    def __init__(self, model: mujoco.MjModel, body: int) -> None:
        """Read the shapes.

        Raises:
            ValueError: A shape is of another kind, or a visual geom stands between the shapes.
        """
        start = int(model.body_geomadr[body])
        end = start + int(model.body_geomnum[body])
        geoms = [geom for geom in range(start, end) if model.geom_contype[geom]]
        # One block, so that `box_centre` reads a slice of MuJoCo's arrays.
        if geoms != list(range(geoms[0], geoms[-1] + 1)):
            raise ValueError(f"the collision shapes of body {body} do not lie in one block")
        self.geoms = range(geoms[0], geoms[-1] + 1)
        self._block = slice(geoms[0], geoms[-1] + 1)  # a view costs a third of a gathered copy
        self._straight = np.zeros((len(geoms), 3, 1))
        self._squared_radii = np.zeros((len(geoms), 3, 1))
        self._radius = np.zeros((len(geoms), 1))
        for row, geom in enumerate(geoms):
            kind, size = model.geom_type[geom], model.geom_size[geom]
            if kind == mujoco.mjtGeom.mjGEOM_BOX:
                self._straight[row, :, 0] = size
            elif kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
                self._squared_radii[row, :, 0] = size**2
            elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
                self._straight[row, 2, 0], self._radius[row] = size[1], size[0]
            else:
                raise ValueError(f"geom {model.geom(geom).name} is no box, ellipsoid or capsule")
        self.surface = np.vstack([_surface_points(model, geom) for geom in geoms])
        """Points on the shapes, float64 [26 n, 3], in the body's frame [m]."""
        self.centre_bound = self._bound_centre(model)
        """The box's centre is never farther than this from the body's origin [m]."""

    def _bound_centre(self, model: mujoco.MjModel) -> float:
        """Return a bound on the centre's distance, from the extent along many directions [m].

        Along a world axis the centre is half of (reach ahead - reach behind). Turning the body in
        every way is the same as taking that over all directions. Three axes make the root of 3;
        4 mm of slack are added for the directions between those tried.
        """
        geoms = list(self.geoms)
        rotation = np.zeros((len(geoms), 3, 3))
        for row, geom in enumerate(geoms):
            flat = np.zeros(9)
            mujoco.mju_quat2Mat(flat, model.geom_quat[geom])
            rotation[row] = flat.reshape(3, 3)
        count = np.arange(2000) + 0.5  # a Fibonacci sphere: neighbours are 0.05 rad apart
        polar, turn = np.arccos(1 - count / 1000), np.pi * (1 + 5**0.5) * count
        ways = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)])
        in_shape = np.swapaxes(rotation, 1, 2) @ ways  # (n, 3, 2000)
        reach = np.sum(np.abs(in_shape) * self._straight, axis=1)
        reach += np.sqrt(np.sum(np.square(in_shape) * self._squared_radii, axis=1)) + self._radius
        middle = model.geom_pos[geoms] @ ways
        offset = ((middle + reach).max(axis=0) + (middle - reach).min(axis=0)) / 2
        return float(np.sqrt(3.0) * np.abs(offset).max() + 0.004)

    def box_centre(self, data: mujoco.MjData) -> Float64Array:
        """Return the centre of the world-aligned box around the shapes, float64 [3] [m]."""
        rotation = data.geom_xmat[self._block].reshape(-1, 3, 3)
        half = (np.abs(rotation) @ self._straight)[:, :, 0]
        half += np.sqrt(np.square(rotation) @ self._squared_radii)[:, :, 0]
        half += self._radius
        position = data.geom_xpos[self._block]
        centre: Float64Array = ((position - half).min(axis=0) + (position + half).max(axis=0)) / 2
        return centre


def _surface_points(model: mujoco.MjModel, geom: int) -> Float64Array:
    """Return points of a shape's surface in 26 directions, float64 [26, 3], body frame [m]."""
    grid = np.stack(np.meshgrid(*[(-1.0, 0.0, 1.0)] * 3), axis=-1).reshape(-1, 3)
    signs = grid[np.abs(grid).any(axis=1)]
    kind, size = model.geom_type[geom], model.geom_size[geom]
    around = signs / np.linalg.norm(signs, axis=1, keepdims=True)
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        points = signs * size
    elif kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
        points = around * size
    else:
        points = around * size[0] + np.outer(np.sign(signs[:, 2]), (0.0, 0.0, size[1]))
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
    result: Float64Array = points @ rotation.reshape(3, 3).T + model.geom_pos[geom]
    return result
