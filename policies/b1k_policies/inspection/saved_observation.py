"""One observation in a file, so that a checkpoint can be asked about it again elsewhere.

The file is a `.npz` of plain arrays, and nothing in it is ever unpickled. It also has the
instruction and the seed of the inference's noise, so that it always gives the same batch and chunk.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from b1k_envs.base import VIEWS, Float32Array, Observation, ProtocolYear, UInt8Array, View
from b1k_envs.errors import UsageError
from b1k_envs.poses import are_rigid
from b1k_envs.r1pro import PROPRIO_DIM

FORMAT = "b1k-eval-observation/1"
"""Value of `format` in the file."""

_TEXTS = ("format", "protocol", "instruction", "origin")
_NUMBERS = ("task_index", "step", "time", "seed")
_VECTORS = ("cam_rel_poses", "proprio")
_REQUIRED = (
    *_TEXTS,
    *_NUMBERS,
    *_VECTORS,
    *(f"images.{view}" for view in VIEWS),
    *(f"camera_to_base.{view}" for view in VIEWS),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedObservation:
    """An observation and everything else that decides the answer to it.

    Attributes:
        observation: The observation as an env gave it.
        instruction: The task in words; see `base.Query`.
        seed: Seed of the inference's noise.
        origin: Where the observation is from, for people.
    """

    observation: Observation
    instruction: str
    seed: int
    origin: str


def to_npz(saved: SavedObservation) -> bytes:
    """Return the content of the file; `read_npz` is its inverse."""
    observation = saved.observation
    arrays: dict[str, Any] = {
        "format": FORMAT,
        "protocol": observation.protocol,
        "instruction": saved.instruction,
        "origin": saved.origin,
        "task_index": observation.task_index,
        "step": observation.step,
        "time": observation.time,
        "seed": saved.seed,
        "cam_rel_poses": observation.cam_rel_poses,
        "proprio": observation.proprio,
        **{f"images.{view}": observation.images[view] for view in VIEWS},
        **{f"camera_to_base.{view}": observation.camera_to_base[view] for view in VIEWS},
    }
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def read_npz(path: Path) -> SavedObservation:
    """Read a file that `to_npz` made.

    Raises:
        UsageError: The file is missing, damaged or of another kind, or has a value that no
            observation can have; the text says which.
    """
    arrays = _arrays(path)
    missing = [name for name in _REQUIRED if name not in arrays]
    if "format" in missing:
        raise UsageError(
            f"{path} is no saved observation: it has no format (`b1k-eval inspect --save` writes "
            f"such files); it holds {', '.join(sorted(arrays)) or 'nothing'}"
        )
    found = str(arrays["format"])
    if found != FORMAT:
        raise UsageError(f"{path}: format is {found!r}, this version reads {FORMAT!r}")
    if missing:
        raise UsageError(f"{path} is no whole observation: it lacks {', '.join(missing)}")
    problem = next(_problems(arrays), None)
    if problem is not None:
        raise UsageError(f"{path}: {problem}")
    protocol: ProtocolYear = "2025" if str(arrays["protocol"]) == "2025" else "2026"
    for array in arrays.values():
        array.setflags(write=False)
    return SavedObservation(
        observation=Observation(
            images=_by_view(arrays, "images"),
            camera_to_base=_by_view(arrays, "camera_to_base"),
            cam_rel_poses=arrays["cam_rel_poses"],
            proprio=arrays["proprio"],
            protocol=protocol,
            task_index=int(arrays["task_index"]),
            step=int(arrays["step"]),
            time=float(arrays["time"]),
        ),
        instruction=str(arrays["instruction"]),
        seed=int(arrays["seed"]),
        origin=str(arrays["origin"]),
    )


def _arrays(path: Path) -> dict[str, Any]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise UsageError(
                f"{path} holds one array, not an observation: `b1k-eval inspect --save` writes "
                "such files"
            )
        with loaded as file:
            arrays = {name: file[name] for name in file.files}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    # zipfile raises RuntimeError for an encrypted member or an unknown compression.
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(
            f"{path} is no saved observation, or damaged ({error}): `b1k-eval inspect --save` "
            "writes such files"
        ) from error
    # numpy returns a member that is not a .npy as bytes.
    foreign = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise UsageError(f"{path} is no saved observation: {foreign[0]} in it is no array")
    return arrays


def _by_view(arrays: Mapping[str, Any], name: str) -> dict[View, Any]:
    return {view: arrays[f"{name}.{view}"] for view in VIEWS}


def _problems(arrays: Mapping[str, Any]) -> Iterator[str]:
    for name in _TEXTS:
        if arrays[name].dtype.kind != "U" or arrays[name].ndim:
            yield f"{name} must be a text, got {arrays[name].dtype} {list(arrays[name].shape)}"
    for name in _NUMBERS:
        kinds = "iuf" if name == "time" else "iu"
        if arrays[name].dtype.kind not in kinds or arrays[name].ndim:
            yield f"{name} must be a number, got {arrays[name].dtype} {list(arrays[name].shape)}"
    protocol = str(arrays["protocol"])
    if protocol not in get_args(ProtocolYear):
        yield f"protocol {protocol!r} is unknown: {' or '.join(get_args(ProtocolYear))}"
        return
    lengths = {"cam_rel_poses": 21, "proprio": PROPRIO_DIM[protocol]}  # type: ignore[index]
    for name, length in lengths.items():
        yield from _not_float32(name, arrays[name], (length,))
    for view in VIEWS:
        picture: UInt8Array = arrays[f"images.{view}"]
        size = picture.shape[0] if picture.ndim else 0
        if picture.dtype != np.uint8 or picture.shape != (size, size, 3) or not size:
            yield (
                f"images.{view} must be uint8 [N, N, 3], got {picture.dtype} {list(picture.shape)}"
            )
        pose: Float32Array = arrays[f"camera_to_base.{view}"]
        wrong = list(_not_float32(f"camera_to_base.{view}", pose, (4, 4)))
        yield from wrong
        if not wrong and not are_rigid(pose[None]):
            yield f"camera_to_base.{view} is no pose: a rotation, a position, and 0 0 0 1"


def _not_float32(name: str, array: Any, shape: tuple[int, ...]) -> Iterator[str]:  # noqa: ANN401
    if array.dtype != np.float32 or array.shape != shape:
        yield f"{name} must be float32 {list(shape)}, got {array.dtype} {list(array.shape)}"
    elif not np.isfinite(array).all():
        yield f"{name} holds a number that is not finite"
