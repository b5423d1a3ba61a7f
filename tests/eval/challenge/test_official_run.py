"""`run --official`: what it sets, what does not go with it, and that the scorer takes what it runs.

The runs are on OmniGibson's double, whose data say that a human needs four steps, so that the
task's own time limit is short.
"""

from __future__ import annotations

import json
import sys

import pytest
from challenge_scorer import score_all
from omnigibson_double.data import PUBLIC_IDS_2025, write_data_folder
from omnigibson_double.fixtures import _og_data_2025, _og_data_2026, install, og_2025, og_2026  # noqa: F401
from typer.testing import CliRunner

from b1k_envs.tasks.table import TASKS
from b1k_eval.challenge.rules import objections
from b1k_eval.cli.main import app
from b1k_eval.cli.resolving import resolve_execution, resolve_settings
from b1k_eval.records.loading import read_run_data
from b1k_eval.video.recording import measured

GIVEN = {"task": "31", "policy": "hold"}
OFFICIAL = ["run", "--task", 31, "--official", "--policy", "hold"]
HUMAN = {
    "length": 4.0,
    "distance_traveled": 0.5,
    "left_eef_displacement": 1.0,
    "right_eef_displacement": 2.0,
}


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize("year", ["2025", "2026"])
def test_everything_that_a_submission_needs_is_set(request, year):
    request.getfixturevalue(f"og_{year}")
    settings = resolve_settings(GIVEN, official=True)
    assert (settings.sim, settings.protocol) == ("omnigibson", year)
    assert (settings.split, settings.instances) == ("public-test", tuple(range(10)))
    assert (settings.rollouts, settings.render, settings.track) == (1, "every-step", "standard")
    assert settings.max_steps == {"2025": 16470, "2026": 12352}[year]
    execution = resolve_execution({"workers": 2}, official=True)
    assert (execution.video, execution.video_fps, execution.workers) == (True, 30.0, 2)
    assert resolve_settings({**GIVEN, "instances": "3-4"}, official=True).instances == (3, 4)
    assert resolve_settings({**GIVEN, "sim": "auto"}, official=True).sim == "omnigibson"
    assert resolve_settings({**GIVEN, "max_steps": settings.max_steps}, official=True) == settings
    assert "omnigibson" not in sys.modules


CONTRADICTIONS = {
    ("--sim", "mujoco"): "the MuJoCo twin is not the benchmark",
    ("--render", "on-demand"): "renders and observes every step",
    ("--instances", "0-10"): "instance 10 does not count, only 0 to 9 do",
    ("--rollouts", "2"): "one is prescribed",
    ("--split", "train"): "not a test set",
    ("--mode", "realtime"): "the world goes on while the policy thinks",
    ("--action-noise", "0.01"): "disturbed on purpose",
    ("--video-fps", "15"): "30 pictures a second, one a step",
    ("--partial-scene",): "the 2025 evaluation has the whole house",
    ("--no-video",): "a video of every rollout",
    ("--human-stats", "task.jsonl"): "figures that come with OmniGibson's data",
    ("--until-decided", "--against", "r"): "results decide which instances are run",
    ("--max-steps", "60"): "the official limit of the task is",
}


@pytest.mark.parametrize("options", CONTRADICTIONS, ids=" ".join)
def test_what_makes_no_submission_does_not_go_with_it(cli, tmp_path, og_2026, options):  # noqa: F811
    result = cli(*OFFICIAL, *options, "--out", "o")
    assert result.exit_code == 2, result.output
    assert f"--official does not go with {options[0]}" in result.stderr
    assert CONTRADICTIONS[options] in result.stderr
    assert not (tmp_path / "o").exists()


def test_contradictions_are_told_where_there_is_no_omnigibson_and_its_absence_else(cli):
    result = cli(*OFFICIAL, "--render", "on-demand")
    assert (result.exit_code, "does not go with --render" in result.stderr) == (2, True)
    result = cli(*OFFICIAL)
    assert (result.exit_code, "omnigibson is not installed" in result.stderr) == (4, True)


@pytest.mark.slow
@pytest.mark.parametrize("year", ["2025", "2026"])
def test_an_official_run_is_exported_and_taken_by_the_scorer(cli, tmp_path, monkeypatch, year):
    write_data_folder(tmp_path / "behavior", year, human=HUMAN)
    limit = {"2025": 8, "2026": 6}[year]  # 2 and 1.5 times 4
    installed = install(monkeypatch, tmp_path / "behavior", year)
    next(installed)
    result = cli("run", "--task", 31, "--official", "--policy", "random", "--out", "r", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["counts"] == {"success": 0, "failure": 10, "error": 0}
    assert not any("--official" in remark for remark in document["remarks"])
    run = read_run_data(tmp_path / "r")
    assert objections(run, "standard") == ()
    recorded = json.loads((tmp_path / "r" / "run.json").read_text())
    assert recorded["identity"]["settings"]["max_steps"] == limit
    assert recorded["sessions"][0]["execution"]["video_fps"] == 30.0
    result = cli("run", "--resume", "--out", "r", "--official")
    assert result.exit_code == 0, result.output  # nothing is left to do, and nothing contradicts
    result = cli("run", "--resume", "--out", "r", "--official", "--max-steps", 5)
    assert (result.exit_code, "go with --max-steps 5" in result.stderr) == (2, True)
    result = cli("export", "r", "--team", "Gloves", "--affiliation", "Lab", "--json")
    assert result.exit_code == 0, result.output
    exported = json.loads(result.stdout)
    assert (exported["files"], exported["objections"]) == (10, [])
    folder = tmp_path / exported["folder"]
    for file in (folder / "videos").iterdir():
        assert measured(file).frames == limit + 1  # a picture of each of the episode's steps
    names = [task.name for task in TASKS if task.in_2025 or year == "2026"]
    ids = PUBLIC_IDS_2025 if year == "2025" else None
    (scores,) = score_all(folder.parent, names, year=year, ids=ids).values()
    # By hand, with 4 steps of a human: 2 - 9 / 4 in 2025, 3 - 2 * 7 / 4 in 2026, of ten instances.
    times = {"2025": (2 - 9 / 4) / 50, "2026": (3 - 2 * 7 / 4) * 10 / 20 / 100}
    assert scores["time_score"] == pytest.approx(times[year])
    assert scores["q_score"] == 0.0
    for name in ("robot.yaml", "wrapper.py", "README.md"):
        assert (folder / name).is_file()
    next(installed, None)
