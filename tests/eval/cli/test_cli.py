"""The command line: exact messages, exit codes, and what goes to which stream."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import doubles
import numpy as np
import pytest
from begun import wait_until_begun
from doubles import BreakingEnv, RaisingPolicy, ToyEnv, make_toy_env
from rich.console import Console
from typer.testing import CliRunner

import b1k_eval
from b1k_envs.errors import ContractMismatchError, UnavailableError
from b1k_eval.cli.main import app, command
from b1k_eval.cli.running.smoke import check_determinism, check_observation
from b1k_eval.records import store
from b1k_eval.records.episode import EpisodeKey, EpisodeRecord
from b1k_eval.records.run_files import read_episodes
from b1k_eval.run import policies, session, simulators
from b1k_eval.run.progress.displays import LiveReporter, PlainReporter
from b1k_eval.run.progress.reporter import duration
from b1k_eval.run.progress.snapshot import EpisodeProgress

BASE = ["run", "--task", "31", "--policy", "hold", "--no-video", "--max-steps", "5"]


@pytest.fixture
def cli(monkeypatch, tmp_path):
    """Runs the app with the toy env, in a folder of its own."""
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(a) for a in arguments])


def human_means(file):
    """A line of the evaluator's metadata/task.jsonl."""
    line = {
        "task_index": 31,
        "length": 8000.5,
        "distance_traveled": 20.0,
        "left_eef_displacement": 60.0,
        "right_eef_displacement": 70.0,
    }
    file.write_text(json.dumps(line) + "\n")


@pytest.fixture
def drive(tmp_path):
    """A recording that succeeds in ten steps."""
    rows = np.zeros((10, 23), dtype=np.float32)
    rows[:, 0] = 1.0
    np.save(tmp_path / "drive.npy", rows)
    return "replay:drive.npy"


def error_line(result):
    (line,) = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    return line.removeprefix("error: ")


def test_a_run_ends_with_a_table_and_where_things_lie(cli, drive, tmp_path):
    result = cli(*BASE, "--policy", drive, "--max-steps", 30, "--instances", "0-1", "--out", "r")
    assert result.exit_code == 0, result.output
    assert "2 success, 0 failure, 0 error; success rate 100%, mean q 1.00 over 2 scored" in (
        result.stdout
    )
    assert "time limit" not in result.stdout
    assert "not a benchmark score" in result.stdout
    (_, *places) = result.stdout[result.stdout.index("run     r") :].splitlines()
    assert places == [
        "result  r/episodes/clean_boxing_gloves-0-0/result.json",
        "trace   r/episodes/clean_boxing_gloves-0-0/trace.parquet",
        "next    b1k-eval report r",
    ]
    ended = [line for line in result.stderr.splitlines() if line.startswith("episode ")]
    assert [line[:44] for line in ended] == [
        "episode 1 of 2: clean_boxing_gloves-0-0 succ",
        "episode 2 of 2: clean_boxing_gloves-1-0 succ",
    ]
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    settings = record["identity"]["settings"]
    assert (settings["sim"], settings["horizon"], settings["render"]) == (
        "mujoco",
        10,
        "on-demand",
    )
    assert record["identity"]["privileged"] is False
    assert record["identity"]["env"]["sim_version"] == "toy"
    assert record["identity"]["b1k_eval"] == b1k_eval.__version__
    assert record["sessions"][0]["versions"]["b1k-eval"] == b1k_eval.__version__


def test_a_time_limit_that_was_reached_is_said_to_give_a_step_more(cli):
    result = cli("run", "--task", 31, "--policy", "hold", "--no-video", "--max-steps", 3)
    assert "A time limit of 3 ends an episode after 4 steps." in result.stdout


def test_without_out_the_run_lands_in_results(cli, tmp_path):
    assert cli(*BASE).exit_code == 0
    (folder,) = (tmp_path / "results").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-clean_boxing_gloves-hold", folder.name)


def test_runs_started_in_the_same_second_get_a_folder_each(cli, tmp_path, monkeypatch):
    same = Path("results/20260101-000000-hold")
    monkeypatch.setattr("b1k_eval.cli.running.preparing.proposed_folder", lambda _: same)
    for _ in range(3):
        assert cli(*BASE).exit_code == 0
    names = sorted(folder.name for folder in (tmp_path / "results").iterdir())
    assert names == [f"20260101-000000-hold{suffix}" for suffix in ("", "-2", "-3")]
    assert all(len(read_episodes(folder)) == 1 for folder in (tmp_path / "results").iterdir())


def test_json_is_one_document_on_standard_output(cli):
    result = cli(*BASE, "--instances", "0,2", "--out", "r", "--json")
    document = json.loads(result.stdout)
    assert document["counts"] == {"success": 0, "failure": 2, "error": 0}
    assert document["success_rate"] == 0.0
    assert [line["instance"] for line in document["episodes"]] == [0, 2]
    assert document["episodes"][0]["folder"] == "r/episodes/clean_boxing_gloves-0-0"
    assert document["interrupted"] is False
    assert "2 episodes" in result.stderr


