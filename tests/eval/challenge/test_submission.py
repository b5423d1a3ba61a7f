"""Several runs as one entry, its videos and what lies beside its results; drafts kept apart."""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import yaml
from challenge_scorer import RefusedError, score_all
from omnigibson_double.fixtures import _og_data_2025, _og_data_2026, og_2025, og_2026  # noqa: F401
from omnigibson_double.official import official_config
from run_folders import TASK
from submissions import NAMES, coloured, entry, submittable
from typer.testing import CliRunner

from b1k_envs.errors import UsageError
from b1k_eval.challenge.export import export_runs, read_runs
from b1k_eval.challenge.importing import import_results
from b1k_eval.challenge.package import package_files
from b1k_eval.challenge.rules import objections
from b1k_eval.cli.main import app
from b1k_eval.records.loading import read_run_data
from b1k_eval.video.recording import measured

OTHER = "make_pizza"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return coloured(tmp_path_factory.mktemp("videos"))


@pytest.fixture
def made(tmp_path, video):
    """Runs by name."""

    def make(name: str, outcomes, *, task: str = TASK, identity=None, **changes) -> Path:
        folder = submittable(tmp_path / "runs" / name, video=video, outcomes=outcomes, **changes)
        files = [folder / "run.json", folder / "episodes.jsonl", *folder.rglob("result.json")]
        for file in files:
            file.write_text(file.read_text().replace(TASK, task))
        for episode in list((folder / "episodes").iterdir()):
            episode.rename(episode.with_name(episode.name.replace(TASK, task)))
        record = json.loads((folder / "run.json").read_text())
        record["identity"] |= identity or {}
        (folder / "run.json").write_text(json.dumps(record))
        return folder

    (tmp_path / "runs").mkdir()
    return make


def read(*folders: Path):
    return read_runs(folders)


@pytest.mark.slow
def test_runs_of_several_tasks_and_of_parts_of_one_are_one_entry(made, tmp_path):
    first = made("first", {0: "success", 1: "failure"})
    second = made("second", {2: "failure", 3: "success"})
    pizza = made("pizza", {0: "success"}, task=OTHER)
    done = export_runs(read(first, second, pizza), entry(), tmp_path / "out")
    names = sorted(file.name for file in (done.folder / "json").iterdir())
    gloves = [f"{TASK}_{number}_0.json" for number in (301, 302, 303, 304)]
    assert names == sorted([*gloves, f"{OTHER}_301_0.json"])
    assert len(list((done.folder / "videos").iterdir())) == done.files == 5
    (scores,) = score_all(tmp_path / "out", NAMES).values()
    # By hand: q 1, 0.25, 0.5, 1 of the gloves and 1 of the pizza.
    assert scores["q_score"] == pytest.approx((1 + 0.25 + 0.5 + 1 + 1) / 20 / 100)
    said = "\n".join(done.remarks)
    for words in (f"6 of the 10 instances of {TASK}", f"9 of the 10 instances of {OTHER}", "98 of"):
        assert words in said
    back = {folder.name: read_run_data(folder) for folder in import_results(done.folder, tmp_path)}
    assert [e.key.instance for e in back[TASK].episodes] == [0, 1, 2, 3]
    assert [e.key.instance for e in back[OTHER].episodes] == [0]


def test_a_folder_of_run_folders_stands_for_its_runs(made, tmp_path, monkeypatch):
    made("a", {0: "success"})
    made("b", {0: "success"}, task=OTHER)
    monkeypatch.chdir(tmp_path)
    command = ["export", "runs", "--team", "T", "--affiliation", "A", "--date", "2026-11-22"]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["folder"] == "submissions/standard.public.T.A.2026-11-22"
    assert [*score_all(tmp_path / "submissions", NAMES)] == ["standard.public.T.A.2026-11-22"]


def policy(**changes):
    checkpoint = {"origin": "v17", "weights_sha256": "aa", "code_sha256": "cc"}
    return {
        "name": "v17",
        "checkpoint": checkpoint | changes.pop("checkpoint", {}),
        "contract": {"contract": {"name": "v17", "rotation": "6d"} | changes.pop("contract", {})},
        "forced": [],
        "forced_skill_id": None,
        "forced_skill_progress": None,
        **changes,
    }


