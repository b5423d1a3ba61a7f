"""The policy in the twin, through the real batch code and decode: what training is judged by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from b1k_envs.base import VIEWS, Observation
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_policies.xvla.actions import decode, executable
from b1k_policies.xvla.batch import build_batch, extract_proprio
from twin_policy.da3_xvla.models.control import ASIDE, Situation, saturated
from twin_policy.da3_xvla.models.modeling_xvla import XVLA
from twin_policy.data import FOCAL, taken_for
from twin_policy.demos import CONTRACT, GloveTruth, privileged
from twin_policy.legs import LEGS, SECOND_GLOVE_FROM, progress_of
from twin_policy.points import POINTS, in_view, points_of
from twin_policy.recipe import V17, Recipe, beside_pictures


class Pilot:
    """Answers observations one after another, and remembers its own progress between them."""

    def __init__(
        self, model: XVLA, ids: torch.Tensor, *, oracle: bool = False, recipe: Recipe = V17
    ) -> None:
        """Make one.

        Args:
            model: The policy.
            ids: int64 [1, L], the instruction.
            oracle: Give it the true places of what lies in a picture, and no pictures.
            recipe: How it was trained.
        """
        self.model, self.ids, self.oracle, self.recipe = model, ids, oracle, recipe
        self.progress = 0.0
        self.errors: list[np.ndarray] = []
        self.found = np.full((POINTS, 4), np.nan, np.float32)

    def __call__(self, observation: Observation, truth: GloveTruth) -> np.ndarray:
        """The next rows, absolute, float32 [30, 23]."""
        model, state, contract = self.model, privileged(truth), self.recipe.contract
        leg = np.array([LEGS - 1 if self.progress * LEGS >= SECOND_GLOVE_FROM else 0])
        points = points_of(state["places"][None].astype(np.float32), leg)
        with torch.inference_mode():
            if self.oracle:
                decision = model.control(self._situation(observation, points))
                chunk = saturated(decision.chunk)
                logit = model.report(decision)
            else:
                batch = build_batch([observation], contract, self.ids, skill_progress=self.progress)
                said: list[torch.Tensor] = []
                handle = model.progress_head.register_forward_hook(
                    lambda _m, _i, output: said.append(output)
                )
                found: list[Situation] = []
                place = model.control.register_forward_pre_hook(
                    lambda _m, inputs: found.append(inputs[0])
                )
                chunk = model.generate_actions(**batch)
                handle.remove()
                place.remove()
                logit = said[0][:, 0]
                seen = found[0].points[0].numpy(), found[0].scale[0, :, None].numpy()
                self.found = np.concatenate(seen, axis=-1)
                self.errors.append(np.linalg.norm(seen[0] - points[0], axis=-1))
        probability = self.oracle or contract.progress_output == "logit"
        self.progress = float((torch.sigmoid(logit) if probability else logit)[0])
        state = extract_proprio(observation, contract)[None]
        return executable(decode(chunk.numpy(), state, contract), contract)[0]

    def _situation(self, observation: Observation, points: np.ndarray) -> Situation:
        poses = [observation.camera_to_base[view] for view in VIEWS]
        extrinsics = np.stack(poses)[None].astype(np.float32)
        seen = in_view(points, extrinsics[:, :2, :3], FOCAL).any(axis=1)
        points = taken_for(points, extrinsics[:, :, :3], self.recipe)
        extrinsics = beside_pictures(extrinsics, self.recipe)
        return Situation(
            points=torch.from_numpy(np.where(seen[..., None], points, 0.0).astype(np.float32)),
            scale=torch.from_numpy(np.where(seen, 0.002, 0.8).astype(np.float32)),
            hand=self.model.hand(torch.from_numpy(extrinsics)),
            proprio=torch.from_numpy(extract_proprio(observation, CONTRACT)[None]),
            progress=torch.tensor([self.progress]),
            words=self.model.said(self.ids),
            aside=torch.zeros(1, ASIDE),
        )


class TakingTurns:
    """Lets a policy drive for a while, at one horizon or another, then the expert, and so on."""

    def __init__(self, pilot: Pilot, rng: np.random.Generator) -> None:
        self._pilot, self._rng, self._horizon = pilot, rng, 10
        self._policy_until, self._expert_until = 0, int(rng.integers(5, 60))
        self._rows = np.empty((0, 23), np.float32)
        self._at = 0
        self.asked: float | None = None

    @property
    def found(self) -> np.ndarray:
        """See `demos.Driver`."""
        return self._pilot.found

    def __call__(self, env: TwinEnv, step: int, leg: int, steps: int) -> np.ndarray | None:
        """See `demos.Driver`."""
        self.asked = None
        if step < self._expert_until:
            return None
        if step >= self._policy_until:
            if self._policy_until > self._expert_until:  # its turn is over
                self._expert_until = step + int(self._rng.integers(30, 90))
                self._policy_until = 0
                return None
            most = 60 if self._rng.random() < 0.5 else 240
            self._policy_until = step + int(self._rng.integers(10, most))
            self._horizon = int(self._rng.choice([10, 30, 30]))
            self._rows = self._rows[:0]
            # As if it had been asked some steps ago.
            before = max(steps - 10, 0) if steps > 0 else 0
            self._pilot.progress = float(progress_of(np.array(leg), np.array(before)))
        if len(self._rows) == 0 or step - self._at >= self._horizon:
            self.asked = self._pilot.progress
            observation = env.observe(images=not self._pilot.oracle)
            self._rows, self._at = self._pilot(observation, env.privileged_state()), step
        return self._rows[step - self._at]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one episode went: success, control steps, sub-goals reached in order, last progress."""

    instance: int
    success: bool
    steps: int
    reached: tuple[str, ...]
    leg: float
    error_cm: np.ndarray | None
    wall_s: float