def test_json_of_an_error_is_one_document_too(cli):
    result = cli(*BASE, "--instances", "99", "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert (error["type"], error["exit_code"]) == ("UsageError", 2)
    assert error["message"] == error_line(result)


NO_TWIN = (
    "task 5 (setting_mousetraps) has no scene in the MuJoCo twin, which has: turning_on_radio, "
    "clean_boxing_gloves"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "clean_boxing_glove"], "there is no task 'clean_boxing_glove'"),
        (["--task", "100"], "there is no task 100: indices run from 0 to 99"),
        (["--task", "5"], NO_TWIN),
        (["--instances", "20"], "instance 20 is out of range: public-test has instances 0-19"),
        (["--instances", "0-"], "--instances '0-': '0-' is not a number or range; give numbers "),
        (["--instances", "3-1"], "--instances '3-1': the range 3-1 runs backwards"),
        (["--instances", "1,0-2"], "--instances '1,0-2': 1 is given twice"),
        (["--instances", "0-9999,3"], "--instances '0-9999,3': more than 10000 instances; no spl"),
        (["--instances", "0-999999999"], "--instances '0-999999999': more than 10000 instances"),
        (["--instances", "0-" + "9" * 5000], f"--instances '0-{'9' * 38}': no split has an index"),
        (["--horizon", "0"], "--horizon 0 must lie between 1 and the policy's chunk length, 30"),
        (["--horizon", "31"], "--horizon 31 must lie between 1 and the policy's chunk length, 30"),
        (["--policy", "holt"], "--policy 'holt' is unknown; did you mean hold? choose from expert"),
        (["--policy", "replay:no.npy"], "replay: there is no file /"),
        (["--rollouts", "0"], "--rollouts 0 must be at least 1"),
        (["--max-steps", "0"], "--max-steps 0 must be at least 1"),
        (["--seed", "-1"], "--seed -1 must be at least 0"),
        (["--workers", "0"], "--workers 0 must be at least 1"),
        (["--num-envs", "0"], "--num-envs 0 must be at least 1"),
        (["--gpus", "0,x"], "--gpus '0,x': give numbers such as 0 or 0,1"),
        (
            ["--partial-scene", "--protocol", "2025"],
            "--partial-scene is a choice with --sim omnigibson --protocol 2025 only: the MuJoCo tw",
        ),
        (
            ["--heavy-base"],
            "--heavy-base is a choice with --sim omnigibson --protocol 2025 only: the base of the ",
        ),
        (["--track", "open"], "--track 'open' is unknown: choose one of standard, privileged"),
        (
            ["--track", "standard", "--policy", "expert"],
            "--track standard: the policy expert reads the simulator's state, which this track for",
        ),
        *(
            (
                ["--video-fps", fps],
                f"--video-fps {fps} must divide the control rate, 30 Hz, as a video shows every "
                "n-th step: choose one of 1, 2, 3, 5, 6, 10, 15, 30",
            )
            for fps in ("0", "20", "29.97", "60", "nan")
        ),
        (["--protocol", "2024"], "there is no protocol '2024': choose one of 2025, 2026"),
        (["--split", "test"], "--split 'test' is unknown: choose one of train, public-test, hidd"),
        (["--sim", "isaac"], "--sim 'isaac' is unknown: choose one of auto, mujoco, omnigibson"),
        (["--chunking", "async"], "--chunking 'async' is unknown: choose one of receding, ensemb"),
        (["--render", "never"], "--render 'never' is unknown: choose one of on-demand, every-ste"),
        (["--render-quality", "4k"], "--render-quality '4k' is unknown: choose one of fast, high"),
        (["--action-noise", "x"], "--action-noise 'x' must be SIGMA[,CORRELATION_S[,KICK_RATE_HZ"),
        (["--ensemble-every", "2"], "--ensemble-every only means something with --chunking ensem"),
        (
            ["--chunking", "ensemble", "--horizon", "3"],
            "--horizon only means something with --chunking receding",
        ),
        (["--human-stats", "none.jsonl"], "cannot read human statistics from /"),
        (["--fail-under", "2"], "--fail-under 2 must lie between 0 and 1"),
        (["--resume"], "--resume needs --out RUN, the folder of the run to go on with"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    cli, tmp_path, arguments, message
):
    result = cli(*BASE, *arguments)
    assert result.exit_code == 2, result.output
    assert error_line(result).startswith(message)
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


NAMES_BOTH = (
    "--policy NAME (expert, zero, hold, random, replay:FILE, ws://HOST:PORT, wss://HOST:PORT, "
    "gr00t://HOST:PORT, FILE.py:CLASS, PACKAGE.MODULE:CLASS) or --ckpt PATH names what drives the "
    "robot"
)


