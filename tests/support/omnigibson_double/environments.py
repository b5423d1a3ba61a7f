"""`og.Environment` of each generation."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from omnigibson_double.environment import EXTRA_RENDERS_ON_RESET, BaseEnvironment
from omnigibson_double.faults import faults
from omnigibson_double.robot import ModelRobot, R1Pro
from omnigibson_double.task import BehaviorTask2025, BehaviorTask2026
from omnigibson_double.tensors import torch


def _flat(action: Any) -> Any:
    return torch.as_tensor(action, dtype=torch.float)


class Environment2025(BaseEnvironment):
    """One scene; plain values."""

    protocol = "2025"
    pose_key = "R1Pro"
    robot_class = R1Pro
    task_class = BehaviorTask2025

    def __init__(self, configs: Any) -> None:
        self._current_step = 0
        self._current_episode = 0
        super().__init__(configs)

    def _robot_config(self, config: dict[str, Any]) -> dict[str, Any]:
        if config.get("type") != "R1Pro":
            raise ValueError(f"the double has a robot of type R1Pro, got {config.get('type')}")
        return config

    @property
    def scene(self) -> Any:
        return self._scenes[0]

    @property
    def robots(self) -> list[Any]:
        return self.scene.robots

    @property
    def episode_steps(self) -> int:
        return self._current_step

    def get_obs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._observe(0)

    def reset(self, get_obs: bool = True, **_: Any) -> Any:
        faults.strike("reset")
        self.task.reset(self)
        self._current_step = 0
        self._current_episode += 1
        if not get_obs:
            return None
        self._step_and_render_after_reset()
        obs, info = self.get_obs()
        self._check_observation(0, obs)
        return obs, {"obs_info": info}

    def step(self, action: Any, n_render_iterations: int = 1) -> Any:
        self._pre_step(action)
        sim = importlib.import_module("omnigibson").sim
        sim.step()
        for _ in range(n_render_iterations - 1):
            sim.render()
        return self._post_step(action)

    def _pre_step(self, action: Any) -> None:
        robot = self.robots[0]
        if isinstance(action, Mapping):
            action = action[robot.name]
        robot.apply_action(_flat(action).flatten())

    def _post_step(self, action: Any) -> Any:
        obs, obs_info = self.get_obs()
        reward, _, info = self.task.step(self, action)
        self._populate_info(info)
        info["obs_info"] = obs_info
        conditions = info["done"]["termination_conditions"]
        self._current_step += 1
        return obs, reward, conditions["predicate"]["done"], conditions["timeout"]["done"], info

    def _populate_info(self, info: dict[str, Any]) -> None:
        info["episode_length"] = self._current_step


class Environment2026(BaseEnvironment):
    """Several scenes; lists and tensors with a leading dimension."""

    protocol = "2026"
    pose_key = "r1pro"
    default_env = MappingProxyType(
        {"num_envs": 1, "num_rerenders_on_reset": EXTRA_RENDERS_ON_RESET}
    )
    robot_class = ModelRobot
    task_class = BehaviorTask2026

    def __init__(self, configs: Any) -> None:
        first = configs[-1] if isinstance(configs, (list, tuple)) else configs
        count = first.get("env", {}).get("num_envs", 1)
        self.num_envs = count
        self._current_steps = torch.zeros(count, dtype=torch.int32)
        self._current_episodes = torch.zeros(count, dtype=torch.int32)
        super().__init__(configs)

    def _robot_config(self, config: dict[str, Any]) -> dict[str, Any]:
        assert not ("model" in config and "type" in config), (
            "CANNOT SPECIFY BOTH TYPE AND MODEL. Robot config key 'type' is deprecated."
        )
        if "type" in config:
            config["model"] = config.pop("type").lower()
        assert config["model"] == "r1pro", f"{config['model']} is not a registered robot."
        return config

    @property
    def scenes(self) -> list[Any]:
        return self._scenes

    @property
    def scene(self) -> Any:
        assert len(self._scenes) == 1, (
            "The legacy 'env.scene' property is only supported for single-scene environments!"
        )
        return self._scenes[0]

    @property
    def robots(self) -> list[list[Any]]:
        return [scene.robots for scene in self._scenes]

    @property
    def episode_steps(self) -> Any:
        return self._current_steps

    def get_obs(self, env_indices: Any = None) -> tuple[list[Any], list[Any]]:
        indices = range(self.num_envs) if env_indices is None else map(int, env_indices)
        observed = [self._observe(index) for index in indices]
        return [obs for obs, _ in observed], [info for _, info in observed]

    def reset(self, env_indices: Any = None, get_obs: bool = True, **_: Any) -> Any:
        faults.strike("reset")
        indices = list(range(self.num_envs)) if env_indices is None else [*map(int, env_indices)]
        self.task.reset(self, env_indices=indices)
        self._current_steps[indices] = 0
        self._current_episodes[indices] += 1
        if not get_obs:
            return None
        self._step_and_render_after_reset()
        obs, infos = self.get_obs(indices)
        self._check_observation(indices[0], obs[0])
        return obs, {"obs_info": infos}

    def step(self, action: Any, n_render_iterations: int = 1) -> Any:
        rows = self._rows(action)
        for index, scene in enumerate(self._scenes):
            scene.robots[0].apply_action(rows[index])
        sim = importlib.import_module("omnigibson").sim
        sim.step()
        for _ in range(n_render_iterations - 1):
            sim.render()
        obs, obs_infos = self.get_obs()
        rewards, _, infos = self.task.step(self, action)
        self._populate_info(infos)
        for info, obs_info in zip(infos, obs_infos, strict=True):
            info["obs_info"] = obs_info
        self._current_steps += 1
        conditions = [info["done"]["termination_conditions"] for info in infos]
        terminated = torch.tensor([c["predicate"]["done"] for c in conditions])
        truncated = torch.tensor([c["timeout"]["done"] for c in conditions])
        return obs, rewards, terminated, truncated, infos

    def _rows(self, action: Any) -> Any:
        if isinstance(action, Mapping):
            action = [action]
        if isinstance(action, list) and action and isinstance(action[0], Mapping):
            names = [scene.robots[0].name for scene in self._scenes]
            return [_flat(one[name]) for one, name in zip(action, names, strict=True)]
        rows = _flat(action)
        return rows.unsqueeze(0) if rows.dim() == 1 else rows

    def _populate_info(self, infos: list[dict[str, Any]]) -> None:
        for index, info in enumerate(infos):
            info["episode_length"] = self._current_steps[index].item()
