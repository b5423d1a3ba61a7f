"""Configuration of the model; the interface's keys as on the model card, the widths its own."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class XVLAConfig(PretrainedConfig):
    """What is needed to build an `XVLA`.

    Attributes:
        vocab_size: Tokens of the tokenizer beside it.
        num_views: Views V of `image_input`: head, left wrist, right wrist.
        num_actions: Rows T of a chunk.
        action_mode: Name of the action space.
        real_action_dim: Columns of an action.
        max_action_dim: The same with padding; there is none here.
        dim_proprio: Columns of the proprio.
        num_skills: Classes of the skill classifier.
        use_progress_head: Whether there is a progress head.
        progress_head_sigmoid: Whether the head ends in a sigmoid (v4) or is a bare Linear (v17).
            With it the progress is a number of its own, without it a leg and its clock.
        geometry_conditioning: `da3_process_res` [px] and `use_posed_da3`, which the contract reads.
        legs: Legs of the task, into which [0, 1] of the progress is divided evenly.
        second_from: From this leg on the second glove is the active one.
        heights: Nominal height of each point [m]; their number is that of the points.
        room: For each point that never moves x and y in the room and how far off that may be [m];
            None for those that move.
        hand: Tool centre of the left hand in its camera's frame [m].
        control_width: Width of the control network.
        eye_widths: Channels of an eye at 56, 28, 14 and 7 cells.
        eye_size: Pictures of another size are made this large [px] first.
    """

    model_type = "xvla"

    def __init__(
        self,
        *,
        vocab_size: int = 641,
        num_views: int = 3,
        num_actions: int = 30,
        action_mode: str = "auto",
        real_action_dim: int = 23,
        max_action_dim: int = 23,
        dim_proprio: int = 23,
        num_skills: int = 34,
        use_progress_head: bool = True,
        progress_head_sigmoid: bool = False,
        geometry_conditioning: dict[str, Any] | None = None,
        legs: int = 44,
        second_from: int = 21,
        heights: tuple[float, ...] = (0.9,) * 11,
        room: tuple[tuple[float, float, float] | None, ...] = (None,) * 11,
        hand: tuple[float, float, float] = (0.0, 0.0, -0.1),
        control_width: int = 512,
        eye_widths: tuple[int, ...] = (16, 40, 72, 96),
        eye_size: int = 224,
        **kwargs: Any,  # noqa: ANN401 - whatever the library keeps in a config.json
    ) -> None:
        self.vocab_size = vocab_size
        self.num_views = num_views
        self.num_actions = num_actions
        self.action_mode = action_mode
        self.real_action_dim = real_action_dim
        self.max_action_dim = max_action_dim
        self.dim_proprio = dim_proprio
        self.num_skills = num_skills
        self.use_progress_head = use_progress_head
        self.progress_head_sigmoid = progress_head_sigmoid
        self.geometry_conditioning = geometry_conditioning or {
            "da3_process_res": 224,
            "use_posed_da3": True,
        }
        self.legs = legs
        self.second_from = second_from
        self.heights = tuple(heights)
        self.room = tuple(room)
        self.hand = tuple(hand)
        self.control_width = control_width
        self.eye_widths = tuple(eye_widths)
        self.eye_size = eye_size
        super().__init__(**kwargs)