def test_a_missing_task_is_named(cli):
    task = "--task is missing: give an index or a name; `b1k-eval tasks` lists them"
    result = cli("run")
    assert (result.exit_code, error_line(result)) == (2, f"{task}; and {NAMES_BOTH}")
    result = cli("run", "--policy", "hold")
    assert (result.exit_code, error_line(result)) == (2, task)


def test_a_run_without_a_policy_is_refused_and_both_ways_to_name_one_are_said(cli, tmp_path):
    result = cli("run", "--task", "31")
    assert result.exit_code == 2
    assert error_line(result) == (
        f"the policy is missing: {NAMES_BOTH}; --policy expert is the scripted one, which reads "
        "the simulator's state"
    )
    assert not list(tmp_path.iterdir())


def test_a_rate_demanded_of_a_policy_that_reads_the_simulator_must_be_meant(cli, tmp_path):
    expert = [*BASE, "--policy", "expert", "--fail-under", "0.5"]
    result = cli(*expert)
    assert (result.exit_code, error_line(result)) == (
        2,
        "--fail-under: the policy expert reads the simulator's state, so its rate says nothing "
        "about a policy for a robot: leave that out, or say --track privileged if it is meant",
    )
    assert not list(tmp_path.iterdir())
    assert cli(*expert, "--track", "privileged").exit_code == 1


def test_typers_own_usage_errors_exit_with_2(cli):
    assert cli("run", "--rollouts", "many").exit_code == 2
    assert cli("run", "--no-such-option").exit_code == 2
    assert cli("fly").exit_code == 2


def test_omnigibson_that_is_not_installed_is_unavailable(cli):
    result = cli(*BASE, "--sim", "omnigibson")
    assert result.exit_code == 4
    assert error_line(result).startswith(
        "--sim omnigibson: the package omnigibson is not installed in this Python: "
    )


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("2026", "the proprioception of protocol 2026 has nothing that is forbidden"),
        ("2025", "the policy sees zeros as joint_qpos, first 6; joint_qpos_sin, first 6; joint_q"),
    ],
)
def test_the_track_is_said_recorded_and_kept_on_resume(cli, tmp_path, protocol, words):
    track = ["--track", "standard", "--protocol", protocol]
    result = cli(*BASE, *track, "--out", "r")
    assert result.exit_code == 0, result.output
    assert f"note: --track standard: {words}" in " ".join(result.stderr.split())
    assert "standard track" in " ".join(result.stdout.split())
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["identity"]["settings"]["track"] == "standard"
    assert cli("run", "--resume", "--out", "r").exit_code == 0
    result = cli("run", "--resume", "--out", "r", "--track", "privileged")
    assert result.exit_code == 2
    assert 'settings.track "standard" -> "privileged"' in error_line(result)


def test_several_envs_a_process_give_the_run_of_one(cli, drive, tmp_path):
    common = [*BASE, "--policy", drive, "--max-steps", 30, "--instances", "0-6"]
    assert cli(*common, "--out", "one").exit_code == 0
    result = cli(*common, "--num-envs", 3, "--out", "three")
    assert result.exit_code == 0, result.output
    assert "in one call" not in result.stderr  # each env has its own policy

    def lines(run):
        written = (tmp_path / run / "episodes.jsonl").read_text().splitlines()
        return [{**json.loads(line), "timing": None} for line in written]

    assert lines("one") == lines("three")
    assert len(lines("one")) == 7


def test_a_run_folder_from_before_there_were_tracks_is_read_and_resumed(cli, tmp_path):
    assert cli(*BASE, "--out", "r").exit_code == 0
    file = tmp_path / "r" / "run.json"
    record = json.loads(file.read_text())
    del record["identity"]["settings"]["track"]
    for name in ("num_envs", "gpus"):
        del record["sessions"][0]["execution"][name]
    file.write_text(json.dumps(record))
    result = cli("run", "--resume", "--out", "r", "--workers", "2")
    assert result.exit_code == 0, result.output
    after = json.loads(file.read_text())
    assert after["identity"] == record["identity"]
    assert after["sessions"][1]["execution"]["gpus"] == []
    assert cli("run", "--resume", "--out", "r").exit_code == 0


def test_no_gl_is_said_before_the_run_starts(cli, tmp_path, monkeypatch):
    def no_gl():
        raise UnavailableError("no off-screen OpenGL; install libegl1")

    monkeypatch.setattr(simulators, "prepare_pictures", no_gl)
    result = cli("run", "--task", "31", "--policy", "hold", "--out", "r")
    assert (result.exit_code, error_line(result)) == (4, "no off-screen OpenGL; install libegl1")
    assert not (tmp_path / "r").exists()
    assert cli(*BASE, "--out", "r").exit_code == 0  # no picture wanted, no OpenGL needed


def test_each_expected_error_has_its_exit_code(cli, monkeypatch):
    def mismatch(settings):
        raise ContractMismatchError("two\nlines")

    monkeypatch.setattr(simulators, "make_env", mismatch)
    result = cli(*BASE)
    assert (result.exit_code, error_line(result)) == (3, "two lines")


