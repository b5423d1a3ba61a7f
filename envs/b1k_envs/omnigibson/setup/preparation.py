"""The changes that the evaluator and its wrappers make to a new environment.

Sources, repository StanfordVL/BEHAVIOR-1K, under `OmniGibson/omnigibson/`: 2025 `learning/wrappers/
{heavy_robot,default}_wrapper.py`: base mass while the simulator is stopped, head aperture, sizes
of data collection, and the observation space loaded again, without which the next reset refuses its
own observation. 2026 `BatchedEvaluator._apply_robot_eval_settings` in `eval/evaluator.py`: mass
and aperture; sizes are in the config there.

In 2025 a wrapper chooses the mass, not the evaluator: only `HeavyRobotWrapper` sets the 250 kg of
data collection; the default wrapper, and that of a winning team (RGB at 720 and 480 px), keep the
robot's own. So 250 kg are an option in 2025, and without it the simulator is not stopped.
"""

from __future__ import annotations

import gc
from typing import Any

from b1k_envs.omnigibson.observations import sensor_name
from b1k_envs.omnigibson.setup.application import Application
from b1k_envs.omnigibson.setup.generation import Generation
from b1k_envs.r1pro import BASE_MASS, CAMERAS

HEAD_APERTURE = 40.0
"""Horizontal aperture of the head camera [mm], `EVAL_HEAD_HORIZONTAL_APERTURE`; with the focal
length of 17 mm fx is 306 at 720 px. The wrist cameras keep theirs, 20.995 mm."""


def robots_of(generation: Generation, env: Any) -> list[Any]:  # noqa: ANN401 - of OmniGibson
    """Return the robots of an environment, one for each env."""
    robots = env.robots
    return [each[0] for each in robots] if generation.vectorised else [robots[0]]


def is_heavy(generation: Generation, heavy_base: bool) -> bool:
    """Return whether the base gets 250 kg: always in 2026, in 2025 only if asked for."""
    return heavy_base or generation.protocol == "2026"


def prepare_environment(
    application: Application,
    generation: Generation,
    env: Any,  # noqa: ANN401 - an object of OmniGibson
    *,
    heavy_base: bool = False,
) -> dict[str, Any]:
    """Bring a new environment to the state in which the evaluator loads its first instance.

    Args:
        application: The application that the environment belongs to.
        generation: The generation to follow.
        env: An `omnigibson.Environment`, not a wrapper of one.
        heavy_base: Whether the base should weigh 250 kg in 2025, see `is_heavy`.

    Returns:
        The settings that were applied, JSON values.
    """
    sim = application.og.sim
    robots = robots_of(generation, env)
    heavy = is_heavy(generation, heavy_base)
    if heavy:
        sim.stop()  # a mass written while physics runs has no effect
        for robot in robots:
            robot.base_footprint_link.mass = BASE_MASS
        sim.play()
    for robot in robots:
        robot.sensors[sensor_name("head")].horizontal_aperture = HEAD_APERTURE
    if generation.vectorised:
        sim.update_handles()  # the first reset reads joint states through them
    else:
        for view, camera in CAMERAS.items():
            sensor = robots[0].sensors[sensor_name(view)]
            sensor.image_height = camera.size
            sensor.image_width = camera.size
        env.load_observation_space()  # otherwise the next reset refuses its own observation
    gc.enable()  # again, because a scene loads extensions of Isaac Sim, which switch it off
    return {
        "base_mass_kg": float(robots[0].base_footprint_link.mass),
        "base_mass_set": heavy,
        "head_horizontal_aperture_mm": HEAD_APERTURE,
        "image_sizes_px": {view: camera.size for view, camera in CAMERAS.items()},
        "image_sizes_set": "at creation" if generation.vectorised else "after creation",
    }
