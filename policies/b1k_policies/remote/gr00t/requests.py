"""What a client of GR00T's protocol sends to a server of ours, read and checked.

Of the 256 numbers of the state those that a client does not send are NaN: only names that the
policy does not read may be missing. It says which those are (`Policy.proprio_read`); of one that
does not, all are needed, and GR00T's evaluator sends all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_envs.base import VIEWS, Float32Array, Observation, UInt8Array
from b1k_envs.r1pro import CAMERAS, CONTROL_HZ, PROPRIO_2025, PROPRIO_DIM
from b1k_policies.base import Policy
from b1k_policies.remote.gr00t.robot import (
    CAMERA_POSES,
    CAMERA_POSES_DIM,
    LANGUAGE,
    picture_key,
    task_of,
)
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.address import KeyForm
from b1k_policies.remote.wire.limits import WireError
from b1k_policies.remote.wire.observations import ManyEnvsError, camera_poses

ENDPOINTS = ("ping", "get_modality_config", "reset", "get_action", "kill")
_MOST_STEPS = 2**53
"""As of `wire.observations`: above it, float64 has no exact integers."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        endpoint: One of `ENDPOINTS`.
        data: Its arguments; empty if there are none.
        token: As sent; None if there is none.
    """

    endpoint: str
    data: Mapping[str, Any]
    token: str | None


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What observations must have.

    Attributes:
        images: Whether pictures and the cameras' poses.
        states: Names of the state.
    """

    images: bool
    states: tuple[str, ...]

    @classmethod
    def of(cls, policy: Policy) -> Needs:
        """Return what a policy needs."""
        read = tuple(PROPRIO_2025) if policy.proprio_read is None else policy.proprio_read
        poses = (CAMERA_POSES,) if policy.needs_images else ()
        return cls(images=policy.needs_images, states=(*read, *poses))


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """The content of a `get_action`.

    Attributes:
        observations: One per world, at least one.
        form: Flat or nested, as the answer must then be.
    """

    observations: tuple[Observation, ...]
    form: KeyForm


def read_request(message: object) -> Request:
    """Read a request.

    Raises:
        WireError: It is none; the text names what came and what is expected.
    """
    if not isinstance(message, dict):
        raise WireError(f"a request must be a map, got {type(message).__name__}")
    endpoint, data, token = (message.get(key) for key in ("endpoint", "data", "api_token"))
    if not isinstance(endpoint, str) or endpoint not in ENDPOINTS:
        shown = repr(endpoint[:40]) if isinstance(endpoint, str) else f"a {_kind(endpoint)}"
        raise WireError(f"the endpoint is {shown}: choose from {', '.join(ENDPOINTS)}")
    if data is not None and not isinstance(data, dict):
        raise WireError(f"a request's data must be a map, got {_kind(data)}")
    if token is not None and not isinstance(token, str):
        raise WireError(f"a request's api_token must be a text, got {_kind(token)}")
    return Request(endpoint=endpoint, data=data or {}, token=token)


def options_of(request: Request) -> dict[Any, Any]:
    """Return a request's options; empty if there are none.

    Raises:
        WireError: They are no map.
    """
    options = request.data.get("options")
    if options is not None and not isinstance(options, dict):
        raise WireError(f"options must be a map, got {_kind(options)}")
    return options or {}


def read_observation(
    request: Request, needs: Needs, *, task_index: int | None, step: int, worlds: int
) -> Seen:
    """Read the observation of a `get_action`.

    Args:
        request: The request.
        needs: What must be there; the rest is read where it is.
        task_index: The task; None for that of the sentence.
        step: Control steps since the reset, if the client does not say.
        worlds: Greatest number of worlds.

    Returns:
        Observations whose arrays are read-only. Numbers that are not finite are passed on.

    Raises:
        ManyEnvsError: There are more worlds than `worlds`.
        WireError: It is no observation, or lacks something; the text names all that is missing.
    """
    found = request.data.get("observation")
    if not isinstance(found, dict):
        raise WireError(f"get_action needs a map as observation, got {_kind(found)}")
    form: KeyForm = "nested" if isinstance(found.get("state"), dict) else "flat"
    video, state, words = _parts(found, form)
    told = _told(options_of(request))
    if told.task is not None and task_index is None:
        task_index = told.task
    wanted = {name: _name("video", name, form) for name in map(picture_key, VIEWS)}
    missing = [key for name, key in wanted.items() if needs.images and name not in video]
    missing += [_name("state", name, form) for name in needs.states if name not in state]
    if task_index is None and LANGUAGE not in words:
        missing.append(f"{LANGUAGE}, and this server no --task of its own")
    if missing:
        raise WireError(
            f"the observation has no {', no '.join(missing)}; what this policy needs is in "
            "get_modality_config"
        )
    count = _count(state)
    if count > worlds:
        raise ManyEnvsError(f"the observation is of {count} worlds, expected 1 to {worlds}")
    proprio = _proprio(state, count)
    poses = _poses(state, count)
    pictures = [_picture(video[name], wanted[name], count) for name in wanted if needs.images]
    tasks = [task_index] * count if task_index is not None else _tasks(words[LANGUAGE], count)
    now = step if told.step is None else told.step
    return Seen(
        observations=tuple(
            Observation(
                images=MappingProxyType(
                    {view: taken[world] for view, taken in zip(VIEWS, pictures, strict=False)}
                ),
                camera_to_base=camera_poses(poses[world]),
                cam_rel_poses=poses[world],
                proprio=proprio[world],
                protocol="2025",
                task_index=tasks[world],
                step=now,
                time=now / CONTROL_HZ,
            )
            for world in range(count)
        ),
        form=form,
    )


