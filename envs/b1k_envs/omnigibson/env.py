"""OmniGibson as envs: the official simulator, one robot to an env.

Initial states, physics, observations, termination at every action, goal and score follow the
official evaluators of v3.7.2 (2025) and v3.9.3 (2026). With `render="every-step"` so does the
rendering: one picture per action, which lags by a frame or two. `on-demand` renders a current
picture when one is requested and is not an official protocol.

Several envs (v3.9.3) share one physics, and each step moves them all. The official evaluator sends
zeros to a finished env, which drives its arms to 0 rad and its grippers half open; here that robot
holds its last posture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from b1k_envs import r1pro
from b1k_envs.base import (
    Checks,
    Env,
    Float32Array,
    GoalStatus,
    Observation,
    ProgressVariant,
    Start,
    StepResult,
    UInt8Array,
    VideoFrame,
    View,
    Worlds,
)
from b1k_envs.errors import ActionError, B1kEvalError, EnvError, UnavailableError, UsageError
from b1k_envs.findings import Finding
from b1k_envs.omnigibson.dialects.dialect import Stepped
from b1k_envs.omnigibson.goal_status import GoalRecord
from b1k_envs.omnigibson.world import CameraPoses, OmniGibsonWorld, Seen
from b1k_envs.tasks.table import Task


class OmniGibsonEnv(Env):
    """One env of a world: its step counter, and a cache of the present step.

    Use it on the thread that built the world. Only the sole env of a world can be reset and
    stepped alone.
    """

    def __init__(self, world: OmniGibsonWorld, index: int) -> None:
        self.info = world.info
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

    @property
    def findings(self) -> list[Finding]:
        """Results of the checks at the start."""
        return self._world.findings

    # --- moving ------------------------------------------------------------------------------

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        """See `Env.reset`; rollout and seed have no effect.

        Raises:
            EnvError: The world has other envs: `Worlds.reset` loads them together.
        """
        self._alone("reset")
        self._world.load({self._index: instance})
        self.begin()

    def step(self, action: Float32Array) -> StepResult:
        """See `Env.step`; renders with `every-step` only.

        Raises:
            EnvError: The world has other envs: `Worlds.step` moves them together.
        """
        r1pro.check_action(action)
        self._alone("step")
        self._begun("step")
        return self.stepped(self._world.advance({self._index: action})[self._index])

    def begin(self) -> None:
        """Start an episode: the env has been loaded."""
        self._goal = self._world.start_goal(self._index)
        self._step, self._success = 0, None
        self._pictures = None
        self._forget()

    def stepped(self, outcome: Stepped) -> StepResult:
        """Count a step that the world has made, and return its result."""
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

    # --- reading -----------------------------------------------------------------------------

    def observe(self, *, images: bool = True) -> Observation:
        """See `Env.observe`; rendering is for all envs at once."""
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
            protocol=self.info.protocol,
            task_index=self.info.task_index,
            step=self._step,
            time=self._step / r1pro.CONTROL_HZ,
        )

    def goal(self) -> GoalStatus:
        """See `Env.goal`; evaluated once per step."""
        goal = self._begun("goal")
        if self._status is None:
            self._status = self._world.goal_status(self._index, goal, self._success)
        return self._status

    def subgoals(self) -> dict[str, bool]:
        """See `Env.subgoals`."""
        self._begun("subgoals")
        return self._world.subgoals(self._index)

    def checks(self, variant: ProgressVariant) -> Checks:
        """See `Env.checks`."""
        self._begun("checks")
        return self._world.checks(self._index, variant)

    def frame(self, *, light: bool = False) -> VideoFrame:
        """Return existing pictures, as OmniGibson cannot render on another thread.

        With `on-demand` they are those of the last observation, so the video repeats them for the
        steps in between; if this episode has none yet, they are rendered now.
        """
        self._begun("frame")
        if self.info.settings["render"] == "every-step":
            self._look()
        pictures = self._pictures
        if pictures is None:
            pictures = self._world.look(self._index).pictures
        return VideoFrame(redeem=lambda: pictures, holds_pictures=True)

    def privileged_state(self) -> Any:  # noqa: ANN401
        """Raise UnavailableError: the scripted expert works in the twin only."""
        raise UnavailableError(
            "OmniGibson gives no privileged state here: scripted experts run with --sim mujoco"
        )

    def close(self) -> None:
        """Close the application if this is its only env; else `OmniGibsonWorlds` does.

        This may end the process, so results must be on disk.
        """
        if self._world.num_envs == 1:
            self._world.close()

    def _alone(self, call: str) -> None:
        self._world.guard.check_open(call)
        if self._world.num_envs > 1:
            raise EnvError(f"the envs of one OmniGibson {call} together: see `Worlds.{call}`")

    def _begun(self, call: str) -> GoalRecord:
        self._world.guard.check_open(call)
        self._world.guard.check_sound()
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


class OmniGibsonWorlds(Worlds):
    """The envs of one OmniGibson. Use it on the thread that built it."""

    envs: tuple[OmniGibsonEnv, ...]
    independent = False

    def __init__(self, task: Task, *, count: int = 1, **options: Any) -> None:  # noqa: ANN401
        """Start OmniGibson with `count` envs; see `OmniGibsonWorld` for the rest and for errors."""
        if count < 1:
            raise UsageError(f"{count} envs: at least one is needed")
        self._world = OmniGibsonWorld(task, num_envs=count, **options)
        self._own = tuple(OmniGibsonEnv(self._world, index) for index in range(count))
        self._loaded: set[int] = set()
        super().__init__(self._own)

    def reset(self, starts: Mapping[int, Start]) -> dict[int, Exception | None]:
        """See `Worlds.reset`; an env without such an instance is left out of the load."""
        self._world.guard.check_open("reset")
        found: dict[int, Exception | None] = {}
        for index, (instance, _, _) in starts.items():
            # Checked before the load, which is one call and would fail for all envs.
            try:
                self._world.check_instance(instance)
                found[index] = None
            except EnvError:
                raise
            except B1kEvalError as error:  # no such instance or file: concerns this env alone
                found[index] = error
        self._loaded = {index for index, error in found.items() if error is None}
        if self._loaded:
            self._world.load({index: starts[index][0] for index in sorted(self._loaded)})
        for index in self._loaded:
            self._own[index].begin()
        return found

    def step(self, actions: Mapping[int, Float32Array]) -> dict[int, StepResult | Exception]:
        """See `Worlds.step`."""
        self._world.guard.check_open("step")
        found: dict[int, StepResult | Exception] = {}
        fit: dict[int, Float32Array] = {}
        for index, action in actions.items():
            try:
                r1pro.check_action(action)
            except ActionError as error:
                found[index] = error
                continue
            if index in self._loaded:
                fit[index] = action
            else:
                found[index] = EnvError("step was called before reset")
        if fit:
            outcomes = self._world.advance(fit)
            for index in fit:
                found[index] = self._own[index].stepped(outcomes[index])
        return found

    def close(self) -> None:
        """Close the application. This may end the process, so results must be on disk."""
        self._world.close()
