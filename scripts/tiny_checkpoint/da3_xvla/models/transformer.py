# ruff: noqa: TID253
"""The action transformer: a noisy chunk and what is known, to a clean chunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .configuration_xvla import XVLAConfig
from .layers import Attention, Perceptron, ScalarEmbedding, normalise

# Columns of the R1Pro: base velocity 3, torso 4, left arm 7, gripper, right arm 7, gripper.
IS_OFFSET = (False,) * 3 + (True,) * 3 + (False,) + ((True,) * 7 + (False,)) * 2
"""Columns that are offsets from the proprio: torso joints 1 to 3 and both arms."""
HOME = (0.0,) * 3 + (1.025, -1.45, -0.47) + (0.0,) * 17
"""What offsets lead back to [rad]: the posture after a reset of BEHAVIOR-1K."""
LARGEST_OFFSET = 0.15
"""Bound of an offset [rad]."""
LARGEST_COMMAND = 0.3
"""Bound of the other columns: base and gripper of [-1, 1], torso joint 4 [rad]."""


@dataclass(frozen=True)
class Context:
    """What one inference knows, the same at every step.

    Attributes:
        image_tokens: float [B, M, D], of all views.
        image_seen: bool [B, M], False for tokens of a masked view.
        geometry_tokens: float [B, N, D].
        prompt_tokens: float [B, P, D], of the skill; None without skills.
        summary: float [B, D]: language, proprio, domain, progress.
        proprio: float32 [B, 23].
    """

    image_tokens: torch.Tensor
    image_seen: torch.Tensor
    geometry_tokens: torch.Tensor
    prompt_tokens: torch.Tensor | None
    summary: torch.Tensor
    proprio: torch.Tensor


class Block(nn.Module):
    """Attention among the rows, then to pictures, geometry and prompts apart, then a perceptron.

    Apart and each of unit variance, so that no input is outvoted by another's hundreds of tokens.
    """

    def __init__(self, config: XVLAConfig) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_heads
        self.rows = Attention(width, heads)
        self.images = Attention(width, heads)
        self.geometry = Attention(width, heads)
        self.prompts = Attention(width, heads) if config.num_skills else None
        self.perceptron = Perceptron(width, config.mlp_ratio * width)

    def forward(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        """Float [B, T, D] to the same."""
        rows = normalise(x)
        x = x + self.rows(rows, rows)
        rows = normalise(x)
        x = x + normalise(self.images(rows, context.image_tokens, context.image_seen))
        x = x + normalise(self.geometry(rows, context.geometry_tokens))
        if self.prompts is not None and context.prompt_tokens is not None:
            x = x + normalise(self.prompts(rows, context.prompt_tokens))
        return x + self.perceptron(normalise(x))


class ActionTransformer(nn.Module):
    """Predicts the clean chunk; bounded and homing, so that random weights wave a robot gently."""

    def __init__(self, config: XVLAConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.chunk = (config.num_actions, config.real_action_dim)
        self.prompt_shape = (config.len_soft_prompts, width)
        self.action = nn.Linear(config.real_action_dim, width)
        self.proprio = nn.Linear(config.dim_proprio, width)
        self.time = ScalarEmbedding(width)
        self.row = ScalarEmbedding(width)
        self.progress = ScalarEmbedding(width)
        self.domain = nn.Embedding(config.num_domains, width)
        self.geometry = nn.Linear(config.geometry_conditioning["da3_input_dim"], width)
        prompts = config.len_soft_prompts * width
        self.skill_prompt_hub = (
            nn.Embedding(config.num_skills, prompts) if config.num_skills else None
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.output = nn.Linear(width, config.real_action_dim)

    def summarise(
        self,
        language: torch.Tensor,
        proprio: torch.Tensor,
        domain_id: torch.Tensor,
        skill_progress: torch.Tensor | None,
    ) -> torch.Tensor:
        """Float [B, D], float [B, 23], int64 [B] and float [B] or None to float [B, D]."""
        summary = language + self.proprio(proprio) + self.domain(domain_id)
        return summary if skill_progress is None else summary + self.progress(skill_progress)

    def skill_prompts(self, skill_id: torch.Tensor) -> torch.Tensor:
        """Int64 [B] to float32 [B, P, D]."""
        if self.skill_prompt_hub is None:
            raise ValueError("num_skills is 0: there is no skill to choose by skill_id")
        return normalise(self.skill_prompt_hub(skill_id).unflatten(-1, self.prompt_shape))

    def forward(self, noisy: torch.Tensor, time: torch.Tensor, context: Context) -> torch.Tensor:
        """Predict the clean chunk.

        Args:
            noisy: float32 [B, T, 23], time * noise + (1 - time) * chunk.
            time: float32 [B], 1 for noise alone.
            context: What else is known.

        Returns:
            float32 [B, T, 23], within LARGEST_OFFSET and LARGEST_COMMAND.
        """
        rows = torch.linspace(0.0, 1.0, self.chunk[0], device=noisy.device)
        x = self.action(noisy) + self.row(rows) + (self.time(time) + context.summary)[:, None]
        for block in self.blocks:
            x = block(x, context)
        is_offset = torch.tensor(IS_OFFSET, device=noisy.device)
        homing = torch.where(is_offset, noisy.new_tensor(HOME) - context.proprio, 0.0)
        largest = torch.where(is_offset, LARGEST_OFFSET, LARGEST_COMMAND)
        return largest * torch.tanh(0.5 * self.output(normalise(x)).float() + homing[:, None])
