"""OmniGibson as an Env: the official simulator, one robot, one env.

Initial states, physics, observations, termination at every action, goal and score follow the
official evaluators of v3.7.2 (2025) and v3.9.3 (2026). With `render="every-step"` so does the
rendering: one picture per action, which lags by a frame or two. `on-demand` renders a current
picture when one is requested and is not an official protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from b1k_envs import r1pro
from b1k_envs.base import (
    Env,
    Float32Array,
    GoalStatus,
    Observation,
    ProtocolYear,
    Split,
    StepResult,
    UInt8Array,
    VideoFrame,
    View,
)
from b1k_envs.errors import EnvError, UnavailableError
from b1k_envs.findings import Finding
from b1k_envs.omnigibson.dialects.dialect import Stepped
from b1k_envs.omnigibson.goal_status import GoalRecord
from b1k_envs.omnigibson.world import CameraPoses, OmniGibsonWorld, RenderMode, Seen
from b1k_envs.tasks.table import Task

NO_PRIVILEGED_STATE = (
    "OmniGibson gives no privileged state here: scripted experts run with --sim mujoco"
)


class Episode:
    """The episode of one env of a world: its step counter, and a cache of the present step.

    Use it on the world's thread. The owner of the world loads and advances it, and then calls
    `begin` or `stepped`.
    """

    def __init__(self, world: OmniGibsonWorld, index: int) -> None:
        self._world, self._index = world, index
        self._goal: GoalRecord | None = None
        self._step = 0
        self._success: bool | None = None
        self._pictures: Mapping[View, UInt8Array] | None = None
        # Cache of the present step: OmniGibson computes goal, proprio and poses anew at each read.
        self._seen: Seen | None = None
        self._poses: CameraPoses | None = None
        self._proprio: Float32Array | None = None
        self._status: GoalStatus | None = None

    def begin(self) -> None:
        """Start an episode: the env has been loaded."""
        self._goal = self._world.start_goal(self._index)
        self._step, self._success = 0, None
        self._pictures = None
        self._forget()

    def stepped(self, outcome: Stepped) -> StepResult:
        """Count a step that the env has made, and return its result."""
        self._step += 1
        self._success = outcome.success
        self._forget()
        counted = self._world.episode_steps(self._index)
        if counted != self._step:
            raise EnvError(
                f"after {self._step} actions OmniGibson counts {counted} steps: its time limit "
                "would fire at another step than it should"
            )
        return StepResult(
            step=self._step,
            time=self._step / r1pro.CONTROL_HZ,
            terminated=outcome.success,
            truncated=outcome.timed_out,
            agent=self._world.agent(self._index),
        )

    def observe(self, *, images: bool) -> Observation:
        """See `Env.observe`."""
        self._begun("observe")
        if self._proprio is None:
            self._proprio = self._world.proprio(self._index)
        empty: dict[View, Float32Array] | None = {} if self._world.with_depth else None
        seen = self._look() if images else Seen({}, empty, self._present_poses())
        poses = seen.poses
        return Observation(
            images=seen.pictures,
            depth=seen.depth,
            camera_to_base=poses.camera_to_base,
            cam_rel_poses=poses.recorded,
            proprio=self._proprio,
            protocol=self._world.info.protocol,
            task_index=self._world.info.task_index,
            step=self._step,
            time=self._step / r1pro.CONTROL_HZ,
        )

    def goal(self) -> GoalStatus:
        """Return the goal's state, evaluated once per step."""
        goal = self._begun("goal")
        if self._status is None:
            self._status = self._world.goal_status(self._index, goal, self._success)
        return self._status

    def subgoals(self) -> dict[str, bool]:
        """See `Env.subgoals`."""
        self._begun("subgoals")
        return self._world.subgoals(self._index)

    def frame(self) -> VideoFrame:
        """Return the last observed pictures; render some if this episode has none yet."""
        self._begun("frame")
        if self._world.info.settings["render"] == "every-step":
            self._look()
        pictures = self._pictures
        if pictures is None:
            pictures = self._world.look(self._index).pictures
        return VideoFrame(redeem=lambda: pictures, holds_pictures=True)

    def _begun(self, call: str) -> GoalRecord:
        self._world.check_sound()
        if self._goal is None:
            raise EnvError(f"{call} was called before reset")
        return self._goal

    def _look(self) -> Seen:
        if self._seen is None:
            self._seen = self._world.look(self._index)
            self._pictures = self._seen.pictures
        return self._seen

    def _present_poses(self) -> CameraPoses:
        if self._poses is None:
            self._poses = self._world.camera_poses(self._index)
        return self._poses

    def _forget(self) -> None:
        self._seen = self._poses = None
        self._proprio = self._status = None


class OmniGibsonEnv(Env):
    """See the module header. Use it on the thread that built it."""

    def __init__(
        self,
        task: Task,
        *,
        protocol: ProtocolYear,
        split: Split,
        max_steps: int,
        render: RenderMode = "on-demand",
        gpu: int | None = None,
        depth: bool = False,
        partial_scene: bool = False,
        heavy_base: bool = False,
    ) -> None:
        """Start OmniGibson; see `OmniGibsonWorld` for arguments and errors. One per process."""
        self._world = OmniGibsonWorld(
            task,
            protocol=protocol,
            split=split,
            max_steps=max_steps,
            render=render,
            gpu=gpu,
            depth=depth,
            partial_scene=partial_scene,
            heavy_base=heavy_base,
        )
        self.info = self._world.info
        self._episode = Episode(self._world, 0)
        self._begun = False
        self._closed = False

    @property
    def findings(self) -> list[Finding]:
        """Results of the checks at the start."""
        return self._world.findings

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        """See `Env.reset`; rollout and seed have no effect."""
        self._open("reset")
        self._world.load({0: instance})
        self._episode.begin()
        self._begun = True

    def step(self, action: Float32Array) -> StepResult:
        """See `Env.step`; renders with `every-step` only."""
        r1pro.check_action(action)
        self._open("step")
        if not self._begun:
            raise EnvError("step was called before reset")
        return self._episode.stepped(self._world.advance({0: action})[0])

    def observe(self, *, images: bool = True) -> Observation:
        """See `Env.observe`."""
        self._open("observe")
        return self._episode.observe(images=images)

    def goal(self) -> GoalStatus:
        """See `Env.goal`."""
        self._open("goal")
        return self._episode.goal()

    def subgoals(self) -> dict[str, bool]:
        """See `Env.subgoals`."""
        self._open("subgoals")
        return self._episode.subgoals()

    def frame(self, *, light: bool = False) -> VideoFrame:
        """Return existing pictures, as OmniGibson cannot render on another thread.

        With `on-demand` they are those of the last observation, so the video repeats them for the
        steps in between; if this episode has none yet, they are rendered now.
        """
        self._open("frame")
        return self._episode.frame()

    def privileged_state(self) -> Any:  # noqa: ANN401
        """Raise UnavailableError: the scripted expert works in the twin only."""
        raise UnavailableError(NO_PRIVILEGED_STATE)

    def close(self) -> None:
        """Close the application. This may end the process, so results must be on disk."""
        if not self._closed:
            self._closed = True
            self._world.close()

    def _open(self, call: str) -> None:
        if self._closed:
            raise EnvError(f"{call} was called after close")
