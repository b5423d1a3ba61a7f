"""The challenge's tracks: what a policy may know.

The standard track allows what the robot's own sensors could measure, the privileged track allows
anything. Only the 2025 evaluator gives more than the standard track allows: some of its 256 numbers
of proprioception are the robot's pose in the house. Here they are set to zero.

Sources: StanfordVL/BEHAVIOR-1K, `docs/challenge/evaluation.md` (2025: robot global poses are not
allowed in the standard track) and `PROPRIOCEPTION_INDICES` of
`OmniGibson/omnigibson/learning/utils/eval_utils.py` (where they are).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal

from b1k_envs.base import (
    Checks,
    Env,
    Float32Array,
    GoalStatus,
    Observation,
    ProgressVariant,
    ProtocolYear,
    StepResult,
    VideoFrame,
)
from b1k_envs.errors import EnvError
from b1k_envs.r1pro import BASE_JOINTS, PROPRIO_LAYOUTS

Track = Literal["standard", "privileged"]

_JOINT_BLOCKS = ("joint_qpos", "joint_qpos_sin", "joint_qpos_cos")
"""Fields with all 28 joints, the virtual joints of the base first."""

_GLOBAL_POSE = (
    "robot_pos",
    "robot_ori_cos",
    "robot_ori_sin",
    "robot_2d_ori",
    "robot_2d_ori_cos",
    "robot_2d_ori_sin",
    "base_qpos",
    "base_qpos_sin",
    "base_qpos_cos",
)


def _forbidden(protocol: ProtocolYear) -> dict[str, slice]:
    layout = PROPRIO_LAYOUTS[protocol]
    # In the fields of all joints only the base's joints give the robot's global pose.
    base = len(BASE_JOINTS)
    heads = {
        f"{name}, first {base}": slice(layout[name].start, layout[name].start + base)
        for name in _JOINT_BLOCKS
        if name in layout
    }
    return heads | {name: layout[name] for name in _GLOBAL_POSE if name in layout}


FORBIDDEN_PROPRIO: Mapping[ProtocolYear, Mapping[str, slice]] = MappingProxyType(
    {
        "2025": MappingProxyType(_forbidden("2025")),
        "2026": MappingProxyType(_forbidden("2026")),
    }
)
"""Columns that the standard track forbids, by name; none of the 61 of 2026."""


def mask(proprio: Float32Array, protocol: ProtocolYear) -> Float32Array:
    """Return the proprioception with zeros in the columns that the standard track forbids.

    Args:
        proprio: float32 [256] or [61].
        protocol: Which of the two layouts it has.

    Returns:
        float32 of the same shape: a new read-only array, or `proprio` if nothing is hidden.
    """
    forbidden = FORBIDDEN_PROPRIO[protocol]
    if not forbidden:
        return proprio
    masked = proprio.copy()
    for part in forbidden.values():
        masked[part] = 0.0
    masked.setflags(write=False)
    return masked


class StandardTrackEnv(Env):
    """An env for the standard track: no global pose, no simulator state."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self.info = env.info

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        """See `Env`."""
        self._env.reset(instance, rollout, seed)

    def step(self, action: Float32Array) -> StepResult:
        """See `Env`."""
        return self._env.step(action)

    def observe(self, *, images: bool = True) -> Observation:
        """Observe, with zeros in the proprio columns that the track forbids."""
        seen = self._env.observe(images=images)
        return replace(seen, proprio=mask(seen.proprio, seen.protocol))

    def goal(self) -> GoalStatus:
        """See `Env.goal`; for scoring, not shown to the policy."""
        return self._env.goal()

    def subgoals(self) -> dict[str, bool]:
        """See `Env.subgoals`; for diagnosis, not shown to the policy."""
        return self._env.subgoals()

    def checks(self, variant: ProgressVariant) -> Checks:
        """See `Env.checks`; for scoring, not shown to the policy."""
        return self._env.checks(variant)

    def frame(self, *, light: bool = False) -> VideoFrame:
        """See `Env`."""
        return self._env.frame(light=light)

    def privileged_state(self) -> Any:  # noqa: ANN401 - each simulator has its own type
        """Raise EnvError: this track does not allow it."""
        raise EnvError("--track standard: the simulator's state is not for policies of this track")

    def close(self) -> None:
        """See `Env`."""
        self._env.close()
