"""Observations that no simulator made: of the right shapes, plausible, and all different.

A policy that answers them well may still be wrong: nothing in them belongs together, but for the
two forms of the cameras' poses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np

from b1k_envs.base import Float32Array, Observation, ProtocolYear, UInt8Array, View
from b1k_envs.poses import camera_matrices
from b1k_envs.r1pro import (
    CAM_REL_POSES_ORDER,
    CAMERAS,
    CONTROL_HZ,
    FINGER_TRAVEL,
    PROPRIO_DIM,
    PROPRIO_LAYOUTS,
)

_PATCH = 24  # px; both native sizes are multiples of it


class WatchedPictures(Mapping[View, UInt8Array]):
    """Pictures by view that know whether somebody looked for one.

    Attributes:
        pictures: The pictures.
        asked: Views that were asked for, whether or not they were there.
    """

    def __init__(self, pictures: Mapping[View, UInt8Array], asked: set[str]) -> None:
        self.pictures = dict(pictures)
        self.asked = asked

    def __getitem__(self, view: View) -> UInt8Array:
        self.asked.add(view)
        return self.pictures[view]

    def __iter__(self) -> Iterator[View]:
        return iter(self.pictures)

    def __len__(self) -> int:
        return len(self.pictures)


def made_up(
    number: int,
    protocol: ProtocolYear,
    *,
    task_index: int,
    step: int = 0,
    pictures: int | None = 0,
    depth: bool = False,
    writable: bool = False,
    asked: set[str] | None = None,
) -> Observation:
    """Make an observation.

    Args:
        number: Decides proprio and poses.
        protocol: Layout of the proprio.
        task_index: Index of the task.
        step: Control steps since reset.
        pictures: Decides the pictures; None for none, as a run gives a policy that needs none.
        depth: Whether it has depth.
        writable: Whether its arrays can be written to, which those of a run cannot.
        asked: Gets the views that somebody looks for.

    Returns:
        An observation with arrays of its own, and `WatchedPictures`.
    """
    random = np.random.default_rng(number)
    proprio = random.normal(0, 0.2, PROPRIO_DIM[protocol])
    layout = PROPRIO_LAYOUTS[protocol]
    proprio[layout["trunk_qpos"]] += (1.025, -1.45, -0.47, 0.0)
    for arm in ("left", "right"):
        proprio[layout[f"gripper_{arm}_qpos"]] = random.uniform(0, FINGER_TRAVEL, 2)
        proprio[layout[f"eef_{arm}_quat"]] = _unit(random)
    recorded = np.concatenate(
        [
            part
            for _ in CAM_REL_POSES_ORDER
            for part in (random.uniform(-0.5, 1.5, 3), _unit(random))
        ]
    ).astype(np.float32)
    poses = {view: pose.copy() for view, pose in camera_matrices(recorded).items()}
    shown = {} if pictures is None else {view: _picture(view, pictures).copy() for view in CAMERAS}
    far = {view: _depth(view).copy() for view in shown} if depth else None
    made = Observation(
        images=WatchedPictures(shown, set() if asked is None else asked),
        camera_to_base=poses,
        cam_rel_poses=recorded,
        proprio=proprio.astype(np.float32),
        protocol=protocol,
        task_index=task_index,
        step=step,
        time=step / CONTROL_HZ,
        depth=far,
    )
    for array in arrays_of(made).values():
        array.setflags(write=writable)
    return made


def arrays_of(observation: Observation) -> dict[str, np.ndarray]:
    """Return every array of a made-up observation by name, without looking at pictures."""
    images = observation.images
    pictures = images.pictures if isinstance(images, WatchedPictures) else images
    found: dict[str, np.ndarray] = {
        "proprio": observation.proprio,
        "cam_rel_poses": observation.cam_rel_poses,
    }
    found |= {f"images[{view}]": each for view, each in pictures.items()}
    found |= {f"camera_to_base[{view}]": each for view, each in observation.camera_to_base.items()}
    found |= {f"depth[{view}]": each for view, each in (observation.depth or {}).items()}
    return found


def _unit(random: np.random.Generator) -> np.ndarray:
    numbers = random.standard_normal(4)
    return numbers / np.linalg.norm(numbers)


@cache
def _picture(view: View, number: int) -> UInt8Array:
    """Return coloured squares; drawn once, as a megabyte of noise takes milliseconds."""
    size = CAMERAS[view].size // _PATCH
    random = np.random.default_rng([number, CAMERAS[view].size])
    squares = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
    return np.kron(squares, np.ones((_PATCH, _PATCH, 1), dtype=np.uint8))


@cache
def _depth(view: View) -> Float32Array:
    size = CAMERAS[view].size
    return np.linspace(0.3, 4.0, size * size, dtype=np.float32).reshape(size, size)
