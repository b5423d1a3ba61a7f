"""What `og.Environment` does in both generations: config, construction, checks."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from b1k_envs.base import ProtocolYear
from omnigibson_double.faults import faults
from omnigibson_double.names import ROOMS, SCENE_MODEL
from omnigibson_double.robot import Robot
from omnigibson_double.scene import Scene
from omnigibson_double.task import BehaviorTask
from omnigibson_double.touch import Touched

EXTRA_RENDERS_ON_RESET = 3

_DEFAULTS: dict[str, Any] = {
    "env": {
        "action_frequency": 30,
        "rendering_frequency": 30,
        "physics_frequency": 120,
        "device": None,
        "automatic_reset": False,
        "flatten_action_space": False,
        "flatten_obs_space": False,
        "external_sensors": None,
    },
    "render": {"viewer_width": 1280, "viewer_height": 720},
    "scene": {"scene_instance": None, "scene_file": None},
    "robots": [],
    "objects": [],
    "task": {"type": "DummyTask"},
    "wrapper": {"type": None},
}


def merged(base: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries, the second over the first."""
    result = deepcopy(base)
    for key, value in extra.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else deepcopy(value)
    return result


class BaseEnvironment(Touched):
    """Shared by both generations; constructing one resets it once."""

    owner = "Environment"

    protocol: ProtocolYear
    default_env: Mapping[str, Any] = {}
    robot_class: type[Robot]
    task_class: type[BehaviorTask]

    def __init__(self, configs: Any) -> None:
        faults.strike("environment")
        self.config = merged(_DEFAULTS, {"env": self.default_env})
        for config in configs if isinstance(configs, (list, tuple)) else [configs]:
            self.config = merged(self.config, config)
        self._check()
        self._launch()
        self.num_scenes = int(self.config["env"].get("num_envs", 1))
        self._loaded = False
        self._load()
        self.reset()
        self._loaded = True

    # --- construction -----------------------------------------------------------------------

    def _check(self) -> None:
        env, scene, task = (self.config[key] for key in ("env", "scene", "task"))
        rates = (env["action_frequency"], env["rendering_frequency"], env["physics_frequency"])
        if rates != (30, 30, 120):
            raise ValueError(f"the double runs at 30, 30 and 120 Hz, got {rates}")
        if env["flatten_obs_space"] or env["flatten_action_space"] or env["automatic_reset"]:
            raise ValueError("the double flattens nothing and resets nothing by itself")
        if scene.get("type") != "InteractiveTraversableScene" or task["type"] != "BehaviorTask":
            raise ValueError("the double has InteractiveTraversableScene and BehaviorTask")
        if scene.get("scene_model") != SCENE_MODEL:
            raise ValueError(f"the double has {SCENE_MODEL}, not {scene.get('scene_model')}")
        gm = importlib.import_module("omnigibson.macros").gm
        assert gm.ENABLE_OBJECT_STATES, "Must set gm.ENABLE_OBJECT_STATES=True for BehaviorTask!"

    def _launch(self) -> None:
        env, render = self.config["env"], self.config["render"]
        og = importlib.import_module("omnigibson")
        wanted = {
            "physics_dt": 1 / env["physics_frequency"],
            "rendering_dt": 1 / env["rendering_frequency"],
            "device": env["device"] or "cpu",
            "viewer_width": render["viewer_width"],
            "viewer_height": render["viewer_height"],
        }
        if og.sim is None:
            og.launch(**wanted, sim_step_dt=1 / env["action_frequency"])
        for name, value in wanted.items():
            attribute = f"initial_{name}" if name.endswith("dt") else name
            assert getattr(og.sim, attribute) == value, f"{name} mismatch! Expected {value}"

    def _load(self) -> None:
        sim = importlib.import_module("omnigibson").sim
        sim.stop()
        self._scenes = [Scene(self.protocol, index) for index in range(self.num_scenes)]
        rooms = loaded_rooms(self.config["scene"])
        for scene in self._scenes:
            scene.loaded_rooms = rooms
        sim.import_scene(self._scenes)
        for scene in self._scenes:
            for config in self.config["robots"]:
                scene.robots.append(self._make_robot(scene, config))
        self._task = self.task_class(self.config["task"], self._scenes)
        sim.play()
        sim.update_handles()
        for scene in self._scenes:
            scene.update_initial_file()
            scene.forget_facts()
            scene.remember_facts()
        self.load_observation_space()

    def _make_robot(self, scene: Scene, config: Mapping[str, Any]) -> Robot:
        config = self._robot_config(dict(config))
        robot = self.robot_class(scene, config)
        robot.make_sensors()
        scene.physics.set_joint_positions(config["reset_joint_pos"])
        robot.set_position_orientation(config["position"], config["orientation"], frame="scene")
        scene.physics.forget_command()
        pose = {"position": list(config["position"]), "orientation": list(config["orientation"])}
        scene.write_task_metadata("robot_poses", {self.pose_key: [pose]})
        return robot

    pose_key = ""

    def _robot_config(self, config: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    # --- observations -----------------------------------------------------------------------

    def load_observation_space(self) -> Any:
        """Take note of the shapes that observations have now."""
        self.observation_space = [_space(scene.robots) for scene in self._scenes]
        return self.observation_space

    def _check_observation(self, index: int, obs: Mapping[str, Any]) -> None:
        if self._loaded and _shapes(obs) != self.observation_space[index]:
            raise ValueError("Observation space does not match returned observations!")

    def _observe(self, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        importlib.import_module("omnigibson").sim.require_own_thread()
        obs: dict[str, Any] = {}
        info: dict[str, Any] = {}
        for robot in self._scenes[index].robots:
            obs[robot.name], info[robot.name] = robot.get_obs()
        return obs, info

    # --- the rest ---------------------------------------------------------------------------

    @property
    def task(self) -> Any:
        return self._task

    def close(self) -> None:
        """Do nothing, as OmniGibson."""

    def _step_and_render_after_reset(self) -> None:
        sim = importlib.import_module("omnigibson").sim
        sim.step()
        for _ in range(self.config["env"].get("num_rerenders_on_reset", EXTRA_RENDERS_ON_RESET)):
            sim.render()


def loaded_rooms(scene: Mapping[str, Any]) -> tuple[str, ...]:
    """Rooms of the house that a scene config loads; instances go before types, none is all."""
    instances, types = scene.get("load_room_instances"), scene.get("load_room_types")
    if instances is not None:
        return tuple(room for room in ROOMS if room in instances)
    if types is not None:
        return tuple(room for room in ROOMS if room.rpartition("_")[0] in types)
    return ROOMS


def _shapes(obs: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for key, value in obs.items():
        path = f"{prefix}::{key}" if prefix else key
        if isinstance(value, Mapping):
            shapes |= _shapes(value, path)
        else:
            shapes[path] = tuple(value.shape)
    return shapes


def _space(robots: list[Robot]) -> dict[str, tuple[int, ...]]:
    """Shapes by flattened key, from the sizes and fields, without rendering."""
    space: dict[str, tuple[int, ...]] = {}
    for robot in robots:
        for name, sensor in robot.sensors.items():
            for modality in sensor.modalities:
                size = (sensor.image_height, sensor.image_width)
                shape = (*size, 4) if modality == "rgb" else size
                space[f"{robot.name}::{name}::{modality}"] = shape
        if "proprio" in robot._obs_modalities:
            fields = robot._fields()
            length = sum(len(fields[name]) for name in robot._proprio_obs)
            space[f"{robot.name}::proprio"] = (length,)
    return space
