"""`export --docker`: the build folder of an image that serves the checkpoint of a run.

That its steps can be executed is shown by `scripts/check_containers.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkpoint_files import found, write_checkpoint, write_code
from dockerfile import command, copied, steps
from submissions import entry, submittable
from typer.testing import CliRunner

from b1k_envs.errors import UsageError
from b1k_eval.challenge.export import export_runs, read_runs
from b1k_eval.challenge.image import image_tag
from b1k_eval.cli.main import app
from b1k_eval.cli.main import command as verb
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.options import record

SESSION = {
    "python": "3.11.7",
    "versions": {"b1k-eval": "0.1.0", "numpy": "2.1.0", "torch": "2.8.0+cu128", "omnigibson": "3"},
}


@pytest.fixture
def made(tmp_path):
    """A run of a checkpoint; gives its folder."""

    def make(name="run", *, request=None, code=None, **changes) -> Path:
        folder = tmp_path / "weights"
        if not folder.exists():
            write_checkpoint(folder)
            (folder / "optimizer.bin").write_bytes(b"0" * 100)
        asked = CheckpointRequest(ckpt=str(folder), code_dir=code, **(request or {}))
        run = submittable(tmp_path / name, video=None, outcomes={0: "failure"}, **changes)
        stored = json.loads((run / "run.json").read_text())
        stored["identity"]["settings"] |= {"policy": "checkpoint", "checkpoint": record(asked)}
        stored["identity"]["policy"] = {
            "name": "v17",
            "checkpoint": found(folder, code_dir=code).to_dict(),
            "contract": {"contract": {"name": "v17"}},
            "variables": {"XVLA_POSE": "a b"},
            "packages": {"timm": "1.0.9", "torch": "2.8.0+cu128"},
        }
        stored["sessions"] = [SESSION | {"execution": {}}]
        (run / "run.json").write_text(json.dumps(stored))
        return run

    return make


def exported(run: Path, tmp_path: Path) -> Path:
    done = export_runs(
        read_runs([run]), entry(), tmp_path / "out", draft=True, image=tmp_path / "image"
    )
    assert done.image == tmp_path / "image"
    assert (done.image / "README.md").read_text() == (done.folder / "README.md").read_text()
    return done.image


def served(image: Path) -> dict:
    """What `serve` takes from the command line of an image."""
    name, which, *words = command(steps((image / "Dockerfile").read_text()))
    assert (name, which) == ("b1k-eval", "serve")
    return verb("serve").make_context("serve", words).params


def test_the_image_serves_the_runs_checkpoint_as_it_was_run(made, tmp_path):
    settings = {"horizon": 7, "request": {"settings": ("dtype=float16",), "skill_id": 0}}
    image = exported(made(**settings), tmp_path)
    instructions = steps((image / "Dockerfile").read_text())
    for step in instructions:
        if step.word == "COPY":
            assert copied(step, image)
    asked = served(image)
    assert (asked["host"], asked["port"], asked["no_key"]) == ("0.0.0.0", 8000, True)
    assert (asked["ckpt"], asked["device"], asked["protocol"]) == ("/checkpoint", "cuda", "2026")
    assert (asked["horizon"], asked["skill_id"], list(asked["settings"])) == (
        7,
        0,
        ["dtype=float16"],
    )
    assert asked["code_dir"] is None
    environment = [step.pairs() for step in instructions if step.word == "ENV"]
    assert environment == [{"HF_HUB_OFFLINE": "1", "XVLA_POSE": "a b"}]
    assert "FROM python:3.11-slim-bookworm" in (image / "Dockerfile").read_text()
    pins = (image / "requirements.txt").read_text().split()
    assert pins == ["numpy==2.1.0", "timm==1.0.9", "torch==2.8.0"]
    again = found(image / "checkpoint").to_dict()
    original = found(tmp_path / "weights").to_dict()
    assert again["files"] == original["files"]
    assert again["code_sha256"] == original["code_sha256"]
    assert not (image / "checkpoint" / "optimizer.bin").exists()


def test_the_image_has_the_package_and_what_the_challenge_asks_for(made, tmp_path):
    image = exported(made(), tmp_path)
    for name in ("b1k_envs", "b1k_policies", "b1k_eval"):
        assert (image / "b1k-eval" / name / "__init__.py").is_file()
    project = (image / "b1k-eval" / "pyproject.toml").read_text()
    for words in ('"websockets>=', '"transformers>=', 'b1k-eval = "b1k_eval.cli.main:main"'):
        assert words in project
    assert '"matplotlib' not in project
    readme = (image / "README.md").read_text()
    assert "docker run --rm --gpus all -p 8000:8000 blue-gloves" in readme
    assert "--env-wrapper wrapper.SubmittedWrapper --robot-config robot.yaml" in readme
    assert "camera_spec" in (image / "wrapper.py").read_text()
    assert "model" in (image / "robot.yaml").read_text()
    assert image_tag("Ünï") == "n"
    assert image_tag("***") == "policy"


def test_code_and_contract_from_elsewhere_come_along(made, tmp_path):
    code = write_code(tmp_path / "mine" / "da3_xvla")
    (code / "more.py").write_text("MORE = 1\n")
    contract = tmp_path / "own.json"
    contract.write_text("{}")
    run = made(code=str(code), request={"contract": str(contract)})
    image = exported(run, tmp_path)
    asked = served(image)
    assert (asked["code_dir"], asked["contract"]) == ("/code", "/contract.json")
    assert (image / "code" / "da3_xvla" / "more.py").is_file()
    assert (image / "contract.json").read_text() == "{}"


def test_what_an_image_cannot_serve_is_refused_before_anything_is_written(made, tmp_path):
    other = submittable(tmp_path / "other", video=None, outcomes={0: "failure"})
    smooth = made("smooth", chunking="ensemble", horizon=None)
    two = [made("one"), made("two", task="make_pizza", horizon=3)]
    for runs, words in (
        ([other], r"image of a checkpoint .*other is of other"),
        ([smooth], r"--chunking ensemble and --mode sync, and a server plays receding"),
        (two, r"different checkpoints or options, and an image serves one"),
    ):
        with pytest.raises(UsageError, match=words):
            export_runs(
                read_runs(runs), entry(), tmp_path / "out", draft=True, image=tmp_path / "image"
            )
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "image").exists()


def test_a_checkpoint_that_is_not_the_runs_is_refused_and_nothing_is_left(made, tmp_path):
    run = made()
    (tmp_path / "weights" / "config.json").write_text('{"num_actions": 20}')
    with pytest.raises(UsageError, match=r"not the checkpoint that .*run was run with \(files"):
        exported(run, tmp_path)
    (tmp_path / "weights").rename(tmp_path / "moved")
    with pytest.raises(UsageError, match=r"--docker: the checkpoint of .*run cannot be found"):
        exported(run, tmp_path)
    assert not list(tmp_path.glob("*image*"))
    assert not list((tmp_path / "out").iterdir())


def test_the_command_says_how_to_build_and_keeps_what_is_there(made, tmp_path, monkeypatch):
    made()
    monkeypatch.chdir(tmp_path)
    words = ["export", "run", "--team", "T U", "--affiliation", "A", "--force-draft"]
    result = CliRunner().invoke(app, [*words, "--docker", "image"])
    assert result.exit_code == 0, result.output
    assert "docker build -t t-u image" in result.output
    again = CliRunner().invoke(app, [*words, "--out", "x", "--docker", "image", "--json"])
    assert again.exit_code == 2
    assert "image already exists: remove it, or choose another" in again.stdout
