"""From pictures, poses and K to places in the base frame, with a scale of error each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from .configuration_xvla import XVLAConfig

NEAR, FAR = 0.04, 6.0
"""Depths that are thought of [m]."""


class Sight(NamedTuple):
    """What one camera makes of B pictures, for P points.

    Attributes:
        heat: float32 [B, P, H, H], logits over the cells.
        pixel: float32 [B, P, 2], x and y [px], pixel centres at half-integers.
        depth: float32 [B, P], logarithm of the depth along the camera's axis [m].
        aside: float32 [B, P], logarithm of the error across the ray over the depth.
        along: float32 [B, P], logarithm of the error along the ray over the depth.
        seen: float32 [B, P], logits of being in the picture.
    """

    heat: torch.Tensor
    pixel: torch.Tensor
    depth: torch.Tensor
    aside: torch.Tensor
    along: torch.Tensor
    seen: torch.Tensor


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(4, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float [B, C, H, W] to the same."""
        inner = functional.silu(self.first(functional.silu(self.norm(x))))
        return x + self.second(inner)


class Eye(nn.Module):
    """One camera's network: cells of 4 or 8 px, down to 7 x 7 and up again, a look at each point.

    The head's camera sees a cuff from 0.8 m, where 4 px are 3 cm; the wrist's from 0.25 m.
    """

    def __init__(self, config: XVLAConfig, cell: int) -> None:
        super().__init__()
        points, self.cell = len(config.heights), cell
        c56, c28, c14, c7 = config.eye_widths
        self.register_buffer("heights", torch.tensor(config.heights))
        if cell == 4:
            self.patches = nn.Conv2d(3, c56, 8, stride=4, padding=2)
            self.at56 = nn.Conv2d(c56, c56, 3, padding=1)
            self.down28 = nn.Conv2d(c56, c28, 3, stride=2, padding=1)
            self.up56 = nn.Conv2d(c28, c56, 1)
            self.back56 = nn.Conv2d(c56, c56, 3, padding=1)
        else:
            self.patches = nn.Conv2d(3, c28, 12, stride=8, padding=2)
        self.at28 = nn.Conv2d(c28, c28, 3, padding=1)
        self.down14 = nn.Conv2d(c28, c14, 3, stride=2, padding=1)
        self.at14 = Block(c14)
        self.down7 = nn.Conv2d(c14, c7, 3, stride=2, padding=1)
        self.at7 = Block(c7)
        # The camera's pose, the joints, and whether the second glove is the active one.
        self.context = nn.Linear(12 + 20 + 1, c7)
        self.place = nn.Parameter(torch.zeros(1, c7, 7, 7))
        self.up14 = nn.Conv2d(c7, c14, 1)
        self.back14 = nn.Conv2d(c14, c14, 3, padding=1)
        self.up28 = nn.Conv2d(c14, c28, 1)
        self.back28 = nn.Conv2d(c28, c28, 3, padding=1)
        near, wide = (c56, c28) if cell == 4 else (c28, c14)
        self.heat = nn.Conv2d(near, points, 1)
        looked = near + wide + c7 + 8 + points
        self.look = nn.Sequential(nn.Linear(looked, 96), nn.SiLU(), nn.Linear(96, 64), nn.SiLU())
        self.answer = nn.Linear(64, 5)

    def forward(
        self,
        picture: torch.Tensor,
        pose: torch.Tensor,
        k: torch.Tensor,
        joints: torch.Tensor,
        second: torch.Tensor,
    ) -> Sight:
        """Look.

        Args:
            picture: float32 [B, 3, S, S], normalised.
            pose: float32 [B, 4, 4], camera to base, USD axes.
            k: float32 [B, 3, 3] at S px.
            joints: float32 [B, 20], the proprio but for the base.
            second: float32 [B], 1 where the second glove is the active one.
        """
        finest = functional.silu(self.patches(picture))
        if self.cell == 4:
            finest = functional.silu(self.at56(finest))
        at28 = functional.silu(self.down28(finest)) if self.cell == 4 else finest
        at28 = functional.silu(self.at28(at28))
        at14 = self.at14(self.down14(at28))
        at7 = self.down7(functional.silu(at14)) + self.place
        known = torch.cat([pose[:, :3].flatten(1), joints, second[:, None]], dim=-1)
        at7 = self.at7(at7 + self.context(known)[:, :, None, None])
        whole = functional.silu(at7).mean(dim=(2, 3))
        up14 = functional.silu(at14 + _double(self.up14(functional.silu(at7))))
        up14 = functional.silu(self.back14(up14))
        up28 = functional.silu(at28 + _double(self.up28(up14)))
        up28 = functional.silu(self.back28(up28))
        fine, coarse = up28, up14
        if self.cell == 4:
            fine = functional.silu(finest + _double(self.up56(up28)))
            fine, coarse = functional.silu(self.back56(fine)), up28
        heat = self.heat(fine)
        chance, pixel = _peak(heat, self.cell)
        near = torch.einsum("bpn,bcn->bpc", chance, fine.flatten(2))
        halved = functional.avg_pool2d(chance.unflatten(-1, heat.shape[2:]), 2) * 4
        wide = torch.einsum("bpn,bcn->bpc", halved.flatten(2), coarse.flatten(2))
        ray = rays(pixel, pose, k)
        drop = self.heights - pose[:, 2, 3, None]  # from the camera to each nominal height
        level = (drop / torch.where(ray[..., 2] < -0.1, ray[..., 2], -0.1)).clamp(NEAR, FAR).log()
        downward = torch.sigmoid((-ray[..., 2] - 0.15) * 20.0)
        points = heat.shape[1]
        which = torch.eye(points, device=heat.device).expand(len(heat), -1, -1)
        features = torch.cat(
            [
                near,
                wide,
                whole[:, None].expand(-1, points, -1),
                ray,
                pixel / picture.shape[-1] - 0.5,
                level[..., None],
                downward[..., None],
                pose[:, 2, 3, None, None].expand(-1, points, 1),
                which,
            ],
            dim=-1,
        )
        answer = self.answer(self.look(features))
        trust = torch.sigmoid(answer[..., 1]) * downward
        return Sight(
            heat=heat,
            pixel=pixel,
            depth=trust * level + (1.0 - trust) * answer[..., 0] + 0.1 * answer[..., 0],
            aside=answer[..., 2].clamp(-3.0, 3.0) - 3.5,
            along=answer[..., 3].clamp(-3.0, 3.0) - 3.0,
            seen=answer[..., 4],
        )