def test_an_unexpected_exception_keeps_its_traceback(cli, monkeypatch):
    def bug(settings):
        raise KeyError("bug")

    monkeypatch.setattr(simulators, "make_env", bug)
    result = cli(*BASE)
    assert isinstance(result.exception, KeyError)


def test_an_episode_that_ends_as_error_makes_exit_code_1(cli, monkeypatch):
    monkeypatch.setattr(simulators, "make_env", lambda settings: BreakingEnv(hook="step"))
    result = cli(*BASE, "--out", "r")
    assert result.exit_code == 1
    assert "0 success, 0 failure, 1 error\n" in result.stdout  # and no rate: nothing is scored


def test_a_policy_that_raises_is_a_failure_and_exit_code_0(cli, monkeypatch):
    monkeypatch.setattr(policies, "make_policy", lambda *_: RaisingPolicy("infer"))
    result = cli(*BASE, "--out", "r", "--horizon", 8, "--json")
    assert result.exit_code == 0, result.output
    (line,) = json.loads(result.stdout)["episodes"]
    assert (line["outcome"], line["q_score"], line["failure_reason"], line["message"]) == (
        "failure",
        0.0,
        "policy_error",
        "ZeroDivisionError: no such luck",
    )


def test_fail_under_looks_at_the_success_rate(cli, drive):
    good = [*BASE, "--policy", drive, "--max-steps", 30, "--fail-under", 1]
    assert cli(*good).exit_code == 0
    result = cli(*BASE, "--fail-under", 0.5)
    assert result.exit_code == 1
    assert "success rate 0.0 is below --fail-under 0.5" in result.stderr


def test_an_existing_run_is_not_overwritten(cli):
    assert cli(*BASE, "--out", "r").exit_code == 0
    result = cli(*BASE, "--out", "r")
    assert result.exit_code == 2
    assert error_line(result) == (
        "r already holds a run: --resume continues it, another --out starts a new one"
    )


