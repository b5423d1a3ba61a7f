"""Rungs 1 and 2: the world's settings, and that standing still changes nothing.

OmniGibson's own checks ran at its start (`b1k_envs.omnigibson.setup.checks`). The others need only
an `Env`, so that the twin, OmniGibson and a wrapper around either are held to the same figures. The
base, for example, is driven, and its limits follow from its speed.

What a pass does not prove: contacts, friction and objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from b1k_envs.base import VIEWS, Env, Float32Array, Observation
from b1k_envs.findings import EEF_TOLERANCE, HOLD_STEPS, STILL_BASE, STILL_JOINT, Finding
from b1k_envs.omnigibson.setup.generation import GENERATIONS, grasp_steps
from b1k_envs.poses import camera_matrices
from b1k_envs.r1pro import BASE_VELOCITY_LIMIT, CAMERAS, CONTROL_HZ, PROPRIO_DIM
from b1k_eval.qualify.body import driving, holding, stance
from b1k_eval.qualify.rungs import Rung

UP_TO_SPEED, MEASURED_STEPS = 16, 4
"""Control steps in one direction: to get up to speed (the base has 250 kg), and measured."""

HALF = 0.5
"""Base command to drive with; far from both limits, so that neither clips it."""

LIMIT_TOLERANCE = 0.1
"""Largest difference of a measured limit from the official one, as a share of it."""

_AXES = ("vx [m/s]", "vy [m/s]", "wz [rad/s]")


def startup_rung(env: Env, instance: int) -> Rung:
    """Run rung 1: the checks made at the start, and what can be measured from outside.

    Args:
        env: Any world.
        instance: The instance to measure in; it is reset, and the base driven by some 0.2 m.

    Raises:
        EnvError: The world failed.
    """
    own = [Finding(**each) for each in env.info.settings.get("startup_checks", ())]
    env.reset(instance, 0, 0)
    findings = [
        *own,
        *_of_grasp_window(env),
        *_of_observation(env.observe()),
        _of_base_limits(env),
        _of_hands(env),
    ]
    wrong = [each for each in findings if not each.ok]
    details = {"findings": [vars(each) for each in findings]}
    if not wrong:
        return Rung(
            number=1,
            verdict="pass",
            finding=f"{len(findings)} checks, all as in an official run",
            details=details,
        )
    return Rung(
        number=1,
        verdict="fail",
        finding="; ".join(each.words() for each in wrong),
        advice=_startup_advice(env),
        details=details,
    )


def _startup_advice(env: Env) -> str:
    generation = GENERATIONS[env.info.protocol]
    if env.info.sim == "mujoco":
        return "this is not the twin of this release: install b1k-eval again, without changes"
    return (
        f"bring OmniGibson to {generation.tag} with its own assets and configuration "
        "(docs/omnigibson.md), and see that nothing sets macros or controllers before the run"
    )


def _of_grasp_window(env: Env) -> Iterator[Finding]:
    """Check the twin's grasp window; OmniGibson's own checks have looked at the macro."""
    if env.info.sim == "mujoco":
        window = GENERATIONS[env.info.protocol].grasp_window
        _, expected = grasp_steps(window.value, window.clock)
        found = env.info.settings.get("grasp_window_steps")
        yield Finding(
            name="grasp window [control steps]",
            expected=expected,
            found=found,
            ok=found == expected,
        )


def _of_observation(observation: Observation) -> Iterator[Finding]:
    """Check shapes, and that poses as numbers and as matrices are equal."""
    expected = PROPRIO_DIM[observation.protocol]
    proprio = observation.proprio
    yield Finding(
        name="proprio length",
        expected=expected,
        found=proprio.size,
        ok=proprio.shape == (expected,) and bool(np.isfinite(proprio).all()),
    )
    for view in VIEWS:
        size = CAMERAS[view].size
        picture = observation.images.get(view)
        found = None if picture is None else [str(picture.dtype), *picture.shape]
        wanted = ["uint8", size, size, 3]
        yield Finding(name=f"picture of {view}", expected=wanted, found=found, ok=found == wanted)
        if picture is not None:
            spread = round(float(picture.std()), 1)
            yield Finding(
                name=f"spread of the shades in {view}",
                expected="above 1: not blank",
                found=spread,
                ok=spread > 1.0,
            )
    matrices = camera_matrices(observation.cam_rel_poses)
    gaps = [float(np.abs(matrices[v] - observation.camera_to_base[v]).max()) for v in VIEWS]
    yield Finding(
        name="camera poses by cam_rel_poses and by camera_to_base",
        expected="the same within 0.001",
        found=round(max(gaps), 5),
        ok=max(gaps) <= 1e-3,
    )


def _of_base_limits(env: Env) -> Finding:
    """Drive each axis to and fro, and compute the speeds that commands of -1 and 1 mean.

    Output limits map the command linearly, so two speeds give both limits.
    """
    hold = _hold(env)
    lower, upper = [], []
    for axis in range(3):
        there, back = (_speed(env, hold, axis, sign * HALF) for sign in (1, -1))
        middle, half = (there + back) / 2, (there - back) / (2 * HALF)
        lower.append(round(middle - half, 3))
        upper.append(round(middle + half, 3))
    expected = [(-BASE_VELOCITY_LIMIT).tolist(), BASE_VELOCITY_LIMIT.tolist()]
    gaps = np.abs(np.subtract([lower, upper], expected)) / BASE_VELOCITY_LIMIT
    return Finding(
        name=f"base velocity limits as driven, {', '.join(_AXES)}",
        expected=expected,
        found=[lower, upper],
        ok=bool((gaps <= LIMIT_TOLERANCE).all()),
        fatal=True,
    )


def _speed(env: Env, hold: Float32Array, axis: int, command: float) -> float:
    """Return the steady speed of the base along an axis of its own frame [m/s or rad/s]."""
    share = [0.0, 0.0, 0.0]
    share[axis] = command
    action = driving(hold, share[0], share[1], share[2])
    for _ in range(UP_TO_SPEED):
        result = env.step(action)
    first = stance(env, result)
    for _ in range(MEASURED_STEPS):
        result = env.step(action)
    last = stance(env, result)
    took = MEASURED_STEPS / CONTROL_HZ
    if axis == 2:
        turned = (last.heading - first.heading + np.pi) % (2 * np.pi) - np.pi
        return float(turned) / took
    moved = first.base[:3, :3].T @ (last.base[:3, 3] - first.base[:3, 3])
    return float(moved[axis]) / took


def _of_hands(env: Env) -> Finding:
    apart = stance(env, env.step(_hold(env))).hands_apart
    return Finding(
        name="hands in the proprio, brought to the world by the base [m]",
        expected=f"where the world has them, within {EEF_TOLERANCE} m",
        found=round(apart, 4),
        ok=apart <= EEF_TOLERANCE,
        fatal=True,
    )


def _hold(env: Env) -> Float32Array:
    return holding(env.observe(images=False).proprio, env.info.protocol)


def hold_rung(env: Env, instance: int) -> Rung:
    """Run rung 2: under the hold action for a second, robot, goal and score must not change.

    Raises:
        EnvError: The world failed.
    """
    env.reset(instance, 0, 0)
    start = env.goal()
    hold = _hold(env)
    first = stance(env, env.step(hold))
    for _ in range(HOLD_STEPS):
        result = env.step(hold)
    last, end = stance(env, result), env.goal()
    base = float(np.linalg.norm(last.base[:3, 3] - first.base[:3, 3]))
    joint = float(np.abs(last.joints - first.joints).max())
    hands = float(np.linalg.norm(last.hands - first.hands, axis=1).max())
    changed = [name for name, holds in end.predicates.items() if start.predicates[name] != holds]
    faults = []
    if base > STILL_BASE:
        faults.append(f"the base drifts: {base:.3f} m in {HOLD_STEPS} steps at command 0")
    if joint > STILL_JOINT:
        faults.append(f"the joints sag: by up to {joint:.3f} rad under their own position")
    if hands > EEF_TOLERANCE:
        faults.append(f"the hands move: by up to {hands:.3f} m")
    if changed:
        faults.append(f"the goal changes without the robot: {'; '.join(changed)}")
    if end.q_score != 0.0 or end.success:
        faults.append(f"standing still scores q = {end.q_score:g}")
    details: Mapping[str, Any] = {
        "steps": HOLD_STEPS,
        "base_m": base,
        "joints_rad": joint,
        "hands_m": hands,
        "q_score": end.q_score,
        "changed_predicates": changed,
    }
    if faults:
        return Rung(
            number=2,
            verdict="fail",
            finding="; ".join(faults),
            advice="a drifting base has other output limits than it should (rung 1); a changed "
            "goal is that of another instance, or objects were not at rest when it was loaded",
            details=details,
        )
    return Rung(
        number=2,
        verdict="pass",
        finding=f"{HOLD_STEPS} steps: base within {base:.4f} m, joints within {joint:.4f} rad, "
        "goal unchanged, q 0",
        details=details,
    )
