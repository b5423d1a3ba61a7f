"""Several episodes at once in one simulator come out as they would one after another."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from doubles import DrivePolicy, ToyEnv
from stuck_worlds import run_stuck

from b1k_eval.records.run_files import read_episodes
from b1k_eval.run.lanes import LanePolicy, lane_policies
from b1k_eval.run.watchdog import Limits
from b1k_policies.base import ActionChunk
from b1k_policies.registry import CHECKPOINT, make_policy
from b1k_policies.xvla.files.checkpoint import CheckpointRequest


def contents(folder):
    """Results and traces of a run, without wall times."""
    found = {}
    for path in sorted((folder / "episodes").rglob("*.*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".parquet":
            found[name] = pd.read_parquet(path).drop(columns="latency_s").to_json()
        else:
            found[name] = {**json.loads(path.read_text()), "timing": None}
    return found


def outcomes(folder):
    return {key.instance: line for key, line in read_episodes(folder).items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run with one env a process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run_stuck(folder, 7)
    return contents(folder)


@pytest.mark.parametrize(("lanes", "workers"), [(3, 1), (2, 2), (8, 1)])
def test_lanes_give_the_same_run_as_one_env_a_process(tmp_path, alone, lanes, workers):
    store, _ = run_stuck(tmp_path / "run", 7, lanes=lanes, workers=workers)
    assert contents(tmp_path / "run") == alone
    assert [key.instance for key in store.episodes] == list(range(7))


def test_a_batch_runs_in_one_process_and_so_does_the_next(tmp_path):
    marker = tmp_path / "built"
    run_stuck(tmp_path / "run", 7, lanes=3, marker=str(marker))
    processes = marker.read_text().split()
    assert len(processes) == 3  # the lanes of one group, for all three batches
    assert len(set(processes)) == 1


def test_an_error_in_one_lane_leaves_the_others_their_results(tmp_path, alone):
    folder, marker = tmp_path / "run", tmp_path / "built"
    options = {"phase": "step", "how": "raise", "instances": [1], "marker": str(marker)}
    run_stuck(folder, 6, lanes=3, **options)
    lines = outcomes(folder)
    assert [lines[i]["outcome"] == "error" for i in range(6)] == [False, True, *[False] * 4]
    assert len(set(marker.read_text().split())) == 2  # the second batch has a new process
    run_stuck(folder, 7, lanes=3)
    assert contents(folder) == alone


@pytest.mark.parametrize("how", ["exit", "abort", "hang"])
def test_a_simulator_that_dies_under_its_lanes_costs_that_batch(tmp_path, alone, how):
    """`exit` in a lane's thread is that job's own end: only native code ends the process."""
    folder = tmp_path / "run"
    limits = Limits(step_s=1.5)
    run_stuck(folder, 7, lanes=3, limits=limits, phase="step", how=how, instances=[4])
    lines = outcomes(folder)
    errors = [i for i in range(7) if lines[i]["outcome"] == "error"]
    if how == "hang":
        assert all("a control step took longer than 1.5 s" in lines[i]["message"] for i in errors)
    assert 4 in errors
    assert set(errors) <= {3, 4, 5}
    run_stuck(folder, 7, lanes=3)
    assert contents(folder) == alone


def test_a_group_that_cannot_be_built_makes_errors_of_its_batch(tmp_path):
    run_stuck(tmp_path / "run", 2, lanes=2, phase="start", how="memory")
    for line in outcomes(tmp_path / "run").values():
        assert line["outcome"] == "error"
        assert line["message"].startswith("HostFaultError: out of memory")


def test_lanes_share_one_checkpoint_and_each_gets_the_chunks_it_would_get_alone(tiny_v4, episode):
    request = CheckpointRequest(ckpt=str(tiny_v4), device="cpu")
    loads = []

    def load():
        loads.append(1)
        return make_policy(CHECKPOINT, request)

    def start(number):
        return replace(episode, instance=number, seed=100 + number)

    def seen(number, step):
        env = ToyEnv()
        env.reset(0, 0, 0)
        env.step_count = 40 * number + step  # the shade of its pictures
        return env.observe()

    lanes, close = lane_policies(load, 3)
    try:
        for number, lane in enumerate(lanes):
            lane.reset(start(number))
        got = {}
        for step, number in [(0, 1), (0, 0), (10, 1), (0, 2), (10, 0), (20, 1), (10, 2)]:
            got[number, step] = lanes[number].infer(seen(number, step))
    finally:
        close()
    assert len(loads) == 1
    for number in range(3):
        alone = make_policy(CHECKPOINT, request)
        alone.reset(start(number))
        for step in sorted(step for n, step in got if n == number):
            expected = alone.infer(seen(number, step))
            assert np.array_equal(got[number, step].actions, expected.actions)
            assert got[number, step].skill == expected.skill
        alone.close()
    assert not np.array_equal(got[0, 0].actions, got[1, 0].actions)


def test_a_shared_checkpoint_is_asked_by_one_lane_at_a_time(episode):
    lock = threading.Lock()
    held = []

    class Shared:
        name, chunk_length, needs_images, skipped_rows, remarks = "shared", 1, False, 0, ()

        def infer_batch(self, queries):
            held.append(lock.locked())
            return [ActionChunk(actions=np.zeros((1, 23), dtype=np.float32)) for _ in queries]

    lanes = [LanePolicy(Shared(), lock) for _ in range(2)]
    for lane in lanes:
        lane.reset(episode)
        assert lane.infer(ToyEnv().observe(images=False)).latency_s is not None
    assert held == [True, True]
    assert not lock.locked()


def test_any_other_policy_is_built_for_each_lane():
    policies, close = lane_policies(DrivePolicy, 3)
    assert len({id(policy) for policy in policies}) == 3
    close()
    assert all(policy.closed for policy in policies)
