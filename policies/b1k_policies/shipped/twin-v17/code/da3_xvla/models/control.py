"""From places and the body's posture to a chunk of actions, and to where on the task one is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from .configuration_xvla import XVLAConfig

GRIPPERS = (14, 22)
SATURATION = 1.25
"""Only a gripper command of exactly 1 releases a grasp, and a regression says 0.98."""
KNOWN = 0.3
"""A place with this scale of error counts half [m]."""
WORDS, ASIDE = 8, 8
"""Numbers that stand for the instruction and for the third picture."""


class Situation(NamedTuple):
    """What the control network goes by; B observations.

    Attributes:
        points: float32 [B, P, 3], places in the base frame [m].
        scale: float32 [B, P], how far off each may be [m].
        hand: float32 [B, 3], tool centre of the left hand in the base frame [m].
        proprio: float32 [B, 23].
        progress: float32 [B], the progress of the last inference, 0 at the start.
        words: float32 [B, WORDS].
        aside: float32 [B, ASIDE].
    """

    points: torch.Tensor
    scale: torch.Tensor
    hand: torch.Tensor
    proprio: torch.Tensor
    progress: torch.Tensor
    words: torch.Tensor
    aside: torch.Tensor


class Decision(NamedTuple):
    """What it says.

    Attributes:
        chunk: float32 [B, T, 23], model's columns, grippers not saturated.
        leg: float32 [B, legs], logits.
        clock: float32 [B, legs], the share of each leg that would be over.
        hidden: float32 [B, W], what the heads read.
    """

    chunk: torch.Tensor
    leg: torch.Tensor
    clock: torch.Tensor
    hidden: torch.Tensor


POSE = 50
"""Numbers that `Control.pose` makes."""
REACH, STAND, ASKEW = (0.70, 0.24), 0.33, 0.5
"""Where the hand is before the base when it picks upright [m], how far the base stays before the
counter's edge [m], and how far it turns from facing it [rad]."""
CUFF, FIST, HANDLE, HINGE, CORNER = 0, 1, 4, 5, 10
"""Indices of points."""


