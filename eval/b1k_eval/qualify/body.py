"""Finding where the robot is, from what any `Env` gives and nothing else.

The 61 numbers of 2026 do not say where the base is. Its position is in `StepResult.agent`, and its
heading follows from the hands, whose positions are known in the world and in the base frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from b1k_envs.base import (
    AgentPositions,
    Env,
    Float32Array,
    Float64Array,
    Observation,
    ProtocolYear,
    StepResult,
    View,
)
from b1k_envs.r1pro import (
    ACTION_SLICES,
    ARMS,
    GRIPPER_OPEN,
    PROPRIO_LAYOUTS,
    hold_action,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stance:
    """The pose of the robot after a step.

    Attributes:
        base: Base to world, float64 [4, 4]; rotated about z only [m].
        joints: Trunk and arms, float64 [18] [rad].
        hands: Left and right hand, world frame, float64 [2, 3] [m].
        hands_apart: Distance of the hands by the proprioception from those in the world [m].
        observation: The observation of that step.
    """

    base: Float64Array
    joints: Float64Array
    hands: Float64Array
    hands_apart: float
    observation: Observation

    @property
    def heading(self) -> float:
        """Heading of the base, about z [rad]."""
        return float(np.arctan2(self.base[1, 0], self.base[0, 0]))

    def camera(self, view: View) -> Float64Array:
        """Return camera to world by the observation's pose, float64 [4, 4], USD axes [m]."""
        matrix: Float64Array = self.base @ self.observation.camera_to_base[view].astype(np.float64)
        return matrix


def stance(env: Env, result: StepResult, *, images: bool = False) -> Stance:
    """Read the robot's pose after a step.

    Args:
        env: The world, just after the step.
        result: The result of the step.
        images: Whether to take pictures, too.
    """
    observation = env.observe(images=images)
    layout, proprio = PROPRIO_LAYOUTS[observation.protocol], observation.proprio
    in_base = np.stack([proprio[layout[f"eef_{arm}_pos"]] for arm in ARMS]).astype(np.float64)
    base, hands, apart = _base_pose(result.agent, in_base)
    fields = ("trunk_qpos", *(f"arm_{arm}_qpos" for arm in ARMS))
    return Stance(
        base=base,
        joints=np.concatenate([proprio[layout[field]] for field in fields]).astype(np.float64),
        hands=hands,
        hands_apart=apart,
        observation=observation,
    )


def _base_pose(
    agent: AgentPositions, in_base: Float64Array
) -> tuple[Float64Array, Float64Array, float]:
    """Fit the heading that brings the hands [2, 3] from base frame to world, by least squares."""
    hands = np.stack([agent.left_eef, agent.right_eef]).astype(np.float64)
    there = hands - agent.base
    # The base only turns about z, so the best rotation has a closed form in the plane.
    cross = float((in_base[:, 0] * there[:, 1] - in_base[:, 1] * there[:, 0]).sum())
    dot = float((in_base[:, :2] * there[:, :2]).sum())
    heading = np.arctan2(cross, dot)
    base = np.eye(4)
    base[:2, :2] = [[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]]
    base[:3, 3] = agent.base
    apart = float(np.abs(in_base @ base[:3, :3].T - there).max())
    return base, hands, apart


def holding(proprio: Float32Array, protocol: ProtocolYear) -> Float32Array:
    """Return the hold action after a reset, float32 [23]: joints kept, base 0, grippers open."""
    return hold_action(proprio, protocol, GRIPPER_OPEN, GRIPPER_OPEN)


def driving(hold: Float32Array, x: float, y: float, turn: float) -> Float32Array:
    """Return a hold action with a base command, as shares of its top speeds in the robot frame."""
    action = hold.copy()
    action[ACTION_SLICES["base"]] = (x, y, turn)
    return action