CONFLICTS = {
    "an episode twice": ({"outcomes": {3: "success", 4: "failure"}}, "both have episode .*-3-0"),
    "another protocol": (
        {"protocol": "2025", "max_steps": 40},
        r"cannot be one entry \(protocol: 2026 against 2025\)",
    ),
    "another test set": ({"split": "hidden-test"}, r"split: public-test against hidden-test"),
    "another track": ({"track": "privileged"}, r"track: None against privileged"),
    "other weights": (
        {"identity": {"policy": policy(checkpoint={"weights_sha256": "bb"})}},
        "of one task by different policies .weights_sha256 aa against bb",
    ),
    "another contract": (
        {"identity": {"policy": policy(contract={"rotation": "quat"})}},
        "different policies .contract, rotation: 6d against quat",
    ),
    "another policy": ({"identity": {"policy": {"name": "hold"}}}, "different policies"),
    "other human figures": (
        {"identity": {"human": {"length": 20.0, "distance_traveled": 1.0}}},
        "relative to different human figures",
    ),
}


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_runs_that_are_not_one_entry_are_refused_by_name_even_as_a_draft(made, tmp_path, conflict):
    changes, words = CONFLICTS[conflict]
    one = made("one", {2: "failure", 3: "success"}, identity={"policy": policy()})
    given = {"outcomes": {4: "success"}, "identity": {"policy": policy()}, **changes}
    if "policy" not in given["identity"]:
        given["identity"] = {"policy": policy(), **given["identity"]}
    two = made("two", given.pop("outcomes"), **given)
    for draft in (False, True):
        with pytest.raises(UsageError, match=words) as caught:
            export_runs(read(one, two), entry(), tmp_path / "out", draft=draft)
        assert str(one) in str(caught.value)
        assert str(two) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_several_checkpoints_of_a_family_enter_together_when_that_is_said(made, tmp_path):
    one = made("one", {0: "success"}, identity={"policy": policy()})
    other = policy(checkpoint={"weights_sha256": "bb"})
    two = made("two", {0: "success"}, task=OTHER, identity={"policy": other})
    with pytest.raises(UsageError, match=r"one model family as one entry.*--several-policies"):
        export_runs(read(one, two), entry(), tmp_path / "out")
    done = export_runs(read(one, two), entry(), tmp_path / "out", several_policies=True)
    text = (done.folder / "README.md").read_text()
    assert "v17: weights aa, code cc" in text
    assert "v17: weights bb, code cc" in text


def test_other_packages_are_remarked_and_another_switch_is_another_policy(made, tmp_path):
    def on(**changes):
        return {"policy": policy(variables={"XVLA_A": "1"}, packages={"torch": "2.8"}, **changes)}

    one = made("one", {0: "success"}, identity=on())
    before = made("before", {1: "success"}, identity={"policy": policy()})  # neither was recorded
    done = export_runs(read(one, before), entry(), tmp_path / "out")
    assert any("different versions of packages" in remark for remark in done.remarks)
    other = on()
    other["policy"]["variables"] = {"XVLA_A": "0"}
    two = made("two", {2: "success"}, identity=other)
    with pytest.raises(UsageError, match=r"different policies .variables"):
        export_runs(read(one, two), entry(), tmp_path / "other")


def test_a_served_policy_is_known_by_what_its_server_says(made, tmp_path):
    def served(port, metadata):
        return {"policy": {"name": "remote", "address": f"ws://h:{port}", "metadata": metadata}}

    one = made("one", {0: "success"}, identity=served(1, {"weights": "x"}))
    two = made("two", {1: "success"}, identity=served(2, {"weights": "x"}))
    assert export_runs(read(one, two), entry(), tmp_path / "out").files == 2
    three = made("three", {2: "success"}, identity=served(1, {"weights": "y"}))
    with pytest.raises(UsageError, match=r"different policies .metadata"):
        export_runs(read(one, three), entry(), tmp_path / "other")
    silent = [made(f"silent{n}", {n: "success"}, identity=served(n, {})) for n in (4, 5)]
    with pytest.raises(UsageError, match="address ws://h:4 against ws://h:5"):
        export_runs(read(*silent), entry(), tmp_path / "other")


def test_imported_results_are_not_exported(made, tmp_path):
    done = export_runs(read(made("one", {0: "success"})), entry(), tmp_path / "out")
    (folder,) = import_results(done.folder, tmp_path / "back")
    with pytest.raises(UsageError, match="submit the evaluator's own files"):
        export_runs(read(folder), entry(), tmp_path / "again", draft=True)


# --- drafts ----------------------------------------------------------------------------------


def test_a_draft_beside_a_submission_would_stop_the_scorer_and_is_refused(made, tmp_path):
    out = tmp_path / "out"
    good, twin = made("good", {0: "success"}), made("twin", {0: "success"}, sim="mujoco")
    done = export_runs(read(good), entry(), out)
    with pytest.raises(UsageError, match=r"holds the submission standard\.public.*--out"):
        export_runs(read(twin), entry(), out, draft=True)
    assert [*score_all(out, NAMES)] == [done.folder.name]
    draft = export_runs(read(twin), entry(), tmp_path / "drafts", draft=True)
    with pytest.raises(UsageError, match=r"holds the draft draft-standard.*stops at a draft's"):
        export_runs(read(good), entry(), draft.folder.parent)
    draft.folder.rename(out / draft.folder.name)  # what must not be
    with pytest.raises(RefusedError, match="draft"):
        score_all(out, NAMES)


