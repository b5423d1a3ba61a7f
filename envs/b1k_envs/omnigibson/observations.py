"""Conversion of OmniGibson's observations into the parts of an `Observation`; no simulator here.

Mirrors what the official evaluators do with an observation (`_preprocess_obs` in
OmniGibson/omnigibson/learning/eval.py, v3.7.2, and eval/evaluator.py, v3.9.3), with two
differences: the alpha channel is dropped, and `camera_to_base` belongs to the frame in the picture.
Numbers that are not finite are passed on, as by the evaluators: the policy decides what to do with
them, and the episode loop counts them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from b1k_envs import r1pro
from b1k_envs.base import VIEWS, Float32Array, Float64Array, ProtocolYear, UInt8Array, View
from b1k_envs.errors import EnvError
from b1k_envs.poses import rotation_matrix

DEPTH = "depth_linear"
"""Name of the modality of distances to the image plane; its key in an observation ends so."""

_REMEMBERED_STATES = 8
"""States kept for `PoseHistory`: more than the renders by which a picture can lag, about three."""


def to_numpy(value: Any) -> npt.NDArray[Any]:  # noqa: ANN401 - a tensor of either device, or array
    """Return a tensor of any device, or anything array-like, as an array; may share its memory."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def sensor_name(view: View) -> str:
    """Return a camera's key in `robot.sensors`, e.g. `robot_r1:zed_link:Camera:0`."""
    return r1pro.CAMERAS[view].observation_key.split("::")[1]


def picture(observation: Mapping[str, Any], view: View) -> UInt8Array:
    """Return one picture of an environment's nested observation.

    Args:
        observation: `{robot: {sensor: {modality: tensor}}}` of one env.
        view: The camera.

    Returns:
        uint8 [H, W, 3] RGB at the native size, read-only. It is a copy, because the simulator goes
        on writing to its own buffer.

    Raises:
        EnvError: The picture is missing, or is not uint8 RGBA of the camera's size.
    """
    rgba = _taken(observation, view, "rgb")
    size = r1pro.CAMERAS[view].size
    if rgba.dtype != np.uint8 or rgba.shape != (size, size, 4):
        raise EnvError(
            f"the {view} picture must be uint8 [{size}, {size}, 4] (RGBA), got {rgba.dtype} "
            f"{list(rgba.shape)}: the camera was not brought to its native size, or the renderer "
            "of this version hands out another format"
        )
    rgb = np.array(rgba[:, :, :3], order="C")
    rgb.setflags(write=False)
    return rgb


def depth_picture(observation: Mapping[str, Any], view: View) -> Float32Array:
    """Return one picture's distances to the image plane; arguments as of `picture`.

    Returns:
        float32 [H, W] [m], inf where there is nothing, read-only, a copy.

    Raises:
        EnvError: It is missing, or not float32 of the camera's size.
    """
    distance = _taken(observation, view, DEPTH)
    size = r1pro.CAMERAS[view].size
    if distance.dtype != np.float32 or distance.shape != (size, size):
        raise EnvError(
            f"{DEPTH} of {view} must be float32 [{size}, {size}], got {distance.dtype} "
            f"{list(distance.shape)}: the camera was not brought to its native size, or the "
            "renderer of this version hands out another format"
        )
    depth = np.array(distance, order="C")
    depth.setflags(write=False)
    return depth


def _taken(observation: Mapping[str, Any], view: View, modality: str) -> npt.NDArray[Any]:
    """Return what a camera gave for a modality."""
    found: Any = observation
    robot, sensor, _ = r1pro.CAMERAS[view].observation_key.split("::")
    for part in (robot, sensor, modality):
        if not isinstance(found, Mapping) or part not in found:
            there = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found)
            raise EnvError(
                f"the observation has no {robot}::{sensor}::{modality}: '{part}' is not among "
                f"{there}. Is the camera's modality {modality} switched on?"
            )
        found = found[part]
    return to_numpy(found)


def proprio_vector(value: Any, protocol: ProtocolYear) -> Float32Array:  # noqa: ANN401 - a tensor
    """Return the proprioception as the policy gets it, float32 [256] or [61], read-only copy.

    Raises:
        EnvError: It has another length.
    """
    vector = np.array(to_numpy(value), dtype=np.float32)
    if vector.shape != (r1pro.PROPRIO_DIM[protocol],):
        raise EnvError(
            f"proprio must have shape [{r1pro.PROPRIO_DIM[protocol]}] in the {protocol} protocol, "
            f"got {list(vector.shape)}: the robot was not given the official proprio_obs fields"
        )
    vector.setflags(write=False)
    return vector


# --- Poses: float64 [4, 4], frame to world -------------------------------------------------------


def pose_matrix(position: Any, quaternion: Any) -> Float64Array:  # noqa: ANN401 - tensors
    """Return a pose of OmniGibson as a matrix.

    Args:
        position: [3] [m].
        quaternion: [4], x, y, z, w.

    Returns:
        float64 [4, 4]; the rotation is NaN where the quaternion is not finite.

    Raises:
        EnvError: The quaternion is finite, but not of length 1.
    """
    at = to_numpy(position).astype(np.float64)
    turn = to_numpy(quaternion).astype(np.float64)
    length = float(np.linalg.norm(turn))
    if abs(length - 1.0) >= 1e-2 and np.isfinite(length):
        raise EnvError(f"OmniGibson gave the pose {at.tolist()}, {turn.tolist()} (x, y, z, w)")
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrix(turn / length) if np.isfinite(length) else np.nan
    pose[:3, 3] = at
    return pose


