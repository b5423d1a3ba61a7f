"""Training, in phases that can be stopped at any moment and taken up again.

1. control: the perceptron on the true places, with errors like a camera's.
2. eyes: the two eyes on perturbed snapshots.
3. joint: control again, with the errors that the eyes made on snapshots.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from twin_policy.checkpoint import build
from twin_policy.closed_loop import fly, words
from twin_policy.da3_xvla.models.control import GRIPPERS, Decision
from twin_policy.da3_xvla.models.modeling_xvla import XVLA
from twin_policy.da3_xvla.models.perception import Places, Sight, rays
from twin_policy.data import (
    ControlBatch,
    Demos,
    ErrorBank,
    SightBatch,
    Snapshots,
    draw_control,
    draw_sights,
    load_snapshots,
)
from twin_policy.demos import CONTRACT, DemoSettings, make_env
from twin_policy.legs import FIRST_LEG
from twin_policy.points import NAMES

_SCALE = torch.full((23,), 0.05)
_SCALE[:3] = 0.08
_SCALE[[14, 22]] = 0.5
"""Errors that count as one: base in units of its command, joints [rad], grippers."""


BATCH = 256


class Session:
    """A model in training, with its optimiser and its clock, kept in one file."""

    def __init__(self, path: Path, seed: int, log: Path) -> None:
        self.path, self.log_path = path, log
        self.model, self.ids = build(seed)
        self.done: dict[str, float] = {}  # seconds of CPU spent in each phase
        self.rng = np.random.default_rng(seed)
        self.optimisers: dict[str, Any] = {}
        if path.exists():
            state = torch.load(path, weights_only=False)
            self.model.load_state_dict(state["model"])
            self.done = state["done"]
            self.optimisers = state["optimisers"]
            self.rng = np.random.default_rng([seed, int(sum(self.done.values()))])

    def keep(self) -> None:
        """Write all of it, in one move."""
        partial = self.path.with_suffix(".part")
        torch.save(
            {"model": self.model.state_dict(), "done": self.done, "optimisers": self.optimisers},
            partial,
        )
        partial.rename(self.path)

    def say(self, text: str) -> None:
        """Print and keep a line."""
        line = f"{time.strftime('%H:%M:%S')} {text}"
        print(line, flush=True)
        with self.log_path.open("a") as file:
            file.write(line + "\n")

    def run(
        self,
        phase: str,
        parameters: list[torch.nn.Parameter],
        seconds: float,
        step: Callable[[float], dict[str, float]],
        *,
        rate: float,
        every: float,
        report: Callable[[], None],
    ) -> None:
        """Optimise for so many seconds of this process's CPU time, over all sessions.

        Args:
            phase: Its name.
            parameters: What is trained.
            seconds: In all; the learning rate falls to nothing over them.
            step: Gives named losses, of which `loss` has a graph behind it; told the share done.
            rate: Highest learning rate.
            every: CPU seconds between reports and snapshots.
            report: Says how good it is.
        """
        optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-4)
        if phase in self.optimisers:
            optimiser.load_state_dict(self.optimisers[phase])
        spent = self.done.get(phase, 0.0)
        last, begun, count = spent, time.process_time() - spent, 0
        sums: dict[str, float] = {}
        while spent < seconds:
            share = spent / seconds
            warm = min(1.0, (spent + 1.0) / 10.0)
            for group in optimiser.param_groups:
                group["lr"] = rate * warm * (0.5 + 0.5 * float(np.cos(np.pi * share))) + 1e-6
            losses = step(share)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(torch.as_tensor(value).detach())
            count += 1
            optimiser.zero_grad(set_to_none=True)
            losses["loss"].backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            spent = time.process_time() - begun
            if spent - last >= every or spent >= seconds:
                means = " ".join(f"{name} {value / count:.4f}" for name, value in sums.items())
                self.say(f"{phase} {spent:.0f}/{seconds:.0f} s, {count} steps: {means}")
                last, count, sums = spent, 0, {}
                self.done[phase] = spent
                self.optimisers[phase] = optimiser.state_dict()
                self.keep()
                paused = time.process_time()
                report()
                begun += time.process_time() - paused


def load_model(path: Path) -> tuple[XVLA, torch.Tensor]:
    """The model of a session, and the instruction's tokens."""
    model, ids = build(0)
    model.load_state_dict(torch.load(path, weights_only=False)["model"])
    return model.eval(), ids


def adopt(model: XVLA, path: Path, parts: tuple[str, ...]) -> None:
    """Take the weights of some of its children from another session."""
    state = torch.load(path, weights_only=False)["model"]
    own = model.state_dict()
    own.update({name: value for name, value in state.items() if name.split(".")[0] in parts})
    model.load_state_dict(own)


