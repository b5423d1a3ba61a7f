"""SIGTERM, SIGUSR1, Ctrl-C, really sent: a word, an exit code, a document, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_folders import finished_run

from b1k_eval.cli import console
from b1k_eval.cli.main import VERBS
from b1k_eval.records.run_files import read_episodes

SCRIPT = Path(__file__).parents[2] / "support" / "stopped_verb.py"
RUN = ["run", "--task", "31", "--policy", "hold", "--no-video", "--max-steps", "1000000"]
WORDS = {
    signal.SIGTERM: ("terminated", "Terminated", 143),
    signal.SIGUSR1: ("told to end (SIGUSR1)", "TimeUp", 138),
    signal.SIGINT: ("interrupted", "KeyboardInterrupt", 130),
}


def start(folder, *arguments):
    """The verb, in a process group of its own; returns when it is at work."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line == "working\n":
            return process
    raise AssertionError("".join(seen))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "workers", "whole_group"),
    [
        (signal.SIGTERM, 1, False),
        (signal.SIGTERM, 2, False),
        (signal.SIGTERM, 2, True),
        (signal.SIGUSR1, 1, False),
        (signal.SIGUSR1, 2, True),  # Slurm sends it to every process of a step
        (signal.SIGINT, 1, True),  # a terminal's Ctrl-C goes to the group
        (signal.SIGINT, 2, True),
    ],
)
def test_a_run_that_is_stopped_says_so_and_can_be_gone_on_with(
    tmp_path, stop, workers, whole_group
):
    options = ["--workers", str(workers), "--instances", "0-3", "--out", "r", "--json"]
    process = start(tmp_path, *RUN, *options)
    (os.killpg if whole_group else os.kill)(process.pid, stop)
    # Returns when the last holder of the pipes is gone, so it waits for the workers as well.
    told, errors = process.communicate(timeout=60)
    word, _, code = WORDS[stop]
    assert process.returncode == code, errors
    assert f"{word}; go on with: b1k-eval run --resume --out r\n" in errors
    assert "Traceback" not in errors
    document = json.loads(told)
    assert (document["interrupted"], document["counts"]["error"]) == (True, 0)
    assert not list((tmp_path / "r" / "episodes").iterdir())
    assert read_episodes(tmp_path / "r") == {}
    again = start(tmp_path, "run", "--resume", "--out", "r", "--workers", "1")
    again.kill()
    again.communicate()


OTHERS = {
    "smoke": ["--sim", "mujoco", "--policy", "hold"],
    "compare": ["run", "run"],
    "merge": ["run"],
    "list": ["run"],
    "record": ["run", "--to", "data"],
    "view": ["run", "--no-open"],
    "published": [],
    "report": ["run"],
    "serve": ["--policy", "hold", "--port", "0"],
    "inspect": ["ckpt"],
    "check-policy": ["hold"],
    "doctor": [],
    "export": ["run", "--track", "standard", "--team", "T", "--affiliation", "A"],
    "import": ["run"],
    "tasks": [],
    "contract": ["v4"],
    "convert": ["run"],
    "qualify": [],
    "prove": ["--task", "31", "--policy", "hold"],
    "stress": ["--task", "31", "--policy", "hold"],
    "loading": [],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "stop"), [*((verb, signal.SIGTERM) for verb in OTHERS), ("tasks", signal.SIGUSR1)]
)
def test_every_verb_that_is_stopped_says_so_in_a_word_a_code_and_a_document(tmp_path, verb, stop):
    finished_run(tmp_path / "run", {0: "success", 1: "failure"})
    process = start(tmp_path, verb, *OTHERS[verb], "--json")
    process.send_signal(stop)
    told, errors = process.communicate(timeout=60)
    word, kind, code = WORDS[stop]
    assert process.returncode == code, errors
    assert errors.splitlines()[-1] == f"error: {word}"
    assert "Traceback" not in errors
    error = {"type": kind, "message": word, "exit_code": code}
    assert json.loads(told) == {"error": error}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_no_verb_is_left_out():
    assert {*OTHERS, "run", "replay"} - {"loading"} == set(VERBS)


@pytest.mark.slow
def test_a_replay_that_is_terminated_says_so(tmp_path):
    process = start(tmp_path, *RUN, "--max-steps", "20", "--out", "r")
    process.communicate(timeout=60)
    assert process.returncode == 0
    replay = start(tmp_path, "replay", "r", "0", "--json")
    replay.send_signal(signal.SIGTERM)
    told, errors = replay.communicate(timeout=60)
    assert (replay.returncode, errors.splitlines()[-1]) == (143, "error: terminated")
    assert json.loads(told)["error"]["exit_code"] == 143


SAME_SECOND = """
import pathlib, stopped_verb
import b1k_eval.cli.running.preparing as preparing
preparing.proposed_folder = lambda _: pathlib.Path("results/20260101-000000-hold")
stopped_verb.main()
"""


@pytest.mark.slow
def test_six_runs_of_the_same_second_get_six_folders(tmp_path):
    command = [sys.executable, "-c", SAME_SECOND, *RUN[:-1], "2"]
    surroundings = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    runs = [
        subprocess.Popen(command, cwd=tmp_path, env=surroundings, stderr=subprocess.DEVNULL)
        for _ in range(6)
    ]
    assert [run.wait(timeout=120) for run in runs] == [0] * 6
    folders = list((tmp_path / "results").iterdir())
    assert len(folders) == 6
    assert all(len(read_episodes(folder)) == 1 for folder in folders)


@pytest.mark.slow
def test_a_second_sigterm_of_the_same_wish_does_not_spoil_the_end(tmp_path):
    process = start(tmp_path, *RUN, "--workers", "2", "--instances", "0-3", "--out", "r")
    for _ in range(20):  # as from somebody who tells process and group, and tells them twice
        process.send_signal(signal.SIGTERM)
        time.sleep(0.005)
        if process.poll() is not None:
            break
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "terminated; go on with: b1k-eval run --resume --out r\n" in errors
    assert not list((tmp_path / "r" / "episodes").iterdir())


def test_who_ignores_sigterm_goes_on_ignoring_it(tmp_path):
    command = f"trap '' TERM; exec {sys.executable} {SCRIPT} tasks"
    process = subprocess.Popen(
        ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr.readline() == "working\n"
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.kill()
    process.communicate()


def test_a_library_that_raises_a_plain_interrupt_does_not_hide_the_signal():
    with pytest.raises(KeyboardInterrupt) as caught, console.hearing_signals():  # noqa: PT012
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
        except console.TimeUp:
            raise KeyboardInterrupt from None  # as Ray's `wait` does
    told = console.stop_word(caught.value), console.stop_code(caught.value)
    assert told == ("told to end (SIGUSR1)", 138)
    with console.hearing_signals():
        assert console.stop_code(KeyboardInterrupt()) == 130