def test_resume_takes_the_runs_own_settings(cli, tmp_path):
    assert cli(*BASE, "--instances", "0-2", "--seed", 5, "--out", "r").exit_code == 0
    lines = (tmp_path / "r" / "episodes.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "r" / "episodes.jsonl").write_text("".join(lines[:1]))
    result = cli("run", "--resume", "--out", "r")
    assert result.exit_code == 0, result.output
    assert "3 episodes, 1 of them done already" in result.stderr
    assert [key.instance for key in read_episodes(tmp_path / "r")] == [0, 1, 2]
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["identity"]["settings"]["seed"] == 5
    assert len(record["sessions"]) == 2
    assert record["sessions"][1]["execution"]["video"] is False


def test_resume_with_other_settings_lists_them(cli):
    assert cli(*BASE, "--out", "r").exit_code == 0
    result = cli("run", "--resume", "--out", "r", "--seed", 1, "--horizon", 5)
    assert result.exit_code == 2
    assert error_line(result) == (
        "r was made with other settings and cannot be resumed with these: "
        "settings.horizon 10 -> 5; settings.seed 0 -> 1. "
        "Repeat the old ones, or choose another --out"
    )
    assert cli("run", "--resume", "--out", "r", "--workers", 1).exit_code == 0


def test_human_figures_from_elsewhere_are_another_setting(cli, tmp_path):
    assert cli(*BASE, "--out", "r").exit_code == 0
    human_means(tmp_path / "task.jsonl")
    result = cli("run", "--resume", "--out", "r", "--human-stats", "task.jsonl")
    assert result.exit_code == 2, result.output
    assert 'settings.human_stats null -> "/' in error_line(result)
    assert cli(*BASE, "--human-stats", "task.jsonl", "--out", "h").exit_code == 0
    assert cli("run", "--resume", "--out", "h").exit_code == 0


def test_the_2025_file_of_human_figures_is_taken_for_2025_and_told_for_2026(cli, tmp_path):
    means = {"length": 300.0, "distance_traveled": 3.0}
    hands = {"left_eef_displacement": 4.0, "right_eef_displacement": 5.0}
    lines = [{"episode_index": 310_010 + i, **means, **hands} for i in (0, 10)]
    (tmp_path / "episodes.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    given = [*BASE, "--human-stats", "episodes.jsonl"]
    result = cli(*given, "--protocol", 2025, "--out", "r")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["identity"]["human"] == {**means, **hands}
    result = cli(*given, "--protocol", 2026, "--out", "s")
    assert result.exit_code == 2
    assert "protocol 2026 takes task.jsonl" in error_line(result)
    assert not (tmp_path / "s").exists()


def test_a_run_of_another_version_is_not_gone_on_with(cli, monkeypatch):
    assert cli(*BASE, "--out", "r").exit_code == 0
    monkeypatch.setattr(session, "__version__", "99.0")
    result = cli("run", "--resume", "--out", "r")
    assert result.exit_code == 2
    assert f'with these: b1k_eval "{b1k_eval.__version__}" -> "99.0". Repeat' in error_line(result)


def test_a_changed_recording_is_another_setting(cli, drive, tmp_path):
    assert cli(*BASE, "--policy", drive, "--out", "r").exit_code == 0
    np.save(tmp_path / "drive.npy", np.zeros((10, 23), dtype=np.float32))
    result = cli("run", "--resume", "--out", "r")
    assert result.exit_code == 2
    assert "policy.actions_sha256" in error_line(result)


def test_resume_of_nothing_starts_the_run(cli):
    """So that a job that is requeued can always be started with the same line."""
    assert cli(*BASE, "--resume", "--out", "r").exit_code == 0


@pytest.mark.parametrize("content", ["{", '{"format": 1, "identity": {"settings": {}}}'])
def test_a_damaged_run_json_is_wrong_usage(cli, tmp_path, content):
    assert cli(*BASE, "--out", "r").exit_code == 0
    (tmp_path / "r" / "run.json").write_text(content)
    result = cli("run", "--resume", "--out", "r")
    assert result.exit_code == 2
    assert re.match(r"r/run.json is damaged \(.*start the run again under", error_line(result))


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ("sessions", ["x"], "sessions[0] is 'x', not an object"),
        ("sessions", [{}], "sessions[0].execution is None, not an object"),
        ("sessions", [{"execution": {"workers": 1}}], "sessions[0].execution lacks 'video'"),
        ("identity.settings", [], "identity.settings is [], not an object"),
        ("identity.settings", {}, "identity.settings lacks 'task'"),
        ("identity.settings.task", 31, "identity.settings.task is 31"),
        ("identity.settings.sim", "auto", "identity.settings.sim is 'auto'"),
        ("identity.settings.instances", 5, "identity.settings.instances is 5"),
        ("identity.settings.instances", ["0"], "identity.settings.instances is ['0']"),
        ("identity.settings.horizon", "10", "identity.settings.horizon is '10'"),
        ("identity.settings.max_steps", "5", "identity.settings.max_steps is '5'"),
        ("identity.settings.seed", True, "identity.settings.seed is True"),
        ("identity.settings.human_stats", 1, "identity.settings.human_stats is 1"),
        ("sessions.0.execution.workers", "a", "sessions[0].execution.workers is 'a'"),
        ("sessions.0.execution.video_fps", None, "sessions[0].execution.video_fps is None"),
        ("sessions.0.execution.threads", 2, "sessions[0].execution has an unknown 'threads'"),
    ],
)
def test_a_wrong_value_in_run_json_is_wrong_usage(cli, tmp_path, place, value, problem):
    assert cli(*BASE, "--out", "r").exit_code == 0
    document = json.loads((tmp_path / "r" / "run.json").read_text())
    *way, last = place.split(".")
    inner = document
    for name in way:
        inner = inner[int(name) if name.isdigit() else name]
    inner[last] = value
    (tmp_path / "r" / "run.json").write_text(json.dumps(document))
    result = cli("run", "--resume", "--out", "r")
    assert result.exit_code == 2, result.output
    assert error_line(result).removeprefix("r/") == (
        f"run.json is damaged ({problem}): restore the file, or start the run again under "
        "another --out"
    )


def test_a_line_of_an_episode_that_is_not_of_the_run_is_wrong_usage(cli, tmp_path):
    assert cli(*BASE, "--instances", "0-1", "--out", "r").exit_code == 0
    file = tmp_path / "r" / "episodes.jsonl"
    file.write_text(file.read_text().replace('"instance": 1', '"instance": 7'))
    (tmp_path / "r/episodes/clean_boxing_gloves-1-0").rename(
        tmp_path / "r/episodes/clean_boxing_gloves-7-0"
    )
    before = file.read_bytes()
    result = cli("run", "--resume", "--out", "r")
    assert result.exit_code == 2, result.output
    assert error_line(result).startswith(
        "r/episodes.jsonl, line 2 lists episode clean_boxing_gloves-7-0, which run.json does not"
    )
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", ["a run", "other things"])
def test_an_unfit_folder_is_refused_before_anything_is_built_and_is_left_as_it_was(
    cli, tmp_path, monkeypatch, content
):
    def forbidden(*_):
        raise AssertionError("the folder was to be looked at first")

    if content == "a run":
        assert cli(*BASE, "--out", "r").exit_code == 0
        (tmp_path / "r" / ".lock").unlink()
    else:
        (tmp_path / "r" / "episodes").mkdir(parents=True)
        (tmp_path / "r" / "episodes" / "notes").write_text("")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(policies, "make_policy", forbidden)
    monkeypatch.setattr(simulators, "make_env", forbidden)
    result = cli(*BASE, "--out", "r")
    assert result.exit_code == 2, result.output
    assert re.match("r already holds a run|r is not empty .it has episodes", error_line(result))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_episodes_file_is_wrong_usage(cli, tmp_path):
    assert cli(*BASE, "--out", "r").exit_code == 0
    (tmp_path / "r" / "episodes.jsonl").write_text("nonsense\n")
    result = cli("run", "--resume", "--out", "r")
    assert result.exit_code == 2
    assert error_line(result).startswith("r/episodes.jsonl, line 1 is damaged (")


