"""The checks made at every start of a run in OmniGibson.

A finding that would make numbers wrong ends the run before it begins. Any other difference from the
official set-up is a remark in run.json. Expected values come from the modules that set them:
`config`, `preparation`, `application`, `generation`, `r1pro`, with their sources.

What a pass does not prove: that a recorded demonstration replays to its end, which needs a run of
its own, or that a picture was taken from the pose that the renderer gives with it.
"""

from __future__ import annotations

import gc
import importlib
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from b1k_envs.base import VIEWS, Float32Array
from b1k_envs.errors import EnvError
from b1k_envs.findings import EEF_TOLERANCE, Finding
from b1k_envs.omnigibson.observations import (
    DEPTH,
    pose_matrix,
    sensor_name,
    to_numpy,
)
from b1k_envs.omnigibson.setup.application import DISABLED_RULES, Application, grasp_window
from b1k_envs.omnigibson.setup.data import assets_version
from b1k_envs.omnigibson.setup.generation import (
    ROBOT_NAME,
    Generation,
    GraspClock,
    grasp_clock,
    grasp_steps,
    has_scene_fixes,
)
from b1k_envs.omnigibson.setup.moving_checks import (
    base_limits_of,
    of_picture_age,
    of_standing_still,
    proprio_of,
)
from b1k_envs.omnigibson.setup.preparation import HEAD_APERTURE, is_heavy, robots_of
from b1k_envs.r1pro import (
    ACTION_DIM,
    ARMS,
    BASE_MASS,
    BASE_VELOCITY_LIMIT,
    CAMERAS,
    FINGER_TRAVEL,
    PROPRIO_DIM,
    PROPRIO_LAYOUTS,
)

_GRASP_BUILDS = MappingProxyType(
    {
        ("2026", 3.0, "get_sim_step_dt"): "this build is from before pull request 2072 of "
        "BEHAVIOR-1K; take a newer one of v3.9.3",
        ("2026", 0.7, "get_physics_dt"): "this build is from between the pull requests 2072 and "
        "2098 of BEHAVIOR-1K; take a newer one of v3.9.3",
        ("2025", 0.75, "get_physics_dt"): "this build has pull request 2072 of BEHAVIOR-1K, which "
        "is not for 2025; check out v3.7.2",
    }
)
"""Known builds with other grasp windows, by protocol, macro [s] and time step."""


def check_startup(
    application: Application,
    generation: Generation,
    env: Any,  # noqa: ANN401 - an object of OmniGibson
    *,
    heavy_base: bool = False,
    depth: bool = False,
) -> list[Finding]:
    """Check a prepared environment; its robots stand still for a second, turn, and are reset.

    Call it before the first instance is loaded, with the environment's own `heavy_base` and
    `depth`.

    Raises:
        EnvError: Something would make numbers wrong; the text names all of it.
    """
    robots = robots_of(generation, env)
    observations = env.reset()[0]
    if not generation.vectorised:
        observations = [observations]
    findings = [*_of_version(application, generation, env), *_of_settings(generation)]
    for index, robot in enumerate(robots):
        suffix = f" of env {index}" if len(robots) > 1 else ""
        findings.append(_of_base_mass(robot, is_heavy(generation, heavy_base), suffix))
        findings += _of_robot(robot, generation, suffix)
        findings += _of_cameras(robot, observations[index][ROBOT_NAME], suffix, depth=depth)
    _refuse(findings, generation)  # before sending actions that this robot may not understand
    findings += of_standing_still(application, generation, env, robots)
    _refuse(findings, generation)
    findings.append(of_picture_age(generation, env, robots))
    env.reset()  # an env that gets no instance would go on turning
    return findings


def _refuse(findings: list[Finding], generation: Generation) -> None:
    wrong = [each for each in findings if each.fatal and not each.ok]
    if wrong:
        words = "; ".join(each.words() for each in wrong)
        raise EnvError(
            f"this simulator would give wrong numbers: {words}. It is not the official "
            f"{generation.tag}, or something changed it before this run"
        )


def _same(name: str, expected: object, found: object, *, fatal: bool = False) -> Finding:
    return Finding(name=name, expected=expected, found=found, ok=expected == found, fatal=fatal)


