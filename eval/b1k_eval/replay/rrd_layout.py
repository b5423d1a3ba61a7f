"""Layout of a replay in the Rerun viewer: parts, names, views."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Any

from b1k_envs.base import VIEWS
from b1k_envs.errors import UnavailableError
from b1k_envs.r1pro import ARM_JOINTS, ARMS, FINGER_JOINTS, TRUNK_JOINTS
from b1k_eval.records.columns import COLUMNS

BASE = "world/base"
"""Entity of the robot's base; entities below it are in the base frame."""

MIN_VERSION = (0, 26)
"""Oldest rerun-sdk: the first whose `flush` reports a full disk."""

JOINT_NAMES: Mapping[str, tuple[str, ...]] = {
    "trunk": TRUNK_JOINTS,
    **{f"arm_{arm}": ARM_JOINTS[arm] for arm in ARMS},
    **{f"gripper_{arm}": FINGER_JOINTS[arm] for arm in ARMS},
}
"""Joints by part; `PART_qpos` is the part's field in the proprioception."""

ACTION_NAMES: Mapping[str, tuple[str, ...]] = {
    "base": ("vx", "vy", "wz"),
    **JOINT_NAMES,
    **{f"gripper_{arm}": ("1 opens, -1 closes",) for arm in ARMS},
}
"""Columns by part of `r1pro.ACTION_SLICES`."""


def camera(view: str) -> str:
    """Return the entity of a camera."""
    return f"{BASE}/cameras/{view}"


def import_rerun() -> Any:  # noqa: ANN401 - a module that may not be installed
    """Import rerun.

    Raises:
        UnavailableError: It cannot be imported or is too old; the message says how to install it.
    """
    install = "install it with: pip install '.[rerun]' in the checkout"
    wanted = ".".join(map(str, MIN_VERSION))
    try:
        rerun = import_module("rerun")
        version = metadata.version("rerun-sdk")
    except (ImportError, metadata.PackageNotFoundError) as error:
        raise UnavailableError(
            f"--rerun needs rerun-sdk, which does not import here ({error}); {install}"
        ) from error
    if tuple(int(number) for number in version.split(".")[:2]) < MIN_VERSION:
        raise UnavailableError(
            f"--rerun needs rerun-sdk {wanted} or later, here is {version}; {install}"
        )
    return rerun


def blueprint(*, with_commands: bool) -> Any:  # noqa: ANN401 - rerun may not be installed
    """Return the views: room and cameras on one side, curves on the other."""
    rrb = import_module("rerun.blueprint")

    def curves(*entities: str, name: str) -> Any:  # noqa: ANN401
        return rrb.TimeSeriesView(name=name, contents=[f"{entity}/**" for entity in entities])

    said: dict[str, list[str]] = {}
    for column in COLUMNS:
        if column.rerun is not None:
            entity, tab = column.rerun
            said.setdefault(tab, []).append(f"policy/{entity}")
    kinds = ("action", "command") if with_commands else ("action",)
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(
                rrb.Spatial3DView(origin="world", name="room"),
                rrb.Horizontal(*(rrb.Spatial2DView(origin=camera(v), name=v) for v in VIEWS)),
                row_shares=[3, 2],
            ),
            rrb.Vertical(
                curves("goal", name="goal"),
                rrb.Tabs(
                    *(
                        curves(f"joints/{part}", *(f"{kind}/{part}" for kind in kinds), name=part)
                        for part in JOINT_NAMES
                    ),
                    *(curves(f"{kind}/base", name=f"{kind} of the base") for kind in kinds),
                ),
                rrb.Tabs(  # apart, as their scales differ
                    *(curves(*entities, name=tab) for tab, entities in said.items()),
                ),
                rrb.Tabs(
                    rrb.TextLogView(contents=["events", "policy/skill"], name="events"),
                    rrb.TextDocumentView(origin="episode", name="episode"),
                ),
            ),
            column_shares=[3, 2],
        )
    )
