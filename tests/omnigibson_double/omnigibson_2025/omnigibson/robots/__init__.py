"""Robots; importing the package sets the grasping macro's default."""

from omnigibson.macros import macros  # noqa: TID253
from omnigibson.robots import manipulation_robot  # noqa: TID253
from omnigibson_double import touch
from omnigibson_double.robot import R1Pro

__all__ = ["R1Pro", "macros", "manipulation_robot"]
touch.module(__name__)
