"""Several envs in one OmniGibson (v3.9.3): loaded together and stepped together.

All envs share one physics, and each step moves them all. The official evaluator sends zeros to a
finished env, which drives its arms to 0 rad and its grippers half open; here that robot holds its
last posture.
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
    Start,
    StepResult,
    VideoFrame,
    Worlds,
)
from b1k_envs.errors import ActionError, B1kEvalError, EnvError, UnavailableError, UsageError
from b1k_envs.findings import Finding
from b1k_envs.omnigibson.env import NO_PRIVILEGED_STATE, Episode
from b1k_envs.omnigibson.world import OmniGibsonWorld, RenderMode
from b1k_envs.tasks.table import Task


class SharedEnv(Env):
    """One env of a world that has several: read alone, moved with the others."""

    def __init__(self, world: OmniGibsonWorld, episode: Episode) -> None:
        self.info = world.info
        self._episode = episode

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        """Raise EnvError: see `Worlds.reset`."""
        raise EnvError("the envs of one OmniGibson are loaded together: see `Worlds.reset`")

    def step(self, action: Float32Array) -> StepResult:
        """Raise EnvError: see `Worlds.step`."""
        raise EnvError("the envs of one OmniGibson move together: see `Worlds.step`")

    def observe(self, *, images: bool = True) -> Observation:
        """See `Env.observe`; rendering is for all envs at once."""
        return self._episode.observe(images=images)

    def goal(self) -> GoalStatus:
        """See `Env.goal`."""
        return self._episode.goal()

    def subgoals(self) -> dict[str, bool]:
        """See `Env.subgoals`."""
        return self._episode.subgoals()

    def frame(self, *, light: bool = False) -> VideoFrame:
        """See `OmniGibsonEnv.frame`."""
        return self._episode.frame()

    def privileged_state(self) -> Any:  # noqa: ANN401
        """Raise UnavailableError, like `OmniGibsonEnv.privileged_state`."""
        raise UnavailableError(NO_PRIVILEGED_STATE)

    def close(self) -> None:
        """Do nothing: `OmniGibsonWorlds` closes the world."""


class OmniGibsonWorlds(Worlds):
    """See the module header. Use it on the thread that built it."""

    independent = False

    def __init__(
        self,
        task: Task,
        *,
        count: int,
        render: RenderMode = "on-demand",
        gpu: int | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        """Start OmniGibson with `count` envs; see `OmniGibsonWorld` for the rest and for errors."""
        if count < 1:
            raise UsageError(f"{count} envs: at least one is needed")
        self._world = OmniGibsonWorld(task, num_envs=count, render=render, gpu=gpu, **options)
        self.info = self._world.info
        self._episodes = [Episode(self._world, index) for index in range(count)]
        self._loaded: set[int] = set()
        self._closed = False
        super().__init__([SharedEnv(self._world, episode) for episode in self._episodes])

    @property
    def findings(self) -> list[Finding]:
        """Results of the checks at the start."""
        return self._world.findings

    def reset(self, starts: Mapping[int, Start]) -> dict[int, Exception | None]:
        """See `Worlds.reset`; an env without such an instance is left out of the load."""
        self._open("reset")
        found: dict[int, Exception | None] = {}
        for index, (instance, _, _) in starts.items():
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
            self._episodes[index].begin()
        return found

    def step(self, actions: Mapping[int, Float32Array]) -> dict[int, StepResult | Exception]:
        """See `Worlds.step`."""
        self._open("step")
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
                found[index] = self._episodes[index].stepped(outcomes[index])
        return found

    def close(self) -> None:
        """Close the application. This may end the process, so results must be on disk."""
        if not self._closed:
            self._closed = True
            self._world.close()

    def _open(self, call: str) -> None:
        if self._closed:
            raise EnvError(f"{call} was called after close")
