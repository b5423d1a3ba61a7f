"""MuJoCo, imported only when something in it is first used: `from ...engine import mujoco`.

`import mujoco` takes a fifth of a second, and loads OpenGL where `MUJOCO_GL` is set. A command that
only lists tasks and instances or prints its help should not wait for that, nor fail over it. Every
module of this project that works with MuJoCo imports it from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mujoco as mujoco
else:

    class _FirstUse:
        """A stand-in for the module; each attribute is looked up there once and then kept."""

        def __getattr__(self, name: str) -> object:
            import mujoco

            value = getattr(mujoco, name)
            setattr(self, name, value)
            return value

    mujoco = _FirstUse()

GROUP_VISUAL, GROUP_ROBOT_COLLISION, GROUP_OBJECT_COLLISION = 2, 3, 4
"""Geom groups of the twin: geoms that are drawn, and geoms that collide and are not drawn."""