def test_drafts_go_elsewhere_than_submissions_if_nothing_is_said(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good, twin = made("good", {0: "success"}), made("twin", {0: "success"}, sim="mujoco")
    assert export_runs(read(good), entry(), None).folder.parent == Path("submissions")
    draft = export_runs(read(twin), entry(), None, draft=True)
    assert draft.folder.parent == Path("drafts")
    assert len(score_all(tmp_path / "submissions", NAMES)) == 1


def test_another_folder_that_would_stop_the_scorer_is_told(made, tmp_path):
    (tmp_path / "out" / "old").mkdir(parents=True)
    done = export_runs(read(made("one", {0: "success"})), entry(), tmp_path / "out")
    assert any("also holds old" in remark for remark in done.remarks)
    with pytest.raises(RefusedError, match="old has not five parts"):
        score_all(tmp_path / "out", NAMES)


# --- videos ----------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [1, 2])
def test_an_exported_video_has_one_picture_a_step_at_the_control_rate(
    made,
    tmp_path,
    video,
    extra,
):
    """Ours has the start too, and the last step twice where pictures were made for the video."""
    run = read_run_data(made("one", {0: "success", 1: "failure"}))
    for episode in run.episodes:
        made_anew = video(episode.steps, pictures=episode.steps + extra)
        episode.video.write_bytes(made_anew.read_bytes())
    done = export_runs([run], entry(), tmp_path / "out")
    for number, episode in zip((301, 302), run.episodes, strict=True):
        found = measured(done.folder / "videos" / f"{TASK}_{number}_0.mp4")
        assert (found.frames, found.fps) == (episode.steps, pytest.approx(30.0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fps": 15}, "15 pictures per second.*--video-fps 30"),
        ({"pictures": 6}, "has 6 pictures for 12 steps"),
        ({"pictures": 20}, "has 20 pictures for 12 steps"),
    ],
)
def test_a_video_that_is_not_one_picture_a_step_is_objected_to(
    made,
    video,
    changes,
    words,
):
    run = read_run_data(made("one", {0: "success"}))
    run.episodes[0].video.write_bytes(video(12, **changes).read_bytes())
    (reason,) = objections(run, "standard")
    assert words.partition(".*")[0] in reason
    assert words.rpartition(".*")[2] in reason
    run.episodes[0].video.write_bytes(b"nothing")
    (reason,) = objections(run, "standard")
    assert "cannot be read" in reason


# --- the package -----------------------------------------------------------------------------


@pytest.mark.parametrize("year", ["2025", "2026"])
def test_the_robots_file_is_what_the_official_evaluator_reads(made, request, year):
    og = request.getfixturevalue(f"og_{year}")
    run = read_run_data(made("one", {0: "success"}, protocol=year, max_steps=40))
    robot = yaml.safe_load(package_files([run], entry())["robot.yaml"])
    (official,) = official_config(og)["robots"]
    names = robot.pop("eval", None)
    for start in ("position", "orientation"):  # the task's: the evaluator overwrites them
        del official[start]
    official["sensor_config"] |= {"VisionSensor": robot["sensor_config"]["VisionSensor"]}
    assert robot == official
    assert robot["sensor_config"]["VisionSensor"]["sensor_kwargs"]["image_height"] == 1080
    assert ("type" in robot, names is None) == ((True, True) if year == "2025" else (False, False))
    if names is not None:
        assert names["camera_sensor_names"] == {
            "left_wrist": "robot_r1:left_realsense_link:Camera:0",
            "right_wrist": "robot_r1:right_realsense_link:Camera:0",
            "head": "robot_r1:zed_link:Camera:0",
        }


class EnvironmentWrapper:
    """As `omnigibson.envs` has it: what is not its own is the environment's."""

    def __init__(self, env):
        self.env = env

    def reset(self, **kwargs):
        return self.env.reset(**kwargs)

    def step(self, action, n_render_iterations=1):
        return self.env.step(action, n_render_iterations=n_render_iterations)

    def __getattr__(self, name):
        return getattr(self.env, name)


@pytest.fixture
def wrapper_of(monkeypatch):
    """The class in a package's wrapper.py."""
    envs = types.ModuleType("omnigibson.envs")
    envs.EnvironmentWrapper = EnvironmentWrapper

    def load(run):
        monkeypatch.setitem(sys.modules, "omnigibson.envs", envs)
        text = package_files([run], entry())["wrapper.py"]
        scope: dict = {}
        exec(compile(text, "wrapper.py", "exec"), scope)
        return scope["SubmittedWrapper"]

    return load


def test_the_wrapper_of_2026_declares_the_cameras_that_the_run_had(
    made,
    wrapper_of,
    og_2026,  # noqa: F811
):
    spec = wrapper_of(read_run_data(made("one", {0: "success"}))).camera_spec()
    assert spec["modalities"] == ["rgb"]
    sizes = {"left_wrist": (480, 480), "right_wrist": (480, 480), "head": (720, 720)}
    assert spec["resolution"] == sizes


def test_the_wrapper_of_2025_makes_of_an_environment_what_the_run_had(
    made,
    wrapper_of,
    og_2025,  # noqa: F811
    monkeypatch,
    tmp_path,
):
    monkeypatch.setenv("OMNIGIBSON_APPDATA_PATH", str(tmp_path / "appdata"))
    changes = {"protocol": "2025", "max_steps": 40, "track": "standard", "heavy_base": True}
    seen = {"policy": {"name": "remote", "depth": True, "metadata": {"a": 1}}}
    run = read_run_data(made("one", {0: "success"}, identity=seen, **changes))
    omnigibson = importlib.import_module("omnigibson")
    wrapped = wrapper_of(run)(omnigibson.Environment(configs=official_config(og_2025, size=1080)))
    robot = wrapped.robots[0]
    cameras = [
        robot.sensors[f"robot_r1:{link}_link:Camera:0"] for link in ("zed", "left_realsense")
    ]
    assert [(c.image_height, c.image_width) for c in cameras] == [(720, 720), (480, 480)]
    assert cameras[0].horizontal_aperture == 40.0
    assert robot.base_footprint_link.mass == 250.0
    shown = [wrapped.reset()[0]]  # refuses an observation space of another size
    shown.append(wrapped.step(np.zeros(23, np.float32))[0])
    raw = np.asarray(wrapped.env.get_obs()[0]["robot_r1"]["proprio"])
    for obs in shown:
        proprio = np.asarray(obs["robot_r1"]["proprio"])
        assert not proprio[143:152].any()  # where in the house it is, and where it looks
        assert not proprio[244:253].any()
        assert proprio[236:240].any()  # the trunk is its own affair
        head = obs["robot_r1"]["robot_r1:zed_link:Camera:0"]
        assert head["depth_linear"].shape == head["rgb"].shape[:2] == (720, 720)
    assert raw[143:149].any()
    assert (proprio[158:236] == raw[158:236]).all()
    changes = {"protocol": "2025", "max_steps": 40, "track": "privileged"}
    assert (
        "HIDDEN = []"
        in package_files(
            [read_run_data(made("two", {1: "success"}, **changes))], entry("privileged")
        )["wrapper.py"]
    )


def test_readme_has_the_evaluators_command_and_says_what_the_team_has_to_add(made):
    run = read_run_data(made("one", {0: "success"}))
    text = package_files([run], entry())["README.md"]
    assert "# Blue Gloves, Lab: standard track, public test set" in text
    assert f"--task-name {TASK}" in text
    assert "--env-wrapper wrapper.SubmittedWrapper --robot-config robot.yaml" in text
    assert "To be added by the team" in text
    assert f"| one | other | {TASK} | 0 | omnigibson 1 |" in text
    assert "draft" not in text
    assert "A draft" in package_files([run], entry(), draft=True)["README.md"]


def test_runs_whose_worlds_need_different_wrappers_are_not_one_entry(made, tmp_path):
    year = {"protocol": "2025", "max_steps": 40, "track": "standard"}
    light = made("light", {0: "success"}, **year)
    heavy = made("heavy", {1: "success"}, heavy_base=True, **year)
    with pytest.raises(UsageError, match=r"need different wrappers .*base_mass_kg=None.*=250"):
        export_runs(read(light, heavy), entry(), tmp_path / "out")
    assert not (tmp_path / "out" / entry().folder()).exists()
    for folder, mass in ((light, "None"), (heavy, "250.0")):
        text = package_files(read(folder), entry())["wrapper.py"]
        assert f"BASE_MASS_KG = {mass}  #" in text


def test_a_run_with_depth_has_it_in_robot_and_wrapper(made, wrapper_of):
    run = read_run_data(
        made("one", {0: "success"}, identity={"policy": {"name": "r", "depth": True}})
    )
    assert wrapper_of(run).camera_spec()["modalities"] == ["rgb", "depth_linear"]
    robot = yaml.safe_load(package_files([run], entry())["robot.yaml"])
    assert robot["obs_modalities"] == ["proprio", "rgb", "depth_linear"]
