"""Between a model's predicted chunk and actions that the robot executes.

A model predicts columns in the contract's order, some of them offsets from the proprio it was
shown; the robot takes absolute commands in the order of `b1k_envs.r1pro`. The reference of an
offset is the proprio at the inference, for every row of the chunk.

Source: the decoding on the model card of DA3-XVLA v17.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float32Array
from b1k_envs.errors import ActionError
from b1k_envs.r1pro import ACTION_DIM
from b1k_policies.contract import EvalContract


def decode(predicted: Float32Array, proprio: Float32Array, contract: EvalContract) -> Float32Array:
    """Make a prediction absolute; nothing is clipped, cut or cast.

    Args:
        predicted: float32 [B, T, 23], T the contract's chunk_length, columns as the model's.
        proprio: float32 [B, P], as sent with the same inference.
        contract: Decides which columns are offsets, and their order.

    Returns:
        float32 [B, T, 23], every row, columns as the robot's; a new array.

    Raises:
        ActionError: Another dtype or shape; the text names it and both.
    """
    _check("the predicted chunk", predicted, contract)
    absolute = predicted + _reference(proprio, len(predicted), contract)[:, None]
    return np.ascontiguousarray(absolute[..., contract.robot_columns])


def encode(actions: Float32Array, proprio: Float32Array, contract: EvalContract) -> Float32Array:
    """What a model would have to predict for these actions: the inverse of `decode`.

    Args:
        actions: float32 [B, T, 23], absolute, columns as the robot's.
        proprio: float32 [B, P], as sent.
        contract: As in `decode`.

    Returns:
        float32 [B, T, 23], columns as the model's; a new array.

    Raises:
        ActionError: Another dtype or shape.
    """
    _check("the actions", actions, contract)
    predicted = np.empty_like(actions)
    predicted[..., contract.robot_columns] = actions
    return predicted - _reference(proprio, len(actions), contract)[:, None]


def executable(actions: Float32Array, contract: EvalContract) -> Float32Array:
    """The rows that are still to be commanded, float32 [B, T - first_action, 23]; a view."""
    return actions[:, contract.first_action :]


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
