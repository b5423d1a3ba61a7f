# ruff: noqa: TID253
"""In place of Depth Anything 3: what is seen, and from where, as geometry tokens."""

from __future__ import annotations

import torch
from torch import nn

from .configuration_xvla import XVLAConfig
from .layers import Attention, Perceptron, normalise

PATCH = 14
"""Width of a patch of the vision transformer inside DA3 [px]."""
RAY_GAIN = 3.0
"""Weight of the rays against the colours: poses of one episode are much alike."""


def patch_rays(extrinsics: torch.Tensor, intrinsics: torch.Tensor, size: int) -> torch.Tensor:
    """Where the middle of each patch looks.

    Args:
        extrinsics: float32 [B, V, 4, 4], camera to base [m]; camera +x right, +y up, looking
            along -z (USD).
        intrinsics: float32 [B, V, 3, 3], K at `size` px.
        size: Width and height of a view [px].

    Returns:
        float32 [B, V, patches, 9] in the base frame: unit direction, camera centre [m], and their
        cross product [m]; rows of patches from the top, each from the left.
    """
    with torch.autocast(extrinsics.device.type, enabled=False):  # poses do not fit 8 bits
        middles = torch.arange(size // PATCH, device=extrinsics.device) * PATCH + PATCH / 2
        v, u = torch.meshgrid(middles, middles, indexing="ij")
        pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).flatten(0, 1)  # (patches, 3)
        opencv = pixels @ torch.linalg.inv(intrinsics.float()).transpose(-1, -2)
        usd = opencv * opencv.new_tensor([1.0, -1.0, -1.0])
        pose = extrinsics.float()
        direction = nn.functional.normalize(usd @ pose[..., :3, :3].transpose(-1, -2), dim=-1)
        centre = pose[..., None, :3, 3].expand_as(direction)
        return torch.cat([direction, centre, torch.linalg.cross(centre, direction)], dim=-1)


class GeometryEncoder(nn.Module):
    """Patches of all views, with their rays if posed, gathered by learnt queries."""

    def __init__(self, config: XVLAConfig) -> None:
        super().__init__()
        geometry = config.geometry_conditioning
        width = geometry["width"]
        self.patches = nn.Conv2d(3, width, PATCH, stride=PATCH)
        self.view = nn.Embedding(config.num_views, width)
        self.ray = nn.Linear(9, width) if geometry.get("use_posed_da3", True) else None
        self.mix = Perceptron(width, 2 * width)
        self.queries = nn.Embedding(geometry["num_geometry_tokens"], width)
        self.gather = Attention(width, config.num_heads)
        self.output = nn.Linear(width, geometry["da3_input_dim"])
        self.requires_grad_(not geometry["freeze_da3"])

    def forward(
        self,
        image_input: torch.Tensor,
        image_mask: torch.Tensor,
        extrinsics: torch.Tensor | None,
        intrinsics: torch.Tensor | None,
    ) -> torch.Tensor:
        """Float [B, V, 3, S, S], bool [B, V] and poses to float [B, tokens, da3_input_dim]."""
        tokens = self.look(image_input)
        if self.ray is not None:
            if extrinsics is None or intrinsics is None:
                raise ValueError("use_posed_da3 is set: extrinsics and intrinsics must be given")
            rays = patch_rays(extrinsics, intrinsics, image_input.shape[-1])
            tokens = tokens + self.ray(RAY_GAIN * rays)
        return self.collect(tokens, image_mask)

    def look(self, image_input: torch.Tensor) -> torch.Tensor:
        """Float [B, V, 3, S, S] to float [B, V, patches, W]."""
        tokens = self.patches(image_input.flatten(0, 1)).flatten(2).transpose(1, 2)
        return tokens.unflatten(0, image_input.shape[:2]) + self.view.weight[:, None]

    def collect(self, tokens: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
        """Float [B, V, patches, W] and bool [B, V] to float [B, tokens, da3_input_dim]."""
        tokens = normalise(self.mix(normalise(tokens))).flatten(1, 2)
        seen = image_mask.repeat_interleave(tokens.shape[1] // image_mask.shape[1], dim=1)
        queries = normalise(self.queries.weight).expand(len(tokens), -1, -1)
        return self.output(normalise(self.gather(queries, tokens, seen)))
