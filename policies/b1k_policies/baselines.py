"""Policies that need no model: floors for every score, and the replay of a recording.

None of them looks at a picture. `zero`, `hold` and `random` should succeed on no task: if one does,
the simulator or the goal has a bug. `replay` repeats the executed actions of a recorded episode,
one row per control step, so it only means something on the instance that was recorded.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from b1k_envs.base import Float32Array, Float64Array, Observation
from b1k_envs.errors import UsageError
from b1k_envs.parquet import require_pyarrow
from b1k_envs.r1pro import (
    ACTION_DIM,
    ACTION_SLICES,
    ARM_JOINTS,
    GRIPPER_OPEN,
    TRUNK_JOINTS,
    hold_action,
    joint_limits,
)
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy

DEFAULT_CHUNK_LENGTH = 30
"""Rows per chunk of a baseline: one second, which is at least the default horizon."""

ACTION_COLUMNS: tuple[str, ...] = tuple(f"action_{i}" for i in range(ACTION_DIM))
"""Names of the columns of trace.parquet that hold the executed action."""


class ZeroPolicy(Policy):
    """Sends 23 zeros at every step, which drives trunk and arms to 0 rad and grippers half open."""

    name = "zero"
    needs_images = False
    proprio_read = ()

    def __init__(self, *, chunk_length: int = DEFAULT_CHUNK_LENGTH) -> None:
        self.chunk_length = chunk_length

    def reset(self, episode: EpisodeInfo) -> None:
        """Do nothing: the policy has no state."""

    def infer(self, observation: Observation) -> ActionChunk:
        """Return float32 [T, 23] of zeros."""
        return ActionChunk(actions=np.zeros((self.chunk_length, ACTION_DIM), dtype=np.float32))


class HoldPolicy(Policy):
    """Stays in place: base 0, each joint at its present position, grippers at their last command.

    The position is read again at every inference, so the robot may creep by the controllers'
    steady error. The grippers are open after a reset, so they stay open.
    """

    name = "hold"
    needs_images = False
    proprio_read = ("trunk_qpos", "arm_left_qpos", "arm_right_qpos")

    def __init__(self, *, chunk_length: int = DEFAULT_CHUNK_LENGTH) -> None:
        self.chunk_length = chunk_length
        self._grippers = (GRIPPER_OPEN, GRIPPER_OPEN)

    def reset(self, episode: EpisodeInfo) -> None:
        """Set the gripper commands to open, as they are when the robot is reset."""
        self._grippers = (GRIPPER_OPEN, GRIPPER_OPEN)

    def infer(self, observation: Observation) -> ActionChunk:
        """Return float32 [T, 23], the same row T times."""
        left, right = self._grippers
        row = hold_action(observation.proprio, observation.protocol, left, right)
        self._grippers = (
            float(row[ACTION_SLICES["gripper_left"]][0]),
            float(row[ACTION_SLICES["gripper_right"]][0]),
        )
        return ActionChunk(actions=np.tile(row, (self.chunk_length, 1)))


def random_limits() -> Float64Array:
    """Return the bounds of `RandomPolicy`, float64 [23, 2]: [-1, 1] for base and grippers.

    The other columns have the joint limits of the URDF [rad] (`r1pro.joint_limits`).
    """
    limits = np.tile(np.array([-1.0, 1.0]), (ACTION_DIM, 1))
    limits[ACTION_SLICES["trunk"]] = joint_limits(TRUNK_JOINTS)
    limits[ACTION_SLICES["arm_left"]] = joint_limits(ARM_JOINTS["left"])
    limits[ACTION_SLICES["arm_right"]] = joint_limits(ARM_JOINTS["right"])
    return limits


class RandomPolicy(Policy):
    """Draws every column uniformly within its limits at every step, seeded per episode."""

    name = "random"
    needs_images = False
    proprio_read = ()

    def __init__(self, *, chunk_length: int = DEFAULT_CHUNK_LENGTH) -> None:
        self.chunk_length = chunk_length
        # Inward by one float32 step, so that rounding cannot put a command outside the limits.
        limits = random_limits()
        self._low = np.nextafter(limits[:, 0].astype(np.float32), np.float32(np.inf))
        self._high = np.nextafter(limits[:, 1].astype(np.float32), np.float32(-np.inf))
        self._rng = np.random.default_rng(0)

    def reset(self, episode: EpisodeInfo) -> None:
        """Start the episode's random numbers from `episode.seed`."""
        self._rng = np.random.default_rng(episode.seed)

    def infer(self, observation: Observation) -> ActionChunk:
        """Return float32 [T, 23], drawn anew."""
        drawn = self._rng.random((self.chunk_length, ACTION_DIM), dtype=np.float32)
        actions = self._low + drawn * (self._high - self._low)
        # The sum is rounded to float32, which can put it above the bound.
        return ActionChunk(actions=np.clip(actions, self._low, self._high))