def rendered_camera_pose(view_transform: Any) -> Float64Array | None:  # noqa: ANN401 - an array
    """Return the camera's pose in the frame that was rendered.

    Args:
        view_transform: `cameraViewTransform`, [16]: the world-to-camera matrix for row vectors,
            flat.

    Returns:
        Camera to world, float64 [4, 4], USD camera axes, NaN where a number is not finite; None
        while the annotator has not run yet, when it reads all zeros.

    Raises:
        EnvError: It is not a rigid transform.
    """
    flat = to_numpy(view_transform).astype(np.float64).ravel()
    pose = np.eye(4)
    if flat.shape == (16,) and not np.isfinite(flat).all():
        pose[:3] = np.nan
        return pose
    # All zeros is what an annotator reads before its first run, not a pose.
    if flat.shape == (16,) and np.allclose(flat, 0.0):
        return None
    world_to_camera = flat.reshape(4, 4).T if flat.shape == (16,) else np.full((4, 4), np.nan)
    rotation = world_to_camera[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise EnvError(f"cameraViewTransform is no rigid transform: {flat.tolist()}")
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ world_to_camera[:3, 3]
    return pose


def in_base(camera_to_world: Float64Array, base_to_world: Float64Array) -> Float32Array:
    """Return camera to base, float32 [4, 4], read-only; the arguments are float64 [4, 4]."""
    rotation = base_to_world[:3, :3]
    pose = np.eye(4)
    with np.errstate(invalid="ignore"):  # infinite positions, which are passed on
        pose[:3, :3] = rotation.T @ camera_to_world[:3, :3]
        pose[:3, 3] = rotation.T @ (camera_to_world[:3, 3] - base_to_world[:3, 3])
    result = pose.astype(np.float32)
    result.setflags(write=False)
    return result


def recorded_poses(camera_to_base: Mapping[View, Float32Array]) -> Float32Array:
    """Return the evaluator's `cam_rel_poses`, float32 [21]: position, quaternion xyzw per block."""
    blocks: list[npt.NDArray[np.floating[Any]]] = []
    for view in r1pro.CAM_REL_POSES_ORDER:
        pose = camera_to_base[view]
        blocks += [pose[:3, 3], quaternion_xyzw(pose[:3, :3])]
    result = np.concatenate(blocks).astype(np.float32)
    result.setflags(write=False)
    return result


def quaternion_xyzw(rotation: npt.NDArray[np.floating[Any]]) -> Float64Array:
    """Return a rotation matrix [3, 3] as a quaternion x, y, z, w, float64 [4].

    Of the two signs it takes that of `mat2quat` in OmniGibson/omnigibson/utils/transform_utils.py:
    w is positive, or, if the trace is not positive, the largest of x, y, z is.
    """
    m = rotation.astype(np.float64)
    if np.trace(m) > 0.0:
        quat = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1 + np.trace(m)])
    else:
        i = int(np.argmax(np.diagonal(m)))
        j, k = (i + 1) % 3, (i + 2) % 3
        quat = np.empty(4)
        quat[i] = 1 + m[i, i] - m[j, j] - m[k, k]
        quat[j], quat[k] = m[i, j] + m[j, i], m[i, k] + m[k, i]
        quat[3] = m[k, j] - m[j, k]
    return cast("Float64Array", quat / np.linalg.norm(quat))


class PoseHistory:
    """Poses of base and cameras in the last states, to find out which state a picture shows.

    Unless it was rendered about three times, a picture lags by a frame or two, and so does its
    camera pose. The simulator no longer has the base pose of that moment, so it is kept here.
    """

    def __init__(self) -> None:
        self._states: deque[tuple[Float64Array, Mapping[View, Float64Array]]] = deque(
            maxlen=_REMEMBERED_STATES
        )

    def add(self, base: Float64Array, cameras: Mapping[View, Float64Array]) -> None:
        """Add a state; poses to the world, float64 [4, 4]."""
        self._states.append((base, cameras))

    def base_at(self, view: View, rendered: Float64Array) -> Float64Array:
        """Return the base pose of the state with the nearest camera pose, of equals the newest.

        Args:
            view: The camera.
            rendered: Its pose in the rendered frame, float64 [4, 4].
        """
        newest_first = reversed(self._states)
        base, _ = min(newest_first, key=lambda state: _distance(state[1][view], rendered))
        return base

    def ago(self, steps: int) -> dict[View, Float32Array]:
        """Return camera to base so many states ago, or in the oldest state if there are fewer."""
        base, cameras = self._states[-1 - min(steps, len(self._states) - 1)]
        return {view: in_base(cameras[view], base) for view in VIEWS}


def _distance(first: Float64Array, second: Float64Array) -> float:
    """Return the largest difference of two poses' entries, rounded to 1e-4 so that equals tie."""
    return round(float(np.abs(first - second).max()), 4)


def frame_poses(
    rendered: Mapping[View, Float64Array | None],
    present: Mapping[View, Float64Array],
    base: Float64Array,
    history: PoseHistory,
) -> dict[View, Float32Array]:
    """Return camera to base for each picture, at the moment that it shows.

    Args:
        rendered: Camera poses of the rendered frames, None where not known yet.
        present: Camera poses now.
        base: Base pose now.
        history: With the present state as its newest.

    Returns:
        For each view float32 [4, 4], read-only.
    """
    poses = {}
    for view in VIEWS:
        camera = rendered[view]
        if camera is None:  # nothing rendered yet: the present is the best that is known
            poses[view] = in_base(present[view], base)
        else:
            poses[view] = in_base(camera, history.base_at(view, camera))
    return poses
