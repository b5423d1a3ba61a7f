"""A whole successful episode of the expert through GR00T's protocol, equal to the bit.

The expert reads the twin's truth and cannot be served; its recorded actions can.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from serving import served_gr00t

from b1k_envs.mujoco_twin.env import TwinEnv
from b1k_envs.tasks.table import get_task
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.runner import run_episode
from b1k_eval.records.trace import Trace
from b1k_eval.run.launch import plan_episodes
from b1k_policies.registry import make_policy
from b1k_policies.remote.server.engine import Engine

pytestmark = pytest.mark.slow

TASK = get_task(31)
ACTIONS = [f"action_{i}" for i in range(23)]


def test_the_experts_episode_comes_to_the_same_end(expert_episode, tmp_path, monkeypatch):
    monkeypatch.delenv("B1K_EVAL_API_KEY", raising=False)
    alone = expert_episode("2025", 0)
    assert alone.outcome == "success"
    env = TwinEnv(TASK, protocol="2025", split="public-test", max_steps=16_470)
    (episode,) = plan_episodes(TASK, [0], 1, 0, "2025")
    trace = Trace()
    replay = make_policy(f"replay:{alone.file}")
    replay.chunk_length = 32
    with served_gr00t(Engine(lambda: replay)) as address:
        policy = make_policy(address, protocol="2025")
        assert policy.chunk_length == 32
        result = run_episode(
            env, policy, episode, RecedingHorizon(8, policy.chunk_length), subscribers=[trace]
        )
        policy.close()
    env.close()
    trace.write(tmp_path / "trace.parquet")
    through = pd.read_parquet(tmp_path / "trace.parquet")
    assert (result.outcome, result.steps) == ("success", alone.steps)
    for name in ACTIONS:
        assert np.array_equal(alone.trace[name].to_numpy(), through[name].to_numpy())
    states = [name for name in through if name.startswith(("predicate:", "subgoal:"))]
    assert alone.trace[states].equals(through[states])
