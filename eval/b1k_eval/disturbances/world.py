"""Disturbances of the twin's world, as its envs take them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from b1k_envs.base import VIEWS, View
from b1k_envs.mujoco_twin.changes import WorldChanges
from b1k_eval.disturbances.axes import Disturbance


def world_changes(disturbances: Sequence[Disturbance]) -> WorldChanges:
    """Return the changes of the world among these disturbances."""
    plain: dict[str, float] = {}
    cameras: dict[str, dict[View, float]] = {"camera-turn": {}, "camera-shift": {}}
    for each in disturbances:
        if each.axis.name in cameras:
            dose = math.radians(each.dose) if each.axis.unit == "deg" else each.dose
            of = (view for view in VIEWS if each.part in (None, view))
            cameras[each.axis.name].update(dict.fromkeys(of, dose))
        elif each.axis.kind == "world":
            plain[each.axis.name] = each.dose
    return WorldChanges(
        **plain, camera_turn=cameras["camera-turn"], camera_shift=cameras["camera-shift"]
    )
