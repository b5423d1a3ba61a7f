"""What doctor finds, what it concludes, and what it tells a machine that cannot run anything."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version

import pytest
import typer
from typer.testing import CliRunner

from b1k_envs.errors import UnavailableError
from b1k_envs.mujoco_twin.gl import GlInfo
from b1k_eval import machine
from b1k_eval.cli.doctor import doctor
from b1k_eval.machine import Check, examine, judge

NAMES = (
    "python numpy mujoco bddl opengl opencv ffmpeg disk cpus memory nvidia_gpu torch isaacsim "
    "omnigibson"
)
ALL_OK = tuple(
    Check(name=name.replace("_", " "), state="ok", detail="here") for name in NAMES.split()
)
NO_GL = "no OpenGL: egl: libEGL.so.1 not found; install with: apt-get install libegl1"


def without(*names, advice="do this"):
    """A machine that has everything but these."""
    return tuple(
        replace(check, state="missing", detail="gone", advice=advice)
        if check.name in names
        else check
        for check in ALL_OK
    )


def run_doctor(*arguments):
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def refuse(message):
    def raising():
        raise UnavailableError(message)

    return raising


@pytest.fixture
def quick(monkeypatch):
    """Skip the rendering: its figure is not what these tests look at."""
    monkeypatch.setattr(machine, "head_frame_ms", lambda: 12.34)
    info = GlInfo(backend="egl", vendor="Mesa", renderer="llvmpipe (LLVM 15)", version="4.5")
    monkeypatch.setattr(machine, "gl_info", lambda: info)


def found(results, name):
    return next(check for check in examine(results) if check.name == name)


def test_a_machine_with_everything_is_ready_for_both():
    twin, omnigibson = judge(ALL_OK)
    assert (twin.ready, twin.text) == (True, "ready")
    assert omnigibson.ready


@pytest.mark.parametrize("name", ["python", "numpy", "mujoco", "bddl", "opengl"])
def test_the_twin_is_not_here_without_any_one_of_its_parts_and_the_part_is_named(name):
    twin, _ = judge(without(name))
    assert not twin.ready
    assert twin.text == f"not here: {name}: gone; do this"


@pytest.mark.parametrize("name", ["opencv", "ffmpeg"])
def test_without_the_means_for_a_video_the_twin_still_runs(name):
    twin, _ = judge(without(name))
    assert twin.ready
    assert twin.text == f"ready, but only with --no-video: {name}: gone; do this"


@pytest.mark.parametrize("name", ["nvidia gpu", "isaacsim", "torch", "omnigibson"])
def test_what_only_omnigibson_needs_does_not_stop_the_twin(name):
    twin, omnigibson = judge(without(name))
    assert twin.text == "ready"
    assert not omnigibson.ready
    assert omnigibson.text.startswith(f"not here: {name}: gone")


def test_versions_are_those_of_the_installed_packages(quick, tmp_path):
    assert found(tmp_path, "numpy").detail == version("numpy")
    assert found(tmp_path, "mujoco").detail == version("mujoco")
    assert found(tmp_path, "bddl").detail.startswith(version("bddl") + ", ")
    assert found(tmp_path, "python").detail.startswith(platform.python_version())


def test_the_renderer_and_its_cost_are_told(quick, tmp_path):
    assert found(tmp_path, "opengl").detail == "egl, llvmpipe (LLVM 15) (software)"
    assert found(tmp_path, "head frame").detail.startswith("12.3 ms for 720 x 720")


def test_a_renderer_that_breaks_is_reported_and_does_not_stop_doctor(quick, tmp_path, monkeypatch):
    def broken():
        raise RuntimeError("framebuffer incomplete")

    monkeypatch.setattr(machine, "head_frame_ms", broken)
    check = found(tmp_path, "opengl")
    assert check.state == "missing"
    assert check.detail == "egl starts but cannot render: framebuffer incomplete"


def test_an_mujoco_older_than_the_twin_needs_counts_as_missing(quick, tmp_path, monkeypatch):
    known = machine.installed_version
    monkeypatch.setattr(
        machine, "installed_version", lambda name: "3.2.7" if name == "mujoco" else known(name)
    )
    check = found(tmp_path, "mujoco")
    assert (check.state, check.detail) == ("missing", "3.2.7 is too old")
    assert check.advice == "pip install 'mujoco>=3.3'"


def test_opencv_without_its_system_libraries_names_the_packages(quick, tmp_path, monkeypatch):
    message = "no OpenCV: libGL.so.1: cannot open; install with: apt-get install libgl1"
    monkeypatch.setattr(machine, "import_cv2", refuse(message))
    check = found(tmp_path, "opencv")
    assert check.state == "missing"
    assert check.detail == "libGL.so.1: cannot open"
    assert check.advice == "install with: apt-get install libgl1"


def test_an_ffmpeg_without_the_h264_encoder_is_missing(quick, tmp_path, monkeypatch):
    exe = tmp_path / "ffmpeg"
    exe.write_text("#!/bin/sh\necho ' V....D libvpx  VP8'\n")
    exe.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(exe))
    check = found(tmp_path, "ffmpeg")
    assert check.state == "missing"
    assert check.detail == f"{exe} has no libx264 encoder"


def test_the_bundled_ffmpeg_can_encode(quick, tmp_path, monkeypatch):
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    check = found(tmp_path, "ffmpeg")
    assert check.state == "ok"
    assert check.detail.endswith("libx264")


@pytest.mark.parametrize(
    ("body", "state", "detail"),
    [
        ("echo 'NVIDIA L40S, 46068 MiB, 570.1'", "ok", "NVIDIA L40S, 46068 MiB, 570.1"),
        ("echo 'NVIDIA H200, 143771 MiB, 570.1'", "note", "NVIDIA H200, 143771 MiB, 570.1"),
        (
            "echo 'NVIDIA-SMI has failed: no driver'; exit 9",
            "absent",
            "nvidia-smi: NVIDIA-SMI has failed: no driver",
        ),
    ],
)
def test_the_gpu_is_what_nvidia_smi_lists(quick, tmp_path, monkeypatch, body, state, detail):
    exe = tmp_path / "nvidia-smi"
    exe.write_text(f"#!/bin/sh\n{body}\n")
    exe.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    check = found(tmp_path, "nvidia gpu")
    assert (check.state, check.detail) == (state, detail)


def test_the_disk_is_that_of_the_nearest_folder_that_exists(quick, tmp_path):
    wanted = tmp_path / "not" / "yet" / "there"
    assert found(wanted, "disk").detail.endswith(f"GB free for {wanted}")
    assert not wanted.parent.exists()


def test_heavy_packages_are_looked_up_and_never_imported(tmp_path):
    code = (
        "import sys, types, pathlib\n"
        "class Bomb:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'omnigibson', 'isaacsim'):\n"
        "            from importlib.machinery import ModuleSpec\n"
        "            return ModuleSpec(name, self)\n"
        "    def create_module(self, spec): raise SystemExit(f'{spec.name} was imported')\n"
        "    def exec_module(self, module): pass\n"
        "sys.meta_path.insert(0, Bomb())\n"
        "from b1k_eval import machine\n"
        "machine._gl = lambda: ()\n"
        "checks = {c.name: c.state for c in machine.examine(pathlib.Path('.'))}\n"
        "assert checks['torch'] == checks['omnigibson'] == checks['isaacsim'] == 'ok', checks\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_ends_with_one_verdict_a_simulator_and_exit_code_0(quick, tmp_path):
    done = run_doctor("--out", str(tmp_path))
    assert done.exit_code == 0
    assert "mujoco twin: ready" in done.stdout
    assert done.stdout.rstrip().split("\n")[-1].startswith("omnigibson: ")


def test_json_is_one_document_with_every_check_and_verdict(quick, tmp_path):
    done = run_doctor("--out", str(tmp_path), "--json")
    document = json.loads(done.stdout)
    assert {check["name"] for check in document["checks"]} >= {c.name for c in ALL_OK}
    assert [verdict["sim"] for verdict in document["verdicts"]] == ["mujoco", "omnigibson"]
    assert document["verdicts"][0]["ready"] is True


def test_json_is_written_as_that_of_every_other_verb(quick, tmp_path):
    done = run_doctor("--out", str(tmp_path / "Läufe"), "--json")
    assert "Läufe" in done.stdout


def test_a_machine_that_can_run_nothing_ends_with_4_and_says_what_to_install(
    quick, tmp_path, monkeypatch
):
    monkeypatch.setattr(machine, "gl_info", refuse(NO_GL))
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi: OmniGibson is out as well
    done = run_doctor("--out", str(tmp_path))
    assert done.exit_code == 4
    assert (
        "mujoco twin: not here: opengl: egl: libEGL.so.1 not found; "
        "install with: apt-get install libegl1" in done.stdout
    )