def control_losses(decision: Decision, batch: ControlBatch, model: XVLA) -> dict[str, Any]:
    """Errors of a decision; `loss` is their sum."""
    apart = (decision.chunk - batch.chunk).abs() / _SCALE
    rows = batch.weight[..., None]
    chunk = (apart * rows).sum() / (rows.sum() * 23)
    first = apart[:, :10]
    leg = functional.cross_entropy(decision.leg, batch.leg)
    clock = (decision.clock.gather(1, batch.leg[:, None])[:, 0] - batch.clock).abs().mean()
    skill = functional.cross_entropy(model.skill_classifier(decision.hidden), batch.skill)
    with torch.no_grad():
        right = (decision.leg.argmax(dim=-1) == batch.leg).float().mean()
        base, joints = first[..., :3].mean() * 0.08, first[..., 3:14].mean() * 0.05
        grip = first[..., GRIPPERS[0]].mean() * 0.5
    return {
        "loss": chunk + 0.1 * leg + 0.5 * clock + 0.02 * skill,
        "chunk": chunk.detach(), "leg": leg.detach(), "right": right, "clock": clock.detach(),
        "base": base, "joints": joints, "grip": grip,
    }  # fmt: skip


def train_control(
    session: Session,
    demos: Demos,
    seconds: float,
    instances: tuple[int, ...],
    every: float,
    bank: ErrorBank | None = None,
) -> None:
    """Phase 1; with a bank of the eyes' errors phase 3, in which the episodes have pictures."""
    model, phase = session.model, "control" if bank is None else "joint"
    control = model.control
    if bool((control.proprio_std == 1.0).all()):
        control.proprio_mean.copy_(torch.from_numpy(demos.proprio.mean(axis=0)))
        control.proprio_std.copy_(torch.from_numpy(demos.proprio.std(axis=0)).clamp(min=0.02))
    parameters = [*control.parameters(), *model.skill_classifier.parameters(),
                  *model.words.parameters()]  # fmt: skip
    rng = session.rng
    env = make_env(DemoSettings())
    # Each leg counts, and not only by the time it takes.
    counts = np.bincount(demos.leg[demos.usable], minlength=model.config.legs)
    chance = counts[demos.leg[demos.usable]] ** -0.7
    chance = np.cumsum(chance / chance.sum())

    def step(_share: float) -> dict[str, Any]:
        model.train()
        at = demos.usable[np.searchsorted(chance, rng.random(BATCH))]
        batch = draw_control(demos, at, rng, bank)
        said = model.said(session.ids).expand(len(at), -1)
        decision = control(batch.situation._replace(words=said))
        return control_losses(decision, batch, model)

    def report() -> None:
        flown = [fly(env, model, session.ids, i, oracle=bank is None) for i in instances]
        session.say(f"{'oracle' if bank is None else 'pictures'}: {words(flown)}")

    rate = 1.5e-3 if bank is None else 5e-4
    session.run(phase, parameters, seconds, step, rate=rate, every=every, report=report)
    env.close()


_POINT_WEIGHT = torch.ones(len(NAMES))
_POINT_WEIGHT[:2] = torch.tensor([3.0, 1.5])  # the active glove decides
K = torch.from_numpy(CONTRACT.intrinsics_matrices).float()


def see(model: XVLA, batch: SightBatch) -> tuple[Places, list[Sight]]:
    """What both eyes find in a batch."""
    k = K.expand(len(batch.pictures), -1, -1, -1)
    progress = batch.second * (1.0 - 1e-6)
    return model.find(batch.pictures, batch.poses, k, batch.proprio, progress)


def sight_losses(places: Places, sights: list[Sight], batch: SightBatch) -> dict[str, Any]:
    """Errors of what was seen; `loss` is their sum."""
    losses: dict[str, Any] = {}
    total = torch.zeros(())
    for view, (name, sight) in enumerate(zip(("head", "wrist"), sights, strict=True)):
        pose, k, seen = batch.poses[:, view], K[view], batch.seen[:, view]
        local = torch.einsum("bji,bpj->bpi", pose[:, :3, :3], batch.points - pose[:, None, :3, 3])
        depth = (-local[..., 2]).clamp(min=0.03)
        pixel = torch.stack([local[..., 0], -local[..., 1]], dim=-1) / depth[..., None]
        pixel = pixel * k[0, 0] + k[0, 2]
        weight = seen * _POINT_WEIGHT
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
        aside = sight.aside + (across / sight.aside.exp()) * 1.0
        along = (sight.depth - depth.log()).abs()
        deep = sight.along + along / sight.along.exp()
        near = 0.05 * off * close  # pulls the mean into place below a cell
        sure = functional.binary_cross_entropy_with_logits(sight.seen, seen.float())
        part = ((heat + 0.5 * near + 0.3 * aside + 0.5 * deep + 2.0 * along) * weight).sum()
        total = total + part + 0.5 * sure
        with torch.no_grad():
            losses[f"{name} heat"] = (heat * weight).sum()
            losses[f"{name} px"] = (off * weight).sum()
            losses[f"{name} depth"] = (along * weight).sum()
    error = (places.points - batch.points).norm(dim=-1)
    scale = places.scale + 0.002
    weight = batch.seen.any(dim=1) * _POINT_WEIGHT
    weight = weight / weight.sum()
    fused = ((3.0 * scale.log() + 2.0 * (error / scale).clamp(max=20.0)) * weight).sum()
    losses["cm"] = 100.0 * (error.detach() * weight).sum()
    return {"loss": total + 0.1 * fused, **losses}


