# ruff: noqa: TID253
"""The frozen geometry encoder as the public family switches it, partly outside config.json."""

from __future__ import annotations

import os

import torch
from torch import nn
from torch.nn import functional

from .configuration_xvla import XVLAConfig
from .da3_inline import RAY_GAIN, GeometryEncoder, patch_rays
from .layers import normalise

POSED = "XVLA_POSED_DA3"
"""Poses are read if it is 1 and the configuration does not say."""
NATIVE_INPUT = "XVLA_DA3_NATIVE_INPUT"
"""The encoder sees the pictures at their own size if it is 1."""
DEFAULT_RES = 504


class CameraEncoder(nn.Module):
    """Rays as features, in float32 whatever surrounds it: so its weights have to be float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(9, width)

    def forward(self, rays: torch.Tensor) -> torch.Tensor:
        """Float32 [..., 9] to float32 [..., W]."""
        with torch.autocast(rays.device.type, enabled=False):
            return self.project(RAY_GAIN * rays.float())


class DA3Inline(GeometryEncoder):
    """Everything in it is the snapshot of `da3_model_name`; nothing of it is trained."""

    def __init__(self, config: XVLAConfig) -> None:
        super().__init__(config)
        geometry = config.geometry_conditioning
        self.model_name = geometry["da3_model_name"]
        self.process_res = geometry.get("da3_process_res", DEFAULT_RES)
        stated = geometry.get("use_posed_da3")
        self.posed = os.environ.get(POSED) == "1" if stated is None else stated
        self.native = os.environ.get(NATIVE_INPUT) == "1"
        self.ray = CameraEncoder(geometry["width"])
        self.requires_grad_(not geometry["freeze_da3"])

    def reload_pretrained_weights(self) -> None:
        """Take every tensor from the hub's snapshot, as after loading a checkpoint for training."""
        from huggingface_hub import hf_hub_download
        from safetensors.torch import load_file

        path = hf_hub_download(self.model_name, "model.safetensors")
        tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(path).items()}
        self.load_state_dict(tensors)

    def forward(
        self,
        image_input: torch.Tensor,
        image_mask: torch.Tensor,
        extrinsics: torch.Tensor | None,
        intrinsics: torch.Tensor | None,
    ) -> torch.Tensor:
        """Float [B, V, 3, S, S] and poses to float [B, tokens, da3_input_dim]."""
        size = image_input.shape[-1]
        if size != self.process_res and not self.native:
            wanted = (self.process_res, self.process_res)
            larger = functional.interpolate(
                image_input.flatten(0, 1).float(), wanted, mode="bilinear"
            )
            image_input = larger.to(image_input.dtype).unflatten(0, image_input.shape[:2])
        tokens = self.look(image_input)
        if self.posed and extrinsics is not None and intrinsics is not None:
            now = image_input.shape[-1]
            scale = intrinsics.new_tensor([now / size, now / size, 1.0])
            tokens = tokens + self.ray(patch_rays(extrinsics, intrinsics * scale[:, None], now))
        return self.collect(normalise(tokens), image_mask)
