# ruff: noqa: TID253 - a checkpoint's own code, which nothing of this project imports by itself
"""Configuration of the model; keys as on the model card, widths free."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class XVLAConfig(PretrainedConfig):
    """What is needed to build an `XVLA`.

    Attributes:
        vocab_size: Tokens of the tokenizer beside it.
        hidden_size: Width D of the action transformer and of the vision-language part.
        depth: Blocks of the action transformer.
        num_heads: Heads of every attention.
        mlp_ratio: Width of a block's perceptron over D.
        num_domains: Embodiments known; `domain_id` is below it.
        len_soft_prompts: Tokens a skill has in the hub.
        num_views: Views V of `image_input`.
        num_actions: Rows T of a chunk.
        action_mode: Name of the action space.
        real_action_dim: Columns of an action.
        max_action_dim: The same with padding; there is none here.
        dim_proprio: Columns of the proprio.
        num_skills: Classes of the skill classifier; 0 builds neither it nor the hub.
        skill_classifier_weight: Of the training loss; a label here.
        use_progress_head: Whether there is a progress head.
        progress_head_weight: Of the training loss; a label here.
        progress_head_sigmoid: Whether the head ends in a sigmoid (v4) or is a bare Linear (v17).
        florence_config: `image_size` [px] and `patch_size` [px] of the vision-language part.
        geometry_conditioning: The card's keys, and `width` of the geometry encoder inside.
    """

    model_type = "xvla"

    def __init__(
        self,
        *,
        vocab_size: int = 512,
        hidden_size: int = 128,
        depth: int = 2,
        num_heads: int = 4,
        mlp_ratio: int = 2,
        num_domains: int = 30,
        len_soft_prompts: int = 8,
        num_views: int = 3,
        num_actions: int = 30,
        action_mode: str = "auto",
        real_action_dim: int = 23,
        max_action_dim: int = 23,
        dim_proprio: int = 23,
        num_skills: int = 34,
        skill_classifier_weight: float = 0.5,
        use_progress_head: bool = True,
        progress_head_weight: float = 0.1,
        progress_head_sigmoid: bool = False,
        florence_config: dict[str, Any] | None = None,
        geometry_conditioning: dict[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401 - whatever the library keeps in a config.json
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.depth = depth
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.num_domains = num_domains
        self.len_soft_prompts = len_soft_prompts
        self.num_views = num_views
        self.num_actions = num_actions
        self.action_mode = action_mode
        self.real_action_dim = real_action_dim
        self.max_action_dim = max_action_dim
        self.dim_proprio = dim_proprio
        self.num_skills = num_skills
        self.skill_classifier_weight = skill_classifier_weight
        self.use_progress_head = use_progress_head
        self.progress_head_weight = progress_head_weight
        self.progress_head_sigmoid = progress_head_sigmoid
        self.florence_config = florence_config or {"image_size": 224, "patch_size": 32}
        self.geometry_conditioning = geometry_conditioning or {
            "da3_model_name": "depth-anything/DA3-LARGE",
            "da3_input_dim": 1024,
            "da3_process_res": 224,
            "num_geometry_tokens": 240,
            "use_posed_da3": True,
            "freeze_da3": True,
            "width": 64,
        }
        super().__init__(**kwargs)
