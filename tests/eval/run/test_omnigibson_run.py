"""Whole runs in OmniGibson, from the command line to the run folder, over its test double.

The double stands in for a simulator that needs a GPU; it fails on demand, in the worker process, as
the real one does. What a pass does not prove: anything about the real one's physics or pictures.
"""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from omnigibson_double.data import PUBLIC_IDS_2025
from omnigibson_double.fixtures import _og_data_2025, _og_data_2026, og_2025, og_2026  # noqa: F401
from typer.testing import CliRunner

from b1k_envs.errors import UsageError
from b1k_eval.cli.main import app
from b1k_eval.cli.resolving import resolve_settings
from b1k_eval.cli.task_choice import resolve_tasks
from b1k_eval.records.run_files import read_episodes
from b1k_eval.run import simulators
from b1k_eval.run.watchdog import CallLimits

STEPS = 4
BASE = ["run", "--task", "31", "--sim", "omnigibson", "--policy", "hold", "--max-steps", str(STEPS)]


@pytest.fixture(params=["2025", "2026"])
def og(request):
    """Either OmniGibson is installed, with its data."""
    return request.getfixturevalue(f"og_{request.param}")


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    yield lambda *arguments: runner.invoke(app, [str(a) for a in arguments])
    assert "omnigibson" not in sys.modules  # it was in the workers only


def outcomes(folder):
    return {key.instance: line for key, line in read_episodes(folder).items()}


@pytest.mark.slow
def test_a_run_is_made_in_a_process_of_its_own_and_says_what_it_was(cli, tmp_path, og):
    result = cli(*BASE, "--no-video", "--instances", "0-1", "--out", "r", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["counts"] == {"success": 0, "failure": 2, "error": 0}
    assert [line["steps"] for line in document["episodes"]] == [STEPS + 1] * 2
    assert "note: --render on-demand is not the official protocol" in result.stderr
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    identity = record["identity"]
    assert identity["settings"]["protocol"] == og.generation
    version = {"2025": "3.7.2", "2026": "3.9.3"}[og.generation]
    assert identity["env"]["sim_version"] == version
    assert identity["human"]["length"] == pytest.approx(8235.0)
    first = {"2025": list(PUBLIC_IDS_2025[:2]), "2026": [301, 302]}[og.generation]
    assert identity["instance_ids"] == {"0": first[0], "1": first[1]}
    (world,) = record["sessions"][0]["worlds"]
    assert world["sim_version"] == version
    mass = {"2025": 47.63, "2026": 250.0}[og.generation]
    assert world["settings"]["applied"]["base_mass_kg"] == pytest.approx(mass)
    for choice in ("partial_scene", "heavy_base"):
        assert identity["settings"][choice] is False
    assert (tmp_path / "r" / "logs" / "world-1.log").is_file()


def test_what_is_not_asked_for_is_as_the_installed_evaluator_has_it(og):
    given = {"task": "31", "policy": "hold", "sim": "omnigibson"}
    settings = resolve_settings(given)
    assert settings.protocol == og.generation
    assert settings.max_steps == {"2025": 16470, "2026": 12352}[og.generation]
    assert (settings.instances, settings.human_stats) == ((0,), None)
    assert simulators.human_stats_of(settings).right_eef_displacement == pytest.approx(70.25)
    train = resolve_settings({**given, "split": "train"})
    # 2026 counts training instances by their number, and the first there is is number 1.
    assert train.instances == {"2025": (0,), "2026": (1,)}[og.generation]
    assert "omnigibson" not in sys.modules


def test_tasks_whose_data_are_not_installed_are_impossible_and_the_others_keep_their_limit(og):
    given = {"policy": "hold", "sim": "omnigibson"}
    with pytest.raises(UsageError, match=r"^1 of 2 tasks cannot be done here \(5 setting_mouse"):
        resolve_tasks({**given, "task": "31,5"})
    (settings,), (remark,) = resolve_tasks({**given, "task": "31,5"}, skip_impossible=True)
    assert remark.startswith("left out: 1 of 2 tasks")
    assert settings == resolve_settings({**given, "task": "31"})


def test_an_instance_that_is_not_in_the_split_is_wrong_usage(cli, og):
    count = {"2025": 10, "2026": 20}[og.generation]
    result = cli(*BASE, "--instances", count)
    assert result.exit_code == 2
    assert f"instance {count} is out of range" in result.stderr


def test_the_expert_and_fine_pictures_are_the_twins(cli, og):
    result = cli(*BASE, "--policy", "expert")
    assert (result.exit_code, "--policy expert reads the twin" in result.stderr) == (2, True)
    result = cli(*BASE, "--render-quality", "high")
    assert (result.exit_code, "is of the MuJoCo twin" in result.stderr) == (2, True)


def test_several_envs_are_refused_in_2025(cli, og_2025):  # noqa: F811
    result = cli(*BASE, "--num-envs", "2")
    assert (result.exit_code, "--num-envs 2: only OmniGibson v3.9.3" in result.stderr) == (2, True)


@pytest.mark.slow
def test_part_of_the_house_and_a_heavy_base_are_choices_in_2025_recorded_and_kept(
    cli,
    tmp_path,
    og_2025,  # noqa: F811
):
    result = cli(*BASE, "--no-video", "--out", "r", "--partial-scene", "--heavy-base")
    assert result.exit_code == 0, result.output
    assert "note: --partial-scene is not the official protocol of 2025" in result.stderr
    file = tmp_path / "r" / "run.json"
    record = json.loads(file.read_text())
    settings = record["identity"]["settings"]
    assert (settings["partial_scene"], settings["heavy_base"]) == (True, True)
    (world,) = record["sessions"][0]["worlds"]
    assert world["settings"]["rooms"]["load_room_types"] == ["utility_room"]
    assert world["settings"]["applied"]["base_mass_kg"] == 250.0
    assert cli("run", "--resume", "--out", "r").exit_code == 0
    # As a run of an older version, which had no such choice and made this one.
    del settings["partial_scene"], settings["heavy_base"]
    file.write_text(json.dumps(record))
    result = cli("run", "--resume", "--out", "r")
    assert result.exit_code == 0, result.output
    settings |= {"partial_scene": False, "heavy_base": True}
    file.write_text(json.dumps(record))
    made = [*BASE, "--no-video", "--out", "r", "--partial-scene", "--heavy-base"]
    result = cli(*made, "--resume")
    assert result.exit_code == 2
    assert "settings.partial_scene false -> true" in result.stderr


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("--partial-scene", "2026 loads the rooms that the task's own table names, in every"),
        ("--heavy-base", "in 2026 the base always weighs 250 kg"),
    ],
)
def test_what_2026_prescribes_is_no_choice_there(cli, og_2026, choice, words):  # noqa: F811
    result = cli(*BASE, choice)
    assert result.exit_code == 2
    assert f"{choice} is a choice with --sim omnigibson --protocol 2025 only: {words}" in " ".join(
        result.stderr.split()
    )


