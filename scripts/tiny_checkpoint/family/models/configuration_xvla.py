# ruff: noqa: TID253 - a checkpoint's own code, which nothing of this project imports by itself
"""Configuration as the public X-VLA family has it: all arguments optional, the rest kept."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class XVLAConfig(PretrainedConfig):
    """What is needed to build an `XVLA`; the names of the card, the widths of a stand-in.

    Attributes:
        geometry_conditioning: `da3_model_name`, `da3_input_dim`, `da3_process_res` (what DA3 works
            at, not the size of the pictures), `num_geometry_tokens`, `freeze_da3`, `width`. Without
            `use_posed_da3` an environment variable decides; see `da3_conditioning`.
        vision_tower: `patches`, or `davit`, which is built from another package.
    """

    model_type = "xvla"

    def __init__(
        self,
        florence_config: dict[str, Any] | None = None,
        num_actions: int = 30,
        hidden_size: int = 128,
        depth: int = 2,
        num_heads: int = 4,
        mlp_ratio: int = 2,
        num_domains: int = 30,
        len_soft_prompts: int = 8,
        action_mode: str = "auto",
        real_action_dim: int = 23,
        max_action_dim: int = 23,
        dim_proprio: int = 23,
        num_views: int = 3,
        num_skills: int = 34,
        use_progress_head: bool = True,
        vocab_size: int = 512,
        vision_tower: str = "patches",
        geometry_conditioning: dict[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401 - whatever the library keeps in a config.json
    ) -> None:
        self.florence_config = florence_config or {"image_size": 224, "patch_size": 32}
        self.num_actions = num_actions
        self.hidden_size = hidden_size
        self.depth = depth
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.num_domains = num_domains
        self.len_soft_prompts = len_soft_prompts
        self.action_mode = action_mode
        self.real_action_dim = real_action_dim
        self.max_action_dim = max_action_dim
        self.dim_proprio = dim_proprio
        self.num_views = num_views
        self.num_skills = num_skills
        self.use_progress_head = use_progress_head
        self.vocab_size = vocab_size
        self.vision_tower = vision_tower
        self.geometry_conditioning = geometry_conditioning or {}
        super().__init__(**kwargs)
