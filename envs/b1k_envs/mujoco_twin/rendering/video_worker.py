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

from b1k_envs.base import UInt8Array, View
from b1k_envs.errors import B1kEvalError
from b1k_envs.mujoco_twin.model import RenderQuality
from b1k_envs.mujoco_twin.rendering.studio import Shown, Studio

VIDEO_SIZE: Mapping[View, int] = MappingProxyType(
    {"head": 448, "left_wrist": 224, "right_wrist": 224}
)
"""Edge of each picture [px], as large as the video shows it."""

_PARENT_CHECK_S = 5.0


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
                studio.pose(shown)
                answer: dict[View, UInt8Array] | str = studio.render(VIDEO_SIZE)
            except B1kEvalError as error:
                answer = str(error)
            pipe.send(answer)
