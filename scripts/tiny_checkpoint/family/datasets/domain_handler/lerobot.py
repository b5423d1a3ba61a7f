# ruff: noqa: TID253
"""How a batch was made for training; not run in evaluation."""

from __future__ import annotations

import torch
from da3_xvla.models.action_space import ACTION_SLICE


def masked_proprio(proprio: torch.Tensor) -> torch.Tensor:
    """Float [B, 23] with the columns of `idx_for_mask_proprio` at 0."""
    proprio = proprio.clone()
    proprio[..., ACTION_SLICE["idx_for_mask_proprio"]] = 0
    return proprio


def pictures(encoded: list[bytes]) -> list[object]:
    """What the recordings hold, decoded."""
    import io

    from PIL import Image

    return [Image.open(io.BytesIO(one)).convert("RGB") for one in encoded]
