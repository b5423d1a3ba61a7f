# ruff: noqa: TID253
"""The model with the constructor, the switches and the server of the public X-VLA family."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from .configuration_xvla import XVLAConfig
from .da3_conditioning import DA3Inline
from .layers import normalise
from .transformer import ActionTransformer, Context
from .vlm_inline import VisionLanguage

ATTENTION = "XVLA_ATTN_IMPL"
"""Anything but `eager`, the default, computes attention with fused kernels."""
PICTURE = 224
"""Pictures come at this size, whatever size the geometry encoder works at [px]."""


class XVLA(PreTrainedModel):
    """Vision-language part, inline geometry encoder, heads, action transformer."""

    config_class = XVLAConfig
    base_model_prefix = "xvla"
    supports_gradient_checkpointing = True

    def __init__(self, config: XVLAConfig, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(config, *args, **kwargs)
        width = config.hidden_size
        self.vlm = VisionLanguage(config)
        if config.vision_tower == "davit":
            from .vision_tower import DavitTower

            self.vlm.tower = DavitTower(config)
        # One tensor under two names, which the writer of safetensors refuses.
        self.lm_head = nn.Linear(width, config.vocab_size, bias=False)
        self.lm_head.weight = self.vlm.words.weight
        self.da3_inline = DA3Inline(config)
        self.transformer = ActionTransformer(config)
        self.skill_classifier = nn.Linear(width, config.num_skills)
        self.progress_head = nn.Linear(width, 1) if config.use_progress_head else None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Unit variance from layer to layer, so that no input drowns."""
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)

    @torch.no_grad()
    def generate_actions(
        self,
        input_ids: torch.LongTensor,
        image_input: torch.FloatTensor,
        image_mask: torch.BoolTensor,
        domain_id: torch.LongTensor,
        proprio: torch.FloatTensor,
        steps: int = 10,
        extrinsics: torch.Tensor | None = None,
        intrinsics: torch.Tensor | None = None,
        skill_id: torch.Tensor | None = None,
        skill_progress: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Float32 [B, T, 23], from torch's global noise in `steps` steps.

        Raises:
            ValueError: The pictures are not of 224 px.
        """
        self.eval()
        if image_input.shape[-2:] != (PICTURE, PICTURE):
            raise ValueError(f"pictures of {list(image_input.shape[-2:])} px, not {PICTURE}")
        eager = os.environ.get(ATTENTION, "eager") == "eager"
        with sdpa_kernel(SDPBackend.MATH) if eager else nullcontext():
            context = self._context(
                input_ids, image_input, image_mask, domain_id, proprio, extrinsics, intrinsics,
                skill_id, skill_progress,
            )  # fmt: skip
            rows = (len(input_ids), *self.transformer.chunk)
            noise = torch.randn(*rows, device=proprio.device)
            chunk = torch.zeros_like(noise)
            for step in range(steps):
                time = 1.0 - step / steps
                noisy = time * noise + (1.0 - time) * chunk
                chunk = self.transformer(noisy, noise.new_full((len(noise),), time), context)
        return chunk

    def _context(
        self,
        input_ids: torch.Tensor,
        image_input: torch.Tensor,
        image_mask: torch.Tensor,
        domain_id: torch.Tensor,
        proprio: torch.Tensor,
        extrinsics: torch.Tensor | None,
        intrinsics: torch.Tensor | None,
        skill_id: torch.Tensor | None,
        skill_progress: torch.Tensor | None,
    ) -> Context:
        language = self.vlm.language(input_ids)
        image_tokens = self.vlm.vision(image_input)
        weight = image_mask[..., None].float()
        views = (image_tokens.mean(dim=2) * weight).sum(dim=1) / weight.sum(dim=1)
        pooled = normalise(language + normalise(views))
        if self.progress_head is not None:
            self.progress_head(pooled)
        likeliest = self.skill_classifier(pooled).argmax(dim=-1)
        skill_id = likeliest if skill_id is None else skill_id
        geometry = self.da3_inline(image_input, image_mask, extrinsics, intrinsics)
        return Context(
            image_tokens=image_tokens.flatten(1, 2),
            image_seen=image_mask.repeat_interleave(image_tokens.shape[2], dim=1),
            geometry_tokens=normalise(self.transformer.geometry(geometry)),
            prompt_tokens=self.transformer.skill_prompts(skill_id),
            summary=self.transformer.summarise(language, proprio, domain_id, skill_progress),
            proprio=proprio.float(),
        )

    def run(self, processor: Any, host: str = "127.0.0.1", port: int = 8000) -> None:  # noqa: ANN401
        """Serve `generate_actions` over HTTP, as the family's own clients want it."""
        import json_numpy
        import uvicorn
        from addict import Dict
        from fastapi import FastAPI
        from PIL import Image

        app = FastAPI()

        @app.post("/act")
        def act(payload: dict[str, Any]) -> dict[str, Any]:
            asked = Dict(payload)
            pictures = [
                Image.fromarray(json_numpy.loads(asked[name]))
                for name in ("image0", "image1", "image2")
                if name in asked
            ]
            inputs = processor(pictures, asked.language_instruction)
            proprio = torch.as_tensor(json_numpy.loads(asked.proprio))[None]
            domain = torch.tensor([asked.domain_id])
            actions = self.generate_actions(**inputs, proprio=proprio, domain_id=domain)
            return {"action": actions[0].cpu().tolist()}

        uvicorn.run(app, host=host, port=port)
