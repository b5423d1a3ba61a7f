"""Advice in messages, followed: the command or option is taken out of the message and leads on.

What the message about a pickle says, `b1k-eval convert`, is followed in
tests/policies/xvla/test_weights.py.
"""

from __future__ import annotations

import ast
import errno
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from doubles import ToyEnv, make_toy_env
from packaging.requirements import Requirement
from run_folders import finished_run
from typer.testing import CliRunner

import b1k_envs
import b1k_eval
import b1k_policies
from b1k_envs.errors import UsageError
from b1k_eval.cli.console import OTHERS_WORDS
from b1k_eval.cli.main import VERBS, app, command
from b1k_eval.records import store
from b1k_eval.records.run_files import read_episodes
from b1k_eval.run import simulators
from b1k_policies.remote.server.limits import Door, Quota

BASE = ["run", "--task", "31", "--policy", "hold", "--no-video", "--max-steps", "5"]


@pytest.fixture
def cli(monkeypatch, tmp_path):
    """Runs the app with the toy env, in a folder of its own."""
    monkeypatch.setattr(simulators, "make_env", make_toy_env)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def refused(result, code=2):
    """The one line of an error."""
    assert result.exit_code == code, result.output
    (line,) = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    return line.removeprefix("error: ")


def options_in(text):
    """Options of ours that a message names, in their order."""
    return re.findall(r"(?<![\w-])--[a-z][a-z._-]*[a-z]", text)


def commands_in(text):
    """Commands that a message has in backticks, as words after `b1k-eval`."""
    return [shlex.split(words) for words in re.findall(r"`b1k-eval ([^`]+)`", text)]


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["r", "a folder's name; with $(signs)"])
def test_the_command_after_ctrl_c_goes_on_with_the_run(cli, monkeypatch, folder):
    begun = []

    class Interrupted(ToyEnv):
        def reset(self, instance, rollout, seed):
            begun.append(instance)
            if len(begun) == 2:
                raise KeyboardInterrupt
            super().reset(instance, rollout, seed)

    monkeypatch.setattr(simulators, "make_env", lambda _: Interrupted(max_steps=5))
    result = cli(*BASE, "--instances", "0-2", "--out", folder)
    assert result.exit_code == 130
    (command,) = re.findall(r"go on with: b1k-eval (.*)", result.stderr)
    done = cli(*shlex.split(command))
    assert done.exit_code == 0, done.output
    assert len(read_episodes(Path(folder))) == 3


def test_a_folder_with_a_run_is_resumed_or_left_for_another(cli):
    assert cli(*BASE, "--out", "r").exit_code == 0
    resume, out = options_in(refused(cli(*BASE, "--out", "r")))
    assert cli(*BASE, "--out", "r", resume).exit_code == 0
    assert cli(*BASE, out, "another").exit_code == 0


def test_what_a_resume_needs_is_what_it_says(cli):
    assert cli(*BASE, "--out", "r").exit_code == 0
    resume, out = options_in(refused(cli("run", "--resume")))
    assert cli("run", resume, out, "r").exit_code == 0


def test_old_settings_repeated_or_another_folder_lead_on(cli):
    assert cli(*BASE, "--out", "r").exit_code == 0
    said = refused(cli("run", "--resume", "--out", "r", "--seed", "7"))
    (old,) = re.findall(r"settings\.seed (\d+) ->", said)
    assert cli("run", "--resume", "--out", "r", "--seed", old).exit_code == 0
    assert cli(*BASE, "--seed", "7", options_in(said)[-1], "another").exit_code == 0


