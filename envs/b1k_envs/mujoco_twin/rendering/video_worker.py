"""The process that renders video tickets; `video_rig` starts it and talks to it.

It is a process and not a thread because all OpenGL contexts of a process share llvmpipe's
rasterizer threads: a picture for the video would delay the pictures that the policy is waiting for,
and no thread priority can change that.

It answers each state with three pictures, and ends when the other end is closed or gone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import NamedTuple

from b1k_envs.base import Float64Array, UInt8Array, View
from b1k_envs.errors import B1kEvalError
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.instances import Instance
from b1k_envs.mujoco_twin.model import Dresser, RenderQuality, build_model
from b1k_envs.mujoco_twin.rendering.cameras import CameraRig
from b1k_envs.mujoco_twin.scenes import load_scene

VIDEO_SIZE: Mapping[View, int] = MappingProxyType(
    {"head": 448, "left_wrist": 224, "right_wrist": 224}
)
"""Edge of each picture [px], as large as the video shows it."""

_PARENT_CHECK_S = 5.0


class Shown(NamedTuple):
    """Everything that a picture depends on.

    Attributes:
        instance: Furniture, colours, lights.
        look: Switches of the scene that are on.
        qpos: float64 [nq], the model's joint positions.
    """

    instance: Instance
    look: frozenset[str]
    qpos: Float64Array


class Studio:
    """A model and a GL context that render states sent by another process."""

    def __init__(self, task: str, quality: RenderQuality) -> None:
        scene = load_scene(task)
        self._model = build_model(scene, quality)
        self._data = mujoco.MjData(self._model)
        self._dresser = Dresser(self._model, scene)
        self._rig = CameraRig(self._model, quality)

    def render(self, shown: Shown) -> dict[View, UInt8Array]:
        """Render the three views of a state, uint8 [size, size, 3] RGB, sizes in `VIDEO_SIZE`.

        Raises:
            UnavailableError: No OpenGL here.
        """
        self._dresser.place(shown.instance)
        self._dresser.show(shown.look)
        self._data.qpos[:] = shown.qpos
        # Only the positions are needed for a picture: these three are far less than mj_forward.
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        return {
            view: self._rig.render(self._data, view, size, size)
            for view, size in VIDEO_SIZE.items()
        }

    def close(self) -> None:
        """Free the GL contexts."""
        self._rig.close()


def main(handle: int, task: str, quality: RenderQuality) -> None:
    """Answer each state with its pictures or an error's text, until the other end closes.

    Args:
        handle: File descriptor of this end of a socket pair.
        task: The task whose room is rendered.
        quality: As of `TwinEnv`.
    """
    parent = os.getppid()
    with Connection(handle) as pipe, contextlib.suppress(EOFError, OSError):
        studio = Studio(task, quality)
        while True:
            # A killed parent closes the pipe, unless another child was forked meanwhile and holds
            # the same descriptor. Hence the look at the parent's id.
            while not pipe.poll(_PARENT_CHECK_S):
                if os.getppid() != parent:
                    return
            shown: Shown = pipe.recv()
            try:
                answer: dict[View, UInt8Array] | str = studio.render(shown)
            except B1kEvalError as error:
                answer = str(error)
            pipe.send(answer)
