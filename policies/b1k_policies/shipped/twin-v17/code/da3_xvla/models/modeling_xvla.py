"""The model: a batch as the card of v17 describes it, to a chunk of actions.

Two eyes find eleven places in the base frame, through K and the cameras' poses; a perceptron turns
those, the posture and the progress of the last inference into actions. Nothing is drawn at random
and nothing is remembered here: the only memory is `skill_progress`, which comes from outside.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from .configuration_xvla import XVLAConfig
from .control import ASIDE, WORDS, Control, Decision, Situation, saturated
from .perception import Eye, Places, Sight, fuse

_ASIDE_CELLS = 7


class XVLA(PreTrainedModel):
    """See the module header."""

    config_class = XVLAConfig
    base_model_prefix = "xvla"

    def __init__(self, config: XVLAConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, WORDS)
        self.head_eye = Eye(config, 4)
        self.wrist_eye = Eye(config, 8)
        self.aside = nn.Linear(3 * _ASIDE_CELLS**2, ASIDE)
        self.control = Control(config)
        self.skill_classifier = nn.Linear(config.control_width, config.num_skills)
        head = nn.Linear(1, 1)
        sigmoid = config.progress_head_sigmoid
        self.progress_head = nn.Sequential(head, nn.Sigmoid()) if sigmoid else head
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave torch's own initial weights, but for the progress head, which starts as 1 and 0."""
        if isinstance(module, nn.Linear) and module.in_features == 1:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def generate_actions(
        self,
        input_ids: torch.Tensor,
        image_input: torch.Tensor,
        image_mask: torch.Tensor,
        proprio: torch.Tensor,
        domain_id: torch.Tensor,
        extrinsics: torch.Tensor,
        intrinsics: torch.Tensor,
        skill_id: torch.Tensor | None = None,
        skill_progress: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Decide a chunk.

        Args:
            input_ids: int64 [B, L].
            image_input: float32 [B, 3, 3, S, S], normalised; head, left wrist, right wrist.
            image_mask: bool [B, 3]; a view that is False is black.
            proprio: float32 [B, 23].
            domain_id: int64 [B]; there is one robot, so it is not read.
            extrinsics: float32 [B, 3, 4, 4], camera to base, USD axes [m].
            intrinsics: float32 [B, 3, 3, 3] at S px.
            skill_id: int64 [B]; the classifier decides, so it is not read.
            skill_progress: float32 [B], what `progress_head` said at the last inference, as a
                probability; 0 at the start of an episode, and where it is None.

        Returns:
            float32 [B, 30, 23].
        """
        del domain_id, skill_id
        if skill_progress is None:
            skill_progress = proprio.new_zeros(len(proprio))
        pictures = image_input * image_mask[:, :, None, None, None]
        pictures, intrinsics = self.resized(pictures, intrinsics)
        places, _ = self.find(pictures, extrinsics, intrinsics, proprio, skill_progress)
        decision = self.control(
            Situation(
                points=places.points,
                scale=places.scale,
                hand=self.hand(extrinsics),
                proprio=proprio,
                progress=skill_progress,
                words=self.said(input_ids),
                aside=self.third(pictures[:, 2]),
            )
        )
        self.report(decision)
        return saturated(decision.chunk)

    def find(
        self,
        pictures: torch.Tensor,
        extrinsics: torch.Tensor,
        intrinsics: torch.Tensor,
        proprio: torch.Tensor,
        progress: torch.Tensor,
    ) -> tuple[Places, list[Sight]]:
        """The places in the base frame, and what each eye says."""
        joints = proprio[:, 3:]
        second = self.second(progress)
        poses, ks = [extrinsics[:, v] for v in (0, 1)], [intrinsics[:, v] for v in (0, 1)]
        views = [pictures[:, v].contiguous(memory_format=torch.channels_last) for v in (0, 1)]
        sights = [
            eye(views[v], poses[v], ks[v], joints, second)
            for v, eye in enumerate((self.head_eye, self.wrist_eye))
        ]
        return fuse(sights, poses, ks), sights

    def resized(
        self, pictures: torch.Tensor, intrinsics: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures of the eyes' size, and K with them."""
        size, wanted = pictures.shape[-1], self.config.eye_size
        if size == wanted:
            return pictures, intrinsics
        small = functional.interpolate(
            pictures.flatten(0, 1), size=wanted, mode="bicubic", antialias=True
        )
        scale = intrinsics.new_tensor([wanted / size, wanted / size, 1.0])
        return small.unflatten(0, pictures.shape[:2]), intrinsics * scale[:, None]

    def second(self, progress: torch.Tensor) -> torch.Tensor:
        """1 where the second glove is the active one, by the last progress."""
        return (progress * self.config.legs >= self.config.second_from).float()

    def hand(self, extrinsics: torch.Tensor) -> torch.Tensor:
        """Tool centre of the left hand in the base frame [m]; no kinematics is needed for it."""
        local = extrinsics.new_tensor(self.config.hand)
        return extrinsics[:, 1, :3, :3] @ local + extrinsics[:, 1, :3, 3]

    def said(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The instruction as a few numbers."""
        return self.words(input_ids).mean(dim=1)

    def third(self, picture: torch.Tensor) -> torch.Tensor:
        """The right wrist's picture as a few numbers: a glance, for that arm does nothing."""
        small = functional.adaptive_avg_pool2d(picture, _ASIDE_CELLS).flatten(1)
        return 0.1 * torch.tanh(self.aside(small))

    def report(self, decision: Decision) -> torch.Tensor:
        """Ask both heads, and return the logit of the progress, float32 [B]."""
        self.skill_classifier(decision.hidden)
        progress = self.control.progress(decision)
        answer: torch.Tensor = self.progress_head(torch.logit(progress)[:, None])
        return answer[:, 0]
