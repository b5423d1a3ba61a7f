"""Small real subclasses to run the harness against, importable in a spawned worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from b1k_envs.base import (
    VIEWS,
    AgentPositions,
    Env,
    EnvInfo,
    Float32Array,
    GoalStatus,
    Observation,
    StepResult,
    UInt8Array,
    VideoFrame,
    View,
)
from b1k_envs.errors import EnvError
from b1k_envs.r1pro import CAMERAS, CONTROL_HZ, PROPRIO_DIM, PROPRIO_LAYOUTS, check_action
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy, PrivilegedPolicy, Skill

PREDICATES = ("inside box.n.01_1 shelf.n.01_1", "not open box.n.01_1")
SUBGOALS = ("moved", "half_way", "there")


class ToyEnv(Env):
    """A point on a line: the base's vx command moves it, at GOAL_X it is done.

    The base stands at x, the hands 0.5 m to its sides. The first predicate becomes true half way,
    the second at the goal. `calls` lists every call by name, in order.
    """

    GOAL_X = 1.25  # ten steps at full command; all numbers binary, so that sums are exact

    def __init__(self, *, max_steps: int = 50, protocol: str = "2026", start: float = 0.0) -> None:
        self.info = EnvInfo(
            sim="mujoco",
            sim_version="toy",
            protocol=protocol,
            task="clean_boxing_gloves",
            task_index=31,
            control_hz=CONTROL_HZ,
            max_steps=max_steps,
            settings={"toy": True},
        )
        self.calls: list[str] = []
        self.start = start
        self.x = start
        self.step_count = 0
        self.closed = False
        self.actions: list[Float32Array] = []

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        self.calls.append("reset")
        self.x = self.start + instance / 64
        self.step_count = 0
        self.actions = []

    def step(self, action: Float32Array) -> StepResult:
        self.calls.append("step")
        check_action(action)
        self.actions.append(action.copy())
        self.x += float(action[0]) * 0.125
        timed_out = self.step_count >= self.info.max_steps
        self.step_count += 1
        base = np.array([self.x, 0.0, 0.0])
        return StepResult(
            step=self.step_count,
            time=self.step_count / CONTROL_HZ,
            terminated=self.goal().success,
            truncated=timed_out,
            agent=AgentPositions(
                base=base,
                left_eef=base + np.array([0.0, 0.5, 1.0]),
                right_eef=base + np.array([0.0, -0.5, 1.0]),
            ),
        )

    def observe(self, *, images: bool = True) -> Observation:
        self.calls.append("observe" if images else "observe(images=False)")
        proprio = np.zeros(PROPRIO_DIM[self.info.protocol], dtype=np.float32)
        layout = PROPRIO_LAYOUTS[self.info.protocol]
        proprio[layout["trunk_qpos"]] = (1.025, -1.45, -0.47, 0.0)
        return Observation(
            images=self._pictures() if images else {},
            camera_to_base={view: np.eye(4, dtype=np.float32) for view in VIEWS},
            cam_rel_poses=np.zeros(21, dtype=np.float32),
            proprio=proprio,
            protocol=self.info.protocol,
            task_index=31,
            step=self.step_count,
            time=self.step_count / CONTROL_HZ,
        )

    def goal(self) -> GoalStatus:
        truths = (self.x >= self.GOAL_X / 2, self.x >= self.GOAL_X)
        return GoalStatus(
            predicates=MappingProxyType(dict(zip(PREDICATES, truths, strict=True))),
            q_score=sum(truths) / 2,
            success=all(truths),
        )

    def subgoals(self) -> dict[str, bool]:
        return {
            "moved": self.step_count > 0 and self.x > self.start,
            "half_way": self.x >= self.GOAL_X / 2,
            "there": self.x >= self.GOAL_X,
        }

    def _pictures(self) -> Mapping[View, UInt8Array]:
        sizes = {view: CAMERAS[view].size for view in VIEWS}
        shade = np.uint8(self.step_count % 256)
        return {view: np.full((n, n, 3), shade, dtype=np.uint8) for view, n in sizes.items()}

    def frame(self, *, light: bool = False) -> VideoFrame:
        self.calls.append("frame")
        sizes: Mapping[View, int] = {"head": 448, "left_wrist": 224, "right_wrist": 224}
        shade = np.uint8(self.step_count % 256)

        def redeem() -> Mapping[View, UInt8Array]:
            return {view: np.full((n, n, 3), shade, dtype=np.uint8) for view, n in sizes.items()}

        return VideoFrame(redeem=redeem, holds_pictures=not light)

    def privileged_state(self) -> float:
        return self.x

    def close(self) -> None:
        self.closed = True


class BreakingEnv(ToyEnv):
    """Fails in one hook, at one step or call."""

    def __init__(self, *, hook: str, at_step: int = 0, error: Exception | None = None) -> None:
        super().__init__()
        self.hook = hook
        self.at_step = at_step
        self.error = error or EnvError("the simulator fell over")

    def _break(self, hook: str) -> None:
        if hook == self.hook and self.step_count >= self.at_step:
            raise self.error

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        super().reset(instance, rollout, seed)
        self._break("reset")

    def step(self, action: Float32Array) -> StepResult:
        self._break("step")
        return super().step(action)

    def observe(self, *, images: bool = True) -> Observation:
        self._break("observe")
        return super().observe(images=images)

    def privileged_state(self) -> float:
        self._break("privileged_state")
        return super().privileged_state()


class DyingEnv(ToyEnv):
    """Kills its own process, without a word, in the episodes named."""

    def __init__(self, *, instances: tuple[int, ...]) -> None:
        super().__init__(max_steps=20)
        self.instances = instances

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        super().reset(instance, rollout, seed)
        if instance in self.instances:
            os.kill(os.getpid(), signal.SIGKILL)


class DrivePolicy(Policy):
    """Drives forward at a constant command; counts what it is asked."""

    needs_images = False

    def __init__(self, *, vx: float = 0.5, chunk_length: int = 8) -> None:
        self.name = "drive"
        self.vx = vx
        self.chunk_length = chunk_length
        self.episodes: list[EpisodeInfo] = []
        self.observations: list[Observation] = []
        self.closed = False

    def reset(self, episode: EpisodeInfo) -> None:
        self.episodes.append(episode)
        self.observations = []

    def infer(self, observation: Observation) -> ActionChunk:
        self.observations.append(observation)
        actions = np.zeros((self.chunk_length, 23), dtype=np.float32)
        actions[:, 0] = self.vx
        skill = Skill(index=0, name="move to", probability=0.75)
        return ActionChunk(actions=actions, skill=skill, progress=min(observation.step / 100, 1))

    def close(self) -> None:
        self.closed = True


class RandomWalkPolicy(DrivePolicy):
    """Drives forward by random commands from the episode's seed."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(0)

    def reset(self, episode: EpisodeInfo) -> None:
        super().reset(episode)
        self.rng = np.random.default_rng(episode.seed)

    def infer(self, observation: Observation) -> ActionChunk:
        chunk = super().infer(observation)
        actions = self.rng.uniform(-0.2, 0.6, chunk.actions.shape).astype(np.float32)
        return ActionChunk(actions=actions, skill=chunk.skill)


