"""Worlds with one planted fault each, around a good one."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from b1k_envs.base import Env, Float32Array, GoalStatus, Observation, StepResult, VideoFrame
from b1k_envs.r1pro import ACTION_SLICES, BASE_VELOCITY_LIMIT
from b1k_eval.qualify.body import holding


class Around(Env):
    """The world within, unchanged."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.info = env.info

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        self.env.reset(instance, rollout, seed)

    def step(self, action: Float32Array) -> StepResult:
        return self.env.step(action)

    def observe(self, *, images: bool = True) -> Observation:
        return self.env.observe(images=images)

    def goal(self) -> GoalStatus:
        return self.env.goal()

    def subgoals(self) -> dict[str, bool]:
        return self.env.subgoals()

    def frame(self, *, light: bool = False) -> VideoFrame:
        return self.env.frame(light=light)

    def privileged_state(self) -> Any:
        return self.env.privileged_state()

    def close(self) -> None:
        self.env.close()


class LopsidedBase(Around):
    """The upper limits that the 2025 documentation prints: (1, 1, 1)."""

    def step(self, action: Float32Array) -> StepResult:
        limit = BASE_VELOCITY_LIMIT
        changed = action.copy()
        base = ACTION_SLICES["base"]
        share = (np.clip(action[base], -1, 1) + 1) / 2
        changed[base] = (-limit + share * (1.0 + limit)) / limit  # what the good world then scales
        return self.env.step(changed)


class LatePictures(Around):
    """Every picture is that of some steps ago; poses are of now."""

    def __init__(self, env: Env, steps: int) -> None:
        super().__init__(env)
        self.seen: deque[Any] = deque(maxlen=steps + 1)

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        self.env.reset(instance, rollout, seed)
        self.seen.clear()

    def step(self, action: Float32Array) -> StepResult:
        result = self.env.step(action)
        self.seen.append(self.env.observe().images)
        return result

    def observe(self, *, images: bool = True) -> Observation:
        seen = self.env.observe(images=images)
        return replace(seen, images=self.seen[0]) if images and self.seen else seen


class SwappedWrists(Around):
    """Each wrist's picture under the other's name."""

    def observe(self, *, images: bool = True) -> Observation:
        seen = self.env.observe(images=images)
        if not images:
            return seen
        swapped = {
            "head": seen.images["head"],
            "left_wrist": seen.images["right_wrist"],
            "right_wrist": seen.images["left_wrist"],
        }
        return replace(seen, images=MappingProxyType(swapped))


class AnotherInstance(Around):
    """Asked for an initial state, it loads the next one."""

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        self.env.reset(instance + 1, rollout, seed)


class LateActions(Around):
    """Actions act some steps after they were given; until then the robot holds still."""

    def __init__(self, env: Env, steps: int) -> None:
        super().__init__(env)
        self.steps = steps
        self.waiting: deque[Float32Array] = deque()

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        self.env.reset(instance, rollout, seed)
        hold = holding(self.env.observe(images=False).proprio, self.info.protocol)
        self.waiting = deque([hold] * self.steps)

    def step(self, action: Float32Array) -> StepResult:
        self.waiting.append(action)
        return self.env.step(self.waiting.popleft())


class RestlessGoal(Around):
    """A goal that is reached by waiting."""

    def goal(self) -> GoalStatus:
        real = self.env.goal()
        if self.env.observe(images=False).step < 10:
            return real
        return GoalStatus(
            predicates=dict.fromkeys(real.predicates, True), q_score=1.0, success=True
        )
