"""Observations as the official evaluator sends them: flat maps that differ by generation.

2025 and v3.9.0 to v3.9.2 send every array as it is; v3.9.3 and later add a leading dimension of
the envs, even for one env. Pictures are received as RGBA or RGB, of any size; proprio as 256
(2025) or 61 numbers. Depth and segmentation, which wrappers may add, are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from b1k_envs.base import VIEWS, Float32Array, Observation, ProtocolYear, UInt8Array, View
from b1k_envs.poses import are_rigid, camera_matrices
from b1k_envs.r1pro import (
    CAM_REL_POSES_KEY,
    CAMERAS,
    CONTROL_HZ,
    PROPRIO_DIM,
    PROPRIO_KEY,
    TASK_ID_KEY,
)
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.limits import WireError

Channels = Literal["rgba", "rgb"]

_STEP = "step"
_POSES = "camera_to_base"
_RECORDED = 21
_MOST_STEPS = 2**53
"""Greatest step count: above it float64 has no exact integers, and times would be rounded."""


class ManyEnvsError(WireError):
    """An observation has more envs than are allowed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """The content of an observation message.

    Attributes:
        observations: One observation per env, at least one.
        batched: Whether arrays had a leading dimension of the envs, as those of the answer must
            then have, too.
        rows: K of a client that executes K actions before it asks again; None if it did not say.
        step: Control steps since the reset, as a client of ours says; None from others.
    """

    observations: tuple[Observation, ...]
    batched: bool
    rows: int | None
    step: int | None


def to_wire(
    observation: Observation,
    *,
    batch: bool,
    images: Mapping[View, UInt8Array] | None = None,
    channels: Channels = "rgba",
    rows: int | None = None,
    extended: bool = False,
    depth: bool = False,
) -> dict[str, Any]:
    """Return the message for one env's observation; only pictures that get an alpha are copied.

    Args:
        observation: The observation; its pictures are left out if `images` is empty.
        batch: Give every array the leading dimension 1.
        images: Send these instead of the observation's own.
        channels: The evaluator sends RGBA, opaque.
        rows: Ask for a chunk of this many actions; None asks for none.
        extended: Tell a server that understands it the step, and the poses of the pictures
            themselves: `cam_rel_poses` are rounded, and in v3.9.3 newer than the pictures.
        depth: Send the observation's depth, as the evaluator does with `RGBDFullResWrapper`.

    Raises:
        WireError: There is no depth to send.
    """
    arrays: dict[str, npt.NDArray[Any]] = {
        CAMERAS[view].observation_key: _rgba(picture) if channels == "rgba" else picture
        for view, picture in (observation.images if images is None else images).items()
    }
    if depth:
        if observation.depth is None:
            raise WireError("the server wants depth, and the env was not asked for it")
        arrays |= {CAMERAS[view].depth_key: found for view, found in observation.depth.items()}
    arrays[PROPRIO_KEY] = observation.proprio
    arrays[CAM_REL_POSES_KEY] = observation.cam_rel_poses
    arrays[TASK_ID_KEY] = np.array([observation.task_index], dtype=np.int64)
    message: dict[str, Any] = {key: array[None] for key, array in arrays.items()}
    if not batch:
        message = dict(arrays)
    if rows is not None:
        message[keys.CHUNK_SIZE] = rows
    if extended:
        poses = np.stack([observation.camera_to_base[view] for view in VIEWS])
        message[keys.EXTENSION] = {_STEP: observation.step, _POSES: poses}
    return message


