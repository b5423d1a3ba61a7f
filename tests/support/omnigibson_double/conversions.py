"""Conversions that OmniGibson's own helpers do."""

from __future__ import annotations

from typing import Any

from omnigibson_double.tensors import torch


def recursively_convert_to_torch(state: Any) -> Any:
    """Lists of numbers become float32 tensors, inside dictionaries and lists of them."""
    if isinstance(state, dict):
        return {key: recursively_convert_to_torch(value) for key, value in state.items()}
    if isinstance(state, list):
        if state and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in state):
            return torch.tensor(state, dtype=torch.float32)
        return [recursively_convert_to_torch(value) for value in state]
    return state
