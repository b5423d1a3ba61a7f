"""Where 2025 keeps its grasping macros."""

from omnigibson_double import touch
from omnigibson_double.robot import IsGraspingState

import omnigibson as og  # noqa: TID253
from omnigibson.macros import macros  # noqa: TID253

__all__ = ["IsGraspingState"]

m = macros.robots.manipulation_robot
m.GRASP_WINDOW = 3.0  # [s], before anybody sets 0.75


def window_is_over(substeps: int) -> bool:
    """Whether a candidate has persisted; substeps are taken for steps of the simulator."""
    return bool(substeps * og.sim.get_sim_step_dt() >= m.GRASP_WINDOW)


touch.module(__name__)
