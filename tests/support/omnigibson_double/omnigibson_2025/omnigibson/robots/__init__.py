"""Robots; importing the package sets the grasping macro's default."""

from omnigibson_double import touch
from omnigibson_double.robot import R1Pro

from omnigibson.macros import macros  # noqa: TID253
from omnigibson.robots import manipulation_robot  # noqa: TID253

__all__ = ["R1Pro", "macros", "manipulation_robot"]
touch.module(__name__)
