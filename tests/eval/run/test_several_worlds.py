"""`--num-envs N` in the twin: one model call a round, and episodes as in N runs of one world.

What a real model makes of a batch is its own affair: sums round differently there, and a closed
loop amplifies it. So the bits are held with a model that is exact, and a checkpoint to a tolerance.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from twin_bench import TASK, make_twin

from b1k_envs.base import Worlds, make_several
from b1k_envs.r1pro import GRIPPER_OPEN, hold_action
from b1k_envs.tasks.table import human_stats
from b1k_eval.loop.strategy import build_chunking
from b1k_eval.records.columns import CHECKSUMS
from b1k_eval.records.store import open_run
from b1k_eval.run.episode import Assembly
from b1k_eval.run.launch import launch, plan_episodes
from b1k_eval.run.progress.reporter import Reporter
from b1k_policies.base import ActionChunk, Policy, Query
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.registry import CHECKPOINT, make_policy

RECORD = {"format": 1, "identity": {"settings": {}}, "sessions": [{"started_at": "-"}]}
MAX_STEPS, HORIZON = 39, 10  # 40 actions, 4 inferences


class Exact(Policy):
    """Moves about by what it sees and its seed, whatever else is in the batch.

    Attributes:
        calls: How many queries each call had; of all instances, as a run builds its own.
    """

    name, chunk_length, needs_images, stateless = "exact", 30, False, True
    calls: list[int]

    def __init__(self, calls):
        self.calls = calls

    def reset(self, episode):
        pass

    def infer(self, observation):
        raise AssertionError("a loop asks by infer_batch")

    def infer_batch(self, queries):
        self.calls.append(len(queries))
        return [self.answer(query) for query in queries]

    def answer(self, query):
        seen = query.observation
        felt = hashlib.sha256(seen.proprio.tobytes() + str(query.seed).encode()).digest()
        rng = np.random.default_rng(int.from_bytes(felt[:8], "big"))
        hold = hold_action(seen.proprio, seen.protocol, GRIPPER_OPEN, GRIPPER_OPEN)
        rows = hold + rng.normal(0, 0.02, (30, 23))
        return ActionChunk(actions=np.clip(rows, -1.5, 1.5).astype(np.float32))


def run(folder, policy, count, *, num_envs=1, instances=None, max_steps=MAX_STEPS):
    """A run of `count` instances in this process."""
    assembly = Assembly(
        make_worlds=partial(make_several, partial(make_twin, max_steps=max_steps), num_envs),
        num_envs=num_envs,
        make_policy=policy,
        make_chunking=partial(build_chunking, "receding", HORIZON, None, None, 0),
        human=human_stats(TASK),
        max_steps=max_steps,
    )
    plan = plan_episodes(TASK, instances or range(count), 1, seed=3, protocol="2026")
    store = open_run(folder, RECORD, resume=True)
    try:
        launch(assembly, plan, store, reporter=Reporter())
    finally:
        store.close()


def traces(folder):
    return {
        path.parent.name: pd.read_parquet(path).drop(columns="latency_s")
        for path in sorted((folder / "episodes").glob("*/trace.parquet"))
    }


def records(folder):
    return {
        path.parent.name: {**json.loads(path.read_text()), "timing": None}
        for path in sorted((folder / "episodes").glob("*/result.json"))
    }


@pytest.mark.slow
def test_eight_worlds_play_what_eight_runs_play_with_one_call_of_the_model_a_round(tmp_path):
    calls, single = [], []
    run(tmp_path / "eight", partial(Exact, calls), 8, num_envs=8)
    for n in range(8):
        run(tmp_path / f"one-{n}", partial(Exact, single), 1, instances=[n])
    assert calls == [8] * 4
    assert single == [1] * 32
    ours, said = traces(tmp_path / "eight"), records(tmp_path / "eight")
    assert len(ours) == len(said) == 8
    for n in range(8):
        ((name, expected),) = traces(tmp_path / f"one-{n}").items()
        pd.testing.assert_frame_equal(ours[name], expected, check_exact=True)
        assert len(expected) == MAX_STEPS + 1
        assert records(tmp_path / f"one-{n}") == {name: said[name]}
    moved = [frame["base_x"].iloc[-1] - frame["base_x"].iloc[0] for frame in ours.values()]
    assert len(set(moved)) == 8


def test_worlds_go_on_with_the_next_episode_and_the_last_ones_are_fewer(tmp_path):
    calls = []
    run(tmp_path / "three", partial(Exact, calls), 5, num_envs=3)
    run(tmp_path / "one", partial(Exact, []), 5)
    assert Counter(calls) == {3: 4, 2: 4}
    assert records(tmp_path / "three") == records(tmp_path / "one")


def test_twins_that_take_turns_in_one_process_move_as_each_alone():
    """They share one compiled model, of which each has its copy: instances change theirs."""
    rng = np.random.default_rng(0)
    actions = rng.normal(0, 0.05, (40, 23)).astype(np.float32)
    together = Worlds([make_twin(), make_twin()])
    together.reset({0: (3, 0, 0), 1: (7, 0, 0)})
    for action in actions:
        together.step({0: action, 1: -action})
    for n, (instance, sign) in enumerate([(3, 1), (7, -1)]):
        lone = make_twin()
        lone.reset(instance, 0, 0)
        for action in actions:
            lone.step(sign * action)
        assert np.array_equal(lone._data.qpos, together.envs[n]._data.qpos)
        assert np.array_equal(lone._model.body_pos, together.envs[n]._model.body_pos)
        assert np.array_equal(lone._model.mat_rgba, together.envs[n]._model.mat_rgba)
    shifted = together.envs[0]._model.body_pos != together.envs[1]._model.body_pos
    assert shifted.any()


@pytest.fixture(scope="module")
def tiny(tiny_v4):
    policy = make_policy(CHECKPOINT, CheckpointRequest(ckpt=str(tiny_v4), device="cpu"))
    yield policy
    policy.close()


class Lent(Policy):
    """A policy that its run must not close; counts its calls."""

    stateless = True

    def __init__(self, policy, calls):
        self._policy, self.calls = policy, calls
        self.name, self.chunk_length = policy.name, policy.chunk_length

    def reset(self, episode):
        self._policy.reset(episode)

    def infer(self, observation):
        return self._policy.infer(observation)

    def infer_batch(self, queries: list[Query]):
        self.calls.append(len(queries))
        return self._policy.infer_batch(queries)


@pytest.mark.slow
def test_a_checkpoint_shared_by_eight_worlds_is_called_once_a_round(tiny, tmp_path):
    """In a batch sums round otherwise: 1e-5 was seen in 20 steps, 2e-4 in 40; 1e-3 is allowed."""
    calls = []
    options = {"max_steps": 19}
    run(tmp_path / "eight", partial(Lent, tiny, calls), 8, num_envs=8, **options)
    run(tmp_path / "one", partial(Lent, tiny, []), 2, **options)
    assert calls == [8, 8]
    ours, theirs = traces(tmp_path / "eight"), traces(tmp_path / "one")
    assert (len(ours), len(theirs)) == (8, 2)
    for name, expected in theirs.items():
        for column in expected.columns.drop(CHECKSUMS):  # of what was rounded
            if expected[column].dtype.kind == "f":
                np.testing.assert_allclose(
                    ours[name][column], expected[column], atol=1e-3, err_msg=column
                )
            else:
                assert ours[name][column].equals(expected[column]), column


@pytest.mark.slow
def test_each_world_of_a_shared_checkpoint_gets_the_chunk_it_would_get_alone(tiny, episode):
    env = make_twin()
    queries = []
    for n in range(3):
        env.reset(n, 0, 0)
        queries.append(
            Query(observation=env.observe(), instruction=episode.instruction, seed=100 + n)
        )
    env.close()
    together = tiny.infer_batch(queries)
    for n, query in enumerate(queries):
        (lone,) = tiny.infer_batch([query])
        np.testing.assert_allclose(together[n].actions, lone.actions, atol=1e-4)
        assert replace(together[n].skill, probability=None) == replace(lone.skill, probability=None)
        assert not np.allclose(lone.actions, together[(n + 1) % 3].actions, atol=1e-2)
