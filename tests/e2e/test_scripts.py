"""The shell scripts, with stand-ins for Python, apt-get and sudo: nothing is installed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("scripts/run", "scripts/test", ".ci/run")
LIBRARY = ROOT / "scripts" / "lib" / "setup.sh"
CHECKS = LIBRARY.with_name("checks.sh")
TOOLS = ("bash", "env", "cat", "cksum", "chmod", "dirname", "rm", "mkdir", "grep", "cp")
TOOLS += ("mktemp", "sleep")

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="not run from a checkout")

# Answers what setup.sh asks of a Python: who are you, make an environment, is all installed?
FAKE_PYTHON = """#!/bin/bash
echo "python $*" >> "$LOG"
case "$1 $2" in
  "-m venv") rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
  "-m pip") case "$3" in
      install) case "$*" in *"${PIP_FAILS:-nothing}"*) exit 1 ;; esac
        printf '#!/bin/bash\\necho "b1k-eval $*" >> "$LOG"\\n' > "$PWD/.venv/bin/b1k-eval"
        chmod +x "$PWD/.venv/bin/b1k-eval" ;;
    esac ;;
  "-c "*) case "$2" in *_base_executable*) echo "$0" ;; esac ;;
esac
"""


class Checkout:
    """A clone with the scripts in it, and a PATH that holds only what is put there."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a clone with spaces"
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.bin.mkdir()
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        shutil.copy(ROOT / "pyproject.toml", self.root)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None, tool
            (self.bin / tool).symlink_to(found)
        self.tool("ldconfig", "echo libEGL.so.1 libGL.so.1 libglib-2.0.so.0")
        self.tool("id", "echo 1000")

    def tool(self, name: str, body: str, *, whole: bool = False) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(body if whole else f'#!/bin/bash\necho "{name} $*" >> "$LOG"\n{body}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def shell(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(self.bin), "LOG": str(self.log), "HOME": str(self.root.parent)}
        return subprocess.run(
            [str(self.bin / "bash"), "-c", command],
            cwd=self.root.parent,
            env=env | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def function(self, call: str, **environment: str) -> subprocess.CompletedProcess[str]:
        head = f'set -euo pipefail; B1K_ROOT="{self.root}"; . "{self.root}/scripts/lib/setup.sh"; '
        return self.shell(head + call, **environment)

    def run(self, arguments: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return self.shell(f'"{self.root}/scripts/run" {arguments}', **environment)

    def calls(self, word: str) -> list[str]:
        """Logged calls that hold a word; the log starts anew."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line for line in lines if word in line]


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


@pytest.fixture
def with_python(checkout):
    checkout.tool("python3.11", FAKE_PYTHON, whole=True)
    return checkout


@pytest.mark.parametrize("script", [*SCRIPTS, "scripts/lib/setup.sh", "scripts/lib/checks.sh"])
def test_a_script_is_valid_bash_and_may_be_executed(script):
    path = ROOT / script
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if script in SCRIPTS:
        assert os.access(path, os.X_OK)
        assert "set -euo pipefail" in path.read_text()


def test_the_first_call_makes_the_environment_and_hands_the_arguments_on(with_python):
    done = with_python.run("--policy zero --out 'a b'")
    assert done.returncode == 0, done.stderr
    log = with_python.log.read_text().splitlines()
    assert [line for line in log if "-m pip install" in line] == [
        "python -m pip install --quiet --disable-pip-version-check --upgrade pip",
        "python -m pip install --quiet --disable-pip-version-check -e . "
        "-c scripts/lib/constraints.txt",
    ]
    assert log[-1] == "b1k-eval run --task 31 --policy zero --out a b"
    assert done.stdout == ""  # standard output belongs to the command


@pytest.mark.parametrize("asked", ["--task 0", "--task=turning_on_radio"])
def test_another_task_may_be_asked_for(with_python, asked):
    done = with_python.run(asked)
    assert done.returncode == 0, done.stderr
    assert with_python.calls("b1k-eval run") == [f"b1k-eval run --policy expert {asked}"]


@pytest.mark.parametrize("asked", ["--ckpt twin-v17", "--policy=hold"])
def test_the_expert_is_named_unless_another_policy_is(with_python, asked):
    assert with_python.run(asked).returncode == 0
    assert with_python.calls("b1k-eval run") == [f"b1k-eval run --task 31 {asked}"]


def test_a_run_that_is_resumed_keeps_its_own_task_and_policy(with_python):
    assert with_python.run("--resume --out r").returncode == 0
    assert with_python.calls("b1k-eval run") == ["b1k-eval run --resume --out r"]


def test_the_second_call_asks_neither_pip_nor_apt(with_python):
    with_python.run()
    assert with_python.calls("pip install")
    done = with_python.run()
    assert done.stderr == ""
    log = with_python.log.read_text()
    assert "-m pip" not in log
    assert "-m venv" not in log
    assert "apt-get" not in log
    assert log.splitlines()[-1] == "b1k-eval run --task 31 --policy expert"


def test_a_changed_pyproject_is_installed_again(with_python):
    with_python.run()
    with_python.calls("")
    with (with_python.root / "pyproject.toml").open("a") as stream:
        stream.write("# another dependency\n")
    with_python.run()
    assert len(with_python.calls("check -e .")) == 1


@pytest.mark.parametrize("words", ["--ckpt folder", "--seed 1 --ckpt=folder"])
def test_a_checkpoint_brings_what_checkpoints_need(with_python, words):
    with_python.run(words)
    assert len(with_python.calls("check -e .[xvla]")) == 1


@pytest.mark.parametrize("fails", ["nothing", "whl/cpu"])
def test_without_a_gpu_torch_is_the_cpus_where_its_index_can_be_reached(with_python, fails):
    done = with_python.run("--ckpt folder", NVIDIA_DRIVER="/nowhere", PIP_FAILS=fails)
    assert done.returncode == 0, done.stderr
    _, torch, ours = with_python.calls("pip install")
    assert torch.endswith(
        "--index-url https://download.pytorch.org/whl/cpu torch -c scripts/lib/constraints.txt"
    )
    assert "-e .[xvla] " in ours
    assert ("no CPU build of torch" in done.stderr) == (fails != "nothing")


def test_with_a_gpu_torch_is_the_default_one(with_python):
    driver = with_python.root / "version"
    driver.write_text("NVRM")
    with_python.run("--ckpt folder", NVIDIA_DRIVER=str(driver))
    assert len(with_python.calls("pip install")) == 2


def test_an_environment_that_does_not_run_is_made_anew(with_python):
    with_python.run()
    with_python.calls("")
    python = with_python.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    done = with_python.run()
    assert done.returncode == 0
    assert "the environment in .venv does not work here; making it anew" in done.stderr
    assert len(with_python.calls("-m venv --clear")) == 1


def test_a_moved_checkout_is_installed_again(with_python):
    with_python.run()
    with_python.calls("")
    moved = with_python.root.with_name("moved")
    with_python.root.rename(moved)
    with_python.root = moved
    with_python.run()
    assert len(with_python.calls("check -e .")) == 1


def test_a_failed_installation_is_told_and_tried_again_the_next_time(with_python):
    failed = with_python.run(PIP_FAILS="install")
    assert failed.returncode == 4
    assert "installing failed, pip's words are above" in failed.stderr
    assert not with_python.calls("b1k-eval run")
    assert with_python.run().returncode == 0
    assert len(with_python.calls("check -e .")) == 1


def test_the_test_extras_serve_the_plain_command_and_not_the_other_way_round(with_python):
    with_python.function("ensure_installed")
    with_python.calls("")
    with_python.function('ensure_installed "[test]"')
    *_, ours, theirs = with_python.calls("pip install")
    assert "-e .[test] " in ours
    assert "--no-deps openpi-client" in theirs  # its pins would take numpy 2 away
    for extras in ("", '"[xvla]"'):  # the tests' environment has all of it
        with_python.function(f"ensure_installed {extras}")
        assert with_python.calls("pip install") == []


def test_without_a_usable_python_one_sentence_says_what_to_do(checkout):
    done = checkout.run()
    assert done.returncode == 4
    assert done.stderr.strip() == (
        "b1k-eval: no usable Python: 3.10 or newer with the venv module is needed (tried "
        "python3.11 python3.10 python3.12 python3.13 python3); on Debian or Ubuntu run: "
        "sudo apt-get install python3 python3-venv"
    )


def test_a_python_that_is_a_dead_shim_or_lacks_venv_is_passed_over(checkout):
    checkout.tool("python3.11", "exit 127")
    checkout.tool("python3.10", "exit 1")
    (checkout.bin / "python3.13").symlink_to(Path(sys.executable).resolve())
    done = checkout.function("find_python")
    assert Path(done.stdout.strip()).resolve() == Path(sys.executable).resolve()


def test_packages_for_rendering_are_found_missing_by_their_libraries(checkout):
    checkout.tool("ldconfig", "echo libEGL.so.1")
    missing = checkout.function("missing_gl_packages").stdout.split()
    assert missing[:2] == ["libglib2.0-0", "libgl1"]
    assert "libegl1" not in missing


def test_another_backend_by_choice_asks_for_no_egl(checkout):
    checkout.tool("ldconfig", "true")
    missing = checkout.function("missing_gl_packages", MUJOCO_GL="osmesa").stdout.split()
    assert missing == ["libglib2.0-0", "libgl1"]


def test_root_installs_what_is_missing_and_only_that(checkout):
    checkout.tool("ldconfig", "echo libEGL.so.1 libglib-2.0.so.0")
    checkout.tool("id", "echo 0")
    checkout.tool("apt-get", "true")
    done = checkout.function("ensure_gl_packages", MUJOCO_GL="osmesa")
    assert done.returncode == 0
    assert checkout.calls("apt-get")[-1] == (
        "apt-get install -qq -y --no-install-recommends libgl1"
    )


def test_sudo_is_used_only_where_it_asks_no_password(checkout):
    checkout.tool("ldconfig", "echo libEGL.so.1 libglib-2.0.so.0")
    checkout.tool("apt-get", "true")
    checkout.tool("sudo", "exit 1")
    refused = checkout.function("ensure_gl_packages", MUJOCO_GL="osmesa")
    assert refused.returncode == 0  # the command itself decides whether it can go on
    assert "on Debian or Ubuntu run: sudo apt-get install libgl1 (Fedora:" in refused.stderr
    assert checkout.calls("apt-get ") == []
    checkout.tool("sudo", 'shift; [ "$1" = true ] || "$@"')
    checkout.function("ensure_gl_packages", MUJOCO_GL="osmesa")
    assert checkout.calls("apt-get install")[-1].endswith("libgl1")


def test_a_machine_without_apt_gets_a_sentence_and_goes_on(with_python):
    with_python.tool("ldconfig", "true")
    done = with_python.run()
    assert done.returncode == 0
    assert "libraries for rendering are missing and cannot be installed from here" in done.stderr
    assert with_python.calls("b1k-eval run") == ["b1k-eval run --task 31 --policy expert"]


# --- the gate ---------------------------------------------------------------------------------


def test_what_runs_beside_is_shown_at_its_end_and_its_failure_counts(checkout):
    checkout.tool("fine", "echo all is well")
    checkout.tool("broken", "echo it broke; exit 3")
    beside = f'. "{CHECKS}"; beside one fine; beside two broken; beside three sleep 60; '
    done = checkout.function(f"{beside}joined one; joined two; echo never", TMPDIR=checkout.root)
    assert done.returncode == 3
    assert done.stdout == ""
    said = done.stderr.replace("b1k-eval: ", "").splitlines()
    assert said[-5:] == ["one said:", "all is well", "two said:", "it broke", "two failed"]
    # `three` was ended: this process would else have waited for it.
    assert not list(checkout.root.glob("tmp.*"))
