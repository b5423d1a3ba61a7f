"""Episodes of the expert on public-test instances, recorded once for all of pytest's workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from twin_bench import TASK, make_twin

from b1k_envs.base import ProtocolYear
from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_eval.records.trace import Trace
from b1k_eval.run.launch import plan_episodes
from b1k_policies.expert import ExpertPolicy

LIMIT = 2500
ACTIONS = [f"action_{number}" for number in range(23)]
MakeOnce = Callable[[str, Callable[[Path], None]], Path]


@dataclass(frozen=True)
class ExpertEpisode:
    """How an episode ended, and its trace.

    Attributes:
        outcome: As in result.json.
        steps: Executed actions.
        file: The trace, which `replay:` takes.
    """

    outcome: str
    steps: int
    file: Path

    @cached_property
    def trace(self) -> pd.DataFrame:
        return pd.read_parquet(self.file)

    @property
    def actions(self) -> npt.NDArray[np.float32]:
        """float32 [steps, 23]."""
        return self.trace[ACTIONS].to_numpy(np.float32)


@cache
def kept_twin(protocol: ProtocolYear = "2026", split: str = "public-test") -> TwinEnv:
    """The one twin of this process for whole episodes of the expert."""
    return make_twin(protocol, split=split, max_steps=LIMIT)


class ExpertEpisodes:
    """Episodes by protocol and instance, as `b1k-eval run --policy expert` has them by default."""

    def __init__(self, made_once: MakeOnce) -> None:
        self._made_once = made_once

    def __call__(self, protocol: ProtocolYear, instance: int) -> ExpertEpisode:
        make = partial(_record, protocol, instance)
        folder = self._made_once(f"expert-{protocol}-{instance}", make)
        told = json.loads((folder / "told.json").read_text())
        return ExpertEpisode(file=folder / "trace.parquet", **told)


def _record(protocol: ProtocolYear, instance: int, folder: Path) -> None:
    (episode,) = plan_episodes(TASK, [instance], 1, 0, protocol)
    policy, trace = ExpertPolicy(), Trace()
    chunking = RecedingHorizon(10, policy.chunk_length)
    result = run_episode(kept_twin(protocol), policy, episode, chunking, subscribers=[trace])
    folder.mkdir()
    trace.write(folder / "trace.parquet")
    told = {"outcome": result.outcome, "steps": result.steps}
    (folder / "told.json").write_text(json.dumps(told))
