"""OmniGibson v3.9.3: `num_envs` envs in one; everything comes in lists with one entry each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from b1k_envs.base import Float32Array, Float64Array, View
from b1k_envs.errors import EnvError
from b1k_envs.omnigibson.dialect import Dialect, Stepped, outcome


class Dialect2026(Dialect):
    """See `Dialect`. `env.scene` and `pred.evaluate()` know the first env only."""

    def robot(self, index: int) -> Any:  # noqa: ANN401
        """The one robot of an env's scene."""
        return self._env.robots[index][0]

    def step_rendered(self, actions: Float32Array) -> tuple[list[Stepped], list[Mapping[str, Any]]]:
        """`env.step` of all envs."""
        result = self._env.step(self._tensor(actions), n_render_iterations=1)
        observations, _, _, _, infos = result
        return [outcome(info["done"]) for info in infos], observations

    def step_unrendered(self, actions: Float32Array) -> list[Stepped]:
        """`env.step` without its render and its `get_obs`."""
        env, tensor = self._env, self._tensor(actions)
        for index in range(self.num_envs):
            self.robot(index).apply_action(tensor[index])
        with self.without_rendering():
            self._og.sim.step()
        _, _, infos = env.task.step(env, tensor)
        env._populate_info(infos)
        env._current_steps += 1
        return [outcome(info["done"]) for info in infos]

    def read(self, index: int) -> Mapping[str, Any]:
        """`env.get_obs` of one env."""
        observation: Mapping[str, Any] = self._env.get_obs(env_indices=[index])[0][0]
        return observation

    def episode_steps(self, index: int) -> int:
        """The simulator's count."""
        return int(self._env.episode_steps[index])

    def option_truths(self, index: int) -> list[list[bool]]:
        """The task evaluates them against the objects of the env."""
        options = self._env.task.get_goal_option_satisfaction(index)
        return [[bool(truth) for truth in option] for option in options]

    def instances(self, index: int) -> list[str]:
        """Those that map to something."""
        scope = self._env.task.object_scopes[index]
        return [name for name, entity in scope.items() if entity is not None]

    def entity(self, index: int, instance: str) -> Any:  # noqa: ANN401
        """The object or system itself."""
        entity = self._env.task.object_scopes[index].get(instance)
        if entity is None:
            raise EnvError(f"the scene of env {index} has no object for {instance}")
        return entity

    def recorded_camera_pose(self, index: int, view: View) -> Float64Array | None:
        """That of the camera now, although the picture lags."""
        return self.camera_pose(index, view)