class SeeingPolicy(DrivePolicy):
    """The same, but it declares that it looks at pictures."""

    needs_images = True


class TruthPolicy(DrivePolicy, PrivilegedPolicy):
    """The same, reading the truth; bound before every reset."""

    def bind(self, privileged_state: Callable[[], object]) -> None:
        self.read = privileged_state
        self.bound_before = len(self.episodes)

    def infer(self, observation: Observation) -> ActionChunk:
        self.read()
        return super().infer(observation)


@dataclass
class RaisingPolicy(PrivilegedPolicy):
    """Raises in every hook, or in the one named."""

    hook: str | None = None
    error: BaseException = field(default_factory=lambda: ZeroDivisionError("no such luck"))
    name = "raising"
    chunk_length = 8
    needs_images = False

    def _raise(self, hook: str) -> None:
        if self.hook is None or self.hook == hook:
            raise self.error

    def bind(self, privileged_state: Callable[[], object]) -> None:
        self._raise("bind")

    def reset(self, episode: EpisodeInfo) -> None:
        self._raise("reset")

    def infer(self, observation: Observation) -> ActionChunk:
        self._raise("infer")
        return ActionChunk(actions=np.zeros((8, 23), dtype=np.float32))

    def describe(self) -> dict[str, object]:
        self._raise("describe")
        return super().describe()

    def close(self) -> None:
        self._raise("close")


def make_toy_env(settings: object = None) -> ToyEnv:
    """A factory that a spawned worker can import."""
    return ToyEnv(max_steps=getattr(settings, "max_steps", 20))
