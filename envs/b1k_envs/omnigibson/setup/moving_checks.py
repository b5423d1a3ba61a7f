"""Checks that move the robots: standing still for a second, and how old pictures are in a turn."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from b1k_envs.base import Float32Array, Float64Array
from b1k_envs.findings import HOLD_STEPS, STILL_BASE, STILL_JOINT, Finding
from b1k_envs.omnigibson.dialects.dialect import RENDERS_UNTIL_CURRENT
from b1k_envs.omnigibson.observations import (
    pose_matrix,
    rendered_camera_pose,
    sensor_name,
    to_numpy,
)
from b1k_envs.omnigibson.setup.application import Application
from b1k_envs.omnigibson.setup.generation import Generation
from b1k_envs.r1pro import ACTION_SLICES, ARMS, GRIPPER_OPEN, PROPRIO_LAYOUTS, hold_action

LOPSIDED_DRIFT = 0.05
"""A base that drifts further than this while it should stand still has lopsided limits [m]; those
that the 2025 documentation prints would carry it 0.125 m in x and in y."""

TURN_STEPS, TURN_SPEED = 8, 0.5
"""Control steps for which the base turns, and its speed as a share of the limit."""

PICTURE_AGE = "age of the pictures while the base turns [steps]"
"""Name of the finding that tells `world` which moment a picture shows."""


def of_standing_still(
    application: Application,
    generation: Generation,
    env: Any,  # noqa: ANN401 - an object of OmniGibson
    robots: list[Any],
) -> Iterator[Finding]:
    """Check that robots hold still for a second; lopsided limits would drift at command 0."""
    before = [_posture(robot, generation) for robot in robots]
    action = _action(robots, generation, turn=0.0)
    sim = application.og.sim
    rendering = sim._render_on_step
    try:
        with sim.render_on_step(False):
            for _ in range(HOLD_STEPS):
                env.step(action)
    finally:
        sim._render_on_step = rendering  # the context manager does not restore after an exception
    for index, robot in enumerate(robots):
        (place, joints), (new_place, new_joints) = before[index], _posture(robot, generation)
        base = float(np.linalg.norm(new_place - place))
        joint = float(np.abs(new_joints - joints).max())
        suffix = f" of env {index}" if len(robots) > 1 else ""
        yield Finding(
            name=f"standing still for {HOLD_STEPS} steps{suffix}",
            expected=f"base within {STILL_BASE} m, joints within {STILL_JOINT} rad",
            found=[round(base, 5), round(joint, 5)],
            ok=base <= STILL_BASE and joint <= STILL_JOINT,
            fatal=base > LOPSIDED_DRIFT and base_limits_of(robot, generation) is None,
        )


def picture_age(findings: Sequence[Finding]) -> int | None:
    """Return how many steps old a picture is; None where the check did not pass."""
    found = next((each for each in findings if each.name == PICTURE_AGE and each.ok), None)
    return None if found is None else int(found.found)


def of_picture_age(
    generation: Generation,
    env: Any,  # noqa: ANN401 - an object of OmniGibson
    robots: list[Any],
) -> Finding:
    """Turn on the spot, rendering as officially, and find how old the last frame's pose is.

    The result is how many steps ago the head camera was where the last frame was taken; None if
    it was there at none of them. If it is above the limit, pictures on demand are not current.

    This needs `camera_parameters` of this one camera, because a rendered picture is too noisy to
    show by itself when it stops changing. Their annotator stays on. In 2026 nothing else reads
    them.
    """
    camera = robots[0].sensors[sensor_name("head")]
    _rendered_pose(camera)  # the first access switches it on, and renders
    places = []
    for _ in range(TURN_STEPS):
        env.step(_action(robots, generation, turn=TURN_SPEED))
        places.append(pose_matrix(*camera.get_position_orientation()))
    rendered = _rendered_pose(camera)
    lag = None
    if rendered is not None:
        gaps = [float(np.abs(place - rendered).max()) for place in reversed(places)]
        stride = float(np.abs(places[-1] - places[-2]).max())
        if min(gaps) < stride / 2:
            lag = int(np.argmin(gaps))
    return Finding(
        name=PICTURE_AGE,
        expected=f"at most {RENDERS_UNTIL_CURRENT - 1}",
        found=lag,
        ok=lag is not None and lag < RENDERS_UNTIL_CURRENT,
    )


def _rendered_pose(camera: Any) -> Float64Array | None:  # noqa: ANN401 - of OmniGibson
    return rendered_camera_pose(camera.camera_parameters["cameraViewTransform"])


def _action(
    robots: list[Any],
    generation: Generation,
    *,
    turn: float,
) -> Any:  # noqa: ANN401 - a tensor
    """Return an action that turns the base and holds the joints, shaped for `env.step`."""
    actions = np.stack(
        [
            hold_action(proprio_of(robot), generation.protocol, GRIPPER_OPEN, GRIPPER_OPEN)
            for robot in robots
        ]
    )
    actions[:, ACTION_SLICES["base"].stop - 1] = turn
    tensor = importlib.import_module("torch").as_tensor(actions)
    return tensor if generation.vectorised else tensor[0]


def _posture(
    robot: Any,  # noqa: ANN401 - an object of OmniGibson
    generation: Generation,
) -> tuple[Float32Array, Float32Array]:
    """Return base position [3] [m], world frame, and trunk and arm joints [18] [rad]."""
    layout, proprio = PROPRIO_LAYOUTS[generation.protocol], proprio_of(robot)
    fields = ("trunk_qpos", *(f"arm_{arm}_qpos" for arm in ARMS))
    place = np.array(to_numpy(robot.get_position_orientation()[0]), dtype=np.float32)
    return place, np.concatenate([proprio[layout[field]] for field in fields])


def proprio_of(robot: Any) -> Float32Array:  # noqa: ANN401 - an object of OmniGibson
    """Proprioception now, float32 [256] or [61]."""
    return np.array(to_numpy(robot.get_proprioception()[0]), dtype=np.float32)


def base_limits_of(
    robot: Any,  # noqa: ANN401 - an object of OmniGibson
    generation: Generation,
) -> list[list[float]] | None:
    """Read lower and upper output limits of the base controller; None where they are not there.

    In 2026 a robot has a pair (group, number in it), and the group has the controller. Only some
    versions of `controllers/controller_view.py` have a method that returns it; all have the groups.
    """
    base = getattr(robot, "controllers", {}).get("base")
    if generation.vectorised and isinstance(base, tuple):
        view = getattr(importlib.import_module("omnigibson.controllers"), "ControllerView", None)
        base = getattr(view, "_controller_groups", {}).get(base[0])
    limits = getattr(base, "command_output_limits", None)
    return None if limits is None else [to_numpy(side).tolist() for side in limits]