def from_wire(
    message: object,
    *,
    images: bool = True,
    task_index: int | None = None,
    step: int = 0,
    envs: int | None = None,
) -> Question:
    """Read an observation message.

    Args:
        message: As `codec.unpack` returns it.
        images: False is for a policy that looks at nothing: pictures are ignored, and the poses of
            the cameras may be missing, which are then NaN. Otherwise every view must be there.
        task_index: The task, if the message names none.
        step: Control steps since the reset, if the message does not say.
        envs: Greatest number of envs; None for any number.

    Returns:
        Observations whose arrays are read-only and may share the message's memory. Numbers that
        are not finite are passed on, since evaluators send what their simulator gives.

    Raises:
        ManyEnvsError: There are more envs than `envs`.
        WireError: It is not an observation; the text names the key, what came and what was
            expected.
    """
    if not isinstance(message, dict):
        raise WireError(f"an observation must be a map, got {type(message).__name__}")
    _require(message, images=images, task=task_index is None)
    proprio = _numbers(message, PROPRIO_KEY, np.float32)
    if proprio.ndim not in (1, 2):
        raise _wrong(PROPRIO_KEY, proprio, "float32 [256] or [61], or with a leading dimension")
    # The proprio decides, as every observation has it and its dimensions are known.
    batched = proprio.ndim == 2
    proprio = proprio if batched else proprio[None]
    count = len(proprio)
    if count < 1:
        raise WireError(f"{PROPRIO_KEY} is of 0 envs, expected at least 1")
    if envs is not None and count > envs:
        raise ManyEnvsError(f"{PROPRIO_KEY} is of {count} envs, expected 1 to {envs}")
    protocol = _protocol(proprio)
    poses = _recorded_poses(message, batched, count)
    tasks = _tasks(message, count, task_index)
    views = [_pictures(message, view, batched, count) for view in CAMERAS] if images else []
    told, told_poses = _told(message, count)
    now = step if told is None else told
    return Question(
        observations=tuple(
            Observation(
                images=MappingProxyType(
                    {view: taken[env] for view, taken in zip(CAMERAS, views, strict=False)}
                ),
                camera_to_base=told_poses or camera_poses(poses[env]),
                cam_rel_poses=poses[env],
                proprio=proprio[env],
                protocol=protocol,
                task_index=tasks[env],
                step=now,
                time=now / CONTROL_HZ,
            )
            for env in range(count)
        ),
        batched=batched,
        rows=_whole(message, keys.CHUNK_SIZE, least=1),
        step=told,
    )


# --- Pictures -------------------------------------------------------------------------------


def _rgba(picture: UInt8Array) -> UInt8Array:
    import cv2  # thirty times as fast as numpy, for three pictures in every message

    converted = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2RGBA)
    rgba: UInt8Array = np.asarray(converted, dtype=np.uint8)
    return rgba


def _pictures(
    message: Mapping[Any, Any], view: View, batched: bool, count: int
) -> list[UInt8Array]:
    """Read the pictures of one view, uint8 [N, N, 3] RGB per env."""
    import cv2

    key = CAMERAS[view].observation_key
    found = _array(message, key)
    shape = found.shape[1:] if batched else found.shape
    fits = len(shape) == 3 and shape[0] == shape[1] >= 1 and shape[2] in (3, 4)
    if found.dtype != np.uint8 or not fits or (batched and len(found) != count):
        lead = f"{count}, " if batched else ""
        raise _wrong(key, found, f"uint8 [{lead}N, N, 4] or [{lead}N, N, 3]")
    pictures = list(found) if batched else [found]
    if shape[2] == 4:
        pictures = [cv2.cvtColor(picture, cv2.COLOR_RGBA2RGB) for picture in pictures]
    for picture in pictures:
        picture.setflags(write=False)
    return pictures


# --- Everything else --------------------------------------------------------------------------


def _require(message: Mapping[Any, Any], *, images: bool, task: bool) -> None:
    """Check that every key is there that will be read.

    Raises:
        WireError: The text names all that are missing.
    """
    needed = [PROPRIO_KEY]  # first, as the reason of a closing is cut at 123 bytes
    if images:
        needed += [CAM_REL_POSES_KEY, *(each.observation_key for each in CAMERAS.values())]
    missing = [key for key in needed if key not in message]
    if task and message.get(TASK_ID_KEY) is None:
        missing.append(f"{TASK_ID_KEY}, and this server no task of its own")
    if missing:
        have = ", ".join(sorted(name[:60] for name in message if isinstance(name, str))[:12])
        raise WireError(
            f"the observation has no {', no '.join(missing)} (it has: {have or 'no key'})"
        )


def _array(message: Mapping[Any, Any], key: str) -> npt.NDArray[Any]:
    found = message[key]
    if not isinstance(found, np.ndarray):
        raise WireError(f"{key} must be an array, got {type(found).__name__}")
    return found


