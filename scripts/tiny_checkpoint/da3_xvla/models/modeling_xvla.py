# ruff: noqa: TID253
"""The model: a batch as the card describes it, to a chunk of actions."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from da3_xvla.models.configuration_xvla import XVLAConfig

from .da3_inline import GeometryEncoder
from .layers import normalise
from .transformer import ActionTransformer, Context
from .vlm_inline import VisionLanguage


class XVLA(PreTrainedModel):
    """Vision-language part, geometry encoder, skill and progress heads, action transformer."""

    config_class = XVLAConfig
    base_model_prefix = "xvla"

    def __init__(self, config: XVLAConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.vlm = VisionLanguage(config)
        self.da3 = GeometryEncoder(config)
        self.transformer = ActionTransformer(config)
        self.skill_classifier = nn.Linear(width, config.num_skills) if config.num_skills else None
        self.progress_head: nn.Module | None = None
        if config.use_progress_head:
            head = nn.Linear(width, 1)
            sigmoid = config.progress_head_sigmoid
            self.progress_head = nn.Sequential(head, nn.Sigmoid()) if sigmoid else head
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Unit variance from layer to layer, so that no input drowns."""
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)

    def generate_actions(
        self,
        input_ids: torch.Tensor,
        image_input: torch.Tensor,
        image_mask: torch.Tensor,
        proprio: torch.Tensor,
        domain_id: torch.Tensor,
        extrinsics: torch.Tensor | None = None,
        intrinsics: torch.Tensor | None = None,
        skill_id: torch.Tensor | None = None,
        skill_progress: torch.Tensor | None = None,
        steps: int = 10,
    ) -> torch.Tensor:
        """Draw a chunk: noise from torch's global generator, denoised in `steps` steps.

        Args:
            input_ids: int64 [B, L].
            image_input: float [B, V, 3, S, S], normalised; S is da3_process_res.
            image_mask: bool [B, V]; a view that is False has no influence at all.
            proprio: float [B, 23].
            domain_id: int64 [B].
            extrinsics: float32 [B, V, 4, 4], camera to base [m].
            intrinsics: float32 [B, V, 3, 3] at S px.
            skill_id: int64 [B]; None takes the classifier's choice.
            skill_progress: float [B] in [0, 1]; None tells the transformer nothing.
            steps: Denoising steps.

        Returns:
            float32 [B, T, 23].

        Raises:
            ValueError: The pictures are not square, no view is left, or poses are missing.
        """
        self._check(image_input, image_mask)
        language = self.vlm.language(input_ids)
        image_tokens = self.vlm.vision(image_input)
        pooled = self._pool(language, image_tokens, image_mask)
        skill_id = self._heads(pooled, skill_id)
        geometry = self.da3(image_input, image_mask, extrinsics, intrinsics)
        context = Context(
            image_tokens=image_tokens.flatten(1, 2),
            image_seen=image_mask.repeat_interleave(image_tokens.shape[2], dim=1),
            geometry_tokens=normalise(self.transformer.geometry(geometry)),
            prompt_tokens=None if skill_id is None else self.transformer.skill_prompts(skill_id),
            summary=self.transformer.summarise(language, proprio, domain_id, skill_progress),
            proprio=proprio.float(),
        )
        noise = torch.randn(len(input_ids), *self.transformer.chunk, device=proprio.device)
        chunk = torch.zeros_like(noise)
        for step in range(steps):
            time = 1.0 - step / steps
            noisy = time * noise + (1.0 - time) * chunk
            chunk = self.transformer(noisy, noise.new_full((len(noise),), time), context)
        return chunk

    def _check(self, image_input: torch.Tensor, image_mask: torch.Tensor) -> None:
        # Any size: like the real one, this model does not notice a client that sends another.
        views, planes, height, width = image_input.shape[1:]
        if (views, planes) != (self.config.num_views, 3) or height != width:
            raise ValueError(
                f"image_input is {list(image_input.shape)}, "
                f"expects [B, {self.config.num_views}, 3, S, S]"
            )
        if not image_mask.any(dim=1).all():
            raise ValueError("image_mask leaves no view")

    @staticmethod
    def _pool(
        language: torch.Tensor, image_tokens: torch.Tensor, image_mask: torch.Tensor
    ) -> torch.Tensor:
        """Float32 [B, D] of the words and the mean token of the views that count."""
        weight = image_mask[..., None].float()
        views = (image_tokens.mean(dim=2) * weight).sum(dim=1) / weight.sum(dim=1)
        return normalise(language + normalise(views))

    def _heads(self, pooled: torch.Tensor, skill_id: torch.Tensor | None) -> torch.Tensor | None:
        """Ask both heads once; the skill given, else the likeliest, else None."""
        if self.progress_head is not None:
            self.progress_head(pooled)
        if self.skill_classifier is None:
            return skill_id
        likeliest = self.skill_classifier(pooled).argmax(dim=-1)
        return likeliest if skill_id is None else skill_id
