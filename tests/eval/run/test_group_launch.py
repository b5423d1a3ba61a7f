"""Several episodes at once in one simulator come out as they would one after another."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from stuck_worlds import run_stuck

from b1k_eval.records.run_files import read_episodes
from b1k_eval.run.watchdog import CallLimits


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_envs", "workers", "independent"),
    [(3, 1, False), (3, 1, True), (2, 2, False), (8, 1, True)],
)
def test_several_envs_give_the_same_run_as_one_env_a_process(
    tmp_path, alone, num_envs, workers, independent
):
    store, _ = run_stuck(
        tmp_path / "run", 7, num_envs=num_envs, workers=workers, independent=independent
    )
    assert contents(tmp_path / "run") == alone
    assert [key.instance for key in store.episodes] == list(range(7))


def test_a_batch_runs_in_one_process_and_so_does_the_next(tmp_path):
    marker = tmp_path / "built"
    run_stuck(tmp_path / "run", 7, num_envs=3, marker=str(marker))
    processes = marker.read_text().split()
    assert len(processes) == 3  # its envs, for all three batches
    assert len(set(processes)) == 1


@pytest.mark.slow
def test_an_error_in_one_env_leaves_the_others_their_results(tmp_path, alone):
    folder, marker = tmp_path / "run", tmp_path / "built"
    options = {"phase": "step", "how": "raise", "instances": [1], "marker": str(marker)}
    run_stuck(folder, 6, num_envs=3, **options)
    lines = outcomes(folder)
    assert [lines[i]["outcome"] == "error" for i in range(6)] == [False, True, *[False] * 4]
    assert len(set(marker.read_text().split())) == 2  # the second batch has a new process
    run_stuck(folder, 7, num_envs=3)
    assert contents(folder) == alone


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exit", "hang"])
def test_a_simulator_that_dies_under_its_envs_costs_that_batch(tmp_path, alone, how):
    folder = tmp_path / "run"
    limits = CallLimits(step_s=1.5)
    run_stuck(folder, 7, num_envs=3, limits=limits, phase="step", how=how, instances=[4])
    lines = outcomes(folder)
    errors = [i for i in range(7) if lines[i]["outcome"] == "error"]
    if how == "hang":
        assert all("a control step took longer than 1.5 s" in lines[i]["message"] for i in errors)
    assert 4 in errors
    assert set(errors) <= {3, 4, 5}
    run_stuck(folder, 7, num_envs=3)
    assert contents(folder) == alone


def test_envs_that_cannot_be_built_makes_errors_of_its_batch(tmp_path):
    run_stuck(tmp_path / "run", 2, num_envs=2, phase="start", how="memory")
    for line in outcomes(tmp_path / "run").values():
        assert line["outcome"] == "error"
        assert line["message"].startswith("HostFaultError: out of memory")
