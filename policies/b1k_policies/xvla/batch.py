"""Building from observations exactly the batch that a checkpoint was trained on.

Keys, dtypes and shapes are those of the model card of DA3-XVLA v17; every value follows from the
contract. The numpy functions work without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from b1k_envs.base import Float32Array, Float64Array, Observation
from b1k_envs.errors import UsageError
from b1k_envs.poses import rigid_inverse
from b1k_envs.r1pro import PROPRIO_DIM, PROPRIO_LAYOUTS
from b1k_policies.base import Query
from b1k_policies.contract.contract import EvalContract
from b1k_policies.contract.fields import CameraAxes, Direction
from b1k_policies.xvla.base_frame import in_frame
from b1k_policies.xvla.images import image_tensor

if TYPE_CHECKING:
    import torch

Batch = dict[str, "torch.Tensor"]
"""Arguments of `generate_actions` by name."""

USD_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
"""Turns OpenCV camera axes into USD camera axes; its own inverse."""


def extract_proprio(observation: Observation, contract: EvalContract) -> Float32Array:
    """Return the robot's state in the contract's columns, neither normalised nor masked.

    Args:
        observation: An observation in either of the evaluator's layouts.
        contract: Decides which parts, their order, the frame of the base's velocity, and how a
            gripper becomes one number.

    Returns:
        float32 [P], P = contract.proprio_dim; rad, rad/s, m/s, grippers as `gripper_proprio`.
        Offsets are added to this; the model is shown the result of `shown_proprio`.

    Raises:
        UsageError: The layout lacks a part, the vector's length is not the layout's, or the frame
            cannot be had (`base_frame.in_frame`).
    """
    layout = PROPRIO_LAYOUTS[observation.protocol]
    raw = observation.proprio
    if raw.shape != (PROPRIO_DIM[observation.protocol],):
        raise UsageError(
            f"the proprio of protocol {observation.protocol} must be "
            f"[{PROPRIO_DIM[observation.protocol]}], got {list(raw.shape)}"
        )
    slope, offset = contract.gripper_scaling
    parts = []
    for part in contract.proprio_parts:
        if part not in layout:
            raise UsageError(
                f"the contract's proprio has {part}, which the layout of protocol "
                f"{observation.protocol} lacks: run with another --protocol"
            )
        values = raw[layout[part]].astype(np.float64)
        # A gripper has two finger joints, and the model gets one number.
        if part.startswith("gripper_") and part.endswith("_qpos"):
            values = slope * values.sum(keepdims=True) + offset
        elif part == "base_qvel":
            values = in_frame(values, observation, contract.base_qvel_frame)
        parts.append(values)
    return np.concatenate(parts).astype(np.float32)


def shown_proprio(proprio: Float32Array, contract: EvalContract) -> Float32Array:
    """Return what the model is shown of the state, float32 [..., P]: normalised or masked.

    Args:
        proprio: float32 [..., P], as `extract_proprio` returns it; not changed.
        contract: Gives the statistics, or the columns that are set to 0.
    """
    if contract.proprio_normalisation is not None:
        return contract.proprio_normalisation.apply(proprio)
    shown = proprio.copy()
    shown[..., list(contract.proprio_mask)] = 0
    return shown


def extrinsics(observation: Observation, contract: EvalContract) -> Float32Array:
    """Return the camera poses as sent.

    Args:
        observation: The observation with the poses of its pictures.
        contract: Decides whose pose is in which row, the direction and the camera's axes.

    Returns:
        float32 [V, 4, 4], SE(3), between the camera and the robot's base.
    """
    direction, axes = contract.extrinsics_direction, contract.camera_axes
    poses = (observation.camera_to_base[view] for view in contract.extrinsics_rows)
    rows = [pose_as(pose, direction, axes) for pose in poses]
    return np.stack(rows).astype(np.float32)


def pose_as(camera_to_base: Float32Array, direction: Direction, axes: CameraAxes) -> Float64Array:
    """Write a pose as recorded, [4, 4] with USD axes, in another convention, float64 [4, 4]."""
    pose = camera_to_base.astype(np.float64)
    if axes == "opencv":
        pose = pose @ USD_TO_OPENCV
    return rigid_inverse(pose) if direction == "base_to_camera" else pose


def build_batch(
    observations: Sequence[Observation],
    contract: EvalContract,
    input_ids: torch.Tensor,
    *,
    skill_id: int | None = None,
    skill_progress: float | Sequence[float] | None = None,
) -> Batch:
    """Return the arguments of one call of `generate_actions`, on the CPU.

    Args:
        observations: B observations, from one or many environments.
        contract: Decides everything.
        input_ids: int64 [B, language_length], the instruction as tokens.
        skill_id: Skill forced on the model; None lets its classifier decide.
        skill_progress: Progress in [0, 1] that the model is told, one for all or one each; None
            for none.

    Returns:
        input_ids int64 [B, L]; image_input float32 [B, V, 3, S, S]; image_mask bool [B, V], all
        true; proprio float32 [B, P]; domain_id int64 [B]; where posed, extrinsics float32
        [B, V, 4, 4] and intrinsics float32 [B, V, 3, 3]; and what is forced, int64 [B] and
        float32 [B].

    Raises:
        EnvError: See `image_tensor`.
        UsageError: See `extract_proprio`; or the tokens do not fit.
    """
    import torch

    count = len(observations)
    wanted = (count, contract.language_length)
    if tuple(input_ids.shape) != wanted or input_ids.dtype != torch.int64:
        raise UsageError(
            f"input_ids must be int64 {list(wanted)}, got {input_ids.dtype} {list(input_ids.shape)}"
        )
    proprio = np.stack([extract_proprio(one, contract) for one in observations])
    batch: Batch = {
        "input_ids": input_ids,
        "image_input": image_tensor([one.images for one in observations], contract),
        "image_mask": torch.ones(count, len(contract.view_order), dtype=torch.bool),
        "proprio": torch.from_numpy(shown_proprio(proprio, contract)),
        "domain_id": torch.full((count,), contract.domain_id, dtype=torch.int64),
    }
    if contract.posed:
        poses = np.stack([extrinsics(one, contract) for one in observations])
        k = np.stack([contract.intrinsics_matrices] * count)
        for cameras, one in zip(k, observations, strict=True):
            cameras[:, [0, 1], [0, 1]] *= one.focal
        batch["extrinsics"] = torch.from_numpy(poses)
        batch["intrinsics"] = torch.from_numpy(k.astype(np.float32))
    if skill_id is not None:
        batch["skill_id"] = torch.full((count,), skill_id, dtype=torch.int64)
    if skill_progress is not None:
        told = np.broadcast_to(np.asarray(skill_progress, dtype=np.float32), count)
        batch["skill_progress"] = torch.from_numpy(told.copy())
    return batch


def told_progress(
    queries: Sequence[Query], contract: EvalContract, forced: float | None
) -> float | Sequence[float] | None:
    """Return the progress that the model is told: the forced one, else the contract's."""
    if forced is not None:
        return forced
    told = contract.skill_progress
    if isinstance(told, str):  # previous
        return [query.progress or 0.0 for query in queries]
    return told
