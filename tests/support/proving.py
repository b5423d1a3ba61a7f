"""A small world and policies that heed all they are given, and six faults of running many at once.

A fault shows only where several worlds are in a process, or episodes come in another order: one by
one all is well.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from doubles import ToyEnv

from b1k_envs.base import VIEWS, Observation
from b1k_eval.loop import driver
from b1k_eval.run import launch, policies, session, simulators
from b1k_policies.base import ActionChunk, EpisodeInfo, Policy

LENGTH = 4


class SeenEnv(ToyEnv):
    """Its proprio shows where it stands, its pictures also which instance it is."""

    living: list[SeenEnv] = []  # noqa: RUF012 - of the process

    def __init__(self) -> None:
        super().__init__(max_steps=7)
        self.living.append(self)
        self.instance = 0

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        super().reset(instance, rollout, seed)
        self.instance = instance

    def _pictures(self):
        shade = np.uint8(self.instance * 16 + self.step_count)
        return {view: np.full((4, 4, 3), shade, dtype=np.uint8) for view in VIEWS}

    def observe(self, *, images: bool = True) -> Observation:
        seen = super().observe(images=images)
        proprio = seen.proprio.copy()
        proprio[0] = self.x
        return replace(seen, proprio=proprio)

    def close(self) -> None:
        super().close()
        if self in self.living:
            self.living.remove(self)

    @property
    def others(self) -> bool:
        """Whether it is not the first of its process."""
        return self is not self.living[0]


class MixedPictures(SeenEnv):
    def _pictures(self):
        return SeenEnv._pictures(self.living[0])


class StaleObservation(SeenEnv):
    last: Observation | None = None

    def reset(self, instance: int, rollout: int, seed: int) -> None:
        super().reset(instance, rollout, seed)
        self.last = None

    def observe(self, *, images: bool = True) -> Observation:
        seen = super().observe(images=images)
        before, self.last = self.last or seen, seen
        return before if self.others else seen


class WrongReset(SeenEnv):
    def reset(self, instance: int, rollout: int, seed: int) -> None:
        first = self.living[0].instance if self.others else instance
        super().reset(first, rollout, seed)


class HeedfulPolicy(Policy):
    """Acts by every part of the question, and by nothing else."""

    name, chunk_length, stateless = "heedful", LENGTH, True

    def reset(self, episode: EpisodeInfo) -> None:
        pass

    def infer(self, observation):
        raise AssertionError("a loop asks by infer_batch")

    def infer_batch(self, queries):
        return [self._answer(query) for query in queries]

    def _answer(self, query) -> ActionChunk:
        seen = query.observation
        words = zlib.crc32(query.instruction.encode())
        parts = [query.seed, words, int(seen.images["head"][0, 0, 0]), int(seen.proprio[0] * 1024)]
        return _drive(np.random.default_rng(parts))


class RememberingPolicy(Policy):
    """Acts by all observations of the episode so far."""

    name, chunk_length = "remembering", LENGTH

    def __init__(self) -> None:
        self.history: list[int] = []

    def reset(self, episode: EpisodeInfo) -> None:
        self.history.clear()

    def infer(self, observation) -> ActionChunk:
        self.history.append(int(observation.proprio[0] * 1024))
        return _drive(np.random.default_rng(self.history))


class LeakingPolicy(RememberingPolicy):
    def reset(self, episode: EpisodeInfo) -> None:
        pass


def _drive(rng: np.random.Generator) -> ActionChunk:
    return ActionChunk(actions=rng.uniform(0, 0.9, (LENGTH, 23)).astype(np.float32))


@dataclass(frozen=True)
class Fault:
    """A fault, the way that shows it, and the first column that must differ."""

    way: str
    column: str
    env: Callable[[], SeenEnv] = SeenEnv
    policy: Callable[[], Policy] = HeedfulPolicy
    question: str | None = None


FAULTS = {
    "lane 0's instruction for all": Fault("batches", "asked_instruction", question="instruction"),
    "a wrong seed": Fault("batches", "asked_seed", question="seed"),
    "mixed-up pictures": Fault("lanes", "asked_pictures", MixedPictures),
    "a stale observation": Fault("lanes", "asked_state", StaleObservation),
    "a wrong reset": Fault("lanes", "asked_state", WrongReset),
    "a leaking history": Fault("order", "action_0", policy=LeakingPolicy),
}


def plant(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Let runs of this process have the toy world, a policy, and the fault."""
    monkeypatch.setattr(SeenEnv, "living", [])
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nobody pulls the plug
    monkeypatch.setattr(simulators, "make_env", lambda settings: fault.env())
    monkeypatch.setattr(simulators, "prepare_pictures", lambda: None)
    monkeypatch.setattr(policies, "make_policy", lambda *_: fault.policy())
    monkeypatch.setattr(session, "plan_episodes", _of_many_words)
    if fault.question is not None:
        name, answered = fault.question, driver._answered

        def of_lane_0(wants):
            first = getattr(wants[min(wants)].query, name)
            return answered(
                {i: replace(w, query=replace(w.query, **{name: first})) for i, w in wants.items()}
            )

        monkeypatch.setattr(driver, "_answered", of_lane_0)


def _of_many_words(*args: object) -> list[EpisodeInfo]:
    """The plan, as of many tasks: with an instruction for every instance."""
    plan = launch.plan_episodes(*args)  # type: ignore[arg-type]
    return [replace(each, instruction=f"clean glove {each.instance}") for each in plan]
