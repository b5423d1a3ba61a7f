"""What doctor finds here, what it concludes, and the form it tells it in."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
import typer
from fake_machines import FakeMachine, verdict_of
from rich.console import Console
from typer.testing import CliRunner

from b1k_envs.errors import UnavailableError
from b1k_eval.cli.doctor import _show, doctor
from b1k_eval.doctor import FORMAT, Check, State, Subject, Verdict, basics, examine, judge, policies
from b1k_eval.doctor.checks import BOTH_YEARS
from b1k_policies.xvla.code.required_packages import FAMILY_TRANSFORMERS

NO_GL = "no OpenGL: egl: libEGL.so.1 not found; install with: apt-get install libegl1"
PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"
TWIN_NEEDS = ("python", "numpy", "mujoco", "bddl", "opengl")

# The command in a process of its own, which ends by telling what it loaded.
TRUTH = """
import json, sys
from b1k_eval.cli.main import app
try:
    app(["doctor", "--json", "--out", sys.argv[1]])
except SystemExit as done:
    code = done.code
maps = open("/proc/self/maps").read()
told = {"code": code, "modules": sorted(sys.modules), "egl": "libEGL" in maps}
print(json.dumps(told), file=sys.stderr)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return FakeMachine(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The document about this machine, and what looking at it has loaded."""
    folder = tmp_path_factory.mktemp("doctor")
    done = subprocess.run(
        [sys.executable, "-c", TRUTH, str(folder)], capture_output=True, text=True, check=False
    )
    told = json.loads(done.stderr.splitlines()[-1])
    document = json.loads(done.stdout)
    checks = {check["name"]: check for check in document["checks"]}
    return {**document, **told, "folder": folder, "checks": checks}


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def run_doctor(*arguments):
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def refuse(message):
    def raising():
        raise UnavailableError(message)

    return raising


def without(machine, *names):
    """The verdicts on a machine that has everything but these."""
    checks = [
        replace(check, state="missing", detail="gone", advice="do this")
        if check.name in names
        else check
        for check in examine(machine.folder)
    ]
    return judge(checks)


# --- What is true of this machine, by other means


def test_the_cores_are_those_the_kernel_lets_this_process_use(here):
    status = Path("/proc/self/status").read_text()
    ranges = re.search(r"Cpus_allowed_list:\s*(\S+)", status)[1].split(",")
    ends = [list(map(int, part.split("-"))) for part in ranges]
    allowed = sum(end[-1] - end[0] + 1 for end in ends)
    assert here["checks"]["cpus"]["detail"].startswith(f"{allowed} usable of ")


def test_the_memory_is_the_kernels(here):
    total_kib = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1])
    told = float(here["checks"]["memory"]["detail"].split()[0])
    assert told == pytest.approx(total_kib * 1024 / 1e9, abs=0.06)


def test_the_disk_is_what_df_says(here):
    kib = int(said("df", "--output=avail", str(here["folder"])).split()[-1])
    told = float(here["checks"]["disk"]["detail"].split()[0])
    assert told == pytest.approx(kib * 1024 / 1e9, abs=1.0)  # others write in the meantime


def test_there_is_a_gpu_exactly_if_the_driver_lists_one(here):
    listed = said("nvidia-smi", "-L") if shutil.which("nvidia-smi") else ""
    assert (here["checks"]["nvidia gpu"]["state"] == "ok") is listed.startswith("GPU 0")
    if not listed.startswith("GPU 0"):
        assert {here["checks"][name]["state"] for name in ("gpu driver", "ray tracing")} == {
            "skipped"
        }


@pytest.mark.parametrize("name", ["omnigibson 2025", "omnigibson 2026", "isaacsim"])
def test_what_python_cannot_find_is_absent(here, name):
    if find_spec("omnigibson") or find_spec("isaacsim"):
        pytest.skip("this machine has OmniGibson")
    check = here["checks"][name]
    assert (check["state"], check["detail"]) == ("absent", "not installed")
    assert check["advice"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numpy", "mujoco", "torch"])
def test_versions_are_those_that_the_packages_say_themselves(here, name):
    told = said(sys.executable, "-c", f"import {name}; print({name}.__version__)").strip()
    assert here["checks"][name]["detail"] == told


def test_the_interpreter_is_this_one(here):
    number, path = here["checks"]["python"]["detail"].split(" ", 1)
    assert number == platform.python_version()
    assert os.path.realpath(path.strip("()")) == str(Path("/proc/self/exe").readlink())


def test_the_bddl_is_told_by_what_can_be_imported_from_it(here):
    code = "import bddl.backend_abc; print('PyPI')"
    generation = "backend" if said(sys.executable, "-c", code) else "callback"
    assert here["checks"]["bddl"]["detail"].startswith(
        f"{version('bddl')}, {generation} generation"
    )


def test_the_opengl_that_is_named_was_really_loaded(here):
    check = here["checks"]["opengl"]
    assert check["state"] == "ok"  # the other tests render as well
    assert here["egl"] is check["detail"].startswith("egl, ")
    assert float(here["checks"]["head frame"]["detail"].split()[0]) > 0


def test_the_encoder_that_is_named_is_one_that_encodes(here):
    from b1k_eval.video.recorder import ffmpeg_exe

    encoders = said(ffmpeg_exe(), "-hide_banner", "-encoders")
    assert (here["checks"]["ffmpeg"]["state"] == "ok") is (" libx264 " in encoders)


def test_the_verdicts_here_are_those_of_the_evaluation_that_the_other_tests_run(here):
    ready = {verdict["subject"]: verdict["ready"] for verdict in here["verdicts"]}
    assert ready["mujoco"] is True
    assert here["code"] == 0
    if not find_spec("omnigibson"):
        assert ready["omnigibson-2025"] is ready["omnigibson-2026"] is False


def test_looking_imports_nothing_heavy(here):
    roots = {name.partition(".")[0] for name in here["modules"]}
    heavy = {"torch", "transformers", "omnigibson", "isaacsim", "pandas", "scipy", "bddl"}
    assert not roots & heavy
    assert "mujoco" in roots  # which draws the head frame


# --- What follows from what was found


def test_a_machine_with_everything_is_ready_for_the_twin_one_year_and_checkpoints(machine):
    machine.ready_2026()
    ready = {verdict.subject: verdict.ready for verdict in judge(examine(machine.folder))}
    assert ready == {
        "mujoco": True,
        "omnigibson-2025": False,
        "omnigibson-2026": True,
        "checkpoints": True,
    }


@pytest.mark.parametrize("name", TWIN_NEEDS)
def test_the_twin_is_not_here_without_any_one_of_its_parts_and_the_part_is_named(machine, name):
    twin = verdict_of(without(machine, name), "mujoco")
    assert not twin.ready
    assert twin.text == f"not here: {name}: gone; do this"


@pytest.mark.parametrize("name", ["opencv", "ffmpeg"])
def test_without_the_means_for_a_video_a_simulator_still_runs(machine, name):
    machine.ready_2026()
    for subject in ("mujoco", "omnigibson-2026"):
        verdict = verdict_of(without(machine, name), subject)
        assert verdict.ready
        assert verdict.text == f"ready, but only with --no-video: {name}: gone; do this"
    assert verdict_of(without(machine, name), "checkpoints").text == "ready"


@pytest.mark.parametrize("name", ["nvidia gpu", "isaacsim", "omnigibson 2026", "asset key"])
def test_what_only_omnigibson_needs_stops_neither_twin_nor_checkpoints(machine, name):
    machine.ready_2026()
    verdicts = without(machine, name)
    assert verdict_of(verdicts, "mujoco").text == "ready"
    assert verdict_of(verdicts, "checkpoints").ready
    assert verdict_of(verdicts, "omnigibson-2026").text == f"not here: {name}: gone; do this"


def test_all_that_is_in_the_way_is_listed_and_the_rest_counted(machine):
    machine.ready_2026()
    verdict = verdict_of(without(machine, "numpy", "torch", "assets"), "omnigibson-2026")
    assert verdict.text == "not here: numpy: gone; do this (and 2 more)"
    assert [step.partition(":")[0] for step in verdict.steps] == ["numpy", "torch", "assets"]


# --- The twin's own parts


def test_the_renderer_and_its_cost_are_told(machine):
    assert machine.check("opengl").detail == "egl, llvmpipe (LLVM 15) (software)"
    assert machine.check("head frame").detail.startswith("12.3 ms for 720 x 720")


def test_a_renderer_that_breaks_is_reported_and_does_not_stop_doctor(machine, monkeypatch):
    def broken():
        raise RuntimeError("framebuffer incomplete")

    monkeypatch.setattr(basics, "head_frame_ms", broken)
    check = machine.check("opengl")
    assert check.state == "missing"
    assert check.detail == "egl starts but cannot render: framebuffer incomplete"
    assert machine.check("head frame").state == "skipped"


def test_a_mujoco_older_than_the_twin_needs_counts_as_missing(machine):
    machine.distribution("mujoco", "3.2.7")
    check = machine.check("mujoco")
    assert (check.state, check.detail) == ("missing", "3.2.7 is too old")
    assert check.advice == "pip install 'mujoco>=3.3'"


def test_a_python_older_than_served_counts_as_missing(machine):
    machine.python(3, 9)
    assert machine.check("python").advice == "use Python 3.10 or newer"


def test_opencv_without_its_system_libraries_names_the_packages(machine, monkeypatch):
    message = "no OpenCV: libGL.so.1: cannot open; install with: apt-get install libgl1"
    monkeypatch.setattr(basics, "import_cv2", refuse(message))
    check = machine.check("opencv")
    assert check.state == "missing"
    assert check.detail == "libGL.so.1: cannot open"
    assert check.advice == "install with: apt-get install libgl1"


def test_an_ffmpeg_without_the_h264_encoder_is_missing(machine, tmp_path, monkeypatch):
    exe = tmp_path / "ffmpeg"
    exe.write_text("#!/bin/sh\necho ' V....D libvpx  VP8'\n")
    exe.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(exe))
    check = machine.check("ffmpeg")
    assert check.state == "missing"
    assert check.detail == f"{exe} has no libx264 encoder"


def test_the_disk_is_that_of_the_nearest_folder_that_exists(tmp_path):
    wanted = tmp_path / "not" / "yet" / "there"
    assert basics.disk(wanted).detail.endswith(f"GB free for {wanted}")
    assert not wanted.parent.exists()


def test_a_full_disk_for_results_is_a_note(machine):
    machine.disk_gib(0.5)
    check = machine.check("disk")
    assert (check.state, check.advice) == ("note", "free some space, or use --out")


def test_a_folder_for_results_that_cannot_be_written_is_a_note(machine, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    check = machine.check("disk")
    assert (check.state, check.detail) == ("note", f"{machine.folder} cannot be written")
    assert check.advice == "choose another folder with --out"


# --- The form


def test_the_table_ends_with_a_verdict_for_each_thing_wanted_and_exit_code_0(machine):
    done = run_doctor("--out", str(machine.folder))
    assert done.exit_code == 0
    lines = done.stdout.rstrip().split("\n")
    assert lines[-3] == "mujoco twin: ready"
    assert lines[-2].startswith("omnigibson, both years: not here: nvidia gpu: ")
    assert lines[-1].startswith("checkpoints: ready, but no NVIDIA GPU")


def test_the_table_leaves_out_what_there_was_nothing_to_look_at_and_names_it():
    checks = (
        Check(name="nvidia gpu", state="ok", detail="NVIDIA GeForce RTX 4090"),
        Check(name="gello", state="skipped", detail="skipped: no OmniGibson"),
        Check(name="assets", state="skipped", detail="skipped: no OmniGibson"),
    )
    console = Console(file=io.StringIO(), width=80)
    _show(console, checks, judge(checks))
    shown = console.file.getvalue()
    assert "nothing to look at yet: gello, assets" in shown
    assert "skipped" not in shown


def test_json_has_the_fields_of_the_page_and_nothing_else(here):
    page = PAGE.read_text(encoding="utf-8")
    assert set(documented(page, "document")) == {"format", "checks", "verdicts"}
    assert here["format"] == FORMAT
    assert f"`format` {FORMAT}" in page
    for section, kind, found in (
        ("check", Check, here["checks"].values()),
        ("verdict", Verdict, here["verdicts"]),
    ):
        names = documented(page, section)
        assert names == [field.name for field in fields(kind)]
        assert {tuple(one) for one in found} == {tuple(names)}


def test_the_page_has_every_check_in_the_order_they_come_in(here):
    assert documented(PAGE.read_text(encoding="utf-8"), "checks") == list(here["checks"])


def test_the_page_has_every_state_and_every_subject():
    page = PAGE.read_text(encoding="utf-8")
    assert set(documented(page, "states")) == set(get_args(State))
    assert documented(page, "subjects") == list(get_args(Subject))


def documented(page, section):
    """First column of the table under `<!-- section -->`."""
    table = page.split(f"<!-- {section} -->\n")[1].split("\n\n")[0].split("\n")[2:]
    return [re.match(r"\| `([^`]+)` \|", row)[1] for row in table]


def test_json_is_written_as_that_of_every_other_verb(machine):
    done = run_doctor("--out", str(machine.folder / "Läufe"), "--json")
    assert "Läufe" in done.stdout


def test_a_machine_that_can_run_nothing_ends_with_4_and_says_what_to_install(machine, monkeypatch):
    monkeypatch.setattr(basics, "gl_info", refuse(NO_GL))
    done = run_doctor("--out", str(machine.folder))
    assert done.exit_code == 4
    assert (
        "mujoco twin: not here: opengl: egl: libEGL.so.1 not found; "
        "install with: apt-get install libegl1" in done.stdout
    )


def test_checkpoints_alone_are_no_simulator_and_omnigibson_alone_is_one(machine, monkeypatch):
    monkeypatch.setattr(basics, "gl_info", refuse(NO_GL))
    assert verdict_of(judge(examine(machine.folder)), "checkpoints").ready
    assert run_doctor("--out", str(machine.folder)).exit_code == 4
    machine.ready_2026()
    assert run_doctor("--out", str(machine.folder)).exit_code == 0


# --- torch's compiler beside OpenGL


@pytest.mark.parametrize(
    ("source", "state", "detail"),
    [
        ("__version__ = '3.8.0'", "ok", "triton 3.8.0 and OpenGL in one process"),
        (
            "import os; os.abort()",
            "absent",
            "triton 3.8.0: a process that loads it beside OpenGL dies of SIGABRT",
        ),
        (
            "raise OSError('libcuda.so.1: no such file')",
            "absent",
            "triton 3.8.0: a process that loads it beside OpenGL fails (OSError: libcuda.so.1: no "
            "such file)",
        ),
    ],
)
def test_triton_and_opengl_are_tried_together_in_a_process_that_may_die(
    machine, monkeypatch, source, state, detail
):
    machine.distribution("triton", "3.8.0")
    for name in ("triton", "torch"):
        (machine.folder / "site" / f"{name}.py").write_text(source if name == "triton" else "")
    monkeypatch.setenv("PYTHONPATH", str(machine.folder / "site"))
    check = machine.check("triton and opengl")
    assert (check.state, check.detail) == (state, detail)
    assert (check.advice is None) is (state == "ok")


def test_without_triton_or_opengl_there_is_nothing_to_try_together(machine, monkeypatch):
    assert machine.check("triton and opengl").detail == "triton or torch is not installed"
    monkeypatch.setattr(basics, "gl_info", refuse(NO_GL))
    assert machine.check("triton and opengl").detail == "there is no OpenGL"


# --- what the public family's code imports


def test_the_packages_of_the_public_family_are_looked_up_and_their_extra_named(machine):
    for name, oldest in policies.FAMILY_PACKAGES.items():
        machine.distribution(name, ".".join(map(str, oldest)))
    assert machine.check("da3 packages").state == "ok"
    shutil.rmtree(next((machine.folder / "site").glob("timm-*.dist-info")))
    shutil.rmtree(next((machine.folder / "site").glob("transformers-*.dist-info")))
    machine.distribution("transformers", "4.57.6")
    check = machine.check("da3 packages")
    assert (check.state, check.detail) == (
        "note",
        "the X-VLA family's public code would find no timm, transformers 4.57.6, which is too new",
    )
    assert check.advice.startswith("pip install '.[da3]' in the checkout")


def test_they_are_those_of_the_extra():
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    listed = text.partition("\nda3 = [")[2].partition("]\n")[0]
    stated = {
        name: tuple(map(int, oldest.split(".")))
        for name, oldest in re.findall(r'"([a-z0-9-]+)>=([\d.]+)', listed)
    }
    assert stated == policies.FAMILY_PACKAGES
    upper = ".".join(map(str, policies.FAMILY_TRANSFORMERS_BELOW))
    assert f"<{upper}" in listed
    assert f"<{upper}" in FAMILY_TRANSFORMERS


def test_without_a_card_omnigibson_is_told_once_and_no_recipe_of_it():
    card = Check(
        name="nvidia gpu", state="absent", detail="no card", advice="take another machine",
        concerns=BOTH_YEARS,
    )  # fmt: skip
    years = [
        Check(name=f"omnigibson {year[-4:]}", state="absent", detail="not installed",
              advice="git clone BEHAVIOR-1K", concerns=(year,))
        for year in BOTH_YEARS
    ]  # fmt: skip

    def shown(*checks):
        console = Console(file=io.StringIO(), width=80)
        _show(console, checks, judge(checks))
        return console.file.getvalue()

    said = shown(card, *years)
    assert said.count("omnigibson, both years: not here: nvidia gpu: no card") == 1
    assert "git clone" not in said
    assert said.count("take another machine") == 2  # of the card, and of the verdict
    there = replace(card, state="ok", detail="NVIDIA GeForce RTX 4090", advice=None)
    assert shown(there, *years).count("git clone BEHAVIOR-1K") == 4