class Control(nn.Module):
    """A perceptron. Its inputs are offsets from the hand, each at three scales, and headings.

    A heading is a small difference of far places, which a perceptron learns slowly; so the robot's
    own pose in the room is fitted to all points that never move, each as sure as it is.
    """

    def __init__(self, config: XVLAConfig) -> None:
        super().__init__()
        self.legs, points = config.legs, len(config.heights)
        self.chunk_shape = (config.num_actions, config.real_action_dim)
        self.register_buffer("proprio_mean", torch.zeros(config.dim_proprio))
        self.register_buffer("proprio_std", torch.ones(config.dim_proprio))
        self.register_buffer("fixed", torch.tensor([float(p is not None) for p in config.room]))
        self.register_buffer("room", torch.tensor([p or (0.0, 0.0, 1.0) for p in config.room]))
        inputs = POSE + points * 11 + (config.dim_proprio - 3) + 4 * self.legs + WORDS + ASIDE
        width = config.control_width
        self.layers = nn.ModuleList(nn.Linear(before, width) for before in (inputs, width, width))
        # What an offset calls for depends on the leg, so the memory also multiplies.
        self.gates = nn.ModuleList(nn.Linear(4 * self.legs, width) for _ in range(2))
        for gate in self.gates:
            nn.init.zeros_(gate.weight)
            nn.init.zeros_(gate.bias)
        self.chunk = nn.Linear(width, config.num_actions * config.real_action_dim)
        self.leg = nn.Linear(width, self.legs)
        self.clock = nn.Linear(width, self.legs)
        self.share = nn.Linear(width, 1) if config.progress_head_sigmoid else None

    def forward(self, situation: Situation) -> Decision:
        """Decide."""
        offset = situation.points - situation.hand[:, None]
        known = 1.0 / (1.0 + (situation.scale / KNOWN) ** 2)
        shown = torch.cat([offset, torch.tanh(offset / 0.3), torch.tanh(offset / 0.06)], dim=-1)
        doubt = situation.scale.clamp(1e-3, 3.0).log() * 0.3
        posture = (situation.proprio - self.proprio_mean) / self.proprio_std
        # Where one was, as bumps a quarter of a leg apart.
        place = situation.progress[:, None] * (4 * self.legs)
        bumps = torch.arange(4 * self.legs, device=place.device)
        memory = torch.exp(-(((place - bumps) / 1.2) ** 2))
        features = torch.cat(
            [
                (shown * known[..., None]).flatten(1),
                known,
                doubt,
                posture[:, 3:],  # not the base's velocity, which repeats the last command
                memory,
                situation.words,
                situation.aside,
                self.pose(situation),
            ],
            dim=-1,
        )
        hidden = features
        for number, layer in enumerate(self.layers):
            hidden = functional.silu(layer(hidden))
            if number < len(self.gates):
                hidden = hidden * (2.0 * torch.sigmoid(self.gates[number](memory)))
        return Decision(
            chunk=self.chunk(hidden).unflatten(-1, self.chunk_shape),
            leg=self.leg(hidden),
            clock=torch.sigmoid(self.clock(hidden)),
            hidden=hidden,
        )

    def pose(self, situation: Situation) -> torch.Tensor:
        """Where the robot and its hand are in the room, and how door and glove are turned."""
        seen = situation.points[..., :2]
        room, slack = self.room[:, :2], self.room[:, 2]
        weight = (self.fixed / (situation.scale**2 + slack**2))[..., None]
        total = weight.sum(dim=1).clamp(min=1e-3)
        middle, there = (weight * seen).sum(dim=1) / total, (weight * room).sum(dim=1) / total
        a, b = seen - middle[:, None], room - there[:, None]
        along = (weight[..., 0] * (a * b).sum(dim=-1)).sum(dim=1)
        across = (weight[..., 0] * (b[..., 0] * a[..., 1] - b[..., 1] * a[..., 0])).sum(dim=1)
        length = (along**2 + across**2).sqrt().clamp(min=1e-6)
        cos, sin = along / length, across / length  # of the room's turn against the base

        def in_room(vector: torch.Tensor) -> torch.Tensor:
            x, y = vector[:, 0], vector[:, 1]
            return torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1)

        base = there - in_room(middle)
        hand = base + in_room(situation.hand[:, :2])
        door = in_room(seen[:, HANDLE] - seen[:, HINGE]) / 0.42
        glove = (seen[:, FIST] - seen[:, CUFF]) / 0.14
        steep = [cos, sin, torch.tanh(sin / 0.2), torch.tanh(sin / 0.05), total[:, 0].log() * 0.1]
        steep += [torch.tanh(glove[:, 1] / 0.2), torch.tanh(door[:, 0] / 0.2)]
        # Waves of an angle, so that a threshold anywhere on it is easily found.
        turns = [torch.atan2(y, x) for y, x in ((sin, cos), door.unbind(-1)[::-1],
                                                glove.unbind(-1)[::-1])]  # fmt: skip
        waves = [
            wave(octave * turn)
            for turn, octaves in zip(turns, ((2, 4, 8), (1, 2, 4, 8), (1, 2, 4)), strict=True)
            for octave in octaves
            for wave in (torch.sin, torch.cos)
        ]
        # How far behind the counter's edge the glove lies, and how it lies there, decides between
        # two postures.
        sure = 1.0 / (1.0 + (situation.scale[:, [CUFF, CORNER]].amax(dim=1) / 0.1) ** 2)
        behind = in_room(seen[:, CUFF] - seen[:, CORNER])
        lying = in_room(glove)
        on_counter = [behind, torch.tanh(behind / 0.1), lying, torch.tanh(lying / 0.3)]
        turn = (torch.atan2(lying[:, 1], lying[:, 0]) - torch.pi / 2).clamp(-ASKEW, ASKEW)
        spare = turn.cos() * REACH[0] - turn.sin() * REACH[1] - STAND - behind[:, 1]
        upright = torch.stack([torch.tanh(spare / size) for size in (0.01, 0.04, 0.2)], dim=-1)
        return torch.cat(
            [
                torch.stack(steep, dim=-1), base, hand, torch.tanh(hand / 0.3), door, glove,
                torch.stack(waves, dim=-1), torch.cat(on_counter, dim=-1) * sure[:, None],
                sure[:, None], (situation.scale[:, [CORNER]] < 0.1).float(),
                upright * sure[:, None],
            ],
            dim=-1,
        )  # fmt: skip

    def progress(self, decision: Decision) -> torch.Tensor:
        """The likeliest leg and its clock as one number in (0, 1), float32 [B]."""
        if self.share is not None:
            number: torch.Tensor = torch.sigmoid(self.share(decision.hidden)[:, 0])
            return number.clamp(1e-4, 1.0 - 1e-4)
        leg = decision.leg.argmax(dim=-1)
        share = decision.clock.gather(1, leg[:, None])[:, 0]
        return ((leg + share) / self.legs).clamp(1e-4, 1.0 - 1e-4)


def saturated(chunk: torch.Tensor) -> torch.Tensor:
    """The chunk with gripper commands that are surely open or closed made so entirely."""
    chunk = chunk.clone()
    grippers = list(GRIPPERS)
    chunk[..., grippers] = (chunk[..., grippers] * SATURATION).clamp(-1.0, 1.0)
    return chunk
