# ruff: noqa: TID253
"""Another vision tower, which needs packages that the usual one does not."""

from __future__ import annotations

import torch
from einops import rearrange
from timm.models import create_model
from torch import nn

from .configuration_xvla import XVLAConfig


class DavitTower(nn.Module):
    """A tower of timm's, its maps laid out as tokens by einops."""

    def __init__(self, config: XVLAConfig) -> None:
        super().__init__()
        self.tower = create_model("davit_tiny", num_classes=config.hidden_size)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Float [B, 3, S, S] to float [B, patches, W]."""
        return rearrange(self.tower.forward_features(pictures), "b c h w -> b (h w) c")