def test_an_unwritable_results_folder_is_wrong_usage(cli, tmp_path):
    (tmp_path / "file").write_text("")
    result = cli(*BASE, "--out", "file/r")
    assert result.exit_code == 2
    assert error_line(result) == (
        "the results folder file/r cannot be written (Not a directory): choose another --out"
    )


def test_a_full_disk_before_the_first_episode_exits_with_1(cli, monkeypatch):
    def full(_path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_probe", full)
    result = cli(*BASE, "--out", "r")
    assert result.exit_code == 1
    assert error_line(result) == (
        "no space left to write r: free some space, then start again, or choose another --out"
    )


def test_smoke_on_a_full_disk_says_what_helps(cli, monkeypatch, tmp_path):
    def full(_path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_probe", full)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    result = cli("smoke", "--sim", "mujoco", "--policy", "hold")
    assert result.exit_code == 1, result.output
    assert re.fullmatch(
        r"smoke cannot write its episode \(no space left to write .*\): free some space, or set "
        "TMPDIR to a folder that can be written",
        error_line(result),
    )


@pytest.mark.parametrize("verb", ["run", "smoke", "run --policy replay", "compare", "replay"])
def test_a_pyarrow_that_does_not_import_is_told_before_anything_is_made(
    cli, monkeypatch, verb, tmp_path
):
    for out in ("was", "too"):
        assert cli(*BASE, "--out", out).exit_code == 0
    key = "clean_boxing_gloves-0-0"
    command = {
        "run": [*BASE, "--out", "new"],
        "smoke": ["smoke", "--sim", "mujoco", "--policy", "hold"],
        "run --policy replay": [
            *("run", "--task", "31", "--out", "new"),
            *("--policy", f"replay:was/episodes/{key}/trace.parquet"),
        ],
        "compare": ["compare", "was", "too"],
        "replay": ["replay", "was", key],
    }[verb]
    # What pyarrow 26 says beside numpy 1.26, which its metadata allow.
    (tmp_path / "old" / "pyarrow").mkdir(parents=True)
    (tmp_path / "old" / "pyarrow" / "__init__.py").write_text(
        'raise ImportError("pyarrow requires NumPy 2.0 or newer, found 1.26.4")'
    )
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / "old"))
    result = cli(*command)
    assert result.exit_code == 4, result.output
    assert error_line(result) == (
        "parquet can be neither written nor read, pyarrow does not import here (pyarrow requires "
        "NumPy 2.0 or newer, found 1.26.4); install it: pip install pyarrow, or beside numpy < 2: "
        "pip install 'pyarrow<26'"
    )
    assert not Path("new").exists()


def test_ctrl_c_says_how_to_go_on_and_exits_with_130(cli, monkeypatch):
    calls = []

    class Interrupted(ToyEnv):
        def reset(self, instance, rollout, seed):
            calls.append(instance)
            if len(calls) == 2:
                raise KeyboardInterrupt
            super().reset(instance, rollout, seed)

    monkeypatch.setattr(simulators, "make_env", lambda settings: Interrupted(max_steps=5))
    result = cli(*BASE, "--instances", "0-2", "--out", "r")
    assert result.exit_code == 130
    assert "interrupted; go on with: b1k-eval run --resume --out r" in result.stderr
    assert "0 success, 1 failure, 0 error" in result.stdout
    result = cli("run", "--resume", "--out", "r")
    assert result.exit_code == 0
    assert "0 success, 3 failure, 0 error" in result.stdout


def test_no_flock_is_remarked_and_the_run_goes_on(cli, monkeypatch):
    def no_flock(_file, _how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_flock)
    result = cli(*BASE, "--out", "r", "--json")
    assert result.exit_code == 0, result.output
    remark = next(text for text in json.loads(result.stdout)["remarks"] if "flock" in text)
    assert remark.startswith("r is on a file system without flock (No locks available): the file ")
    assert f"note: {remark}" in result.stderr
    assert cli("run", "--resume", "--out", "r").exit_code == 0


