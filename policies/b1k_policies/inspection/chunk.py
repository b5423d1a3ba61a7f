"""Comparing the decoded first chunk with the robot's present state and limits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from b1k_envs.base import Float32Array, Float64Array, Observation
from b1k_envs.r1pro import (
    ACTION_DIM,
    ACTION_SLICES,
    ARM_JOINTS,
    ARMS,
    BASE_VELOCITY_LIMIT,
    CONTROL_HZ,
    FINGER_TRAVEL,
    GRIPPER_OPEN,
    PROPRIO_LAYOUTS,
    TRUNK_JOINTS,
    hold_action,
    joint_limits,
    kinematics,
)
from b1k_policies.contract.consequences import column_name
from b1k_policies.contract.contract import EvalContract
from b1k_policies.inspection.findings import Notice

_LIMIT_MARGIN = 0.01
"""How far beyond a limit a command may be before it is reported [rad, or part of the range]."""
_MEANT_OPEN = 0.8
"""Gripper commands from this up are meant to open; a regression's are a little below 1."""
_LEAD_STEPS = 5
"""Control steps that a first target may be ahead: a joint lags its command by a few of them."""


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """What a chunk does with one part of the robot, over the rows to be executed.

    Attributes:
        part: Name as in `r1pro.ACTION_SLICES`; the base has one entry per axis.
        unit: Unit of the figures below.
        offsets: Whether the model predicts offsets from the state here: all, some or none.
        low: Lowest value commanded.
        high: Highest value commanded.
        first_step: Largest change from the present state in the first row; None for velocities.
        largest_step: Largest change from the present state in any row; None for velocities.
        beyond_limits: Number of commands outside the robot's limits.
    """

    part: str
    unit: str
    offsets: str
    low: float
    high: float
    first_step: float | None
    largest_step: float | None
    beyond_limits: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ChunkFacts:
    """The decoded first chunk and what it is compared with.

    Attributes:
        actions: float32 [T, 23], absolute, every row the model predicted, in the robot's columns.
        skipped: Number of rows at the start that are not executed.
        state: float32 [23], the present state as a command; NaN where the observation does not
            tell it (the base's velocity in 2025, which is given in the world frame).
        limits: float64 [23, 2], lowest and highest command the robot can follow, same units.
        parts: Facts about each part of the robot.
    """

    actions: Float32Array
    skipped: int
    state: Float32Array
    limits: Float64Array
    parts: tuple[PartFacts, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "rows": len(self.actions),
            "skipped_rows": self.skipped,
            "parts": [asdict(part) for part in self.parts],
            "state": [None if math.isnan(value) else float(value) for value in self.state],
            "actions": self.actions.astype(float).round(6).tolist(),
        }


def chunk_facts(
    actions: Float32Array, observation: Observation, contract: EvalContract
) -> ChunkFacts:
    """Compare a chunk with the state it starts from.

    Args:
        actions: float32 [T, 23], every row, as `actions.decode` returns them.
        observation: The observation that the chunk answers.
        contract: Says which columns were offsets, and which rows are executed.
    """
    state, limits = state_as_action(observation), action_limits()
    offsets = contract.delta_mask[contract.robot_columns]
    executed = actions[contract.first_action :]
    parts = []
    for part, columns in ACTION_SLICES.items():
        for name, chosen in _rows_of(part, columns):
            scale = BASE_VELOCITY_LIMIT[chosen] if part == "base" else 1.0
            values, beyond = executed[:, chosen] * scale, _beyond(executed, limits)[:, chosen]
            steps = np.abs(executed[:, chosen] - state[chosen])
            velocity = part == "base"
            parts.append(
                PartFacts(
                    part=name,
                    unit=_unit(part, chosen.start),
                    offsets={0: "none", len(offsets[chosen]): "all"}.get(
                        int(offsets[chosen].sum()), "some"
                    ),
                    low=float(values.min()),
                    high=float(values.max()),
                    first_step=None if velocity else float(steps[0].max()),
                    largest_step=None if velocity else float(steps.max()),
                    beyond_limits=int((beyond > _LIMIT_MARGIN).sum()),
                )
            )
    return ChunkFacts(
        actions=actions,
        skipped=contract.first_action,
        state=state,
        limits=limits,
        parts=tuple(parts),
    )


def _rows_of(part: str, columns: slice) -> list[tuple[str, slice]]:
    if part != "base":
        return [(part, columns)]
    return [(column_name(c), slice(c, c + 1)) for c in range(columns.start, columns.stop)]


def _unit(part: str, column: int) -> str:
    if part == "base":
        return "rad/s" if column == 2 else "m/s"
    return "command" if part.startswith("gripper") else "rad"


