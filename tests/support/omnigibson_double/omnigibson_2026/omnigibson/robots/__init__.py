"""Robots; importing the package sets the grasping macro's default."""

from omnigibson_double import touch

from omnigibson.robots import robot  # noqa: TID253
from omnigibson.robots.robot import Robot  # noqa: TID253

__all__ = ["Robot", "robot"]
touch.module(__name__)