@pytest.mark.parametrize("given", [["--out", "r"], []], ids=["--out", "no --out"])
def test_a_full_disk_at_the_start_free_again_is_started_on_again(cli, monkeypatch, given):
    def full(_path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_probe", full)
        said = refused(cli(*BASE, *given), 1)
    assert "free some space, then start again" in said
    assert not list(Path().rglob("run.json"))
    assert cli(*BASE, *given).exit_code == 0
    (out,) = options_in(said)
    assert cli(*BASE, out, "another").exit_code == 0


def test_a_full_disk_at_an_episode_is_resumed_from(cli, monkeypatch):
    def full(_file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_fsync_file", full)
        said = refused(cli(*BASE, "--out", "r"), 1)
    (resume,) = options_in(said)
    assert cli("run", resume, "--out", "r").exit_code == 0
    assert len(read_episodes(Path("r"))) == 1


def test_a_damaged_line_removed_as_it_says_is_run_again(cli):
    assert cli(*BASE, "--instances", "0-2", "--out", "r").exit_code == 0
    file = Path("r/episodes.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], "damage\n", lines[2]]))
    said = refused(cli("run", "--resume", "--out", "r"))
    (path, number) = re.findall(r"(\S+), line (\d+) is damaged", said)[0]
    kept = Path(path).read_text().splitlines(keepends=True)
    del kept[int(number) - 1]
    Path(path).write_text("".join(kept))
    (resume,) = options_in(said)
    assert cli("run", resume, "--out", "r").exit_code == 0
    assert len(read_episodes(Path("r"))) == 3


@pytest.mark.parametrize(
    "words", [["run"], ["contract", "v4", "v17"], ["contract", "diff", "v4"]], ids=" ".join
)
def test_a_command_in_backticks_runs(cli, words):
    (command,) = commands_in(refused(cli(*words)))
    assert cli(*command).exit_code == 0


def test_smoke_in_the_folder_that_tmpdir_names_leads_on(cli, monkeypatch, tmp_path):
    tried = []
    probe = store._probe

    def full_at_first(path):
        tried.append(path)
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        probe(path)

    monkeypatch.setattr(store, "_probe", full_at_first)
    said = refused(cli("smoke", "--sim", "mujoco", "--policy", "hold"), 1)
    (variable,) = re.findall(r"set ([A-Z]+) to a folder", said)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    monkeypatch.setattr("tempfile.tempdir", None)  # as in a new process
    cli("smoke", "--sim", "mujoco", "--policy", "hold")
    assert tried[1].is_relative_to(tmp_path / "elsewhere")


# --- servers --------------------------------------------------------------------------------------


def test_a_door_to_the_network_opens_as_it_says():
    with pytest.raises(UsageError) as error:
        Door("0.0.0.0", None)
    said = str(error.value)
    assert options_in(said) == ["--host", "--api-key", "--no-key"]
    (variable,) = re.findall(r"set ([A-Z0-9_]+),", said)
    (key_option,) = [p for p in command("serve").params if "--api-key" in p.opts]
    assert key_option.envvar == variable or variable in key_option.envvar
    assert Door("0.0.0.0", "k" * 40).locked
    opened = Door("0.0.0.0", None, no_key=True)
    assert opened.admits(None)
    assert "ANYBODY" in opened.warning


def test_for_how_many_environments_a_server_answers_leads_on():
    """The option that the sentence names, with the number that the evaluator has."""
    said = Quota(envs=1).envs_words
    verb, option = re.findall(r"b1k-eval (\w+) (--[a-z-]+) N", said)[0]
    (parameter,) = [p for p in command(verb).params if option in p.opts]
    assert parameter.name == "max_envs"
    code = (
        "import sys; from b1k_eval.cli.checkpoints import serve\n"
        "from b1k_eval.cli.main import main\n"
        "serve.serve_it = lambda *given, **_: sys.stderr.write(repr(given[1].quota))\n"
        "sys.argv = ['b1k-eval', *sys.argv[1:]]; main()"
    )
    words = [verb, "--policy", "hold", "--port", "0", option, "3"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "envs=3" in done.stderr


# --- imports and exports --------------------------------------------------------------------------


def test_a_run_that_is_no_submission_gets_its_draft(cli):
    assert cli(*BASE, "--out", "run").exit_code == 0
    words = ["export", "run", "--track", "standard", "--team", "T", "--affiliation", "A"]
    said = refused(cli(*words))
    assert "--force-draft" in options_in(said)
    done = cli(*words, "--force-draft", "--out", "drafts")
    assert done.exit_code == 0, done.output
    again = refused(cli(*words, "--force-draft", "--out", "drafts"))
    (out,) = options_in(again)
    assert cli(*words, "--force-draft", out, "others").exit_code == 0


def test_compare_that_refuses_a_mix_takes_it_when_told(cli, tmp_path):
    one = finished_run(tmp_path / "one", {0: "failure", 1: "success"})
    two = finished_run(tmp_path / "two", {0: "failure", 1: "success"}, protocol="2025")
    said = refused(cli("compare", one, two))
    (mix,) = [option for option in options_in(said) if option == "--mix"]
    assert cli("compare", one, two, mix).exit_code == 0


# --- everything that is said ----------------------------------------------------------------------

OTHERS = {
    # pip, conda, hugging face, git, nvidia-smi, BEHAVIOR-1K's setup.sh and its evaluator
    "--upgrade", "--index-url", "--local-dir", "--porcelain", "--untracked-files", "--query-gpu",
    "--format", "--new-env", "--omnigibson", "--bddl", "--joylo", "--dataset", "--eval",
    "--env-wrapper", "--instance-indices", "--num-rollouts", "--output-dir", "--robot-config",
    "--task-name", "--write-video",
    # GR00T's server
    "--embodiment-tag",
    # Slurm and Ray
    "--array", "--head", "--signal",
    # apt, pip, useradd and Docker
    "--no-install-recommends", "--no-cache-dir", "--create-home", "--rm",
    # style sheets
    "--font", "--ink", "--line", "--muted", "--run",
}  # fmt: skip


def said_anywhere():
    """Every text in the sources, with its place."""
    for package in (b1k_envs, b1k_policies, b1k_eval):
        for file in Path(package.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield f"{file.name}:{node.lineno}", node.value


@pytest.mark.slow
def test_every_option_and_verb_that_a_text_names_is_there():
    known = {"--help", "--version"} | OTHERS | OTHERS_WORDS.keys()
    for verb in VERBS:
        for parameter in command(verb).params:
            known |= {*parameter.opts, *parameter.secondary_opts}
    unknown = [
        (place, option)
        for place, text in said_anywhere()
        for option in options_in(text)
        if option not in known
    ]
    unknown += [
        (place, command)
        for place, text in said_anywhere()
        for command in re.findall(r"`b1k-eval ([a-z-]+)", text)
        if command not in VERBS
    ]
    assert unknown == []


@pytest.mark.slow
def test_packages_that_a_text_has_installed_are_extras_of_ours():
    project = Path(__file__).parents[3] / "pyproject.toml"
    table = project.read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    extras = set(re.findall(r"^(\w+) = \[", table.partition("\n[")[0], re.MULTILINE))
    named = {
        (place, extra)
        for place, text in said_anywhere()
        for group in re.findall(r"'(?:\.|CHECKOUT)\[([\w,]+)\]", text)
        for extra in group.split(",")
    }
    assert named
    assert [(place, extra) for place, extra in sorted(named) if extra not in extras] == []


def test_what_a_text_has_installed_is_written_as_pip_takes_it():
    command = r"pip install ((?!-)(?:'[^']+'|[\w.-]+)(?: '[^']+')*)(?=$|[\s;,:()`])"
    commands = [
        (place, words) for place, text in said_anywhere() for words in re.findall(command, text)
    ]
    assert len(commands) > 5
    for place, words in commands:
        for word in shlex.split(words):
            # Ours is on no index, so what is installed is the checkout.
            assert Requirement(re.sub(r"^(\.|CHECKOUT)(?=\[|$)", "b1k-eval", word)).name, place
