"""The world goes on while the policy thinks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from b1k_envs.errors import UsageError
from b1k_eval.cli.main import app
from b1k_eval.loop.chunking import RecedingHorizon
from b1k_eval.loop.realtime import RealTime, delay_steps

HOLD = np.full(23, 7.0, dtype=np.float32)


def chunk(start: int, length: int) -> np.ndarray:
    """Rows that say which question they answer, and which step they are meant for."""
    rows = np.zeros((length, 23), dtype=np.float32)
    rows[:, 0] = 1  # the base moves
    rows[:, 3] = start
    rows[:, 4] = start + np.arange(length)
    return rows


def play(strategy, steps, length, latency=0.0):
    """(question answered, step meant for, base speed) of every executed action."""
    strategy.reset()
    if strategy.needs_hold:
        strategy.hold(HOLD)
    done, asked = [], []
    for step in range(steps):
        if strategy.wants_inference(step):
            asked.append(step)
            strategy.add(step, chunk(step, length), latency)
        action = strategy.action(step)
        done.append((int(action[3]), int(action[4]), float(action[0])))
    return done, asked


@pytest.mark.parametrize(
    ("latency_ms", "steps"),
    [(0, 0), (1, 1), (33.3, 1), (34, 2), (100, 3), (100.1, 4), (333, 10), (1000, 30)],
)
def test_a_latency_counts_in_control_steps_rounded_up(latency_ms, steps):
    assert delay_steps(latency_ms / 1e3) == steps


@given(horizon=st.integers(1, 30), steps=st.integers(1, 90))
def test_without_latency_it_is_the_receding_horizon(horizon, steps):
    now = play(RealTime(horizon, 30, 0.0), steps, 30)
    assert now == play(RecedingHorizon(horizon, 30), steps, 30)


@given(horizon=st.integers(1, 30), delay=st.integers(0, 40), steps=st.integers(1, 120))
def test_a_robot_that_is_not_stalled_does_what_was_meant_for_the_moment(horizon, delay, steps):
    strategy = RealTime(horizon, 30, delay / 30)
    done, asked = play(strategy, steps, 30)
    # Written from the rule alone: the newest chunk that has arrived, at the row of this moment.
    arrivals = {start: start + delay for start in asked}
    stalled = 0
    for step, (source, meant, speed) in enumerate(done):
        there = [start for start, arrival in arrivals.items() if arrival <= step]
        if there and step - max(there) < 30:
            assert (source, meant, speed) == (max(there), step, 1.0)
        else:
            stalled += 1
            assert speed == 0.0
            assert meant < step or meant == 7
    assert strategy.stalled == stalled
    between = np.diff(asked)
    assert (between == max(horizon, delay)).all()


def test_until_the_first_chunk_arrives_the_robot_holds_still():
    done, _ = play(RealTime(10, 30, 0.1), 4, 30)
    assert done[:3] == [(7, 7, 0.0)] * 3
    assert done[3] == (0, 3, 1.0)


def test_a_chunk_that_runs_out_leaves_the_joints_and_stops_the_base():
    strategy = RealTime(4, 4, 0.2)  # 6 steps of thinking, 4 actions a chunk
    done, asked = play(strategy, 14, 4)
    assert asked == [0, 6, 12]
    assert done[12] == (7, 7, 0.0)  # every answer is too old when it comes
    assert strategy.stalled == 14


def test_a_measured_latency_is_that_of_each_inference():
    strategy = RealTime(5, 30, None)
    done, asked = play(strategy, 20, 30, latency=0.2)
    assert done == play(RealTime(5, 30, 0.2), 20, 30)[0]
    assert asked == [0, 6, 12, 18]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 30, 0.1), "--horizon 0"),
        ((31, 30, 0.1), "--horizon 31"),
        ((10, 30, -0.1), "--latency -100"),
        ((10, 30, float("nan")), "--latency nan"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, words):
    with pytest.raises(UsageError, match=words):
        RealTime(*arguments)


# --- whole runs -----------------------------------------------------------------------------

FAST = ("--task", "31", "--policy", "random", "--max-steps", "40", "--no-video", "--sim", "mujoco")


def cli(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


def trace(folder: Path):
    import pandas as pd

    return pd.read_parquet(folder / "episodes" / "clean_boxing_gloves-0-0" / "trace.parquet")


@pytest.mark.slow
def test_a_run_with_latency_0_is_the_synchronous_run(tmp_path):
    assert cli("run", *FAST, "--out", tmp_path / "sync").exit_code == 0
    realtime = ("--mode", "realtime", "--latency", "0")
    assert cli("run", *FAST, *realtime, "--out", tmp_path / "now").exit_code == 0
    one, two = trace(tmp_path / "sync"), trace(tmp_path / "now")
    same = [name for name in one.columns if "latency" not in name]
    assert "action_0" in same
    assert one[same].equals(two[same])


def test_a_run_holds_still_until_the_first_answer_and_says_how_long_it_stalled(tmp_path):
    done = cli(
        "run", *FAST, "--mode", "realtime", "--latency", "200", "--out", tmp_path, "--horizon", 12
    )
    assert done.exit_code == 0, done.output
    steps = trace(tmp_path)
    assert steps["step"][steps["inference"]].tolist() == [1, 13, 25, 37]
    first = steps[[f"action_{i}" for i in range(23)]].to_numpy()
    assert (first[:6] == first[0]).all()
    assert (first[0, :3] == 0).all()
    assert (first[0, [14, 22]] == 1).all()
    assert (first[6] != first[5]).any()
    episode = tmp_path / "episodes" / "clean_boxing_gloves-0-0" / "result.json"
    assert json.loads(episode.read_text())["stalled_steps"] == 6
    settings = json.loads((tmp_path / "run.json").read_text())["identity"]["settings"]
    assert (settings["mode"], settings["latency"]) == ("realtime", "200")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--latency", "100"), "--latency goes with --mode realtime"),
        (("--mode", "realtime", "--latency", "soon"), "--latency soon is neither a time in ms"),
        (("--mode", "realtime", "--latency", "-5"), "--latency -5 is neither"),
        (("--mode", "realtime", "--chunking", "ensemble"), "not --chunking ensemble"),
        (("--gpus", "0"), "--gpus is for OmniGibson"),
        (("--mode", "lazy"), "choose one of sync, realtime"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, options, words):
    done = cli("run", *FAST, *options, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


@pytest.mark.slow
def test_a_run_from_before_there_was_a_mode_compares_as_synchronous(tmp_path):
    from b1k_eval.comparison.comparable import differences
    from b1k_eval.records.loading import read_run_data

    assert cli("run", *FAST, "--out", tmp_path / "new").exit_code == 0
    assert cli("run", *FAST, "--out", tmp_path / "old").exit_code == 0
    record = json.loads((tmp_path / "old" / "run.json").read_text())
    for name in ("mode", "latency", "track"):
        del record["identity"]["settings"][name]
    (tmp_path / "old" / "run.json").write_text(json.dumps(record))
    runs = [read_run_data(tmp_path / name) for name in ("new", "old")]
    assert differences(*runs).notable == ()
    assert cli("run", "--resume", "--out", tmp_path / "old").exit_code == 0


@pytest.mark.slow
def test_a_latency_that_no_chunk_outlasts_is_said_before_the_run(tmp_path):
    slow = ("--mode", "realtime", "--latency", "1000")
    done = cli("run", *FAST, *slow, "--out", tmp_path)
    assert done.exit_code == 0
    assert "every chunk comes too late, and the robot will not move" in done.output
    changed = cli("run", "--resume", "--out", tmp_path, "--mode", "sync")
    assert changed.exit_code == 2
    assert 'settings.mode "realtime" -> "sync"' in changed.output