def _numbers(message: Mapping[Any, Any], key: str, dtype: type) -> npt.NDArray[Any]:
    """Read an array as a dtype, whatever its byte order."""
    found = _array(message, key)
    # Either byte order is taken, but no other dtype: a cast could change numbers.
    if found.dtype.newbyteorder("=") != dtype:
        raise _wrong(key, found, np.dtype(dtype).name)
    native: npt.NDArray[Any] = np.asarray(found, dtype=dtype)
    native.setflags(write=False)
    return native


def _recorded_poses(message: Mapping[Any, Any], batched: bool, count: int) -> Float32Array:
    """Read `cam_rel_poses`, float32 [N, 21]."""
    if CAM_REL_POSES_KEY not in message:  # as `_require` allows
        return np.full((count, _RECORDED), np.nan, np.float32)
    found: Float32Array = _numbers(message, CAM_REL_POSES_KEY, np.float32)
    wanted = (count, _RECORDED) if batched else (_RECORDED,)
    if found.shape != wanted:
        raise _wrong(CAM_REL_POSES_KEY, found, f"float32 {list(wanted)}")
    return found if batched else found[None]


def _protocol(proprio: Float32Array) -> ProtocolYear:
    for protocol, length in PROPRIO_DIM.items():
        if proprio.shape[1] == length:
            return protocol
    raise WireError(
        f"{PROPRIO_KEY} has {proprio.shape[1]} numbers, expected "
        f"{' or '.join(f'{length} ({name})' for name, length in PROPRIO_DIM.items())}"
    )


def _tasks(message: Mapping[Any, Any], count: int, default: int | None) -> list[int]:
    """Read the task of every env; `task_id` may be one number, or an array with one per env."""
    if TASK_ID_KEY not in message and default is not None:
        return [default] * count
    found = message.get(TASK_ID_KEY)
    if type(found) is int:
        return [found] * count
    if found is not None and isinstance(found, (np.ndarray, np.generic)):
        numbers = np.asarray(found)
        if numbers.dtype.kind in "iu" and numbers.size == count and numbers.ndim <= 2:
            return [int(number) for number in numbers.ravel()]
        raise _wrong(TASK_ID_KEY, numbers, f"integers, {count} of them")
    raise WireError(f"{TASK_ID_KEY} must be an integer, got {type(found).__name__}")


def _whole(message: Mapping[Any, Any], key: str, *, least: int) -> int | None:
    """Read a whole number, if the message has it."""
    if key not in message:
        return None
    found = message[key]
    if isinstance(found, np.integer):
        found = int(found)
    if type(found) is not int or not least <= found <= _MOST_STEPS:
        shown = found if type(found) is int else f"a {type(found).__name__}"
        raise WireError(f"{key} must be a whole number from {least} up, got {shown}")
    return found


def _told(
    message: Mapping[Any, Any], count: int
) -> tuple[int | None, Mapping[View, Float32Array] | None]:
    """Read the step and the poses that a client of ours sends."""
    block = message.get(keys.EXTENSION)
    if not isinstance(block, dict):
        return None, None
    step = _whole(block, _STEP, least=0)
    if _POSES not in block:
        return step, None
    poses = _numbers(block, _POSES, np.float32)
    if count != 1 or poses.shape != (len(VIEWS), 4, 4):
        raise _wrong(_POSES, poses, f"float32 [{len(VIEWS)}, 4, 4], and of one env")
    # A pose with a number that is not finite is passed on, as the evaluator does.
    if not are_rigid(poses[np.isfinite(poses).all(axis=(1, 2))]):
        raise WireError("a pose must be a rotation, a position, and 0 0 0 1")
    return step, MappingProxyType(dict(zip(VIEWS, poses, strict=True)))


def camera_poses(recorded: Float32Array) -> MappingProxyType[View, Float32Array]:
    """Return the matrices of a received `cam_rel_poses`; see `b1k_envs.poses.camera_matrices`.

    Raises:
        WireError: A quaternion is finite and its length is not 1.
    """
    try:
        return camera_matrices(recorded)
    except ValueError as error:
        raise WireError(str(error)) from error


def _wrong(key: str, found: npt.NDArray[Any], wanted: str) -> WireError:
    return WireError(f"{key} must be {wanted}, got {found.dtype} {list(found.shape)}")