_GROUPS = {
    "open": range(3, 4),
    "driving": (*range(9, 11), *range(22, 24)),
    "funnel": (FIRST_LEG["fetch", "boxing_glove_1"] + 3, FIRST_LEG["fetch", "boxing_glove_2"] + 3),
    "grasp": (FIRST_LEG["fetch", "boxing_glove_1"] + 4, FIRST_LEG["fetch", "boxing_glove_2"] + 4),
    "place": (17, 18, 30, 31),
    "press": range(40, 42),
}


@torch.inference_mode()
def held_out(model: XVLA, snapshots: Snapshots) -> str:
    """Errors on snapshots that were not learnt from: median and p90 [cm] by leg and point."""
    model.eval()
    errors, scales, heads, wrists, seens = [], [], [], [], []
    for first in range(0, len(snapshots.leg), 32):
        at = np.arange(first, min(first + 32, len(snapshots.leg)))
        batch = draw_sights(snapshots, at, None)
        places, sights = see(model, batch)
        errors.append((places.points - batch.points).norm(dim=-1))
        scales.append(places.scale)
        for view, kept in ((0, heads), (1, wrists)):
            ray = rays(sights[view].pixel, batch.poses[:, view], K[view].expand(len(at), -1, -1))
            point = batch.poses[:, view, None, :3, 3] + sights[view].depth.exp()[..., None] * ray
            kept.append((point - batch.points).norm(dim=-1))
        seens.append(batch.seen)
    error, scale = 100 * torch.cat(errors).numpy(), 100 * torch.cat(scales).numpy()
    head, wrist = 100 * torch.cat(heads).numpy(), 100 * torch.cat(wrists).numpy()
    seen = torch.cat(seens).numpy()
    lines = []
    shown = {"open": (4,), "driving": (0, 10), "funnel": (0, 1), "grasp": (0,), "place": (6,),
             "press": (7,)}  # fmt: skip
    for group, legs in _GROUPS.items():
        rows = np.isin(snapshots.leg, list(legs))
        for point in shown[group]:
            by_eye = []
            for view, one in enumerate((head, wrist)):
                visible = rows & seen[:, view, point]
                some = visible.sum() > 3
                by_eye.append(f"{np.median(one[visible, point]):.1f}" if some else "-")
            both = rows & seen[:, :, point].any(axis=1)
            if both.sum() < 4:
                continue
            middle, high = np.percentile(error[both, point], [50, 90])
            claimed = np.median(scale[both, point])
            lines.append(
                f"{group} {NAMES[point]} ({both.sum()}): head {by_eye[0]} wrist {by_eye[1]} "
                f"fused {middle:.1f} p90 {high:.1f} claims {claimed:.1f}"
            )
    return "\n    ".join(lines)


@torch.inference_mode()
def error_bank(
    model: XVLA, snapshots: Snapshots, count: int, rng: np.random.Generator
) -> ErrorBank:
    """What the eyes get wrong, for the control network to be trained with."""
    model.eval()
    chosen = rng.choice(len(snapshots.leg), min(count, len(snapshots.leg)), replace=False)
    errors, scales = [], []
    for at in np.array_split(chosen, -(-len(chosen) // 32)):
        batch = draw_sights(snapshots, at, None)
        places, _ = see(model, batch)
        errors.append((places.points - batch.points).numpy())
        scales.append(places.scale.numpy())
    return ErrorBank(np.concatenate(errors), np.concatenate(scales), snapshots.leg[chosen])


_VALIDATION = 3
"""Files of snapshots that are held out."""


def train_eyes(
    session: Session, folder: Path, seconds: float, instances: tuple[int, ...], every: float
) -> None:
    """Phase 2; new files in the folder are taken up at every report."""
    model = session.model.to(memory_format=torch.channels_last)
    rng = session.rng
    parameters = [*model.head_eye.parameters(), *model.wrist_eye.parameters()]
    kept = load_snapshots(sorted(folder.glob("*.npz"))[:_VALIDATION])
    order = np.empty(0, np.int64)
    snapshots = load_snapshots(sorted(folder.glob("*.npz"))[_VALIDATION:])
    env = make_env(DemoSettings()) if instances else None

    def step(_share: float) -> dict[str, Any]:
        nonlocal order
        model.train()
        if len(order) < 32:
            order = rng.permutation(len(snapshots.leg))
        at, order = order[:32], order[32:]
        batch = draw_sights(snapshots, at, rng)
        places, sights = see(model, batch)
        return sight_losses(places, sights, batch)

    def report() -> None:
        nonlocal snapshots, order
        session.say(f"held out of {len(snapshots.leg)}:\n    {held_out(model, kept)}")
        if env is not None:
            flown = [fly(env, model, session.ids, i) for i in instances]
            session.say(f"pictures: {words(flown)}")
        files = sorted(folder.glob("*.npz"))[_VALIDATION:]
        if len(files) * 250 > len(snapshots.leg):
            snapshots, order = load_snapshots(files), np.empty(0, np.int64)

    session.run("eyes", parameters, seconds, step, rate=8e-4, every=every, report=report)
    if env is not None:
        env.close()