def state_as_action(observation: Observation) -> Float32Array:
    """Return the present state in an action's columns, float32 [23]; see `ChunkFacts.state`."""
    layout, proprio = PROPRIO_LAYOUTS[observation.protocol], observation.proprio
    # Each finger moves 0 to FINGER_TRAVEL, so the sum of a gripper's two maps to [-1, 1].
    left, right = (
        float(proprio[layout[f"gripper_{arm}_qpos"]].sum()) / FINGER_TRAVEL - 1.0 for arm in ARMS
    )
    state = hold_action(proprio, observation.protocol, left, right)
    # 2025 gives the base's velocity in the world frame, and a command is in the robot's.
    base = ACTION_SLICES["base"]
    state[base] = np.nan
    if observation.protocol == "2026":
        state[base] = proprio[layout["base_qvel"]] / BASE_VELOCITY_LIMIT
    return state


def action_limits() -> Float64Array:
    """Return lowest and highest command of each column, float64 [23, 2], in an action's units."""
    limits = np.tile([-1.0, 1.0], (ACTION_DIM, 1))
    limits[ACTION_SLICES["trunk"]] = joint_limits(TRUNK_JOINTS)
    for arm in ARMS:
        limits[ACTION_SLICES[f"arm_{arm}"]] = joint_limits(ARM_JOINTS[arm])
    return limits


def _beyond(actions: Float32Array, limits: Float64Array) -> Float64Array:
    """Return how far each command lies outside the limits, float64 [T, 23]; 0 inside."""
    beyond: Float64Array = np.maximum(limits[:, 0] - actions, actions - limits[:, 1]).clip(min=0)
    return beyond


def chunk_findings(chunk: ChunkFacts) -> Iterator[Notice]:
    """Yield findings about commands that the robot cannot follow."""
    executed = chunk.actions[chunk.skipped :]
    beyond = _beyond(executed, chunk.limits)
    for columns in ACTION_SLICES.values():
        inside = beyond[:, columns]
        count = int((inside > _LIMIT_MARGIN).any(axis=0).sum())
        if not count:
            continue
        row, column = np.unravel_index(int(inside.argmax()), inside.shape)
        column = int(column) + columns.start
        low, high = chunk.limits[column]
        others = f" (and {count - 1} more of this part)" if count > 1 else ""
        yield Notice(
            level="doubt",
            field="chunk",
            text=f"{column_name(column)} is commanded to {executed[row, column]:.2f} at row "
            f"{row + chunk.skipped}, its limits are {low:.2f} and {high:.2f}{others}",
        )
    yield from _never_quite_open(executed)
    yield from _jumps(chunk)


def nearly_open(highest: float) -> bool:
    """Whether a gripper's highest command is meant to open it, and releases nothing."""
    return _MEANT_OPEN <= highest < GRIPPER_OPEN


def _never_quite_open(executed: Float32Array) -> Iterator[Notice]:
    """Yield a finding for each gripper that is opened and never quite."""
    for arm in ARMS:
        highest = float(executed[:, ACTION_SLICES[f"gripper_{arm}"]].max())
        if nearly_open(highest):
            yield Notice(
                level="doubt",
                field="chunk",
                text=f"gripper_{arm} is commanded to {highest:.4g} at most: {GRIPPER_OPEN:g} alone "
                "releases what is held (gripper_threshold makes it so)",
            )


def _jumps(chunk: ChunkFacts) -> Iterator[Notice]:
    """Yield a finding if a joint's first target is farther than it moves in `_LEAD_STEPS`."""
    step = np.abs(chunk.actions[chunk.skipped] - chunk.state)
    names = [*TRUNK_JOINTS, *ARM_JOINTS["left"], *ARM_JOINTS["right"]]
    columns = [
        column
        for part in ("trunk", "arm_left", "arm_right")
        for column in range(ACTION_SLICES[part].start, ACTION_SLICES[part].stop)
    ]
    # The distance a joint covers in `_LEAD_STEPS` at its greatest speed.
    speeds = {joint["name"]: joint.get("velocity") for joint in kinematics()["joints"]}
    reach = [_LEAD_STEPS * speeds[name] / CONTROL_HZ for name in names]
    far = [
        (float(step[column]), column)
        for column, most in zip(columns, reach, strict=True)
        if step[column] > most
    ]
    if far:
        distance, column = max(far)
        others = f" (and {len(far) - 1} more)" if len(far) > 1 else ""
        yield Notice(
            level="doubt",
            field="chunk",
            text=f"the first row to be executed puts {column_name(column)} {distance:.2f} rad from "
            f"where it is, farther than it can go in {_LEAD_STEPS} control steps{others}: offsets "
            "read as positions, or positions as offsets?",
        )
