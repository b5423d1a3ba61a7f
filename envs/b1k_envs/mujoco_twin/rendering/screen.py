"""One OpenGL context that draws a model at any number of sizes, and reads the pictures.

`mujoco.Renderer` has one size, and a context of its own for it: meshes and textures are uploaded
again, which takes 0.3 s of a core each time. Here sizes share a context, and each has buffers that
fit it, because a buffer that is larger than the picture is cleared by drawing over it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float32Array, UInt8Array
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.rendering.gl import ensure_gl

_FAR_TOLERANCE = 1e-4  # relative to the far plane's distance, which empty pixels have
_BUFFERS = ("offFBO", "offColor", "offDepthStencil", "offFBO_r", "offColor_r", "offDepthStencil_r")
"""Fields of MjrContext that belong to one size."""


class Screen:
    """See the module header. Belongs to the thread that makes it.

    Raises:
        UnavailableError: No OpenGL here.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        ensure_gl()
        self._model = model
        self._gl: Any = mujoco.GLContext(1, 1)  # a surface nobody draws on: there are buffers
        self._gl.make_current()
        # The smallest font: nothing is written.
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._sizes: dict[tuple[int, int], Mapping[str, int]] = {}
        self._now: tuple[int, int] | None = None

    def colours(self, scene: mujoco.MjvScene, height: int, width: int) -> UInt8Array:
        """Draw a scene; uint8 [height, width, 3] RGB, new."""
        upside_down = np.empty((height, width, 3), np.uint8)
        self._draw(scene, upside_down, None)
        return np.ascontiguousarray(upside_down[::-1])

    def distances(self, scene: mujoco.MjvScene, height: int, width: int) -> Float32Array:
        """Draw the distances along the camera's axis; float32 [height, width] [m], new.

        They are inf where nothing is nearer than the far plane.
        """
        upside_down = np.empty((height, width), np.float32)
        with _Segments(scene):  # MuJoCo's own renderer does so too, for accuracy far away
            self._draw(scene, None, upside_down)
        near, far = (
            getattr(self._model.vis.map, plane) * self._model.stat.extent
            for plane in ("znear", "zfar")
        )
        # 1 at the near plane, 0 at the far one, linear in the reciprocal of the distance.
        nearness = upside_down[::-1].astype(np.float64)
        distance: Float32Array = (near * far / (near + nearness * (far - near))).astype(np.float32)
        distance[distance > far * (1.0 - _FAR_TOLERANCE)] = np.inf
        return distance

    def geoms(self, scene: mujoco.MjvScene, height: int, width: int) -> npt.NDArray[np.int32]:
        """Draw the ids of the geoms seen, int32 [height, width], -1 where there is none."""
        upside_down = np.empty((height, width, 3), np.uint8)
        with _Segments(scene):
            self._draw(scene, upside_down, None)
        drawn = upside_down[::-1].astype(np.int32) @ (
            1,
            1 << 8,
            1 << 16,
        )  # 0, or a geom's place + 1
        ids = [-1, *(geom.objid for geom in scene.geoms[: scene.ngeom])]
        found: npt.NDArray[np.int32] = np.array(ids, np.int32)[drawn]
        return found

    def close(self) -> None:
        """Free everything; safe to call twice."""
        gl, self._gl = self._gl, None
        if gl is None:
            return
        try:
            gl.make_current()
        except Exception:  # noqa: BLE001 - at the end of a process, when its display is gone
            return
        self._context.free()  # the buffers of other sizes go with the context
        gl.free()

    def _draw(
        self, scene: mujoco.MjvScene, rgb: UInt8Array | None, depth: Float32Array | None
    ) -> None:
        shape = (depth if rgb is None else rgb).shape  # type: ignore[union-attr]
        self._gl.make_current()
        self._take((shape[0], shape[1]))
        whole = mujoco.MjrRect(0, 0, shape[1], shape[0])
        mujoco.mjr_render(whole, scene, self._context)
        mujoco.mjr_readPixels(rgb, depth, whole, self._context)

    def _take(self, size: tuple[int, int]) -> None:
        """Switch to the buffers of a size, rows and columns [px], made at first use."""
        if size == self._now:
            return
        context = self._context
        context.offHeight, context.offWidth = 0, 0  # so that it does not find the size unchanged
        for name in _BUFFERS:
            setattr(context, name, self._sizes.get(size, {}).get(name, 0))
        if size not in self._sizes:
            mujoco.mjr_resizeOffscreen(size[1], size[0], context)
            if context.offSamples == 0:
                self._drop_stencil(size)
            self._sizes[size] = {name: getattr(context, name) for name in _BUFFERS}
        context.offHeight, context.offWidth = size
        mujoco.mjr_restoreBuffer(context)
        self._now = size

    def _drop_stencil(self, size: tuple[int, int]) -> None:
        """Take depth without stencil, which only reflections need: 4 % less on a CPU."""
        gl = importlib.import_module("OpenGL.GL")
        target, buffers = gl.GL_FRAMEBUFFER, gl.GL_RENDERBUFFER
        depth = self._context.offDepthStencil
        gl.glBindFramebuffer(target, self._context.offFBO)
        gl.glFramebufferRenderbuffer(target, gl.GL_DEPTH_STENCIL_ATTACHMENT, buffers, 0)
        gl.glBindRenderbuffer(buffers, depth)
        gl.glRenderbufferStorage(buffers, gl.GL_DEPTH_COMPONENT32F, size[1], size[0])
        gl.glFramebufferRenderbuffer(target, gl.GL_DEPTH_ATTACHMENT, buffers, depth)


class _Segments:
    """Flags of a scene under which each geom has one colour, its place in the scene."""

    def __init__(self, scene: mujoco.MjvScene) -> None:
        self._flags = scene.flags

    def __enter__(self) -> None:
        self._switch(True)

    def __exit__(self, *error: object) -> None:
        self._switch(False)

    def _switch(self, on: bool) -> None:
        for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
            self._flags[flag] = on