def _close(name: str, expected: float, found: float | None, tolerance: float) -> Finding:
    ok = found is not None and abs(found - expected) <= tolerance
    return Finding(name=name, expected=expected, found=found, ok=ok)


def _of_version(
    application: Application,
    generation: Generation,
    env: Any,  # noqa: ANN401 - an object of OmniGibson
) -> Iterator[Finding]:
    number = str(application.og.__version__)
    yield Finding(
        name="version",
        expected=generation.tag,
        found=number,
        ok=number.startswith(generation.tag.removeprefix("v")),
    )
    yield _same(
        "several scenes in one environment",
        generation.vectorised,
        hasattr(env, "scenes"),
        fatal=True,
    )
    if generation.vectorised:
        seeded = ["python", "numpy", "torch", "warp"]
        yield _same("seeded generators", seeded, list(application.seeded))
        yield _same("PR 2327 (OnFire loads without heating)", True, has_scene_fixes())
    for name, versions in assets_version().items():
        wanted, installed = versions["wanted"], versions["installed"]
        yield Finding(
            name=f"version of {name}",
            expected=wanted,
            found=installed,
            ok=wanted is None or installed == wanted or _is_newer_robot(name, installed, wanted),
        )


def _is_newer_robot(name: str, installed: str | None, wanted: str) -> bool:
    """Return whether it is a newer robot asset: those have a minimum, the others one version."""
    if installed is None or name != "omnigibson-robot-assets":
        return False
    number, minimum = (
        tuple(map(int, re.findall(r"\d+", text)[:3])) for text in (installed, wanted)
    )
    return number > minimum


def _of_settings(generation: Generation) -> Iterator[Finding]:
    module = importlib.import_module("omnigibson.macros")
    for name, expected in (
        ("USE_GPU_DYNAMICS", False),
        ("ENABLE_TRANSITION_RULES", True),
        ("ENABLE_OBJECT_STATES", True),
        *generation.macros.items(),
    ):
        yield _same(f"macro {name}", expected, bool(getattr(module.gm, name)))
    if "ENABLE_TILED_RENDERING" in module.gm:  # not in v3.7.2; its pictures have artefacts
        tiled = bool(module.gm.ENABLE_TILED_RENDERING)
        yield _same("macro ENABLE_TILED_RENDERING", False, tiled)
    yield _of_grasp_window(generation, module.macros)
    rules = importlib.import_module("omnigibson.transition_rules")
    on = [name for name in DISABLED_RULES if getattr(rules, name).ENABLED]
    yield _same("transition rules that must be off", [], on)
    yield _same("garbage collector", True, gc.isenabled())


def _of_grasp_window(generation: Generation, macros: Any) -> Finding:  # noqa: ANN401 - a MacroDict
    """Check the macro's value and its time step, which only together say how long a grasp takes."""
    window = generation.grasp_window
    value, clock = grasp_window(macros, window), grasp_clock(window)
    ok = abs(value - window.value) <= 1e-9 and clock == window.clock
    if clock is None:
        found = f"{value:g} s; which time step counts cannot be read in {window.module}"
    else:
        found = _grasp_words(value, clock)
        if not ok:
            found += (
                ". A grasp takes another time than in the challenge's evaluation: "
                + _GRASP_BUILDS.get((generation.protocol, value, clock), "something changed it")
            )
    return Finding(
        name=f"macro {'.'.join(window.path)}",
        expected=_grasp_words(window.value, window.clock),
        found=found,
        ok=ok,
    )


def _grasp_words(value: float, clock: GraspClock) -> str:
    substeps, steps = grasp_steps(value, clock)
    return f"{value:g} s by {clock}: {substeps} substeps, {steps} control steps"


