"""The R1Pro as OmniGibson's robot object."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from b1k_envs import r1pro
from b1k_envs.base import VIEWS
from b1k_envs.mujoco_twin.robot.body import BASE_BODY
from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout
from omnigibson_double.controllers import make_controllers
from omnigibson_double.faults import faults
from omnigibson_double.sensors import VisionSensor
from omnigibson_double.tensors import numbers, pose, tensor, torch, yaw_of
from omnigibson_double.things import Link, Thing
from omnigibson_double.touch import Touched

if TYPE_CHECKING:
    from omnigibson_double.scene import Scene

_SUBSTEPS = 4
_BODIES = {layout.WASHER_DOOR: "washer.n.03_1"} | {
    body: instance for instance, body in layout.BDDL_BODIES.items()
}


class IsGraspingState(IntEnum):
    TRUE = 1
    UNKNOWN = 0
    FALSE = -1


class BaseLink(Link):
    """The link whose mass is set."""

    @property
    def mass(self) -> float:
        return self._scene.physics.base_mass

    @mass.setter
    def mass(self, mass: float) -> None:
        sim = importlib.import_module("omnigibson").sim
        assert sim.is_stopped(), "the mass of a link can only be set while the simulator is stopped"
        self._scene.physics.base_mass = float(mass)


class Robot(Touched):
    """What both generations' robots have in common; `config` is the robot dict of the config."""

    owner = "Robot"

    per_link_sensor_config = False
    _handler: str  # module of the grasping macro and of what is held against it

    def __init__(self, scene: Scene, config: Mapping[str, Any]) -> None:
        self.scene = scene
        self.name = config["name"]
        self._config = dict(config)
        self._obs_modalities = set(config.get("obs_modalities", ("rgb", "proprio")))
        self._proprio_obs = list(config.get("proprio_obs", ("joint_qpos", "joint_qvel")))
        self.arm_names = ["left", "right"]
        self.grasping_mode = config.get("grasping_mode", "physical")
        self._controllers = make_controllers(config["controller_config"])
        self._reset_joint_pos = np.asarray(config["reset_joint_pos"], dtype=np.float64)
        links = r1pro.kinematics()["links"]
        self.links: dict[str, Link] = {n: Link(scene, n) for n in links if n != BASE_BODY}
        self._base_link = self.links["base_footprint"] = BaseLink(scene, BASE_BODY)
        self.sensors: dict[str, VisionSensor] = {}
        self._window_steps()

    def make_sensors(self) -> None:
        """Cameras on the three links; called when the robot is in its scene."""
        for view in VIEWS:
            link = r1pro.CAMERAS[view].link
            kwargs = self._sensor_kwargs(f"{link}:Camera:0")
            name = f"{self.name}:{link}:Camera:0"
            self.sensors[name] = VisionSensor(
                self.scene,
                name,
                view,
                height=kwargs.get("image_height", 128),
                width=kwargs.get("image_width", 128),
                modalities=self._obs_modalities - {"proprio"},
            )

    def _sensor_kwargs(self, link: str) -> Mapping[str, Any]:
        config = self._config.get("sensor_config", {})
        chosen = dict(config.get("VisionSensor", {}).get("sensor_kwargs", {}))
        if self.per_link_sensor_config and link in config:
            chosen |= config[link]["sensor_kwargs"]
        return chosen

    # --- commands ---------------------------------------------------------------------------

    @property
    def action_dim(self) -> int:
        return sum(controller.command_dim for controller in self._controllers.values())

    @property
    def controllers(self) -> dict[str, Any]:
        return self._controllers

    def apply_action(self, action: Any) -> None:
        """Set the controllers' goals; they stay until the next action or reset."""
        command = numbers(action).astype(np.float32)
        assert command.shape == (self.action_dim,), (
            f"Action must be dimension {self.action_dim}, got dim {len(command)} instead."
        )
        row = np.empty_like(command)
        for part, controller in self._controllers.items():
            columns = r1pro.ACTION_SLICES[part]
            row[columns] = controller.to_twin(command[columns])
        self.scene.physics.command = row

    def before_step(self) -> None:
        """Grasping reads its macro anew; without assistance a hand never takes anything."""
        self.scene.physics.set_grasp_window(self._window_steps())

    def _window_steps(self) -> int:
        handler = importlib.import_module(self._handler)
        substeps = next(n for n in itertools.count(1) if handler.window_is_over(n))
        if self.grasping_mode != "assisted":
            return 10**9
        return math.ceil(substeps / _SUBSTEPS)

    # --- poses ------------------------------------------------------------------------------

    @property
    def base_footprint_link(self) -> BaseLink:
        return self._base_link

    @property
    def root_link(self) -> Link:
        return self._base_link

    def get_position_orientation(self, frame: str = "world") -> tuple[Any, Any]:
        return self._base_link.get_position_orientation(frame)

    def set_position_orientation(
        self, position: Any = None, orientation: Any = None, frame: str = "world"
    ) -> None:
        """Writes the virtual base joints; what a hand holds is left behind, still held."""
        self.scene.remember_facts()
        here, turn = self.get_position_orientation("scene")
        offset = self.scene.physics.offset if frame == "world" else np.zeros(3)
        assert frame in ("world", "scene"), f"unknown frame {frame}"
        target = numbers(here) if position is None else numbers(position) - offset
        yaw = yaw_of(numbers(turn) if orientation is None else numbers(orientation))
        self.scene.physics.set_base(target, yaw)

    def get_eef_position(self, arm: str = "left") -> Any:
        return self.get_eef_pose(arm)[0]

    def get_eef_pose(self, arm: str = "left") -> tuple[Any, Any]:
        position, rotation = self.scene.physics.eef_pose(arm)
        return pose(self.scene.outward(position, "world"), rotation)

    def get_relative_eef_pose(self, arm: str = "left", mat: bool = False) -> Any:
        position, rotation = self.scene.physics.eef_pose(arm)
        base, turn = self.scene.physics.body_pose(BASE_BODY)
        position, rotation = turn.T @ (position - base), turn.T @ rotation
        if not mat:
            return pose(position, rotation)
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation, position
        return tensor(matrix)

    def get_joint_positions(self, normalized: bool = False) -> Any:
        assert not normalized, "the double gives joint positions in rad and m"
        return tensor(self.scene.physics.joint_positions())

    def get_joint_velocities(self, normalized: bool = False) -> Any:
        assert not normalized, "the double gives joint velocities in rad/s and m/s"
        return tensor(self.scene.physics.joint_velocities())

    def set_joint_positions(self, positions: Any, indices: Any = None, drive: bool = False) -> None:
        assert not drive, "the double sets joint positions, and drives none"
        values = self.scene.physics.joint_positions()
        values[slice(None) if indices is None else numbers(indices).astype(int)] = numbers(
            positions
        )
        self.scene.physics.set_joint_positions(values)

    def reset(self) -> None:
        """Posture and base joints of the config, hands empty, controllers at rest."""
        importlib.import_module("omnigibson").sim.require_handles("Robot.reset")
        self.scene.remember_facts()
        self.scene.physics.release()
        self.scene.physics.set_joint_positions(self._reset_joint_pos)
        self.scene.physics.forget_command()

    def keep_still(self) -> None:
        self.scene.physics.still_robot()

    def wake(self) -> None:
        pass

    # --- hands ------------------------------------------------------------------------------

    @property
    def _ag_obj_in_hand(self) -> dict[str, Thing | None]:
        held = {arm: self.scene.physics.held(arm) for arm in self.arm_names}
        return {
            arm: None if body is None else self.scene.things[_BODIES[body]]
            for arm, body in held.items()
        }

    def is_grasping(self, arm: str = "left", candidate_obj: Any = None) -> IsGraspingState:
        """Assisted: whether there is a constraint, and to this object if one is named."""
        if self.grasping_mode != "assisted":
            return IsGraspingState.UNKNOWN
        held = self._ag_obj_in_hand[arm]
        yes = held is not None and (candidate_obj is None or held is candidate_obj)
        return IsGraspingState.TRUE if yes else IsGraspingState.FALSE

    # --- observations -----------------------------------------------------------------------

    def _fields(self) -> dict[str, npt.NDArray[np.float64]]:
        return self.scene.physics.proprio_fields()

    def get_proprioception(self) -> tuple[Any, dict[str, Any]]:
        """The fields of the config, in its order: float32, and each by name."""
        fields = self._fields()
        planned = faults.strike("get_obs")
        if planned is not None:
            fields[planned.field] = np.full_like(fields[planned.field], np.nan)
        by_name = {name: tensor(fields[name]) for name in self._proprio_obs}
        return torch.cat(list(by_name.values())), by_name

    def get_obs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        obs: dict[str, Any] = {}
        info: dict[str, Any] = {}
        for name, sensor in self.sensors.items():
            obs[name], info[name] = sensor.get_obs()
        if "proprio" in self._obs_modalities:
            obs["proprio"], info["proprio"] = self.get_proprioception()
        return obs, info


class R1Pro(Robot):
    """2025: a class of its own, named by `type`."""

    model_name = "R1Pro"
    _handler = "omnigibson.robots.manipulation_robot"


class ModelRobot(Robot):
    """2026: one class for all, named by `model`; base velocities in the robot's frame."""

    per_link_sensor_config = True
    model = "r1pro"
    _handler = "omnigibson.robots.robot"

    def __init__(self, scene: Scene, config: Mapping[str, Any]) -> None:
        super().__init__(scene, config)
        view = importlib.import_module("omnigibson.controllers").ControllerView
        self._members = {
            part: view.register(part, controller) for part, controller in self._controllers.items()
        }

    @property
    def controllers(self) -> dict[str, Any]:
        """Pairs of the controller's group and the number in it, no controllers."""
        return self._members

    def _fields(self) -> dict[str, npt.NDArray[np.float64]]:
        fields = super()._fields()
        cos, sin = fields["robot_2d_ori_cos"][0], fields["robot_2d_ori_sin"][0]
        x, y, turn = fields["base_qvel"]
        fields["base_qvel"] = np.array([cos * x + sin * y, -sin * x + cos * y, turn])
        return fields
