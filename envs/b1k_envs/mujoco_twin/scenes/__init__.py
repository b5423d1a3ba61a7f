"""The twin's rooms, one folder a task, and the files of their looks in `assets`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from b1k_envs.mujoco_twin.scenes.base import Scene


def load_scene(task: str) -> Scene:
    """Import the scene of one of `TWIN_TASKS`."""
    scene: Scene = import_module(f"{__name__}.{task}.scene").SCENE
    return scene
