"""A whole successful episode of the expert: in process, through our client, through openpi's.

The expert reads the twin's truth and cannot be served; its recorded actions can.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from serving import served
from test_server_openpi import as_the_evaluator_sends, openpi

from b1k_envs.base import VIEWS
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


@pytest.fixture(scope="module")
def env():
    env = TwinEnv(TASK, protocol="2026", split="public-test", max_steps=12_352)
    yield env
    env.close()


def run(env, policy, file):
    """The outcome of an episode, and its trace."""
    (episode,) = plan_episodes(TASK, [0], 1, 0, "2026")
    trace = Trace()
    result = run_episode(
        env, policy, episode, RecedingHorizon(10, policy.chunk_length), subscribers=[trace]
    )
    trace.write(file)
    return result, pd.read_parquet(file)


@pytest.fixture
def recorded(expert_episode):
    """The expert's episode: how it ended, its trace, and the file of it."""
    episode = expert_episode("2026", 0)
    assert episode.outcome == "success"
    return episode, episode.trace, episode.file


def test_our_client_carries_the_episode_to_the_same_end(env, recorded, tmp_path):
    alone, trace, file = recorded
    with served(Engine(lambda: make_policy(f"replay:{file}")), horizon=10) as server:
        remote = make_policy(f"{server.url}?chunk=10")
        try:
            result, through = run(env, remote, tmp_path / "trace.parquet")
        finally:
            remote.close()
    assert (result.outcome, result.steps) == ("success", alone.steps)
    assert trace[ACTIONS].equals(through[ACTIONS])
    states = [name for name in trace.columns if name.startswith(("predicate:", "subgoal:"))]
    assert trace[states].equals(through[states])


def test_openpis_client_carries_the_episode_to_the_same_end(env, recorded):
    alone, trace, file = recorded
    with served(Engine(lambda: make_policy(f"replay:{file}")), horizon=10) as server:
        host, port = server.url.removeprefix("ws://").split(":")
        client = openpi.WebsocketClientPolicy(host, int(port))
        env.reset(0, 0, 0)
        # A recording is deaf to pictures; whole ones are in `test_server_openpi.py`.
        pictures = {view: np.zeros((32, 32, 3), np.uint8) for view in VIEWS}
        executed, done = [], False
        while not done:
            seen = replace(env.observe(images=False), images=pictures)
            action = np.array(client.infer(as_the_evaluator_sends(seen))["action"])
            executed.append(action)
            result = env.step(action)
            done = result.terminated or result.truncated
        client._ws.close()
    assert result.terminated
    assert len(executed) == alone.steps
    assert np.array_equal(np.stack(executed), trace[ACTIONS].to_numpy())
