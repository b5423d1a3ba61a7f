"""Rung 3: the pictures are current, and taken from where the poses say.

The base turns to and fro and one wrist moves, so that each camera goes its own way and no two steps
look alike. Then every series of pictures is compared with the poses of every view, at the same step
and at earlier ones (`geometry`). It must fit those of its own view at the same step. If others fit,
they name the fault: pictures are late, or views are swapped.

What a pass does not prove: that the camera is mounted where the evaluator has it (its pose is
believed, and compared with the picture), nor anything about colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from b1k_envs.base import VIEWS, Env, Float64Array, UInt8Array, View
from b1k_envs.r1pro import ACTION_SLICES, CAMERAS
from b1k_eval.qualify.body import Stance, driving, holding, stance
from b1k_eval.qualify.geometry import AGREES_PX, misses, track_points, travelled
from b1k_eval.qualify.rungs import Rung

LATEST = 4
"""Oldest poses that pictures are compared with [steps]."""

REST_STEPS = 6
"""Control steps of rest before the first picture; more than `LATEST`."""

TURNS = (0.6, 0.6, 0.6, 0.6, 0.0, -0.6, -0.6, -0.6, -0.6, 0.0, 0.0)
"""Turning speed of each step, as a share of the greatest; the base ends about where it began."""

WRIST_COLUMN = ACTION_SLICES["arm_left"].start + 5
WRIST_STEP = 0.025
"""How far the left wrist moves in a step [rad], in the direction of the base's turn."""

FEWEST_TRACKS = 5
"""Fewest points that make a fit."""

STILL_PX = 1.5
"""A point that never moves farther is on the robot, or its picture is frozen [px]."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How well a view's pictures fit the poses of each view.

    Attributes:
        view: The view that the pictures are of.
        moving: Number of tracked points that moved.
        still: Number of tracked points that did not.
        fits: Number of points that agree, by (view of the poses, steps ago).
    """

    view: View
    moving: int
    still: int
    fits: Mapping[tuple[View, int], int]

    @property
    def best(self) -> tuple[View, int] | None:
        """The poses that fit, as (view, steps ago); None if none does, or two fit about equally."""
        ranked = sorted(self.fits.items(), key=lambda item: item[1], reverse=True)
        (key, points), (_, second) = ranked[:2]
        return key if points >= FEWEST_TRACKS and points >= 2 * second else None

    def fault(self) -> str | None:
        """Say what is wrong, by name; None if nothing is."""
        best = self.best
        if best == (self.view, 0):
            return None
        if best is None:
            if self.moving < FEWEST_TRACKS <= self.still:
                return f"frozen: the pictures of {self.view} do not move while the camera does"
            return (
                f"out of place: the pictures of {self.view} fit the camera pose of no view, now or "
                f"up to {LATEST} steps ago"
            )
        view, ago = best
        steps = f"{ago} step{'s' if ago > 1 else ''}"
        if view == self.view:
            return f"late: the pictures of {view} are {steps} old"
        late = f", and late by {steps}" if ago else ""
        return f"swapped: the pictures of {self.view} fit the camera pose of {view}{late}"

    def told(self) -> bool:
        """Whether there were enough points for a verdict."""
        return self.best is not None or self.moving + self.still >= 2 * FEWEST_TRACKS


def pictures_rung(env: Env, instance: int) -> Rung:
    """Run rung 3.

    Args:
        env: Any world.
        instance: The instance to look around in; it is reset.

    Raises:
        EnvError: The world failed.
    """
    fits = judge(look_around(env, instance))
    details: dict[str, Any] = {
        fit.view: {
            "points_that_move": fit.moving,
            "points_that_stand_still": fit.still,
            "points_that_agree": {
                f"{view}, {ago} steps ago": points
                for (view, ago), points in fit.fits.items()
                if points
            },
        }
        for fit in fits
    }
    faults = [text for fit in fits if fit.told() and (text := fit.fault()) is not None]
    if faults:
        return Rung(
            number=3,
            verdict="fail",
            finding="; ".join(faults),
            advice=_advice(faults),
            details=details,
        )
    blind = [fit.view for fit in fits if not fit.told()]
    if blind:
        return Rung(
            number=3,
            verdict="not done",
            finding=f"too little to see from {', '.join(blind)} on instance {instance}: fewer than "
            f"{2 * FEWEST_TRACKS} points can be followed",
            advice="take another instance: --instance",
            details=details,
        )
    points = ", ".join(f"{fit.view} {fit.fits[fit.view, 0]}" for fit in fits)
    return Rung(
        number=3,
        verdict="pass",
        finding=f"every view moves as its own camera does, at the same step (points: {points})",
        details=details,
    )


def _advice(faults: Sequence[str]) -> str:
    if any(text.startswith("swapped") for text in faults):
        return "hold the names of the sensors in the observation against the links they sit on"
    if any(text.startswith("late") for text in faults):
        return (
            "a picture that a policy acts on must be rendered often enough after the last step: "
            "three renders in OmniGibson, see docs/omnigibson.md"
        )
    if any(text.startswith("frozen") for text in faults):
        return "the cameras do not render: look at the video, and at the driver"
    return "hold focal length and aperture (rung 1) and the order of cam_rel_poses against the data"


def look_around(env: Env, instance: int) -> list[Stance]:
    """Turn to and fro and take pictures after every step; the first are taken at rest."""
    env.reset(instance, 0, 0)
    hold = holding(env.observe(images=False).proprio, env.info.protocol)
    for _ in range(REST_STEPS):
        result = env.step(hold)
    seen = [stance(env, result, images=True)]
    wrist = 0.0
    for turn in TURNS:
        wrist += WRIST_STEP * float(np.sign(turn))
        action = driving(hold, 0.0, 0.0, turn)
        action[WRIST_COLUMN] += wrist
        result = env.step(action)
        seen.append(stance(env, result, images=True))
    return seen


def judge(seen: Sequence[Stance]) -> list[Fit]:
    """Compare each view's pictures with every view's poses; see the module header."""
    return [
        _fit(view, [each.observation.images[view] for each in seen], _poses(seen)) for view in VIEWS
    ]


def _poses(seen: Sequence[Stance]) -> dict[tuple[View, int], list[Float64Array]]:
    """Return the poses that pictures of each view and age [steps] would have been taken from."""
    poses = {view: [each.camera(view) for each in seen] for view in VIEWS}
    steps = range(len(seen))
    # The robot rested for more than LATEST steps, so the first pose also holds before step 0.
    return {
        (view, ago): [poses[view][max(0, step - ago)] for step in steps]
        for view in VIEWS
        for ago in range(LATEST + 1)
    }


def _fit(
    view: View,
    pictures: Sequence[UInt8Array],
    poses: Mapping[tuple[View, int], Sequence[Float64Array]],
) -> Fit:
    tracks = track_points(pictures)
    moves = travelled(tracks) > STILL_PX
    moving = tracks[moves]
    fits = {}
    for (other, ago), cameras in poses.items():
        # The K of the view that the poses are of, at the size of these pictures.
        scale = pictures[0].shape[0] / CAMERAS[other].size
        intrinsics = CAMERAS[other].intrinsics * np.array([[scale], [scale], [1.0]])
        fits[other, ago] = int((misses(moving, cameras, intrinsics) < AGREES_PX).sum())
    return Fit(view=view, moving=len(moving), still=int((~moves).sum()), fits=fits)
