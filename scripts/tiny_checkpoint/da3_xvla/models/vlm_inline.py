# ruff: noqa: TID253
"""In place of Florence-2: words and pictures as tokens, at its own 224 px."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .configuration_xvla import XVLAConfig
from .layers import Perceptron, ScalarEmbedding, normalise

POSITIONS = 64
"""Token positions are counted in units of this many tokens."""


class VisionLanguage(nn.Module):
    """Pictures of any size, taken to Florence's, and an instruction."""

    def __init__(self, config: XVLAConfig) -> None:
        super().__init__()
        width, vision = config.hidden_size, config.florence_config
        self.size, patch = vision["image_size"], vision["patch_size"]
        self.words = nn.Embedding(config.vocab_size, width)
        self.word_position = ScalarEmbedding(width)
        self.word_mix = Perceptron(width, width)
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.patch_position = nn.Embedding((self.size // patch) ** 2, width)
        self.view = nn.Embedding(config.num_views, width)
        self.patch_mix = Perceptron(width, width)

    def language(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Int64 [B, L] to float32 [B, D]; padding counts like any token, as in X-VLA."""
        place = torch.arange(input_ids.shape[1], device=input_ids.device) / POSITIONS
        tokens = normalise(self.words(input_ids) + self.word_position(place))
        return normalise(self.word_mix(tokens).float().mean(dim=1))

    def vision(self, image_input: torch.Tensor) -> torch.Tensor:
        """Float [B, V, 3, S, S] to float32 [B, V, patches, D]."""
        pictures = image_input.flatten(0, 1).float()  # not every filter exists for bfloat16
        if pictures.shape[-1] != self.size:
            pictures = functional.interpolate(
                pictures, (self.size, self.size), mode="bicubic", antialias=True
            )
        tokens = (
            self.patches(pictures).flatten(2).transpose(1, 2).unflatten(0, image_input.shape[:2])
        )
        tokens = tokens + self.patch_position.weight + self.view.weight[:, None]
        return normalise(self.patch_mix(normalise(tokens)))