def _double(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _peak(heat: torch.Tensor, cell: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Chances over the cells, [B, P, H * H], and the mean place near the highest one [px]."""
    size = heat.shape[-1]
    chance = heat.flatten(2).softmax(dim=-1)
    best = chance.argmax(dim=-1)
    row, column = best // size, best % size
    places = torch.arange(size, device=heat.device)
    # Only the cells around the highest: a second bump far away must not pull.
    around = ((places - row[..., None]).abs() <= 3)[..., :, None] & (
        (places - column[..., None]).abs() <= 3
    )[..., None, :]
    local = chance * around.flatten(2)
    local = local / local.sum(dim=-1, keepdim=True)
    grid = local.unflatten(-1, (size, size))
    centres = (places + 0.5) * cell
    x, y = (grid.sum(dim=-2) * centres).sum(dim=-1), (grid.sum(dim=-1) * centres).sum(dim=-1)
    return chance, torch.stack([x, y], dim=-1)


def rays(pixel: torch.Tensor, pose: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Directions of pixels in the base frame, float32 [B, P, 3], of depth 1 along the axis."""
    x = (pixel[..., 0] - k[:, 0, 2, None]) / k[:, 0, 0, None]
    y = (pixel[..., 1] - k[:, 1, 2, None]) / k[:, 1, 1, None]
    local = torch.stack([x, -y, -torch.ones_like(x)], dim=-1)  # USD axes
    return local @ pose[:, :3, :3].transpose(-1, -2)


class Places(NamedTuple):
    """Points fused over the cameras: float32 [B, P, 3] [m] and the scale of error [B, P] [m]."""

    points: torch.Tensor
    scale: torch.Tensor


def fuse(sights: list[Sight], poses: list[torch.Tensor], intrinsics: list[torch.Tensor]) -> Places:
    """Weigh what the cameras say, by how sure each is across and along its ray."""
    information = rest = None
    for sight, pose, k in zip(sights, poses, intrinsics, strict=True):
        ray = rays(sight.pixel, pose, k)
        depth = sight.depth.clamp(-3.5, 2.0).exp()
        point = pose[:, None, :3, 3] + depth[..., None] * ray
        unit = functional.normalize(ray, dim=-1)
        seen = torch.sigmoid(sight.seen) + 1e-3
        aside = seen / (sight.aside.exp() * depth + 0.002)
        along = seen / (sight.along.exp() * depth + 0.002)
        both = unit[..., :, None] * unit[..., None, :]
        eye = torch.eye(3, device=both.device)
        weight = aside[..., None, None] ** 2 * (eye - both) + along[..., None, None] ** 2 * both
        pull = (weight @ point[..., None])[..., 0]
        information = weight if information is None else information + weight
        rest = pull if rest is None else rest + pull
    assert information is not None
    assert rest is not None
    # A weak belief in "somewhere ahead" keeps it solvable where no camera sees the point.
    prior = 0.5 * torch.eye(3, device=information.device)
    covariance = torch.linalg.inv(information + prior)
    middle = torch.tensor([0.8, 0.0, 0.7], device=rest.device)
    points = (covariance @ (rest + 0.5 * middle)[..., None])[..., 0]
    scale = (covariance.diagonal(dim1=-2, dim2=-1).sum(dim=-1) / 3.0).sqrt()
    return Places(points, scale)
