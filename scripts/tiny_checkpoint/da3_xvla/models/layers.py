# ruff: noqa: TID253
"""Layers that several parts share. B batch, M and N tokens, W width."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


def normalise(x: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance over the last axis, float32 whatever came in."""
    return functional.layer_norm(x.float(), x.shape[-1:])


class ScalarEmbedding(nn.Module):
    """A number in [0, 1] as a vector: sines of slow frequencies, then a Linear."""

    frequencies = 8

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * self.frequencies, width)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Float [...] to float [..., W]."""
        octaves = torch.linspace(-2.0, 1.0, self.frequencies, device=values.device)
        angles = values.float()[..., None] * (2 * math.pi * 2.0**octaves)  # 1/4 to 2 turns
        return self.project(torch.cat([angles.sin(), angles.cos()], dim=-1))


class Attention(nn.Module):
    """Queries from `x`, keys and values from `memory`; no position of its own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, W / heads)

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor, seen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Float [B, N, W] and [B, M, W] to [B, N, W]; `seen` bool [B, M], None for all."""
        attended = functional.scaled_dot_product_attention(
            self._split(self.query(x)),
            self._split(self.key(memory)),
            self._split(self.value(memory)),
            attn_mask=None if seen is None else seen[:, None, None, :],
        )
        return self.output(attended.transpose(1, 2).flatten(2))


class Perceptron(nn.Sequential):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
