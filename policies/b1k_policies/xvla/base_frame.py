"""The frame of the base's velocity: as recorded, and as a checkpoint learnt it.

The recorder of 2025 gives the raw velocities of the virtual base joints, in world axes; the
evaluator of 2026 turns them into the robot's frame. Both are equal until the robot has turned.

Source: BEHAVIOR-1K, `OmniGibson/omnigibson/`: `learning/utils/eval_utils.py` (2025, v3.7.2) and
`_get_base_qvel_for_proprioception` of the robot (2026, v3.9.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np

from b1k_envs.base import Float64Array, Observation, ProtocolYear
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import PROPRIO_LAYOUTS
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.fields import BaseFrame

RECORDED: Mapping[ProtocolYear, Literal["world", "robot"]] = MappingProxyType(
    {"2025": "world", "2026": "robot"}
)
"""The frame of `base_qvel` in each protocol's proprio."""
_YAW = 2
"""Index of the yaw in the three numbers of `base_qpos`."""


def needs_yaw(frame: BaseFrame, protocol: ProtocolYear) -> bool:
    """Whether the robot's heading is needed to have a proprio in a frame."""
    return frame not in ("as_recorded", RECORDED[protocol])


def in_frame(velocity: Float64Array, observation: Observation, frame: BaseFrame) -> Float64Array:
    """Return the base's velocity in the frame that a checkpoint learnt.

    Args:
        velocity: float64 [3], vx, vy [m/s], yaw rate [rad/s], as recorded.
        observation: The observation, whose heading may be needed.
        frame: The frame asked for.

    Returns:
        float64 [3]; the same array where nothing has to be turned.

    Raises:
        UsageError: The observation has no heading: 2026's 61 numbers lack it, and the standard
            track hides that of 2025.
    """
    if not needs_yaw(frame, observation.protocol):
        return velocity
    if observation.protocol == "2026":
        # Summing up the yaw rate is no way out: it needs every control step, and a policy sees
        # only those at which it is asked.
        raise UsageError(
            "the contract's base_qvel is in world-fixed axes, but protocol 2026 gives it in the "
            "robot's frame and nothing of the robot's heading: run with --protocol 2025, or send "
            "it as it is with --set base_qvel_frame=as_recorded (and --force-contract where the "
            "checkpoint's files state the frame)"
        )
    layout = PROPRIO_LAYOUTS["2025"]
    sine, cosine = (
        float(observation.proprio[layout[name]][_YAW])
        for name in ("base_qpos_sin", "base_qpos_cos")
    )
    length = float(np.hypot(sine, cosine))
    if length < 0.5:
        raise UsageError(
            "the contract's base_qvel is in the robot's frame, which takes the robot's heading, "
            "and base_qpos is hidden in this observation (--track standard): run without --track, "
            "or with --protocol 2026"
        )
    sine, cosine = sine / length, cosine / length
    vx, vy, yaw_rate = velocity
    return np.array([cosine * vx + sine * vy, -sine * vx + cosine * vy, yaw_rate])


def frame_doubt(contract: EvalContract, protocol: ProtocolYear) -> str | None:
    """Return a warning if nobody stated the frame of `base_qvel` and it matters; else None.

    The cards of v4 and v17 say "23-dim extracted state, NOT raw 256", and 256 numbers are given by
    the recorder of 2025.
    """
    columns = contract.proprio_slices.get("base_qvel")
    if columns is None or contract.base_qvel_frame != "as_recorded":
        return None
    if {columns.start, columns.start + 1} <= {*contract.proprio_mask}:  # the model never sees them
        return None
    if protocol == "2025":
        return (
            "base_qvel is sent as protocol 2025 records it, in world-fixed axes; no file states "
            "the frame of the training (base_qvel_frame)"
        )
    return (
        "base_qvel is sent as protocol 2026 records it, in the robot's frame, and no file states "
        "the frame of the training (base_qvel_frame): a checkpoint of recordings with 256 numbers "
        "learnt world-fixed axes, and reads other speeds as soon as the robot has turned; "
        "--protocol 2025 sends those"
    )
