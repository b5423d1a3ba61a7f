"""BehaviorTask: termination, goal and info, for one scene (2025) and for several (2026)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

from omnigibson_double.goal import CompiledGoal, GroundHead
from omnigibson_double.names import NAMES
from omnigibson_double.object_states import BY_PREDICATE
from omnigibson_double.tensors import tensor, torch
from omnigibson_double.things import BDDLEntity
from omnigibson_double.touch import Touched
from omnigibson_double.world import TASK

if TYPE_CHECKING:
    from omnigibson_double.scene import Scene

DoneInfo = dict[str, Any]


class BehaviorTask(Touched):
    """What both generations share."""

    owner = "BehaviorTask"

    def __init__(self, config: Mapping[str, Any], scenes: list[Scene]) -> None:
        name = config["activity_name"]
        if name != TASK.name:
            raise ValueError(f"Invalid Behavior Task received: {name}; the double has {TASK.name}")
        assert not config.get("online_object_sampling", False), "the double samples nothing"
        self.activity_name = name
        self.activity_definition_id = config.get("activity_definition_id", 0)
        self.activity_instance_id = config.get("activity_instance_id", 0)
        self._max_steps = int(config.get("termination_config", {}).get("max_steps", 500))
        self._r_potential = float(config.get("reward_config", {}).get("r_potential", 1.0))
        self._scenes = scenes
        self.scene_name = scenes[0].scene_model
        self._potentials: list[float | None] = [None] * len(scenes)
        self._success: Any = None

    @classmethod
    def get_cached_activity_scene_filename(
        cls,
        scene_model: str,
        activity_name: str,
        activity_definition_id: int,
        activity_instance_id: int,
    ) -> str:
        return (
            f"{scene_model}_task_{activity_name}_{activity_definition_id}_"
            f"{activity_instance_id}_template"
        )

    @property
    def success(self) -> Any:
        """As the last `step` found it; there is none before the first."""
        assert self._success is not None, "At least one step() must occur first!"
        return self._success

    def entities(self, env_idx: int) -> dict[str, Any]:
        """Robot, objects and systems of a scene by BDDL instance, the agent first."""
        scene = self._scenes[env_idx]
        agent = {"agent.n.01_1": scene.robots[0]}
        return agent | {name: scene.things[name] for name in NAMES if name in scene.things}

    def _reset_scene(self, env_idx: int) -> None:
        scene = self._scenes[env_idx]
        scene.reset()
        poses = scene.get_task_metadata("robot_poses")
        robot = scene.robots[0]
        chosen = self._presampled(robot, poses)
        robot.set_position_orientation(chosen["position"], chosen["orientation"], frame="scene")
        self._potentials[env_idx] = None

    def _presampled(self, robot: Any, poses: Mapping[str, Any]) -> Mapping[str, Any]:
        raise NotImplementedError

    def _finish(
        self, env_idx: int, steps: int, goal: tuple[bool, dict[str, list[int]]]
    ) -> tuple[float, bool, dict[str, Any]]:
        """Reward, done and info of one env. The counter is that before this step."""
        success, status = goal
        timeout = steps >= self._max_steps
        done: DoneInfo = {
            "termination_conditions": {
                "timeout": {"done": timeout, "success": False},
                "predicate": {"done": success, "success": success},
            },
            "success": success,
            "goal_status": status,
        }
        satisfied, missing = len(status["satisfied"]), len(status["unsatisfied"])
        potential = -satisfied / (satisfied + missing)
        before = self._potentials[env_idx]
        reward = 0.0 if before is None else (before - potential) * self._r_potential
        self._potentials[env_idx] = potential
        info = {"reward": {"reward_breakdown": {"potential": reward}}, "done": done}
        return reward, timeout or success, info


class BehaviorTask2025(BehaviorTask):
    """One scene; the scope holds `BDDLEntity`s; heads evaluate themselves."""

    def __init__(self, config: Mapping[str, Any], scenes: list[Scene]) -> None:
        super().__init__(config, scenes)
        self.object_scope = {name: BDDLEntity(name, e) for name, e in self.entities(0).items()}
        self._goal = CompiledGoal(
            self.activity_name, self.activity_definition_id, self.object_scope
        )
        self.activity_goal_conditions = self._goal.goal
        self.ground_goal_state_options = self._goal.options
        self.activity_natural_language_goal_conditions = self._goal.natural_language

    def get_agent(self, env: Any) -> Any:
        return env.robots[0]

    def reset(self, env: Any) -> None:
        self._reset_scene(0)
        self._success = None

    def _presampled(self, robot: Any, poses: Mapping[str, Any]) -> Mapping[str, Any]:
        return poses[robot.model_name][0]

    def step(self, env: Any, action: Any) -> tuple[float, bool, dict[str, Any]]:
        reward, done, info = self._finish(0, env.episode_steps, self._goal.check())
        self._success = info["done"]["success"]
        return reward, done, deepcopy(info)


class BehaviorTask2026(BehaviorTask):
    """Several scenes; scopes hold the raw objects; heads know env 0 only."""

    def __init__(self, config: Mapping[str, Any], scenes: list[Scene]) -> None:
        super().__init__(config, scenes)
        self.object_scopes = [self.entities(index) for index in range(len(scenes))]
        names = {name: BDDLEntity(name, entity) for name, entity in self.object_scopes[0].items()}
        symbolic = CompiledGoal(self.activity_name, self.activity_definition_id, names)
        self.ground_goal_state_options = [
            [GroundHead(list(head.terms), partial(self._evaluate_predicate, 0)) for head in option]
            for option in symbolic.options
        ]
        self.activity_natural_language_goal_conditions = symbolic.natural_language

    def _evaluate_predicate(self, env_idx: int, predicate_name: str, *entities: str) -> bool:
        first, *others = (self.object_scopes[env_idx][name] for name in entities)
        return first.states[BY_PREDICATE[predicate_name]].get_value(*others)

    def get_goal_option_satisfaction(self, env_idx: int) -> list[list[bool]]:
        ask = partial(self._evaluate_predicate, env_idx)
        return [[head.evaluate(ask) for head in opt] for opt in self.ground_goal_state_options]

    def get_agent(self, env: Any, env_idx: int = 0) -> Any:
        return env.scenes[env_idx].robots[0]

    def reset(self, env: Any, env_indices: Any = None) -> None:
        for index in range(len(self._scenes)) if env_indices is None else env_indices:
            self._reset_scene(int(index))
        self._success = None

    def _presampled(self, robot: Any, poses: Mapping[str, Any]) -> Mapping[str, Any]:
        lowered = {key.lower(): value for key, value in poses.items()}
        return (lowered["robot"] if "robot" in lowered else lowered[robot.model])[0]

    def step(self, env: Any, action: Any) -> tuple[Any, Any, list[dict[str, Any]]]:
        results = []
        for index in range(len(self._scenes)):
            success = any(map(all, self.get_goal_option_satisfaction(index)))
            status = {  # of the goal's conditions, of which this activity has one
                "satisfied": [0] if success else [],
                "unsatisfied": [] if success else [0],
            }
            goal = (success, status)
            results.append(self._finish(index, int(env.episode_steps[index]), goal))
        self._success = torch.tensor([info["done"]["success"] for _, _, info in results])
        rewards = tensor([reward for reward, _, _ in results])
        dones = torch.tensor([done for _, done, _ in results])
        return rewards, dones, [json.loads(json.dumps(info)) for _, _, info in results]
