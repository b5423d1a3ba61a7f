"""How a run stands, seen from outside: `list`, and what a running process says of itself."""

from __future__ import annotations

import fcntl
import json
import os
import threading

import pytest
from run_folders import TASK, finished_run
from typer.testing import CliRunner

from b1k_envs.claims import claim, held
from b1k_eval.cli.main import app
from b1k_eval.records.episode import EpisodeKey
from b1k_eval.records.run_files import PROGRESS_FILE
from b1k_eval.records.state import read_state
from b1k_eval.run.progress.reporter import Reporter
from b1k_eval.run.progress.snapshot import EpisodeProgress
from b1k_eval.run.progress.telling import Telling

KEY = EpisodeKey(TASK, 3, 0)


@pytest.fixture
def run(tmp_path):
    """A run of four episodes whose last one is missing."""
    outcomes = {0: "success", 1: "failure", 2: "error", 3: "failure"}
    (tmp_path / "results").mkdir()
    run = finished_run(tmp_path / "results" / "run", outcomes)
    lines = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    (run / "episodes.jsonl").write_text("".join(lines[:3]))
    return run


def listed(*words):
    return CliRunner().invoke(app, ["list", *map(str, words)])


def under_way(run):
    """What a process that runs it has written when it is killed."""
    telling = Telling(Reporter(), run)
    telling.run_started(4, 3, 100, 1)
    telling.episode_started(KEY)
    telling._due = 0  # a second has passed
    telling.step(KEY, EpisodeProgress(40, 0.5, "open door", 0.2))
    return telling


def test_a_taken_lock_is_seen_and_looking_takes_nothing_away(tmp_path):
    path = tmp_path / ".lock"
    assert held(path) is False
    taken = claim(path)
    assert held(path) is True
    taken.close()
    assert held(path) is False
    claim(path).close()


def test_a_claim_waits_for_who_only_looks(tmp_path):
    path = tmp_path / ".lock"
    claim(path).close()
    with path.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.01, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        claim(path).close()


def test_states_are_told_apart_by_lock_lines_and_last_words(run):
    assert read_state(run).standing == "stopped"
    lock = claim(run / ".lock")
    under_way(run)
    state = read_state(run)
    assert (state.standing, state.done, state.planned) == ("running", 3, 4)
    assert state.progress["episodes"][0]["episode"] == KEY.folder
    assert (state.progress["episodes"][0]["step"], state.progress["max_steps"]) == (40, 100)
    lock.close()
    assert read_state(run).standing == "killed"
    under_way(run).close()
    assert read_state(run).standing == "stopped"
    assert not list(run.glob(f"{PROGRESS_FILE}*"))


def test_all_episodes_done_is_complete_whatever_was_last_said(tmp_path):
    run = finished_run(tmp_path / "run", {0: "success"})
    under_way(run)
    assert read_state(run).standing == "complete"


def test_list_has_counts_rate_and_state_of_every_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finished_run(tmp_path / "results" / "newer", {0: "success", 1: "success"})
    os.utime(run / "episodes.jsonl", (0, 0))
    (tmp_path / "results" / "note.txt").write_text("not a run")
    document = json.loads(listed("--json").stdout)
    assert [entry["run"] for entry in document["runs"]] == ["results/newer", "results/run"]
    told = document["runs"][1]
    assert told["counts"] == {"success": 1, "failure": 1, "error": 1}
    assert (told["success_rate"], told["mean_q_score"], told["planned"]) == (0.5, 0.5, 4)
    assert (told["state"], told["policy"], told["tasks"]) == ("stopped", "other", [TASK])
    shown = listed().stdout
    for words in ("results/newer", "2/2", "3/4", "50%", "100%", "d ago", TASK, "not a benchmark"):
        assert words in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_watching_ends_with_the_run_and_tells_each_change(run, monkeypatch):
    lock = claim(run / ".lock")

    def ended(_seconds):
        lock.close()

    monkeypatch.setattr("b1k_eval.cli.results.listing.sleep", ended)
    result = listed(run, "--watch")
    lines = [line for line in result.stderr.splitlines() if line]
    assert [line.rpartition(", ")[2] for line in lines] == ["running", "stopped"]
    assert "3 of 4 episodes, 1 success, 1 failure, 1 error" in lines[0]


def test_a_damaged_run_is_said_and_the_others_are_listed(run, tmp_path):
    finished_run(tmp_path / "results" / "other", {0: "success"})
    (run / "run.json").write_text("{")
    result = listed(tmp_path / "results", "--json")
    assert [entry["run"][-5:] for entry in json.loads(result.stdout)["runs"]] == ["other"]
    assert "run.json is damaged" in result.stderr


def test_no_run_and_no_folder_are_wrong_usage(tmp_path):
    assert "there is no run in" in listed(tmp_path).stderr
    nowhere = listed(tmp_path / "nowhere")
    assert nowhere.exit_code == 2
    assert "cannot be read (No such file or directory)" in nowhere.stderr
    assert "do not go together" in listed(tmp_path, "--watch", "--json").stderr
