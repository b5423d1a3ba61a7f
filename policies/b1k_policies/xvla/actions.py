"""Turning a model's predicted chunk into actions that the robot executes, and back.

A model predicts columns in the contract's order, normalised or not, some of them offsets from the
state; the robot takes absolute commands in the order of `b1k_envs.r1pro`. An offset is from the
proprio at the inference, for every row of the chunk. That proprio is complete and in physical
units, even where the model is shown it normalised or with columns left out.

Sources: the model card of DA3-XVLA v17 for the decoding; openpi (`Unnormalize`, then
`AbsoluteActions`) for undoing statistics before adding offsets; the public X-VLA code
(`action_slice`) for offsets from the state before it is masked.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float32Array
from b1k_envs.errors import ActionError
from b1k_envs.r1pro import ACTION_DIM, ACTION_SLICES, ARMS, GRIPPER_CLOSED, GRIPPER_OPEN
from b1k_policies.contract.contract import EvalContract

_GRIPPERS = [ACTION_SLICES[f"gripper_{arm}"].start for arm in ARMS]


def decode(predicted: Float32Array, proprio: Float32Array, contract: EvalContract) -> Float32Array:
    """Make a prediction absolute. Nothing is clipped, cut or cast.

    Args:
        predicted: float32 [B, T, 23], T the contract's chunk_length, in the model's columns.
        proprio: float32 [B, P] of the same observations, from `batch.extract_proprio`.
        contract: Decides the normalisation, the columns that are offsets, and their order.

    Returns:
        float32 [B, T, 23], every row, in the robot's columns; a new array.

    Raises:
        ActionError: An array has another dtype or shape.
    """
    _check("the predicted chunk", predicted, contract)
    # Statistics are undone before offsets are added, as in openpi.
    if contract.action_normalisation is not None:
        predicted = contract.action_normalisation.undo(predicted)
    absolute = predicted + _reference(proprio, len(predicted), contract)[:, None]
    return np.ascontiguousarray(absolute[..., contract.robot_columns])


def encode(actions: Float32Array, proprio: Float32Array, contract: EvalContract) -> Float32Array:
    """Return what a model would have to predict for these actions: the inverse of `decode`.

    Args:
        actions: float32 [B, T, 23], absolute, in the robot's columns.
        proprio: As in `decode`.
        contract: As in `decode`.

    Returns:
        float32 [B, T, 23], in the model's columns; a new array.

    Raises:
        ActionError: An array has another dtype or shape.
    """
    _check("the actions", actions, contract)
    predicted = np.empty_like(actions)
    predicted[..., contract.robot_columns] = actions
    predicted -= _reference(proprio, len(actions), contract)[:, None]
    stated = contract.action_normalisation
    return predicted if stated is None else stated.apply(predicted)


def executable(actions: Float32Array, contract: EvalContract) -> Float32Array:
    """Return the rows to be commanded, one per control step.

    A row that lasts several control steps is repeated. For base and grippers that is right, as a
    velocity and a gripper command hold; for joints nobody states what lies between two rows.

    Args:
        actions: float32 [B, T, 23], as `decode` returns them; not changed.
        contract: Decides where execution starts, how long a row lasts, and whether the grippers
            are only fully opened or closed.

    Returns:
        float32 [B, contract.executed_steps, 23]; a view of `actions` if nothing had to change.
    """
    rows = actions[:, contract.first_action :]
    if contract.gripper_threshold is not None:
        rows = rows.copy()
        commands = rows[..., _GRIPPERS]
        opened = commands >= np.float32(contract.gripper_threshold)
        # What is not finite is kept: it becomes an error of the policy, not a closed gripper.
        rows[..., _GRIPPERS] = np.where(
            np.isfinite(commands), np.where(opened, GRIPPER_OPEN, GRIPPER_CLOSED), commands
        )
    if contract.steps_per_row > 1:
        rows = rows.repeat(contract.steps_per_row, axis=1)
    return rows


def _reference(proprio: Float32Array, count: int, contract: EvalContract) -> Float32Array:
    """Return what is added to each of the model's columns, float32 [B, 23]; 0 for no offset."""
    mask: npt.NDArray[np.bool_] = contract.delta_mask
    if not mask.any():
        return np.zeros((count, ACTION_DIM), dtype=np.float32)
    if proprio.dtype != np.float32 or proprio.ndim != 2 or proprio.shape[1] != ACTION_DIM:
        raise ActionError(
            f"the proprio that offsets are added to must be float32 [B, {ACTION_DIM}], got "
            f"{proprio.dtype} {list(proprio.shape)}"
        )
    if len(proprio) != count:  # numpy would broadcast one robot's proprio over all chunks
        raise ActionError(f"{count} chunks cannot be offsets from {len(proprio)} proprios")
    return np.where(mask, proprio, np.float32(0))


def _check(name: str, chunk: Float32Array, contract: EvalContract) -> None:
    wanted = (contract.chunk_length, ACTION_DIM)
    if chunk.dtype != np.float32 or chunk.ndim != 3 or chunk.shape[1:] != wanted:
        raise ActionError(
            f"{name} must be float32 [B, {wanted[0]}, {wanted[1]}], got {chunk.dtype} "
            f"{list(chunk.shape)}"
        )
