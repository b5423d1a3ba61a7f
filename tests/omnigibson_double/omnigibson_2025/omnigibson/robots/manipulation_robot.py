"""Where 2025 keeps its grasping macros."""

from omnigibson.macros import macros  # noqa: TID253
from omnigibson_double import touch
from omnigibson_double.robot import IsGraspingState

__all__ = ["IsGraspingState"]

macros.robots.manipulation_robot.GRASP_WINDOW = 3.0  # [s], before anybody sets 0.75
touch.module(__name__)