def test_several_envs_are_refused_in_a_build_that_gets_them_wrong(
    cli,
    tmp_path,
    monkeypatch,
    og_2026,  # noqa: F811
):
    changes = {"def _load_state": "def _load_nothing"}
    og_2026.rebuild(monkeypatch, tmp_path / "build", "object_states/on_fire.py", changes)
    result = cli(*BASE, "--num-envs", "2", "--out", "r")
    assert result.exit_code == 4, result.output
    assert "2 scenes in one process give wrong numbers without PR 2327" in result.stderr
    assert not (tmp_path / "r").exists()


# --- faults --------------------------------------------------------------------------------------

FAULTS = [
    ("2026", "step", "crash", "OmniGibson failed during a step: RuntimeError: PhysX error", ()),
    ("2025", "step", "exit", "the worker process died (exit code 139)", ()),
    ("2026", "step", "hang", "the simulator hangs: a control step took longer than 5 s", ()),
    ("2025", "launch", "crash", "OmniGibson failed during starting", ()),
    ("2025", "render", "out_of_memory", "HostFaultError: out of memory during", ("--video",)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("generation", "place", "kind", "message", "more"), FAULTS)
def test_a_fault_costs_one_episode(
    cli, tmp_path, monkeypatch, request, generation, place, kind, message, more
):
    """Where in the adapter it strikes changes no more than the words; see `test_env.py`."""
    og = request.getfixturevalue(f"og_{generation}")
    # Long enough for a fault after as many steps as a start may take to strike in an episode.
    limit, after = (60, 60) if place == "step" else (STEPS, 0)
    og.faults.plan(place, kind, after=after)
    for name, value in og.faults.save(tmp_path / "faults.json").items():
        monkeypatch.setenv(name, value)
    limits = CallLimits(start_s=300.0, reset_s=120.0, step_s=5.0, observe_s=120.0)
    monkeypatch.setattr(simulators, "limits", lambda settings: limits)
    result = cli(
        *BASE, "--no-video", *more, "--max-steps", limit, "--instances", "0-1", "--out", "r"
    )
    assert result.exit_code == 1, result.output
    lines = outcomes(tmp_path / "r")
    assert [lines[i]["outcome"] for i in range(2)] == ["error", "failure"]
    assert message in lines[0]["message"]


@pytest.mark.slow
def test_a_proprio_that_is_not_finite_is_scored_and_told(cli, tmp_path, monkeypatch, og_2026):  # noqa: F811
    """It is the policy's to cope with, and the result has to say that the world began."""
    og = og_2026
    # The start reads proprioception too; a rendered step reads it once, and our observation again.
    og.faults.plan("get_obs", "nan_proprio", after=60, times=4)
    for name, value in og.faults.save(tmp_path / "faults.json").items():
        monkeypatch.setenv(name, value)
    result = cli(
        *("run", "--task", "31", "--policy", "zero", "--sim", "omnigibson", "--no-video"),
        *("--render", "every-step", "--max-steps", 60, "--out", "r"),
    )
    assert result.exit_code == 0, result.output
    line = outcomes(tmp_path / "r")[0]
    assert (line["outcome"], line["failure_reason"], line["steps"]) == ("failure", None, 61)
    assert "the simulator gave numbers that are not finite in" in result.stderr
    folder = tmp_path / "r" / "episodes" / "clean_boxing_gloves-0-0"
    told = json.loads((folder / "result.json").read_text())["not_finite"]
    assert told["parts"] == ["trunk_qpos"]
    assert told["observations"] in (1, 2, 3)
    trace = pd.read_parquet(folder / "trace.parquet")
    assert trace["not_finite"].sum() == told["observations"]
    assert trace["not_finite"][told["first_step"]]


@pytest.mark.slow
def test_a_build_with_another_grasp_is_told_at_the_start(cli, tmp_path, monkeypatch, og_2026):  # noqa: F811
    """A run on it is a run of something else; nobody reads run.json before the scores."""
    build = {"GRASP_WINDOW = 0.3": "GRASP_WINDOW = 3.0", "get_physics_dt": "get_sim_step_dt"}
    og_2026.rebuild(monkeypatch, tmp_path, "robots/robot.py", build)
    result = cli(*BASE, "--no-video", "--instances", "0", "--out", "r")
    assert result.exit_code == 0, result.output
    (line,) = [one for one in result.stderr.splitlines() if "not as in an official run" in one]
    assert "36 substeps, 9 control steps, found 3 s by get_sim_step_dt: 90 substeps, 23" in line
    assert "this build is from before pull request 2072" in line


@pytest.mark.slow
def test_a_missing_instance_file_costs_its_episode_and_resume_makes_up_for_it(
    cli,
    tmp_path,
    og_2026,  # noqa: F811
):
    (file,) = og_2026.data.rglob("*_task_clean_boxing_gloves_0_302_template-tro_state.json")
    away = tmp_path / "away"
    shutil.move(file, away)
    try:
        result = cli(*BASE, "--no-video", "--instances", "0-2", "--out", "r")
    finally:
        shutil.move(away, file)
    assert result.exit_code == 1, result.output
    scored = outcomes(tmp_path / "r")
    assert [scored[i]["outcome"] for i in range(3)] == ["failure", "error", "failure"]
    assert "302" in scored.pop(1)["message"]
    assert cli("run", "--resume", "--out", "r").exit_code == 0
    lines = outcomes(tmp_path / "r")
    assert lines.pop(1)["outcome"] == "failure"
    assert lines == scored  # their wall times too: they were not run again


@pytest.mark.slow
def test_several_envs_give_what_one_env_a_process_gives(cli, tmp_path, og_2026):  # noqa: F811
    common = [*BASE, "--policy", "random", "--max-steps", "20", "--no-video", "--instances", "0-3"]
    assert cli(*common, "--out", "alone").exit_code == 0
    assert cli(*common, "--num-envs", "2", "--out", "several").exit_code == 0
    for instance in range(4):
        name = f"clean_boxing_gloves-{instance}-0"
        folders = [tmp_path / run / "episodes" / name for run in ("alone", "several")]
        one, two = (json.loads((folder / "result.json").read_text()) for folder in folders)
        one["timing"] = two["timing"] = None
        # Positions are float32, and the scene of the second env stands elsewhere in the world.
        pair = [record["efficiency"].pop("agent_distance") for record in (one, two)]
        assert pair[1] == pytest.approx(pair[0], rel=1e-4)
        assert one == two
        traces = [pd.read_parquet(folder / "trace.parquet") for folder in folders]
        for column in traces[0].columns.drop(["latency_s", "asked_state"]):
            first, second = (trace[column] for trace in traces)
            if column.endswith(("_x", "_y")):
                assert np.allclose(first - first[0], second - second[0], atol=1e-4)
            elif first.dtype.kind == "f":
                assert np.allclose(first, second, atol=1e-5, equal_nan=True)
            else:
                assert first.equals(second)


@pytest.mark.slow
def test_a_video_shows_every_episode(cli, tmp_path, og):
    result = cli(*BASE, "--instances", "0-1", "--out", "r", "--render", "every-step")
    assert result.exit_code == 0, result.output
    assert "not the official protocol" not in result.stderr
    assert "with a picture per step (--video-fps 30)" in result.stderr
    assert len(list((tmp_path / "r" / "episodes").rglob("video.mp4"))) == 2


@pytest.mark.slow
def test_smoke_passes(cli, og_2025):  # noqa: F811
    result = cli("smoke", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["passed"] is True