def fly(
    env: TwinEnv,
    model: XVLA,
    ids: torch.Tensor,
    instance: int,
    *,
    oracle: bool = False,
    horizon: int = 10,
    max_steps: int = 2200,
    stuck_after: int = 500,
    recipe: Recipe = V17,
) -> Outcome:
    """One episode; it is broken off when its progress has not risen for `stuck_after` steps."""
    begun = time.perf_counter()
    model.eval()
    pilot = Pilot(model, ids, oracle=oracle, recipe=recipe)
    env.reset(instance, 0, 0)
    reached: dict[str, None] = {}
    best, since, step, success = 0.0, 0, 0, False
    while step < max_steps and not success and step - since < stuck_after:
        rows = pilot(env.observe(images=not oracle), env.privileged_state())
        if pilot.progress > best + 1e-3:
            best, since = pilot.progress, step
        for row in rows[:horizon]:
            result = env.step(row)
            step += 1
            if result.terminated:
                success = True
                break
        reached |= {name: None for name, holds in env.subgoals().items() if holds}
    errors = np.array(pilot.errors) * 100 if pilot.errors else None
    return Outcome(
        instance=instance,
        success=success,
        steps=step,
        reached=tuple(reached),
        leg=pilot.progress * LEGS,
        error_cm=errors,
        wall_s=time.perf_counter() - begun,
    )


def words(outcomes: Sequence[Outcome]) -> str:
    """Successes, and how far each went."""
    done = sum(o.success for o in outcomes)
    names = ("washer_opened", "glove_1_picked_up", "glove_1_in_washer", "glove_2_picked_up",
             "glove_2_in_washer", "washer_closed", "washer_turned_on")  # fmt: skip
    funnel = " ".join(str(sum(n in o.reached for o in outcomes)) for n in names)
    last = " ".join(
        f"{o.instance}:{'ok' if o.success else f'{o.leg:.1f}'}@{o.steps}" for o in outcomes
    )
    return f"{done} of {len(outcomes)}; opened/1 up/1 in/2 up/2 in/closed/on {funnel}; {last}"
