"""Where 2026 keeps its grasping macros."""

from omnigibson_double import touch
from omnigibson_double.robot import IsGraspingState
from omnigibson_double.robot import ModelRobot as Robot

import omnigibson as og  # noqa: TID253
from omnigibson.macros import macros  # noqa: TID253

__all__ = ["IsGraspingState", "Robot"]

m = macros.robots.robot
m.GRASP_WINDOW = 0.3  # [s]


def window_is_over(substeps: int) -> bool:
    """Whether a candidate has persisted."""
    return bool(substeps * og.sim.get_physics_dt() >= m.GRASP_WINDOW)


touch.module(__name__)
