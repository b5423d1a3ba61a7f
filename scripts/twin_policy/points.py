"""The eleven places that the policy looks for, in the base frame, from the privileged states.

Gloves are "active" and "other", not one and two: which of them a wrist camera sees, no picture
says; which one is to be handled, the progress does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves import layout
from twin_policy.legs import SECOND_GLOVE_FROM

NAMES = (
    "active cuff", "active fist", "other cuff", "other fist", "handle", "hinge", "drum", "button",
    "door", "washer corner", "counter corner",
)  # fmt: skip
POINTS = len(NAMES)
_G1, _G2, _WASHER, _DOOR, _BUTTON, _COUNTER = range(6)  # bodies in the order of `SCENE.watched`
_HALF, _TOP = layout.WASHER_HALF, layout.COUNTER_TOP
_FIXED: tuple[tuple[int, tuple[float, float, float]], ...] = (
    (_DOOR, layout.HANDLE),
    (_WASHER, layout.HINGE),
    (_WASHER, (layout.DRUM_X[0], 0.0, layout.DRUM_Z)),
    (_BUTTON, layout.BUTTON_FACE),
    (_DOOR, layout.DOOR_CENTRE),
    (_WASHER, (-_HALF[0], _HALF[1], _HALF[2])),
    (_COUNTER, (layout.COUNTER_HALF[0], -layout.COUNTER_HALF[1], _TOP)),
)
_WX, _WY, _ = layout.WASHER_POS
ROOM: tuple[tuple[float, float, float] | None, ...] = (
    *(None,) * 5,
    (_WX + layout.HINGE[0], _WY + layout.HINGE[1], 0.01),
    (_WX + layout.DRUM_X[0], _WY, 0.01),
    (_WX + layout.BUTTON[0] + layout.BUTTON_FACE[0], _WY + layout.BUTTON[1], 0.01),
    None,
    (_WX - _HALF[0], _WY + _HALF[1], 0.01),
    (
        layout.COUNTER_POS[0] + layout.COUNTER_HALF[0],
        layout.COUNTER_POS[1] - layout.COUNTER_HALF[1],
        0.08,  # an instance shifts washer and counter apart
    ),
)
"""Nominal x and y in the room of the points that never move, and how far off they may be [m]."""
HEIGHTS = (
    0.949, 0.965, 0.949, 0.965, 0.45, 0.45, 0.45, 0.83, 0.45, 0.92, _TOP,
)  # fmt: skip
"""Nominal heights above the floor [m]; gloves as they lie on the counter."""


def points_of(places: npt.NDArray[np.float32], leg: npt.NDArray[np.integer]) -> np.ndarray:
    """The points, float32 [N, 11, 3] [m], base frame.

    Args:
        places: float32 [N, 6, 3, 4], poses of the watched bodies in the base frame.
        leg: int [N].
    """
    second = np.asarray(leg) >= SECOND_GLOVE_FROM
    rows = np.arange(len(places))
    points = []
    for glove in (np.where(second, _G2, _G1), np.where(second, _G1, _G2)):
        pose = places[rows, glove]
        for local in (layout.GLOVE_CUFF, layout.GLOVE_FIST):
            points.append(_at(pose, local))
    points += [_at(places[:, body], local) for body, local in _FIXED]
    return np.stack(points, axis=1).astype(np.float32)


def _at(pose: np.ndarray, local: tuple[float, float, float]) -> np.ndarray:
    return pose[:, :, :3] @ np.asarray(local) + pose[:, :, 3]


def in_view(
    points: npt.NDArray[np.float32], cameras: npt.NDArray[np.float32], focal: tuple[float, ...]
) -> npt.NDArray[np.bool_]:
    """Whether each point lies within each picture, whatever may stand before it, bool [N, V, 11].

    Args:
        points: float32 [N, 11, 3].
        cameras: float32 [N, V, 3, 4], camera to base, USD axes.
        focal: For each view, fx over the picture's width.
    """
    offset = points[:, None] - cameras[:, :, None, :, 3]
    local = np.einsum("nvji,nvpj->nvpi", cameras[..., :3], offset)
    depth = -local[..., 2]
    f = np.asarray(focal)[None, :, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        place = local[..., :2] / depth[..., None] * f
    return np.asarray((depth > 0.03) & (np.abs(place) < 0.5).all(axis=-1))
