"""A model to be shared: exact in any batch, counted when it is loaded, and mortal where told."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from b1k_envs.errors import ActionError, ContractMismatchError
from b1k_policies.base import ActionChunk, Policy

LENGTH = 8


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What happens to the model.

    Attributes:
        diary: File that gets a line for every load.
        trap: While this file is there, the third call of the model kills its process, and the file.
        deadly: Seed of a question that kills the process whenever it is asked.
        wrong: Seed of a question that is answered by an error.
        loads: How often it can be loaded; the next time it raises.
    """

    diary: Path
    trap: Path | None = None
    deadly: int | None = None
    wrong: int | None = None
    loads: int = 99


def make_walk(fate: Fate, *, gpu: int | None = None) -> WalkModel:
    with fate.diary.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if len(fate.diary.read_text().split()) > fate.loads:
        raise ContractMismatchError("the checkpoint was swapped")
    return WalkModel(fate)


class WalkModel(Policy):
    """Drives on, by the seed and the instruction of each question, whatever it is batched with."""

    name, chunk_length, needs_images, stateless = "walk", LENGTH, False, True

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        self.calls = 0

    def reset(self, episode):
        self.episode, self.inference = episode, 0

    def infer(self, observation):
        raise AssertionError("a loop asks by infer_batch")

    def infer_batch(self, queries):
        self.calls += 1
        trap = self.fate.trap
        if trap is not None and trap.exists() and self.calls == 3:
            trap.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if any(query.seed == self.fate.deadly for query in queries):
            os.kill(os.getpid(), signal.SIGKILL)
        if any(query.seed == self.fate.wrong for query in queries):
            raise ActionError("actions[0, 3] is nan")
        return [self.answer(query) for query in queries]

    def answer(self, query):
        rng = np.random.default_rng([query.seed, query.observation.step, len(query.instruction)])
        actions = rng.uniform(0, 0.9, (LENGTH, 23)).astype(np.float32)
        return ActionChunk(actions=actions, progress=min(1.0, (query.progress or 0.0) + 0.125))

    def elsewhere(self):
        return partial(make_walk, self.fate)
