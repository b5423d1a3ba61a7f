"""Where 2026 keeps its grasping macros."""

from omnigibson.macros import macros  # noqa: TID253
from omnigibson_double import touch
from omnigibson_double.robot import IsGraspingState
from omnigibson_double.robot import ModelRobot as Robot

__all__ = ["IsGraspingState", "Robot"]

macros.robots.robot.GRASP_WINDOW = 3.0  # [s]
touch.module(__name__)
