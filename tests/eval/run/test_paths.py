"""Paths as people type them: with `~`, from elsewhere, and of bytes that are no text."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from doubles import make_toy_env
from hypothesis import given
from hypothesis import strategies as st
from report_runs import make_run
from run_folders import finished_run
from typer.testing import CliRunner

from b1k_eval.cli.console import shell_word
from b1k_eval.cli.main import app
from b1k_eval.records.run_files import read_episodes
from b1k_eval.run import simulators
from b1k_policies.options import at_home

BASE = ["run", "--task", "31", "--no-video", "--max-steps", "12", "--horizon", "5"]
HUMAN = {
    "task_index": 31, "length": 8000.5, "distance_traveled": 20.0,
    "left_eef_displacement": 60.0, "right_eef_displacement": 70.0,
}  # fmt: skip


@pytest.fixture
def cli(monkeypatch, tmp_path):
    """Runs the app with the toy env, in a folder of its own that is also the home."""
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    rows = np.zeros((10, 23), dtype=np.float32)
    rows[:, 0] = 1.0
    np.save(tmp_path / "drive.npy", rows)
    (tmp_path / "task.jsonl").write_text(json.dumps(HUMAN) + "\n")
    (tmp_path / "elsewhere").mkdir()
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def error_line(result):
    (line,) = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    return line.removeprefix("error: ")


def forgotten(folder, number=1):
    """As if the last episodes of a run had not been done."""
    file = folder / "episodes.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-number]))


# --- from elsewhere -------------------------------------------------------------------------------


def test_a_run_is_resumed_from_another_folder_whatever_it_was_given(cli, tmp_path, monkeypatch):
    finished_run(tmp_path / "other", {0: "failure", 1: "failure"}, max_steps=12)
    given_files = ["--policy", "replay:drive.npy", "--human-stats", "task.jsonl"]
    result = cli(*BASE, *given_files, "--instances", "0-1", "--out", "r")
    assert result.exit_code == 0, result.output
    settings = json.loads((tmp_path / "r" / "run.json").read_text())["identity"]["settings"]
    assert settings["policy"] == f"replay:{tmp_path / 'drive.npy'}"
    assert settings["human_stats"] == str(tmp_path / "task.jsonl")
    forgotten(tmp_path / "r")
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = cli("run", "--resume", "--out", "../r")
    assert result.exit_code == 0, result.output
    assert len(read_episodes(tmp_path / "r")) == 2
    same = ["--policy", "replay:../drive.npy", "--human-stats", "../task.jsonl"]
    assert cli("run", "--resume", "--out", "../r", *same).exit_code == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []


def made_by_an_older_version(folder):
    """A run folder as they were when files were recorded as they had been typed."""
    file = folder / "run.json"
    record = json.loads(file.read_text())
    identity = record["identity"]
    identity["settings"].update(policy="replay:drive.npy", human_stats="task.jsonl")
    identity["policy"].update(name="replay:drive.npy", file="drive.npy")
    file.write_text(json.dumps(record))
    forgotten(folder)


def test_a_run_that_recorded_a_relative_file_is_resumed_where_it_was_started(
    cli, tmp_path, monkeypatch
):
    given_files = ["--policy", "replay:drive.npy", "--human-stats", "task.jsonl"]
    assert cli(*BASE, *given_files, "--out", "r").exit_code == 0
    made_by_an_older_version(tmp_path / "r")
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = cli("run", "--resume", "--out", "../r")
    assert (result.exit_code, error_line(result)) == (
        2,
        "--policy replay:drive.npy is what this run has recorded, relative to the folder it was "
        "started in, and is not in this one: resume it from there",
    )
    monkeypatch.chdir(tmp_path)  # as it says
    assert cli("run", "--resume", "--out", "r").exit_code == 0
    forgotten(tmp_path / "r")
    result = cli("run", "--resume", "--out", "r", *given_files)
    assert result.exit_code == 0, result.output
    assert len(read_episodes(tmp_path / "r")) == 1


def test_another_file_of_the_same_name_is_another_setting(cli, tmp_path):
    assert cli(*BASE, "--policy", "replay:drive.npy", "--out", "r").exit_code == 0
    np.save(tmp_path / "elsewhere" / "drive.npy", np.zeros((3, 23), dtype=np.float32))
    result = cli("run", "--resume", "--out", "r", "--policy", "replay:elsewhere/drive.npy")
    assert result.exit_code == 2
    assert "settings.policy" in error_line(result)


# --- home -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_tilde_that_no_shell_has_resolved_is_the_home_in_every_verb(cli, tmp_path):
    """As in `--out=~/r` and `replay:~/x`, which bash hands over as they are."""
    given_files = ["--policy", "replay:~/drive.npy", "--human-stats", "~/task.jsonl"]
    result = cli(*BASE, *given_files, "--out", "~/r")
    assert result.exit_code == 0, result.output
    finished_run(tmp_path / "a", {0: "failure"})
    finished_run(tmp_path / "b", {0: "success"})
    assert cli("compare", "~/a", "~/b").exit_code == 0
    assert cli("report", "~/a", "--out", "~/page").exit_code == 0
    assert cli("replay", "~/r", "0").exit_code in (0, 1)
    assert cli("contract", "v4", "--json").exit_code == 0
    (tmp_path / "v4.json").write_text(json.dumps(_contract(cli)))
    assert cli("contract", "~/v4.json").exit_code == 0
    assert cli("doctor", "--out", "~/results", "--json").exit_code in (0, 4)
    assert not [path for path in tmp_path.rglob("~*")]
    places = {
        ("inspect", "~/no", "--json"): 2,
        ("contract", "~/no/such"): 2,
        ("export", "~/no", "--track", "standard", "--team", "T", "--affiliation", "A"): 2,
        ("import", "~/no"): 2,
        ("run", "--task", "31", "--ckpt", "~/no/checkpoint"): 2,
        ("convert", "~/no/checkpoint"): 2,
    }
    for words, code in places.items():
        result = cli(*words)
        assert result.exit_code in (code, 4), result.output
        assert str(tmp_path / "no") in " ".join(result.output.split()), result.output


def _contract(cli):
    return json.loads(cli("contract", "v4", "--json").stdout)["contract"]


def test_a_name_that_begins_with_a_tilde_and_is_nobodys_home_stays():
    assert at_home("~nobody-of-this-name/x") == "~nobody-of-this-name/x"
    assert at_home("a/~/b") == "a/~/b"


# --- bytes that are no text -----------------------------------------------------------------------

STRANGE = os.fsdecode(b"caf\xe9 [bold] \xff")


@pytest.mark.slow
def test_a_run_in_a_folder_whose_name_is_no_text_works_with_every_verb(cli, tmp_path, monkeypatch):
    home = tmp_path / STRANGE
    home.mkdir()
    monkeypatch.chdir(home)
    (home / "drive.npy").write_bytes((tmp_path / "drive.npy").read_bytes())
    for name, policy in (("a", "replay:drive.npy"), ("b", "hold")):
        result = cli(*BASE, "--policy", policy, "--out", home / name, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["run"] == str(home / name)
    trace = home / "a" / "episodes" / "clean_boxing_gloves-0-0" / "trace.parquet"
    result = cli(*BASE, "--policy", f"replay:{trace}", "--out", home / "c", "--workers", "2")
    assert result.exit_code == 0, result.output
    for words in (
        ["run", "--resume", "--out", home / "c"],
        ["compare", home / "a", home / "b"],
        ["replay", home / "a", "0"],
    ):
        result = cli(*words)
        assert result.exit_code == 0, (words, result.output)


@pytest.mark.slow
def test_a_run_whose_name_is_no_text_is_filmed_and_has_a_page(cli, tmp_path):
    one, two = (make_run(tmp_path / f"{STRANGE}{n}", instances="0,1") for n in (1, 2))
    every = ["--csv", "--markdown", "--parquet", "--figures", "svg"]
    for words in (
        ["report", one, two, "--out", tmp_path / STRANGE, *every],
        ["report", one, "--copy-videos", "--json"],
        ["compare", one, two, "--json"],
    ):
        result = cli(*words)
        assert result.exit_code == 0, (words, result.output, result.exception)
    assert (one / "episodes" / "clean_boxing_gloves-0-0" / "video.mp4").stat().st_size > 0
    page = (tmp_path / STRANGE / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")


def test_a_command_to_go_on_with_can_be_pasted_into_a_shell():
    folder = os.fsencode(STRANGE)
    said = shell_word(Path(STRANGE))
    command = ["bash", "-c", f"printf %s {said}"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == folder


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_a_path_that_is_text_is_one_word_of_a_shell(name):
    assert shlex.split(shell_word(Path("/") / name.replace("/", "-"))) == [
        str(Path("/") / name.replace("/", "-"))
    ]


def test_what_a_library_cannot_open_for_its_name_is_said(tmp_path):
    code = (
        "import sys; from b1k_eval.cli import main, tasks\n"
        "word = sys.argv[1]\n"
        "tasks._record = lambda _: word.encode()\n"
        "sys.argv = ['b1k-eval', 'tasks', '--json']; main.main()"
    )
    command = [sys.executable, "-c", code, STRANGE]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 2, done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "UsageError"
    assert "has bytes that are no UTF-8 text, " in error["message"]
    assert error["message"].endswith("rename it, or give a link to it with a plain name")
