"""docs/your-own-policy.md: its examples work as they stand, from a file to a package."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from doubles import make_toy_env
from typer.testing import CliRunner

from b1k_envs.errors import UsageError
from b1k_eval.cli.main import app, command
from b1k_eval.run import simulators
from b1k_policies.own import installed
from b1k_policies.registry import make_policy, source

PAGE = (Path(__file__).parents[3] / "docs" / "your-own-policy.md").read_text(encoding="utf-8")
BLOCKS = {
    name: text for name, text in re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", PAGE, re.M | re.S)
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_policy.py").write_text(BLOCKS["my_policy.py"])
    yield tmp_path
    sys.modules.pop("my_robot_policies.turning", None)
    sys.modules.pop("my_robot_policies", None)


def invoke(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_first_example_passes_the_checks_and_runs(folder, monkeypatch):
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    assert "0 fails, 0 note" in invoke("check-policy", "my_policy.py:MyPolicy")
    words = ["--policy", "my_policy.py:MyPolicy", "--policy-arg", "speed=0.2", "--max-steps", 30]
    told = invoke("run", "--task", 31, *words, "--no-video", "--out", "r", "--json")
    assert json.loads(told)["counts"] == {"success": 0, "failure": 1, "error": 0}
    identity = json.loads((folder / "r" / "run.json").read_text())["identity"]
    assert identity["policy"]["source"]["arguments"] == {"speed": 0.2}


def as_package(folder):
    package = folder / "src" / "my_robot_policies"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "turning.py").write_text(BLOCKS["my_policy.py"])
    (folder / "src" / "pyproject.toml").write_text(BLOCKS["pyproject.toml"])
    return folder / "src"


def described(place, name="my-robot-policies", **names):
    """What an installer leaves of the page's pyproject.toml."""
    info = place / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    text = BLOCKS["pyproject.toml"]
    points = ConfigParser()
    points.read_string(text[text.index("[project.entry") :].replace('"', ""))
    (section,) = points.sections()
    assert section == f"project.entry-points.{installed.GROUP}"
    entries = names or dict(points[section])
    lines = [f"{key} = {value}" for key, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{installed.GROUP}]", *lines, ""]))


def test_a_package_registers_a_name_that_help_lists_without_importing_it(folder, monkeypatch):
    place = as_package(folder)
    described(place)
    monkeypatch.syspath_prepend(place)
    (shown,) = [each.help for each in command("run").params if each.name == "policy"]
    assert shown.endswith("or see --ckpt. From installed packages: turning.")
    with pytest.raises(UsageError, match=r"'turnin' is unknown; did you mean turning.*, turning$"):
        make_policy("turnin")
    assert "my_robot_policies" not in sys.modules
    policy = make_policy("turning", arguments=["speed=0.3"])
    assert (policy.name, policy.speed) == ("turning", 0.3)
    found = source("turning")
    assert found is not None
    assert found.package == "my-robot-policies 1.2"
    assert (found.module, found.name) == ("my_robot_policies.turning", "MyPolicy")
    assert list(found.files) == ["my_robot_policies/__init__.py", "my_robot_policies/turning.py"]
    assert "0 fails" in invoke("check-policy", "turning")


def test_two_packages_with_one_name_are_refused_and_a_built_in_name_stays(folder, monkeypatch):
    place = as_package(folder)
    described(place)
    described(place, "other-policies", turning="other.mod:P", hold="other.mod:P")
    monkeypatch.syspath_prepend(place)
    with pytest.raises(UsageError) as caught:
        make_policy("turning")
    message = str(caught.value)
    assert message.startswith("--policy turning: two installed packages have this name (")
    assert "my_robot_policies.turning:MyPolicy of my-robot-policies" in message
    assert "other.mod:P of other-policies" in message
    assert make_policy("hold").name == "hold"


@pytest.mark.slow
def test_an_installer_of_the_package_registers_the_same(folder):
    pytest.importorskip("setuptools")
    target = folder / "target"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", "--target", target, as_package(folder)], check=True)
    code = "from b1k_eval.cli.main import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", code, "check-policy", "turning", "--json"],
        env={**os.environ, "PYTHONPATH": ":".join([str(target), *sys.path[1:]])},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["passed"] is True
    assert document["source"]["package"] == "my-robot-policies 1.2"
