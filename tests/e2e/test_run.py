"""The command line on the real twin: the first command, its replay, and runs that are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from begun import wait_until_begun
from expert_episodes import ExpertEpisodes

CLI = "from b1k_eval.cli.main import main; main()"
EPISODES = 3
LONGER = ("--policy", "random", "--instances", "0-2", "--max-steps", "450", "--video-fps", "1")
EPISODE_S = 0.25  # well below the time of one such episode, so that a kill finds it running


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLI, "run", "--task", "31", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, expect: int = 0) -> str:
    process = start(*arguments)
    out, err = process.communicate(timeout=600)
    assert process.returncode == expect, err
    return out


def content(folder: Path) -> dict[str, object]:
    """Everything in a run folder but wall times, when it was made, and the videos' bytes."""
    found: dict[str, object] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.name == "result.json":
            record = json.loads(path.read_text())
            del record["timing"]
            found[name] = record
        elif path.suffix == ".parquet":
            found[name] = pd.read_parquet(path).drop(columns="latency_s").to_json()
        elif path.name == "episodes.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [(line["instance"], line["rollout"], line["outcome"]) for line in lines]
        elif path.name == "run.json":
            found[name] = json.loads(path.read_text())["identity"]
        else:
            found[name] = path.stat().st_size > 0
    return found


@pytest.mark.slow
def test_the_first_command_succeeds_and_its_recorded_actions_succeed_again(
    tmp_path: Path, expert_episode: ExpertEpisodes
):
    told = json.loads(
        run("--policy", "expert", "--out", str(tmp_path / "run"), "--video-fps", "1", "--json")
    )
    folder = tmp_path / "run" / "episodes" / "clean_boxing_gloves-0-0"
    result = json.loads((folder / "result.json").read_text())
    assert result["outcome"] == "success"
    assert result["q_score"] == 1.0
    assert result["privileged"] is True
    assert (folder / "video.mp4").stat().st_size > 50_000
    assert str(tmp_path / "run") in json.dumps(told)

    trace = pd.read_parquet(folder / "trace.parquet")
    washed = trace["subgoal:washer_turned_on"].to_numpy()
    assert (trace["q_score"].to_numpy()[~washed] == 0.0).all()
    assert trace["q_score"].iloc[-1] == 1.0
    here = expert_episode("2026", 0).trace  # of another process, without a video
    pd.testing.assert_frame_equal(
        trace.drop(columns="latency_s"), here.drop(columns="latency_s"), check_exact=True
    )

    replay = f"replay:{folder / 'trace.parquet'}"
    run("--policy", replay, "--no-video", "--out", str(tmp_path / "again"))
    again = tmp_path / "again" / "episodes" / "clean_boxing_gloves-0-0" / "result.json"
    repeated = json.loads(again.read_text())
    assert (repeated["outcome"], repeated["steps"]) == ("success", result["steps"])
    assert repeated["privileged"] is False


@pytest.mark.slow
def test_a_run_killed_at_a_random_moment_ends_like_an_uninterrupted_one(tmp_path: Path):
    run(*LONGER, "--out", str(tmp_path / "whole"))
    whole = content(tmp_path / "whole")
    moments = random.Random(31)
    folder = tmp_path / "killed"
    process = start(*LONGER, "--out", str(folder))
    assert process.stderr is not None
    # Killed some way into one of the episodes: seen to have begun, then a random while.
    wanted = moments.randint(1, EPISODES)
    wait_until_begun(process, folder, wanted)
    time.sleep(moments.uniform(0.0, EPISODE_S))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it had already ended: nothing was tested"
    run(*LONGER, "--out", str(folder), "--resume")
    assert content(folder) == whole


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path: Path):
    folder = tmp_path / "run"
    process = start("--policy", "hold", "--no-video", "--out", str(folder))
    wait_until_begun(process, folder)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in err
    lines = folder / "episodes.jsonl"
    assert not lines.exists() or lines.read_text() == ""
