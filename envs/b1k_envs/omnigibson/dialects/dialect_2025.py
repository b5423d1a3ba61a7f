"""Calls into OmniGibson v3.7.2: one env, with `env.robots[0]` and `env.task.object_scope`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from b1k_envs.base import Float32Array, Float64Array, View
from b1k_envs.errors import EnvError
from b1k_envs.omnigibson.dialects.dialect import Dialect, Stepped, outcome


class Dialect2025(Dialect):
    """See `Dialect`. Steps return bare values, and the scope wraps its objects."""

    def robot(self, index: int) -> Any:  # noqa: ANN401
        """Return the robot of the one env."""
        return self._env.robots[index]

    def step_rendered(self, actions: Float32Array) -> tuple[list[Stepped], list[Mapping[str, Any]]]:
        """Call `env.step`, whose `info` is one dictionary."""
        (action,) = self._tensor(actions)
        observation, _, _, _, info = self._env.step(action, n_render_iterations=1)
        return [outcome(info["done"])], [observation]

    def step_unrendered(self, actions: Float32Array) -> list[Stepped]:
        """Do what `env.step` does, without its render and its `get_obs`."""
        (action,) = self._tensor(actions)
        env = self._env
        env._pre_step(action)
        with self.without_rendering():
            self._og.sim.step()
        _, _, info = env.task.step(env, action)
        env._populate_info(info)
        env._current_step += 1
        return [outcome(info["done"])]

    def read(self, index: int) -> Mapping[str, Any]:
        """Call `env.get_obs` of the one env."""
        observation: Mapping[str, Any] = self._env.get_obs()[0]
        return observation

    def episode_steps(self, index: int) -> int:
        """Return the simulator's count."""
        return int(self._env.episode_steps)

    def literal_truths(self, index: int) -> dict[str, bool]:
        """Let the literals evaluate themselves."""
        return {name: bool(literal.evaluate()) for name, literal in self._heads.items()}

    def scope(self, index: int) -> Mapping[str, Any]:
        """Return what is in the wrappers."""
        wrappers = self._env.task.object_scope
        return {n: each.wrapped_obj if each.exists else None for n, each in wrappers.items()}

    def entity(self, index: int, instance: str) -> Any:  # noqa: ANN401
        """Return the object or system in the wrapper."""
        wrapper = self._env.task.object_scope.get(instance)
        if wrapper is None or not wrapper.exists:
            raise EnvError(f"the scene has no object for {instance}")
        return wrapper.wrapped_obj

    def recorded_camera_pose(self, index: int, view: View) -> Float64Array | None:
        """Return the pose in the rendered frame."""
        return self.rendered_camera_pose(index, view)
