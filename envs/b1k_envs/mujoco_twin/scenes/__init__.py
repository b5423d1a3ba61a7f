"""The twin's rooms, one folder a task; a new one needs its folder and a name in `described`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from b1k_envs.mujoco_twin.scenes.base import Scene


def load_scene(task: str) -> Scene:
    """Import the scene of one of `TWIN_TASKS`."""
    scene: Scene = import_module(f"{__name__}.{task}.scene").SCENE
    return scene