# --- the parts ------------------------------------------------------------------------------


def _kind(found: object) -> str:
    return "nothing" if found is None else type(found).__name__


def _name(modality: str, name: str, form: KeyForm) -> str:
    return f"{modality}.{name}" if form == "flat" else f"{name} under {modality!r}"


def _parts(
    found: Mapping[Any, Any], form: KeyForm
) -> tuple[Mapping[Any, Any], Mapping[Any, Any], Mapping[Any, Any]]:
    """Return pictures and states by name, and sentences by key."""
    if form == "flat":
        video, state = (
            {
                key.partition(".")[2]: value
                for key, value in found.items()
                if isinstance(key, str) and key.startswith(f"{modality}.")
            }
            for modality in ("video", "state")
        )
        return video, state, found
    parts = [found.get(modality, {}) for modality in ("video", "state", "language")]
    for modality, part in zip(("video", "state", "language"), parts, strict=True):
        if not isinstance(part, dict):
            raise WireError(f"an observation's {modality} must be a map, got {_kind(part)}")
    return parts[0], parts[1], parts[2]


def _count(state: Mapping[Any, Any]) -> int:
    """Return the number of worlds: every observation has some state."""
    for name in (*PROPRIO_2025, CAMERA_POSES):
        found = state.get(name)
        if isinstance(found, np.ndarray) and found.ndim == 3 and len(found) > 0:
            return len(found)
    raise WireError("the observation has no state that is float32 [B, 1, D]")


def _state(found: object, name: str, count: int, size: int) -> npt.NDArray[Any]:
    fits = isinstance(found, np.ndarray) and found.dtype.newbyteorder("=") == np.float32
    if not isinstance(found, np.ndarray) or not fits or found.shape != (count, 1, size):
        raise _wrong(f"the state {name}", found, f"float32 [{count}, 1, {size}]")
    return found[:, 0]


def _proprio(state: Mapping[Any, Any], count: int) -> Float32Array:
    proprio = np.full((count, PROPRIO_DIM["2025"]), np.nan, dtype=np.float32)
    for name, part in PROPRIO_2025.items():
        if name in state:
            proprio[:, part] = _state(state[name], name, count, part.stop - part.start)
    proprio.setflags(write=False)
    return proprio


def _poses(state: Mapping[Any, Any], count: int) -> Float32Array:
    poses = np.full((count, CAMERA_POSES_DIM), np.nan, dtype=np.float32)
    if CAMERA_POSES in state:
        poses[:] = _state(state[CAMERA_POSES], CAMERA_POSES, count, CAMERA_POSES_DIM)
    poses.setflags(write=False)
    return poses


def _picture(found: object, key: str, count: int) -> UInt8Array:
    """Return uint8 [B, N, N, 3]."""
    largest = max(camera.size for camera in CAMERAS.values())
    wanted = f"uint8 [{count}, 1, N, N, 3], N from 1 to {largest}"
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.ndim != 5:
        raise _wrong(key, found, wanted)
    size = found.shape[2]
    if found.shape != (count, 1, size, size, 3) or not 1 <= size <= largest:
        raise _wrong(key, found, wanted)
    pictures = np.ascontiguousarray(found[:, 0])
    pictures.setflags(write=False)
    return pictures


def _tasks(found: object, count: int) -> list[int]:
    """Read a sentence per world: texts, or lists of one text."""
    if not isinstance(found, list) or len(found) != count:
        raise WireError(f"{LANGUAGE} must be a list of {count} texts, got {_kind(found)}")
    tasks = []
    for one in found:
        text = one[0] if isinstance(one, list) and len(one) == 1 else one
        if not isinstance(text, str):
            raise WireError(f"{LANGUAGE} must have texts, got {_kind(text)}")
        task = task_of(text)
        if task is None:
            raise WireError(
                f"{LANGUAGE} is {text[:80]!a}, the sentence of no task (as 'Turning on radio.' is "
                "of turning_on_radio): serve with --task"
            )
        tasks.append(task.index)
    return tasks


@dataclass(frozen=True)
class _Told:
    """What a client of ours says besides: control steps since the reset, and the task's index."""

    step: int | None
    task: int | None


def _told(options: Mapping[Any, Any]) -> _Told:
    block = options.get(keys.EXTENSION)
    if not isinstance(block, dict):
        return _Told(None, None)
    step, task = block.get("step"), block.get("task_id")
    for name, value in (("step", step), ("task_id", task)):
        if value is not None and (type(value) is not int or not 0 <= value <= _MOST_STEPS):
            raise WireError(f"the {name} in options must be a whole number from 0 up")
    return _Told(step, task)


def _wrong(what: str, found: object, wanted: str) -> WireError:
    shown = f"a {_kind(found)}"
    if isinstance(found, np.ndarray):
        shown = f"{found.dtype} {list(found.shape)}"
    return WireError(f"{what} must be {wanted}, got {shown}")
