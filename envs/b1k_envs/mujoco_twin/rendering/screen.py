"""One OpenGL context that draws a model at any number of sizes, and reads the pictures.

`mujoco.Renderer` has one size, and a context of its own for it: meshes and textures are uploaded
again, which takes 0.3 s of a core each time. Here sizes share a context, and each has buffers that
fit it, because a buffer that is larger than the picture is cleared by drawing over it.

Pictures are drawn and read in two calls, as reading waits: a CPU rasterizer with a thread of its
own works on one picture while the meshes of the next are prepared.
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
_FIELDS = ("offFBO", "offColor", "offDepthStencil", "offFBO_r", "offColor_r", "offDepthStencil_r")
"""Fields of MjrContext that name the buffers it draws on."""

_Buffers = tuple[int, int, int]  # rows, columns, place


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
        self._made: dict[_Buffers, Mapping[str, int]] = {}
        self._now: _Buffers | None = None

    def draw(self, scene: mujoco.MjvScene, height: int, width: int, place: int = 0) -> None:
        """Draw a scene without waiting for the picture, which `colours` then reads.

        Args:
            scene: Free to be filled again at once.
            height: Rows [px].
            width: Columns [px].
            place: Pictures of one size that are drawn before the first is read have different ones.
        """
        self._gl.make_current()
        self._take((height, width, place))
        mujoco.mjr_render(mujoco.MjrRect(0, 0, width, height), scene, self._context)

    def colours(self, height: int, width: int, place: int = 0) -> UInt8Array:
        """Read what was drawn, uint8 [height, width, 3] RGB, new; arguments as of `draw`."""
        upside_down = np.empty((height, width, 3), np.uint8)
        self._read((height, width, place), upside_down, None)
        return np.ascontiguousarray(upside_down[::-1])

    def distances(self, scene: mujoco.MjvScene, height: int, width: int) -> Float32Array:
        """Draw the distances along the camera's axis; float32 [height, width] [m], new.

        They are inf where nothing is nearer than the far plane.
        """
        upside_down = np.empty((height, width), np.float32)
        with _Segments(scene):  # MuJoCo's own renderer does so too, for accuracy far away
            self.draw(scene, height, width)
            self._read((height, width, 0), None, upside_down)
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
            self.draw(scene, height, width)
            self._read((height, width, 0), upside_down, None)
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

    def _read(self, buffers: _Buffers, rgb: UInt8Array | None, depth: Float32Array | None) -> None:
        self._gl.make_current()
        self._take(buffers)
        whole = mujoco.MjrRect(0, 0, buffers[1], buffers[0])
        mujoco.mjr_readPixels(rgb, depth, whole, self._context)

    def _take(self, buffers: _Buffers) -> None:
        """Switch to some buffers, made at first use."""
        if buffers == self._now:
            return
        height, width, _ = buffers
        context = self._context
        context.offHeight, context.offWidth = 0, 0  # so that it does not find the size unchanged
        for name in _FIELDS:
            setattr(context, name, self._made.get(buffers, {}).get(name, 0))
        if buffers not in self._made:
            mujoco.mjr_resizeOffscreen(width, height, context)
            if context.offSamples == 0:
                self._drop_stencil(height, width)
            self._made[buffers] = {name: getattr(context, name) for name in _FIELDS}
        context.offHeight, context.offWidth = height, width
        mujoco.mjr_restoreBuffer(context)
        self._now = buffers

    def _drop_stencil(self, height: int, width: int) -> None:
        """Take depth without stencil, which only reflections need: 4 % less on a CPU."""
        gl = importlib.import_module("OpenGL.GL")
        target, buffers = gl.GL_FRAMEBUFFER, gl.GL_RENDERBUFFER
        depth = self._context.offDepthStencil
        gl.glBindFramebuffer(target, self._context.offFBO)
        gl.glFramebufferRenderbuffer(target, gl.GL_DEPTH_STENCIL_ATTACHMENT, buffers, 0)
        gl.glBindRenderbuffer(buffers, depth)
        gl.glRenderbufferStorage(buffers, gl.GL_DEPTH_COMPONENT32F, width, height)
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
