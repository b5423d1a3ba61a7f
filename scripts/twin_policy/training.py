"""Training, in phases that can be stopped at any moment and taken up again.

1. control: the perceptron on the true places, with errors like a camera's.
2. head, wrist: the two eyes on perturbed snapshots, each by itself (see `eyes`).
3. joint: control again, with the errors that the eyes made on snapshots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional

from twin_policy.checkpoint import build
from twin_policy.closed_loop import fly, words
from twin_policy.da3_xvla.models.control import GRIPPERS, Decision
from twin_policy.da3_xvla.models.modeling_xvla import XVLA
from twin_policy.data import (
    ControlBatch,
    Demos,
    ErrorBank,
    draw_control,
)
from twin_policy.demos import DemoSettings, make_env
from twin_policy.recipe import V17, Recipe

_SCALE = torch.full((23,), 0.05)
_SCALE[:3] = 0.08
_SCALE[[14, 22]] = 0.5
"""Errors that count as one: base in units of its command, joints [rad], grippers."""


BATCH, RATE = 128, 3e-3
"""Of the control. After 300 s of CPU from nothing its loss was 0.331 with 256 at 1e-3, 0.306 with
128 at 1e-3, 0.254 with 128 at 3e-3, which 256 at 1e-3 took 900 s for; 6e-3 was no better."""
WEIGHTS = "model.safetensors"
HURRY = 20.0
"""Times the learning rate: of `skill-rate`, by the card."""


class Session:
    """A model in training, with its optimiser and its clock, kept in one file."""

    def __init__(self, path: Path, seed: int, log: Path, recipe: Recipe = V17) -> None:
        self.path, self.log_path, self.recipe = path, log, recipe
        self.model, self.ids = build(seed, recipe)
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
        hurried: Sequence[torch.nn.Parameter] = (),
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
            hurried: Of the parameters those that learn `HURRY` times as fast.
        """
        fast = {id(p) for p in hurried}
        groups = [{"params": [p for p in parameters if id(p) not in fast], "hurry": 1.0}]
        if fast:
            groups.append({"params": [*hurried], "hurry": HURRY})
        optimiser = torch.optim.AdamW(groups, lr=rate, weight_decay=1e-4, fused=True)
        if phase in self.optimisers:
            optimiser.load_state_dict(self.optimisers[phase])
        spent = self.done.get(phase, 0.0)
        last, begun, count = spent, time.process_time() - spent, 0
        sums: dict[str, float] = {}
        while spent < seconds:
            share = spent / seconds
            warm = min(1.0, (spent + 1.0) / 10.0)
            for group in optimiser.param_groups:
                falling = rate * warm * (0.5 + 0.5 * float(np.cos(np.pi * share))) + 1e-6
                group["lr"] = falling * group.get("hurry", 1.0)
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


_CONTROL = ("control", "words", "aside", "skill_classifier")
PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"control": _CONTROL, "head": ("head_eye",), "wrist": ("wrist_eye",), "joint": _CONTROL}
)
"""The phases, and the model's children that each of them trains."""


def sessions_in(folder: Path) -> list[Path]:
    """The phases' files in the folder of a training, the last one last."""
    return [path for phase in PARTS if (path := folder / f"{phase}.pt").exists()]


def adopt(model: XVLA, sessions: Iterable[Path], but: tuple[str, ...] = ()) -> None:
    """Take from each session, which is named by its phase, what that learnt, but for `but`.

    Of a checkpoint folder in place of a session the eyes are taken.
    """
    own = model.state_dict()
    for path in sessions:
        if path.is_dir():
            parts, state = {*PARTS["head"], *PARTS["wrist"]}, load_file(path / WEIGHTS)
        else:
            parts, state = {*PARTS[path.stem]}, torch.load(path, weights_only=False)["model"]
        parts -= {*but}
        for name, value in state.items():
            if name.split(".")[0] in parts:
                # Inputs that are new since then count nothing at first.
                missing = [0, own[name].shape[1] - value.shape[1]] if value.dim() == 2 else [0, 0]
                own[name] = functional.pad(value, missing)
    model.load_state_dict(own)


def load_model(
    folder: Path, recipe: Recipe = V17, begun_with: Iterable[Path] = ()
) -> tuple[XVLA, torch.Tensor]:
    """What a training has learnt so far, or a checkpoint, and the instruction's tokens."""
    model, ids = build(0, recipe)
    if (folder / WEIGHTS).exists():
        model.load_state_dict(load_file(folder / WEIGHTS))
    else:
        adopt(model, [*begun_with, *sessions_in(folder)])
    return model.eval(), ids


def control_losses(
    decision: Decision, batch: ControlBatch, model: XVLA, recipe: Recipe = V17
) -> dict[str, Any]:
    """Errors of a decision; `loss` is their sum."""
    apart = (decision.chunk - batch.chunk).abs() / _SCALE
    rows = batch.weight[..., None]
    chunk = (apart * rows).sum() / (rows.sum() * 23)
    first = apart[:, :10]
    leg = functional.cross_entropy(decision.leg, batch.leg)
    clock = (decision.clock.gather(1, batch.leg[:, None])[:, 0] - batch.clock).abs().mean()
    hidden = decision.hidden.detach() if "detached-skill" in recipe else decision.hidden
    skill = functional.cross_entropy(model.skill_classifier(hidden), batch.skill)
    skill_weight = 0.004 if "skill-weight" in recipe else 0.02
    place = 0.1 * leg + 0.5 * clock
    if "progress-mse" in recipe:
        target = (batch.leg + batch.clock) / model.config.legs
        place = 0.1 * functional.mse_loss(model.control.progress(decision), target)
    with torch.no_grad():
        right = (decision.leg.argmax(dim=-1) == batch.leg).float().mean()
        base, joints = first[..., :3].mean() * 0.08, first[..., 3:14].mean() * 0.05
        grip = first[..., GRIPPERS[0]].mean() * 0.5
    return {
        "loss": chunk + place + skill_weight * skill,
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
    # Where a policy was asked or the base was put aside is where errors lead: there are few of it.
    chance[demos.plan[demos.usable] >= 0] *= 8.0
    chance = np.cumsum(chance / chance.sum())

    def step(_share: float) -> dict[str, Any]:
        model.train()
        at = demos.usable[np.searchsorted(chance, rng.random(BATCH))]
        batch = draw_control(demos, at, rng, bank)
        said = model.said(session.ids).expand(len(at), -1)
        decision = control(batch.situation._replace(words=said))
        return control_losses(decision, batch, model, session.recipe)

    def report() -> None:
        flown = [
            fly(env, model, session.ids, i, oracle=bank is None, recipe=session.recipe)
            for i in instances
        ]
        if flown:
            session.say(f"{'oracle' if bank is None else 'pictures'}: {words(flown)}")

    hurried = [*control.gates.parameters()] if "skill-rate" in session.recipe else []
    session.run(
        phase, parameters, seconds, step, rate=RATE, every=every, report=report, hurried=hurried
    )
    env.close()
