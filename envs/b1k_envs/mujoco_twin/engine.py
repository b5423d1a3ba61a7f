"""MuJoCo, imported at the first use of anything in it: `from ...engine import mujoco`.

`import mujoco` takes a fifth of a second, and loads OpenGL where `MUJOCO_GL` is set. Who only asks
which tasks and instances the twin has, or what an option means, need not wait for that, nor have it
fail. Every module of this project that works with MuJoCo takes it from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mujoco as mujoco
else:

    class _FirstUse:
        """Stands for the module; an attribute is looked up there once, then kept here."""

        def __getattr__(self, name: str) -> object:
            import mujoco

            value = getattr(mujoco, name)
            setattr(self, name, value)
            return value

    mujoco = _FirstUse()

GROUP_VISUAL, GROUP_ROBOT_COLLISION, GROUP_OBJECT_COLLISION = 2, 3, 4
"""Geom groups of the twin: what is drawn, and what collides without being drawn."""
