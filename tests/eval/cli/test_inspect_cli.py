"""`b1k-eval inspect`: one document, files that read back, findings last, and exit codes."""

from __future__ import annotations

import json
import shutil
import sys

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from b1k_eval.cli.main import app
from b1k_eval.report.inspect_pictures import PANEL
from b1k_eval.run import simulators

FILES = ["chunk.png", "inspect.json", "model_sees.png", "observation.npz"]
GREEN, MAGENTA = (70, 200, 110), (255, 70, 220)


@pytest.fixture(scope="module")
def cli():
    runner = CliRunner(env={"COLUMNS": "200"})
    return lambda *words: runner.invoke(app, ["inspect", *map(str, words), "--device", "cpu"])


@pytest.fixture(scope="module")
def twin(cli, tiny_v17, tmp_path_factory):
    """A right v17 on the twin's first observation: (document, folder it was saved in)."""
    folder = tmp_path_factory.mktemp("inspect") / "made" / "v17"
    result = cli(tiny_v17, "--json", "--save", folder)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), folder


@pytest.fixture
def no_simulator(monkeypatch):
    def refuse(*_):
        raise AssertionError("a simulator was started")

    monkeypatch.setattr(simulators, "make_env", refuse)
    monkeypatch.setattr(simulators, "prepare_pictures", refuse)


def found(document, level):
    return [finding for finding in document["findings"] if finding["level"] == level]


def about(document, field):
    return [f["text"] for f in document["findings"] if f["field"] == field]


# --- a checkpoint that is as it should be ----------------------------------------------------


@pytest.mark.slow
def test_a_right_v17_in_the_twin_has_nothing_wrong(twin):
    document, _ = twin
    assert found(document, "wrong") == []
    seen = [gripper for image in document["geometry"] for gripper in image["grippers"]]
    assert len(seen) == 6
    assert all(gripper["distance_px"] < 2 for gripper in seen if gripper["in_front"])
    # The wrists see their own grippers, which makes the measurement one.
    own = [document["geometry"][1]["grippers"][0], document["geometry"][2]["grippers"][1]]
    assert all(gripper["inside"] for gripper in own)


def test_the_document_holds_everything_about_the_checkpoint(twin):
    document, folder = twin
    assert {"checkpoint", "contract", "model", "batch", "geometry", "chunk", "skill", "progress",
            "findings", "saved"} <= set(document)  # fmt: skip
    files = {file["name"]: file for file in document["checkpoint"]["files"]}
    assert {"config.json", "model.safetensors"} <= set(files)
    assert all(len(file["sha256"]) == 64 and file["size"] > 0 for file in files.values())
    assert document["model"]["parameters"] > 1_000_000
    assert document["model"]["device"] == "cpu"
    assert document["contract"]["sources"]["image_size"]["source"].startswith("EVAL_CONTRACT.json:")
    assert document["chunk"]["rows"] == 30
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert sorted(document["saved"]) == [str(folder / name) for name in FILES]
    assert json.loads((folder / "inspect.json").read_text()) == document


def test_a_saved_observation_gives_the_same_batch_and_chunk_without_a_simulator(
    cli, twin, tiny_v17, no_simulator
):
    document, folder = twin
    result = cli(tiny_v17, "--json", "--observation", folder / "observation.npz")
    again = json.loads(result.stdout)
    for key in ("observation", "batch", "geometry", "chunk", "skill", "progress", "findings"):
        assert again[key] == document[key]
    assert again["saved"] == []


def test_v4_is_told_of_its_order_as_a_note(cli, twin, tiny_v4, no_simulator):
    result = cli(tiny_v4, "--json", "--observation", twin[1] / "observation.npz")
    document = json.loads(result.stdout)
    assert found(document, "wrong") == []
    (text,) = about(document, "extrinsics_rows")
    assert "row 0 (image head) has the pose of left_wrist" in text
    assert document["chunk"]["skipped_rows"] == 1


def test_people_read_the_findings_first_and_the_contract_if_they_ask(
    cli, twin, tiny_v17, no_simulator
):
    words = (
        tiny_v17, "--observation", twin[1] / "observation.npz", "--force-contract",
        "--set", "scale_intrinsics=false",
    )  # fmt: skip
    result = cli(*words)
    assert result.exit_code == 0, result.output
    order = ["Findings", "K is sent unscaled", "5 wrong, 1 doubt, ", "Files",
             "Batch for: mujoco, clean_boxing_gloves", "Where the grippers",
             "First chunk", "\nskill ", "\nprogress "]  # fmt: skip
    places = [result.stdout.index(text) for text in order]
    assert places == sorted(places)
    assert "Contract of" not in result.stdout
    assert result.stdout.splitlines()[-1] == "contract v17, whole with --full"
    assert cli(*words, "--full").stdout.index("Contract of") > places[-1]


# --- another's contract ----------------------------------------------------------------------

MISTAKES = [
    ("image_size=504", "image_size"),
    ("scale_intrinsics=false", "intrinsics.head"),
    ("extrinsics_rows=left_wrist,right_wrist,head", "extrinsics_rows"),
    ("first_action=1", "first_action"),
    ("progress_output=probability", "progress_output"),
    ("colour_order=bgr", "colour_order"),
    ("resize_antialias=false", "resize_antialias"),
    ("camera_axes=opencv", "camera_axes"),
]