def _of_robot(robot: Any, generation: Generation, suffix: str) -> Iterator[Finding]:  # noqa: ANN401
    yield _same(f"action_dim{suffix}", ACTION_DIM, int(robot.action_dim), fatal=True)
    proprio = proprio_of(robot)
    dim = PROPRIO_DIM[generation.protocol]
    yield _same(f"proprio length{suffix}", dim, proprio.size, fatal=True)
    limits = base_limits_of(robot, generation)
    expected = [(-BASE_VELOCITY_LIMIT).tolist(), BASE_VELOCITY_LIMIT.tolist()]
    yield Finding(
        name=f"base velocity limits{suffix}",
        expected=expected,
        found=limits if limits is not None else "cannot be read here; see standing still",
        ok=limits is not None and np.allclose(limits, expected, atol=1e-5),
        fatal=limits is not None,
    )
    if proprio.size != dim:  # the slices below would read other fields
        return
    layout = PROPRIO_LAYOUTS[generation.protocol]
    yield _of_quaternions(robot, proprio, layout, suffix)
    fingers = np.concatenate([proprio[layout[f"gripper_{arm}_qpos"]] for arm in ARMS])
    yield Finding(
        name=f"fingers open at reset [m]{suffix}",
        expected=FINGER_TRAVEL,
        found=[round(float(value), 4) for value in fingers],
        ok=bool((fingers > 0.9 * FINGER_TRAVEL).all()),
    )


def _of_base_mass(robot: Any, heavy: bool, suffix: str) -> Finding:  # noqa: ANN401
    """Check for 250 kg where they were set, and for any other mass where they were not."""
    name, found = f"base mass [kg]{suffix}", float(robot.base_footprint_link.mass)
    is_250 = abs(found - BASE_MASS) <= 0.01
    expected = BASE_MASS if heavy else f"the robot's own, not {BASE_MASS:g}"
    return Finding(name=name, expected=expected, found=found, ok=is_250 == heavy)


def _of_quaternions(
    robot: Any,  # noqa: ANN401 - an object of OmniGibson
    proprio: Float32Array,
    layout: Mapping[str, slice],
    suffix: str,
) -> Finding:
    """Transform the hands from the base frame to the world, by either order of the quaternion.

    Only if w, x, y, z fits better is the order another one. If neither fits, the hands are
    relative to something else, which is a remark.
    """
    position, quaternion = robot.get_position_orientation()
    gaps = []
    for order in ([0, 1, 2, 3], [1, 2, 3, 0]):
        base = pose_matrix(position, to_numpy(quaternion)[order])
        hands = [base[:3, :3] @ proprio[layout[f"eef_{arm}_pos"]] + base[:3, 3] for arm in ARMS]
        there = [to_numpy(robot.get_eef_position(arm)) for arm in ARMS]
        gaps.append(float(np.abs(np.subtract(hands, there)).max()))
    return Finding(
        name=f"quaternions are x, y, z, w, and hands in the base frame{suffix}",
        expected=f"hands within {EEF_TOLERANCE} m by x, y, z, w",
        found={"x, y, z, w": round(gaps[0], 4), "w, x, y, z": round(gaps[1], 4)},
        ok=gaps[0] <= EEF_TOLERANCE,
        fatal=gaps[1] < gaps[0],
    )


def _of_cameras(
    robot: Any,  # noqa: ANN401 - an object of OmniGibson
    observation: Mapping[str, Any],
    suffix: str,
    *,
    depth: bool,
) -> Iterator[Finding]:
    for view in VIEWS:
        camera = CAMERAS[view]
        name = sensor_name(view)
        rgb = observation.get(name, {}).get("rgb")
        expected = ["uint8", camera.size, camera.size, 4]
        found = [str(to_numpy(rgb).dtype), *to_numpy(rgb).shape] if rgb is not None else None
        yield _same(f"rgb of {view}{suffix}", expected, found, fatal=True)
        if depth:
            far = observation.get(name, {}).get(DEPTH)
            expected = ["float32", camera.size, camera.size]
            found = [str(to_numpy(far).dtype), *to_numpy(far).shape] if far is not None else None
            yield _same(f"{DEPTH} of {view}{suffix}", expected, found, fatal=True)
        sensor = robot.sensors.get(name)
        if view == "head":
            aperture = float(sensor.horizontal_aperture) if sensor is not None else None
            yield _close(f"head aperture [mm]{suffix}", HEAD_APERTURE, aperture, 1e-3)
        focal = None
        if sensor is not None:
            width, aperture = float(sensor.image_width), float(sensor.horizontal_aperture)
            focal = float(sensor.focal_length) * width / aperture
        yield _close(f"focal length of {view} [px]{suffix}", camera.focal, focal, 0.5)
