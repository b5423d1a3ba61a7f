"""Between a model's predicted chunk and actions that the robot executes.

A model predicts columns in the contract's order, normalised or not, some of them offsets from the
state; the robot takes absolute commands in the order of `b1k_envs.r1pro`. The reference of an
offset is the proprio at the inference, for every row of the chunk, in physical units and whole,
even where the model is shown it normalised or with columns left out.

Sources: the decoding on the model card of DA3-XVLA v17; that statistics are undone before offsets
are added, openpi (`Unnormalize`, then `AbsoluteActions`); that offsets are from the state before
it is masked, the public X-VLA code (`action_slice`).
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
    """Make a prediction absolute; nothing is clipped, cut or cast.

    Args:
        predicted: float32 [B, T, 23], T the contract's chunk_length, columns as the model's.
        proprio: float32 [B, P] of the same observations, as `batch.extract_proprio` gives it.
        contract: Decides how it is normalised, which columns are offsets, and their order.

    Returns:
        float32 [B, T, 23], every row, columns as the robot's; a new array.

    Raises:
        ActionError: Another dtype or shape; the text names it and both.
    """
    _check("the predicted chunk", predicted, contract)
    if contract.action_normalisation is not None:
        predicted = contract.action_normalisation.undo(predicted)
    absolute = predicted + _reference(proprio, len(predicted), contract)[:, None]
    return np.ascontiguousarray(absolute[..., contract.robot_columns])


def encode(actions: Float32Array, proprio: Float32Array, contract: EvalContract) -> Float32Array:
    """What a model would have to predict for these actions: the inverse of `decode`.

    Args:
        actions: float32 [B, T, 23], absolute, columns as the robot's.
        proprio: As in `decode`.
        contract: As in `decode`.

    Returns:
        float32 [B, T, 23], columns as the model's; a new array.

    Raises:
        ActionError: Another dtype or shape.
    """
    _check("the actions", actions, contract)
    predicted = np.empty_like(actions)
    predicted[..., contract.robot_columns] = actions
    predicted -= _reference(proprio, len(actions), contract)[:, None]
    stated = contract.action_normalisation
    return predicted if stated is None else stated.apply(predicted)


def executable(actions: Float32Array, contract: EvalContract) -> Float32Array:
    """What is still to be commanded, a row a control step.

    A row that lasts longer is commanded again: the base and the grippers take a velocity and a
    command, which hold, and where a joint is between two of a model's rows nobody states.

    Args:
        actions: float32 [B, T, 23], as `decode` gives them; not changed.
        contract: Decides where execution starts, how long a row lasts, and whether the grippers
            are opened and closed only.

    Returns:
        float32 [B, contract.executed_steps, 23]; a view of `actions` where nothing is changed.
    """
    rows = actions[:, contract.first_action :]
    if contract.gripper_threshold is not None:
        rows = rows.copy()
        commands = rows[..., _GRIPPERS]
        opened = commands >= np.float32(contract.gripper_threshold)
        # What is not finite stays so, and is an error of the policy's, not a closed gripper.
        rows[..., _GRIPPERS] = np.where(
            np.isfinite(commands), np.where(opened, GRIPPER_OPEN, GRIPPER_CLOSED), commands
        )
    if contract.steps_per_row > 1:
        rows = rows.repeat(contract.steps_per_row, axis=1)
    return rows


def _reference(proprio: Float32Array, count: int, contract: EvalContract) -> Float32Array:
    """What is added to each of the model's columns, float32 [B, 23]; 0 where nothing is."""
    mask: npt.NDArray[np.bool_] = contract.delta_mask
    if not mask.any():
        return np.zeros((count, ACTION_DIM), dtype=np.float32)
    if proprio.dtype != np.float32 or proprio.ndim != 2 or proprio.shape[1] != ACTION_DIM:
        raise ActionError(
            f"the proprio that offsets are added to must be float32 [B, {ACTION_DIM}], got "
            f"{proprio.dtype} {list(proprio.shape)}"
        )
    if len(proprio) != count:  # numpy would spread one robot's over all
        raise ActionError(f"{count} chunks cannot be offsets from {len(proprio)} proprios")
    return np.where(mask, proprio, np.float32(0))


def _check(name: str, chunk: Float32Array, contract: EvalContract) -> None:
    wanted = (contract.chunk_length, ACTION_DIM)
    if chunk.dtype != np.float32 or chunk.ndim != 3 or chunk.shape[1:] != wanted:
        raise ActionError(
            f"{name} must be float32 [B, {wanted[0]}, {wanted[1]}], got {chunk.dtype} "
            f"{list(chunk.shape)}"
        )
