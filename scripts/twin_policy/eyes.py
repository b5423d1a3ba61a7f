"""Training of the eyes, each by itself, on perturbed snapshots; and what they are good for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from b1k_envs.mujoco_twin.scenes.clean_boxing_gloves.layout import GLOVES
from twin_policy.da3_xvla.models.modeling_xvla import XVLA
from twin_policy.da3_xvla.models.perception import Places, Sight, rays
from twin_policy.data import (
    FOCAL,
    ErrorBank,
    SightBatch,
    Snapshots,
    draw_sights,
    load_snapshots,
    taken_for,
)
from twin_policy.demos import CONTRACT
from twin_policy.legs import FIRST_LEG
from twin_policy.points import NAMES, in_view, points_of
from twin_policy.recipe import V17, Recipe
from twin_policy.training import Session

EYES = ("head", "wrist")
K = torch.from_numpy(CONTRACT.intrinsics_matrices).float()
_BATCH = 32
_VALIDATION = 3
"""Files of snapshots that are held out."""
_WEIGHTS = torch.ones(2, len(NAMES))
_WEIGHTS[0, :2] = torch.tensor([3.0, 1.5])  # the active glove decides
# The wrist's camera is for what the hand works at; the rest of the washer hides behind that.
_WEIGHTS[1] = torch.tensor([3.0, 1.5, 0.3, 0.3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])


def look(model: XVLA, batch: SightBatch, view: int, column: int = 0) -> Sight:
    """What one eye makes of the pictures in this column of a batch."""
    eye = (model.head_eye, model.wrist_eye)[view]
    picture = batch.pictures[:, column].contiguous(memory_format=torch.channels_last)
    k = K[view].expand(len(picture), -1, -1)
    sight: Sight = eye(picture, batch.told[:, view], k, batch.proprio[:, 3:], batch.second)
    return sight


def see(model: XVLA, batch: SightBatch) -> tuple[Places, list[Sight]]:
    """What both eyes find in a batch of both views."""
    k = K.expand(len(batch.pictures), -1, -1, -1)
    progress = batch.second * (1.0 - 1e-6)
    return model.find(batch.pictures, batch.told, k, batch.proprio, progress)


def sight_losses(sight: Sight, batch: SightBatch, view: int) -> dict[str, Any]:
    """Errors of what one eye saw; `loss` is their sum."""
    pose, k = batch.poses[:, view], K[view]
    seen = batch.seen[:, view] & (_WEIGHTS[view] > 0)
    local = torch.einsum("bji,bpj->bpi", pose[:, :3, :3], batch.points - pose[:, None, :3, 3])
    depth = (-local[..., 2]).clamp(min=0.03)
    pixel = torch.stack([local[..., 0], -local[..., 1]], dim=-1) / depth[..., None]
    pixel = pixel * k[0, 0] + k[0, 2]
    weight = seen * _WEIGHTS[view]
    weight = weight / weight.sum().clamp(min=1.0)
    size = sight.heat.shape[-1]
    cell = batch.pictures.shape[-1] / size
    centres = (torch.arange(size) + 0.5) * cell
    apart = (pixel[..., None] - centres) / (0.8 * cell)  # B P 2 H
    bump = torch.exp(-0.5 * apart**2)
    wanted = bump[..., 1, :, None] * bump[..., 0, None, :]
    wanted = wanted / wanted.sum(dim=(-1, -2), keepdim=True).clamp(min=1e-6)
    chance = sight.heat.flatten(2).log_softmax(dim=-1)
    heat = -(wanted.flatten(2) * chance).sum(dim=-1)
    off = (sight.pixel - pixel).norm(dim=-1)
    close = off < 4 * cell  # else the wrong bump was taken, which the heat-map has to learn
    across = (off / k[0, 0]).clamp(max=1.0)
    aside = sight.aside + across / sight.aside.exp()
    along = (sight.depth - depth.log()).abs()
    deep = sight.along + along / sight.along.exp()
    near = 0.05 * off * close  # pulls the mean into place below a cell
    sure = functional.binary_cross_entropy_with_logits(sight.seen, seen.float())
    part = ((heat + 0.5 * near + 0.3 * aside + 0.5 * deep + 2.0 * along) * weight).sum()
    return {
        "loss": part + 0.5 * sure,
        "heat": (heat * weight).sum().detach(),
        "px": (off * weight).sum().detach(),
        "depth": (along * weight).sum().detach(),
        "cuff px": (off * seen)[:, 0].sum().detach() / seen[:, 0].sum().clamp(min=1),
        "cuff depth": (along * seen)[:, 0].sum().detach() / seen[:, 0].sum().clamp(min=1),
    }


def train_eye(session: Session, view: int, folder: Path, seconds: float, every: float) -> None:
    """Phase 2 for one eye; new files in the folder are taken up at every report."""
    model = session.model.to(memory_format=torch.channels_last)
    rng = session.rng
    eye = (model.head_eye, model.wrist_eye)[view]
    kept = load_snapshots(sorted(folder.glob("*.npz"))[:_VALIDATION])
    pool, order = np.empty(0, np.int64), np.empty(0, np.int64)
    snapshots: Snapshots | None = None

    def take_up() -> None:
        nonlocal snapshots, pool, order
        files = sorted(folder.glob("*.npz"))[_VALIDATION:]
        if snapshots is None or len(files) * 250 > len(snapshots.leg):
            snapshots = load_snapshots(files)
            pool, order = _worth_seeing(snapshots, view), np.empty(0, np.int64)
            if not len(pool):
                raise SystemExit(f"{folder}: no snapshot shows anything to {EYES[view]}: take more")

    def step(_share: float) -> dict[str, Any]:
        nonlocal order
        assert snapshots is not None
        model.train()
        if len(order) < _BATCH:
            order = rng.permutation(pool)
        at, order = order[:_BATCH], order[_BATCH:]
        batch = draw_sights(snapshots, at, rng, (view,), session.recipe)
        return sight_losses(look(model, batch, view), batch, view)

    def report() -> None:
        session.say(
            f"{EYES[view]}, held out of {len(pool)}: {held_out(model, kept, view, session.recipe)}"
        )
        take_up()

    take_up()
    session.run(EYES[view], [*eye.parameters()], seconds, step, rate=1e-3, every=every,
                report=report)  # fmt: skip


def _worth_seeing(snapshots: Snapshots, view: int) -> np.ndarray:
    """Indices of the snapshots in which an eye has something to find."""
    points = points_of(snapshots.places, snapshots.leg)
    seen = in_view(points, snapshots.cameras[:, :2], FOCAL)[:, view]
    # Of a lone other glove there is nothing to learn.
    return np.flatnonzero((seen & (_WEIGHTS[view].numpy() >= 1.0)).any(axis=1))


_GROUPS = {
    "open": (range(2, 5), (4,)),
    "driving": ((*range(9, 11), *range(22, 24)), (0, 10)),
    "funnel": (tuple(FIRST_LEG["fetch", g] + 3 for g in GLOVES), (0, 1)),
    "grasp": (tuple(FIRST_LEG["fetch", g] + 4 for g in GLOVES), (0,)),
    "place": ((17, 18, 30, 31), (6,)),
    "press": (range(40, 42), (7,)),
}
"""Legs, and the points that matter in them."""


@torch.inference_mode()
def held_out(
    model: XVLA, snapshots: Snapshots, view: int | None = None, recipe: Recipe = V17
) -> str:
    """Errors on snapshots that were not learnt from: median and p90 [cm] by leg and point.

    Of one eye, or of what both say together.
    """
    model.eval()
    errors, scales, seens = [], [], []
    for first in range(0, len(snapshots.leg), _BATCH):
        at = np.arange(first, min(first + _BATCH, len(snapshots.leg)))
        if view is None:
            batch = draw_sights(snapshots, at, None, recipe=recipe)
            places, _ = see(model, batch)
            points, scale = places.points, places.scale
            seens.append(batch.seen.any(dim=1))
        else:
            batch = draw_sights(snapshots, at, None, (view,), recipe)
            sight = look(model, batch, view)
            pose = batch.poses[:, view]
            ray = rays(sight.pixel, pose, K[view].expand(len(at), -1, -1))
            points = pose[:, None, :3, 3] + sight.depth.exp()[..., None] * ray
            scale = (sight.along.exp() + sight.aside.exp()) * sight.depth.exp()
            seens.append(batch.seen[:, view] & (_WEIGHTS[view] > 0))
        errors.append((points - batch.points).norm(dim=-1))
        scales.append(scale)
    error, scale = 100 * torch.cat(errors).numpy(), 100 * torch.cat(scales).numpy()
    seen = torch.cat(seens).numpy()
    said = []
    for group, (legs, shown) in _GROUPS.items():
        for point in shown:
            rows = np.isin(snapshots.leg, list(legs)) & seen[:, point]
            if rows.sum() > 3:
                middle, high = np.percentile(error[rows, point], [50, 90])
                claimed = np.median(scale[rows, point])
                said.append(
                    f"{group} {NAMES[point]} {middle:.2f} p90 {high:.2f} claims {claimed:.1f}"
                )
    return "; ".join(said)


@torch.inference_mode()
def error_bank(
    model: XVLA,
    snapshots: Snapshots,
    count: int,
    rng: np.random.Generator,
    recipe: Recipe = V17,
) -> ErrorBank:
    """What the eyes get wrong, for the control network to be trained with."""
    model.eval()
    chosen = rng.choice(len(snapshots.leg), min(count, len(snapshots.leg)), replace=False)
    errors, scales = [], []
    for at in np.array_split(chosen, -(-len(chosen) // 32)):
        batch = draw_sights(snapshots, at, None, recipe=recipe)
        places, _ = see(model, batch)
        exact = taken_for(batch.points.numpy(), snapshots.cameras[at], recipe)
        errors.append(places.points.numpy() - exact)
        scales.append(places.scale.numpy())
    return ErrorBank(np.concatenate(errors), np.concatenate(scales), snapshots.leg[chosen])
