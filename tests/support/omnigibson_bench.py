"""The double of either OmniGibson as the tests of this folder see it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from jobs import run_jobs
from omnigibson_double.application import SET_BY_ISAAC
from omnigibson_double.fixtures import Installed
from scipy.spatial.transform import Rotation

from b1k_envs.base import ProtocolYear
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.mujoco_twin.robot.body import MODELLED_BASE_JOINTS
from b1k_envs.omnigibson.env import OmniGibsonEnv, OmniGibsonWorlds
from b1k_envs.tasks.table import get_task

TASK = get_task(31)
PUBLIC: dict[str, Any] = {"split": "public-test", "max_steps": 100_000}


class Double:
    """The installed double, and what a test may look at below the adapter."""

    def __init__(self, installed: Installed) -> None:
        self.installed = installed
        self.protocol: ProtocolYear = installed.generation
        self.faults = installed.faults

    def env(self, **settings: Any) -> OmniGibsonEnv:
        """An env with the base of 250 kg that the twin has, by which it is measured."""
        defaults = {**PUBLIC, "heavy_base": self.protocol == "2025"}
        return self.group(1, **{**defaults, **settings}).envs[0]

    def group(self, count: int, **settings: Any) -> OmniGibsonWorlds:
        return OmniGibsonWorlds(TASK, protocol=self.protocol, count=count, **{**PUBLIC, **settings})

    @property
    def sim(self) -> Any:
        return importlib.import_module("omnigibson").sim

    @property
    def app(self) -> Any:
        return importlib.import_module("omnigibson").app

    @property
    def macros(self) -> Any:
        return importlib.import_module("omnigibson.macros")

    def physics(self, index: int = 0) -> Any:
        """The twin under one env, an `omnigibson_double.world.TwinScene`."""
        return self.sim.scenes[index].physics

    def twin(self, index: int = 0) -> TwinEnv:
        twin: TwinEnv = self.physics(index).env
        return twin


def start_anew() -> None:
    """As a process that has not started OmniGibson yet."""
    for name in [n for n in sys.modules if n.partition(".")[0] in ("omnigibson", "warp")]:
        del sys.modules[name]
    for name in SET_BY_ISAAC:
        os.environ.pop(name, None)


def drive(step: int) -> npt.NDArray[np.float32]:
    """An action of a robot that drives a curve, lowers its trunk and waves both hands."""
    action = np.zeros(23, dtype=np.float32)
    action[0:3] = (0.6, -0.2, 0.8)
    action[3:7] = (1.025, -1.45, -0.47, 0.02 * step)
    action[7] = action[15] = 0.03 * step
    action[14], action[22] = 1.0, -0.5
    return action


def after_the_second_cleaned_a_glove(
    double: Double, group: OmniGibsonWorlds, read: Callable[[Any], Any]
) -> tuple[Any, Any]:
    """What is read of each of two envs after a step, before which only env 1 has a clean glove."""
    told: dict[int, Any] = {}

    def job(index: int) -> Callable[[Any], None]:
        def go(env: Any) -> None:
            env.reset(0, 0, 0)
            if index == 1:
                counts = double.physics(1).states.dust_counts
                counts[next(iter(counts))] = 0
            env.step(drive(0))
            told[index] = read(env)

        return go

    run_jobs(group, [job(0), job(1)])
    return told[0], told[1]


def renders(double: Double, call: Any) -> int:
    before = double.sim.renders
    call()
    after: int = double.sim.renders
    return after - before


def tick_shown(picture: Any) -> int:
    """Stamped pictures tell the moment they show; see the double's fixtures."""
    return int(picture[0, 0, 0]) + 256 * int(picture[0, 0, 1])


def base_of(double: Double, qpos: Any, index: int = 0) -> Any:
    """Base pose in the scene frame out of a remembered state, by the twin's own joints."""
    model = double.physics(index).model
    x, y, yaw = (qpos[model.joint(name).qposadr[0]] for name in MODELLED_BASE_JOINTS)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", yaw).as_matrix()
    pose[:2, 3] = x, y
    return pose


def shown_camera(double: Double, view: str) -> tuple[Any, Any]:
    """Camera and base pose of the moment in the picture, scene frame."""
    moment = double.sim.in_the_picture(0)
    camera = np.eye(4)
    camera[:3, 3], camera[:3, :3] = moment.camera_pose(view)
    return camera, base_of(double, moment.qpos)


def camera_now(double: Double, view: str) -> Any:
    physics = double.physics()
    camera = np.eye(4)
    camera[:3, 3], camera[:3, :3] = physics.camera_pose(view)
    return np.linalg.inv(base_of(double, physics.data.qpos)) @ camera