class ReplayPolicy(Policy):
    """Plays the rows of a recording, row i at control step i, and then holds.

    Rows are chosen by the observation's step, so the horizon does not matter. After the last row
    its joint targets and gripper commands are repeated with the base at 0.
    """

    needs_images = False
    proprio_read = ()

    def __init__(self, path: str | Path, *, chunk_length: int = DEFAULT_CHUNK_LENGTH) -> None:
        """Read the recording.

        Args:
            path: A `trace.parquet` of a run, or an `.npy` with float [N, 23].
            chunk_length: Rows per chunk.

        Raises:
            UsageError: The file is missing or unreadable, or does not hold finite [N >= 1, 23].
        """
        self.path = Path(path)
        self.name = f"replay:{path}"
        self.chunk_length = chunk_length
        self._rows = read_recording(self.path)
        # The base takes a velocity: repeated, the last one would drive the robot on.
        tail = self._rows[-1:].copy()
        tail[:, ACTION_SLICES["base"]] = 0.0
        self._tail = tail

    def reset(self, episode: EpisodeInfo) -> None:
        """Do nothing: the observation says which row is next."""

    def infer(self, observation: Observation) -> ActionChunk:
        """Return float32 [T, 23], the rows from `observation.step` on."""
        rows = self._rows[observation.step : observation.step + self.chunk_length]
        missing = self.chunk_length - len(rows)
        return ActionChunk(actions=np.concatenate([rows, np.repeat(self._tail, missing, axis=0)]))

    def describe(self) -> dict[str, Any]:
        """Add the file's path, its length in steps and the hash of its rows."""
        digest = hashlib.sha256(self._rows.tobytes()).hexdigest()
        return {
            **super().describe(),
            "file": str(self.path),
            "rows": len(self._rows),
            "actions_sha256": digest,
        }


def read_recording(path: Path) -> Float32Array:
    """Read the executed actions of a recording, float32 [N, 23], columns as in `b1k_envs.r1pro`.

    Raises:
        UsageError: See `ReplayPolicy`.
    """
    if not path.is_file():
        raise UsageError(
            f"replay: there is no file {path}; give a trace.parquet of a run "
            f"(RUN/episodes/EPISODE/trace.parquet) or an .npy with float [N, {ACTION_DIM}]"
        )
    if path.suffix == ".parquet":
        rows = _read_parquet(path)
    elif path.suffix == ".npy":
        try:
            rows = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise UsageError(f"replay: {path} cannot be read as .npy: {error}") from error
        if not isinstance(rows, np.ndarray):
            rows.close()
            raise UsageError(
                f"replay: {path} cannot be read as .npy: it is an .npz, a folder of arrays; "
                f"save the one with float [N, {ACTION_DIM}]"
            )
    else:
        raise UsageError(f"replay: {path} must end in .parquet or .npy, got {path.suffix!r}")
    if rows.ndim != 2 or rows.shape[1] != ACTION_DIM or len(rows) == 0 or rows.dtype.kind != "f":
        raise UsageError(
            f"replay: {path} must hold float [N >= 1, {ACTION_DIM}], "
            f"got {rows.dtype} {list(rows.shape)}"
        )
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused below
        actions = np.ascontiguousarray(rows, dtype=np.float32)
    if not np.isfinite(actions).all():
        row, column = np.argwhere(~np.isfinite(actions))[0]
        raise UsageError(
            f"replay: {path} has {rows[row, column]} at [{row}, {column}]; "
            "every number must be finite as float32"
        )
    return actions


def _read_parquet(path: Path) -> Float32Array:
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Read as bytes: pyarrow takes a path as text, which a file name that is not UTF-8 is not.
        file = pq.ParquetFile(pa.BufferReader(path.read_bytes()))
        names = file.schema_arrow.names
        missing = [name for name in ACTION_COLUMNS if name not in names]
        if missing:
            raise UsageError(
                f"replay: {path} has no column {missing[0]}; a trace has "
                f"{ACTION_COLUMNS[0]} to {ACTION_COLUMNS[-1]}"
            )
        table = file.read(columns=list(ACTION_COLUMNS))
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"replay: {path} cannot be read as parquet: {error}") from error
    columns = [table.column(name).to_numpy() for name in ACTION_COLUMNS]
    return np.stack(columns, axis=1)