@pytest.mark.slow
def test_a_real_ctrl_c_ends_workers_too(tmp_path):
    """SIGINT to the whole group, as a terminal sends it, while the workers are starting."""
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "import doubles; from b1k_eval.run import simulators\n"
        "simulators.make_env = doubles.make_toy_env\n"
        "from b1k_eval.cli.main import main\n"
        "if __name__ == '__main__': main()\n"
    )
    (tmp_path / "main.py").write_text(code)
    command = [sys.executable, "main.py", str(Path(doubles.__file__).parent)]
    options = ["--max-steps", "100000000", "--instances", "0-3", "--workers", "2", "--out", "r"]
    process = subprocess.Popen(
        [*command, *BASE, *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until_begun(process, tmp_path / "r")
    os.killpg(process.pid, signal.SIGINT)
    # Returns when the last holder of the pipes is gone, so it waits for the workers as well.
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted; go on with: b1k-eval run --resume --out r" in errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "r" / "episodes").iterdir())


@pytest.mark.slow
def test_workers_on_the_command_line(cli, tmp_path):
    result = cli(*BASE, "--instances", "0-2", "--workers", 2, "--out", "r")
    assert result.exit_code == 0, result.output
    assert len(read_episodes(tmp_path / "r")) == 3


def test_tasks_lists_the_table(cli):
    result = cli("tasks", "--json")
    tasks = json.loads(result.stdout)["tasks"]
    assert len(tasks) == 100
    assert [task["name"] for task in tasks if task["twin_scene"]] == [
        "turning_on_radio",
        "clean_boxing_gloves",
    ]
    assert tasks[31]["max_steps"] == {"2025": 16470, "2026": 12352}
    assert tasks[77]["max_steps"]["2025"] is None
    assert "clean_boxing_gloves" in cli("tasks").stdout
    assert " ".join(cli("tasks").stdout.split()).endswith(
        "Tasks without a twin scene run in OmniGibson: --sim omnigibson."
    )


def test_help_says_what_each_exit_code_means(cli):
    shown = " ".join(cli("--help").stdout.split())
    for words in ("below --fail-under", "full disk", "check of smoke", "on standard error alone"):
        assert words in shown


def test_version(cli):
    assert cli("--version").stdout == f"b1k-eval {b1k_eval.__version__}\n"


def test_smoke_checks_fail_on_what_they_look_for():
    """Blank pictures, a goal that is reached at the start, and a world that drifts."""
    passed, detail = check_observation(ToyEnv(start=2.0))
    assert not passed
    assert "head is blank" in detail
    assert "the goal at the start is" in detail

    class Drifting(ToyEnv):
        drift = 0.0

        def observe(self, *, images=True):
            observation = super().observe(images=images)
            Drifting.drift += 1.0
            observation.proprio[0] = self.drift
            return observation

    assert check_determinism(Drifting()) == (False, "same=False, moved=True")
    assert check_determinism(ToyEnv()) == (False, "same=True, moved=False")


# --- progress ---------------------------------------------------------------------------------

KEY = EpisodeKey("clean_boxing_gloves", 3, 0)
RECORD = EpisodeRecord(
    **KEY._asdict(),
    task_index=31,
    seed=0,
    outcome="failure",
    success=False,
    q_score=0.5,
    failure_reason="policy_error",
    message="ValueError: no\nmore",
    steps=400,
    simulated_s=400 / 30,
    privileged=False,
    timing={"wall_s": 75.0},
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_plain_progress_is_a_line_per_episode_and_minute(capsys):
    clock = Clock()
    reporter = PlainReporter(Console(width=200), clock=clock)
    reporter.run_started(2, 0, 1000, 1)
    reporter.episode_started(KEY)
    for step in range(130):  # a snapshot a second, ten steps each
        clock.now = float(step)
        reporter.step(KEY, EpisodeProgress(step * 10, 0.5, "open door", 0.3))
    reporter.episode_ended(RECORD)
    assert capsys.readouterr().out.splitlines() == [
        "2 episodes",
        "0 of 2 done, at most 2 min 20 s left; "
        "clean_boxing_gloves-3-0 step 600, q 0.50, open door, 10 steps/s",
        "0 of 2 done, at most 1 min 20 s left; "
        "clean_boxing_gloves-3-0 step 1200, q 0.50, open door, 10 steps/s",
        "episode 1 of 2: clean_boxing_gloves-3-0 failure, q 0.50, 400 steps, 1 min 15 s, "
        "policy_error: ValueError: no",
    ]


def test_live_progress_shows_episode_step_score_skill_speed_and_time_left(capsys):
    clock = Clock()
    console = Console(force_terminal=True, width=160, color_system=None)
    reporter = LiveReporter(console, clock=clock)
    reporter.run_started(5, 2, 1000, 1)
    reporter.episode_started(KEY)
    reporter.step(KEY, EpisodeProgress(0, 0.0, None, None))
    clock.now = 10.0
    reporter.step(KEY, EpisodeProgress(300, 0.5, "open door", 0.3))
    console.print(reporter._render())
    reporter.close()
    shown = capsys.readouterr().out
    for text in (
        "episode 3 of 5",
        KEY.folder,
        "step 300",
        "q 0.50",
        "open door 30%",
        "30 steps/s",
        "0 success, 0 failure, 0 error; at most 1 min 30 s left",
    ):
        assert text in shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (61, "1 min 01 s"), (7500, "2 h 05 min")]
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


def test_resume_takes_more_instances_and_rollouts_and_keeps_what_is_done(cli, tmp_path):
    assert cli(*BASE, "--instances", "1", "--out", "r").exit_code == 0
    before = (tmp_path / "r" / "episodes.jsonl").read_text()
    done = cli("run", "--resume", "--out", "r", "--instances", "0-1", "--rollouts", 2)
    assert done.exit_code == 0, done.output
    assert "4 episodes, 1 of them done already" in done.stderr
    assert before in (tmp_path / "r" / "episodes.jsonl").read_text()
    assert cli(*BASE, "--instances", "0-1", "--rollouts", 2, "--out", "whole").exit_code == 0
    lines = [
        [{**line, "timing": None} for line in read_episodes(tmp_path / run).values()]
        for run in ("r", "whole")
    ]
    assert lines[0] == lines[1]
    assert cli("run", "--resume", "--out", "r").exit_code == 0  # the run knows its new size
    fewer = cli("run", "--resume", "--out", "r", "--instances", "0")
    assert (fewer.exit_code, fewer.stdout) == (2, "")
    assert "settings.instances [0, 1] -> [0]" in error_line(fewer)
    other = cli("run", "--resume", "--out", "r", "--instances", "0-2", "--seed", 1)
    assert "settings.seed 0 -> 1" in error_line(other)


def test_a_share_of_a_run_does_not_grow(cli):
    assert cli(*BASE, "--instances", "0-1", "--shard", "0/2", "--out", "r").exit_code == 0
    grown = cli("run", "--resume", "--out", "r", "--instances", "0-3")
    assert grown.exit_code == 2
    assert "settings.instances [0, 1] -> [0, 1, 2, 3]" in error_line(grown)


def test_resume_of_a_folder_without_a_run_says_so(cli, tmp_path):
    result = cli("run", "--resume", "--out", "nothing")
    assert (result.exit_code, error_line(result)) == (
        2,
        "nothing holds no run to resume, as it has no run.json: give the folder of a run, or "
        "--task and a policy to start one there",
    )
    started = cli(*BASE, "--resume", "--out", "r")
    assert started.exit_code == 0
    assert "note: r holds no run yet, so --resume starts one" in started.stderr


@pytest.mark.parametrize(
    ("typed", "ours"),
    [("--checkpoint", "--ckpt"), ("--n-episodes", "--instances"), ("--output-dir", "--out")],
)
def test_other_tools_names_of_our_options_suggest_ours(cli, typed, ours):
    result = cli("run", "--task", "31", typed, "x")
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert f"No such option: {typed} (Possible options: {ours})" in said


def test_too_little_typed_lists_what_there_is(cli):
    assert "there is no run in results" in error_line(cli("replay"))
    assert cli(*BASE, "--instances", "0-1", "--out", "results/a").exit_code == 0
    for words in (("replay",), ("report",), ("compare",), ("compare", "results/a")):
        result = cli(*words)
        assert result.exit_code == 2
        assert error_line(result).endswith("; in results there are: results/a"), words
    assert error_line(cli("replay", "results/a")) == (
        "replay needs both: b1k-eval replay RUN EPISODE; results/a has: clean_boxing_gloves-0-0, "
        "clean_boxing_gloves-1-0"
    )


def test_the_help_of_run_is_in_groups_with_examples_and_breaks_no_word(cli):
    text = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["run", "--help"]).output
    groups = ("What is run", "Policy, and how it acts", "Execution", "Output", "Statistics")
    assert all(f"─ {group} ─" in text for group in groups)
    assert text.count("b1k-eval run --") == 3
    assert max(map(len, text.splitlines())) <= 80
    assert "N ends after N" in text
    whole = " ".join(text.replace("│", " ").split())
    words = [each.help for each in command("run").params if each.help]
    assert all(word in whole.split() for text in words for word in text.split() if len(word) < 40)


def test_smoke_keeps_its_run_where_it_is_asked_to(cli, tmp_path):
    cli("smoke", "--sim", "mujoco", "--policy", "hold", "--out", "kept")
    assert (tmp_path / "kept" / "episodes" / "clean_boxing_gloves-0-0" / "result.json").is_file()
    again = cli("smoke", "--sim", "mujoco", "--policy", "hold", "--out", "kept")
    assert (again.exit_code, "already holds a run" in error_line(again)) == (2, True)


def test_the_shell_completes_verbs_and_their_options():
    def completed(words, number):
        asked = {"COMP_WORDS": words, "COMP_CWORD": str(number)}
        environment = {**os.environ, "_B1K_EVAL_COMPLETE": "complete_bash", **asked}
        program = "import sys; sys.argv = ['b1k-eval']; from b1k_eval.cli.main import main; main()"
        command = [sys.executable, "-c", program]
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        return ended.stdout.split()

    assert completed("b1k-eval vi", 1) == ["view"]
    assert completed("b1k-eval run --log", 2) == ["--log-to", "--log-videos"]
