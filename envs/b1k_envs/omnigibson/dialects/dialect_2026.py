"""Calls into OmniGibson v3.9.3: `num_envs` envs in one, and lists with one entry for each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from b1k_envs.base import Float32Array, Float64Array, View
from b1k_envs.errors import EnvError
from b1k_envs.omnigibson.dialects.dialect import Dialect, Stepped, outcome

MAX_LITERALS_OF_ALL_OPTIONS = 2_000
"""Up to here the official method evaluates the goal. It evaluates every literal of every option,
which may be millions, so beyond this number only the distinct ones are evaluated, in its way."""


class Dialect2026(Dialect):
    """See `Dialect`. `env.scene` and `pred.evaluate()` know only the first env."""

    def robot(self, index: int) -> Any:  # noqa: ANN401
        """Return the one robot of an env's scene."""
        return self._env.robots[index][0]

    def step_rendered(self, actions: Float32Array) -> tuple[list[Stepped], list[Mapping[str, Any]]]:
        """Call `env.step` for all envs."""
        result = self._env.step(self._tensor(actions), n_render_iterations=1)
        observations, _, _, _, infos = result
        return [outcome(info["done"]) for info in infos], observations

    def step_unrendered(self, actions: Float32Array) -> list[Stepped]:
        """Do what `env.step` does, without its render and its `get_obs`."""
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
        """Call `env.get_obs` for one env."""
        observation: Mapping[str, Any] = self._env.get_obs(env_indices=[index])[0][0]
        return observation

    def episode_steps(self, index: int) -> int:
        """Return the simulator's count."""
        return int(self._env.episode_steps[index])

    def literal_truths(self, index: int) -> dict[str, bool]:
        """Let the task evaluate the literals against the objects of the env.

        Raises:
            EnvError: The truths that it returns do not fit its options.
        """
        task = self._env.task
        if self._literal_count > MAX_LITERALS_OF_ALL_OPTIONS:
            ask = partial(task._evaluate_predicate, index)
            return {name: bool(literal.evaluate(ask)) for name, literal in self._heads.items()}
        truths = task.get_goal_option_satisfaction(index)
        expected, got = [*map(len, self.options)], [*map(len, truths)]
        if expected != got:
            raise EnvError(
                f"the task's ground goal options have {expected} literals, and OmniGibson gave "
                f"the truth of {got}"
            )
        return {
            name: bool(true)
            for names, option in zip(self.options, truths, strict=True)
            for name, true in zip(names, option, strict=True)
        }

    def scope(self, index: int) -> Mapping[str, Any]:
        """Return the task's own scope."""
        scope: Mapping[str, Any] = self._env.task.object_scopes[index]
        return scope

    def entity(self, index: int, instance: str) -> Any:  # noqa: ANN401
        """Return the object or system itself."""
        entity = self._env.task.object_scopes[index].get(instance)
        if entity is None:
            raise EnvError(f"the scene of env {index} has no object for {instance}")
        return entity

    def recorded_camera_pose(self, index: int, view: View) -> Float64Array | None:
        """Return the camera's pose now, as this evaluator does, although the picture lags."""
        return self.camera_pose(index, view)