@pytest.mark.parametrize(("setting", "named"), MISTAKES)
def test_a_mistake_is_refused_by_name(cli, twin, tiny_v17, no_simulator, setting, named):
    saved = twin[1] / "observation.npz"
    result = cli(tiny_v17, "--observation", saved, "--set", setting, "--json")
    assert result.exit_code == 3
    error = json.loads(result.stdout)["error"]
    assert f"{named}: EVAL_CONTRACT.json:" in error["message"]


@pytest.mark.slow
def test_v4s_contract_on_v17_is_refused_then_told_in_words_and_pixels(
    cli, twin, tiny_v17, no_simulator, tmp_path
):
    words = (tiny_v17, "--observation", twin[1] / "observation.npz", "--contract", "v4")
    assert cli(*words).exit_code == 3
    result = cli(*words, "--force-contract", "--json", "--save", tmp_path)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert about(document, "image_size")[0].startswith("504 px are sent (--contract v4)")
    assert "too early" in about(document, "first_action")[0]
    assert "sigmoid is missing" in about(document, "progress_output")[0]
    head, left, right = about(document, "geometry")
    for text, image, pose in (
        (head, "head", "left_wrist"), (left, "left_wrist", "right_wrist"),
        (right, "right_wrist", "head"),
    ):  # fmt: skip
        assert f"image {image}: " in text
        assert "px off" in text
        assert text.endswith(f"the pose sent is that of {pose}")
    assert document["model"]["name"] == "v4 (forced)"


def test_code_that_does_something_else_with_the_batch_is_a_doubt(
    cli, twin, tiny_v17, no_simulator, tmp_path
):
    code = shutil.copytree(tiny_v17 / "code" / "da3_xvla", tmp_path / "da3_xvla")
    with (code / "models" / "modeling_xvla.py").open("a") as file:
        file.write("# turns the pictures upside down\n")
    saved = twin[1] / "observation.npz"
    result = cli(tiny_v17, "--observation", saved, "--code-dir", code, "--json")
    assert about(json.loads(result.stdout), "code") == [
        "the code is not the checkpoint's own: models/modeling_xvla.py differs; what is sent may "
        "reach the model changed"
    ]
    assert about(twin[0], "code") == []


# --- the pictures ----------------------------------------------------------------------------


def drawn(folder):
    return cv2.cvtColor(cv2.imread(str(folder / "model_sees.png")), cv2.COLOR_BGR2RGB)


def count(panel, colour, at, radius=14):
    """Pixels of a colour around a place."""
    x, y = (round(value) for value in at)
    around = panel[max(y - radius, 0) : y + radius, max(x - radius, 0) : x + radius].astype(int)
    return int((np.abs(around - colour).max(axis=2) < 30).sum())


def panels(sheet):
    """The three pictures of the sheet, by the marks of its layout."""
    return [sheet[44 : 44 + PANEL, 16 + n * (PANEL + 12) :][:, :PANEL] for n in range(3)]


def test_when_all_is_well_the_magenta_cross_lies_in_the_green_circle(twin):
    document, folder = twin
    wrist = document["geometry"][1]
    at = [value * PANEL / 224 for value in wrist["grippers"][0]["true_px"]]
    panel = panels(drawn(folder))[1]
    assert count(panel, GREEN, at) > 20
    assert count(panel, MAGENTA, at, radius=6) > 20


@pytest.mark.slow
def test_another_cameras_pose_draws_the_cross_where_nothing_is(
    cli, twin, tiny_v17, no_simulator, tmp_path
):
    cli(tiny_v17, "--observation", twin[1] / "observation.npz", "--force-contract",
        "--set", "extrinsics_rows=left_wrist,right_wrist,head", "--save", tmp_path)  # fmt: skip
    document = json.loads((tmp_path / "inspect.json").read_text())
    gripper = document["geometry"][0]["grippers"][0]
    panel = panels(drawn(tmp_path))[0]
    as_sent = [value * PANEL / 224 for value in gripper["sent_px"]]
    assert not gripper["inside"]
    assert count(panel, MAGENTA, as_sent, radius=6) > 20
    assert count(panel, GREEN, as_sent, radius=6) < 5


def test_without_matplotlib_everything_else_is_saved_and_one_line_says_so(
    cli, twin, tiny_v17, no_simulator, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = cli(tiny_v17, "--observation", twin[1] / "observation.npz", "--save", tmp_path)
    assert result.exit_code == 0, result.output
    assert "pip install '.[report]' in the checkout" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES[1:]


# --- wrong usage -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "31"], "--task: --observation"),
        (["--protocol", "2026", "--instance", "1"], "--protocol, --instance: --observation"),
    ],
)
def test_an_observation_brings_its_own_task(cli, twin, tiny_v17, words, message):
    result = cli(tiny_v17, "--observation", twin[1] / "observation.npz", *words)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "nope"], "nope"),
        (["--instance", "99999"], "99999"),
        (["--protocol", "2024"], "2024"),
        (["--skill-progress", "7"], "--skill-progress 7 must lie in [0, 1]"),
        (["--observation", "missing.npz"], "missing.npz cannot be read"),
    ],
)
def test_wrong_usage_is_told_before_a_model_is_loaded(cli, tiny_v17, words, message, monkeypatch):
    monkeypatch.setattr("b1k_eval.cli.checkpoints.inspect.XVLAPolicy", None)
    result = cli(tiny_v17, *words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_file_where_the_folder_should_be_is_told(cli, twin, tiny_v17, tmp_path):
    (tmp_path / "file").write_text("")
    result = cli(
        tiny_v17, "--observation", twin[1] / "observation.npz", "--save", tmp_path / "file"
    )
    assert result.exit_code == 2
    assert "cannot be a folder" in result.stderr
