"""What the double's own tests share: an environment of either generation, and how to look at it."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from b1k_envs import r1pro
from omnigibson_double.data import PUBLIC_IDS_2025
from omnigibson_double.official import heavy_and_wide, load_2025, load_2026, official_config

HEAD = "robot_r1:zed_link:Camera:0"
WRIST = "robot_r1:left_realsense_link:Camera:0"
ZERO = np.zeros(23, dtype=np.float32)
DRIVE = r1pro.hold_action(np.zeros(61, np.float32), "2026", 1.0, 1.0)
DRIVE[:7] = (1.0, 0.0, 0.0, 1.025, -1.45, -0.47, 0.0)

both = pytest.mark.parametrize("og", ["2025", "2026"], indirect=True)
only_2025 = pytest.mark.parametrize("og", ["2025"], indirect=True)
only_2026 = pytest.mark.parametrize("og", ["2026"], indirect=True)


def start(installed, **config):
    """(module, environment); pictures are cheap stamps."""
    module = importlib.import_module("omnigibson")
    return module, module.Environment(configs=official_config(installed, **config))


def start_as_asked(request):
    """(module, environment, installation) of the generation in the fixture's parameter."""
    installed = request.getfixturevalue(f"og_{request.param}")
    return *start(installed), installed


def first(value):
    """Of 2026's lists the first entry."""
    return value[0] if isinstance(value, list) else value


def robot_of(env):
    return first(first(env.robots))


def tick_in(obs, sensor=HEAD):
    """Number of the simulator step that is in a stamped picture."""
    pixel = first(obs)["robot_r1"][sensor]["rgb"][0, 0].tolist()
    return pixel[0] + 256 * pixel[1]


def at_rest(env, installed, number=0):
    """Load a public test instance as the evaluator does; gives the first observation."""
    heavy_and_wide(env)
    if installed.generation == "2025":
        env.reset()
        load_2025(installed, env, PUBLIC_IDS_2025[number])
        return env.reset()[0]
    return load_2026(installed, env, [301 + number])[0]
