"""What this machine has for each simulator, found without importing a heavy one.

torch, OmniGibson and Isaac Sim are looked up in the installed packages' metadata only: importing
them takes minutes or starts a GPU. OpenGL is tried for real, by rendering.

What a pass does not prove: that OmniGibson's assets are complete or that its driver works.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from b1k_envs.base import Sim
from b1k_envs.errors import UnavailableError
from b1k_envs.mujoco_twin.gl import gl_info
from b1k_eval.video import ffmpeg_exe
from b1k_eval.video_layout import import_cv2

State = Literal["ok", "missing", "absent", "note"]

MIN_PYTHON = (3, 10)
MIN_MUJOCO = (3, 3)
MIN_FREE_GB = 1.0
"""Room for about a hundred episodes with video; below it doctor says so."""

HEAD_PIXELS = 720
"""Side of the head picture, the largest of the three."""

_SCENE = """
<mujoco>
  <visual><global offwidth="720" offheight="720"/><quality shadowsize="0" offsamples="0"/></visual>
  <worldbody>
    <light pos="0 0 3" castshadow="false"/>
    <geom type="plane" size="2 2 .1" rgba=".6 .6 .6 1"/>
    <geom type="box" pos="0 0 .3" size=".3 .3 .3" rgba=".2 .4 .8 1"/>
    <camera name="head" pos="0 -2 1.4" xyaxes="1 0 0 0 .5 .87" fovy="99.3"/>
  </worldbody>
</mujoco>
"""

_BEHAVIOR_SETUP = "run the set-up script of github.com/StanfordVL/BEHAVIOR-1K (30 GB of assets)"

# NVIDIA's Isaac Sim requirements rule these out: they have no ray-tracing cores.
_WITHOUT_RT = ("A100", "A800", "H100", "H200", "H800", "B100", "B200", "GB200", "V100")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked for.

    Attributes:
        name: What, in one or two words.
        state: `ok`; `missing`, which the twin or its videos cannot do without; `absent`, which only
            OmniGibson or a checkpoint asks for; or `note`.
        detail: What was found.
        advice: What to do; None when there is nothing to do.
    """

    name: str
    state: State
    detail: str
    advice: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a simulator can run here.

    Attributes:
        sim: Which.
        ready: It can.
        text: One line: `ready`, or what is in the way and the next step.
    """

    sim: Sim
    ready: bool
    text: str


def examine(results: Path) -> tuple[Check, ...]:
    """Look at everything; takes a second or two, most of it for OpenGL.

    Args:
        results: Where runs would land; need not exist.
    """
    return (
        _python(),
        _package("numpy"),
        _mujoco(),
        _bddl(),
        *_gl(),
        _cv2(),
        _ffmpeg(),
        _disk(results),
        _cpus(),
        _memory(),
        _gpu(),
        _package("torch", advice="pip install torch", absent="absent"),
        _package("isaacsim", advice=_BEHAVIOR_SETUP, absent="absent"),
        _package("omnigibson", advice=_BEHAVIOR_SETUP, absent="absent"),
    )


def judge(checks: Sequence[Check]) -> tuple[Verdict, Verdict]:
    """The verdict on each simulator, from what `examine` found."""
    by_name = {check.name: check for check in checks}

    def first_missing(*names: str) -> Check | None:
        found = (by_name[name] for name in names)
        return next((check for check in found if check.state in ("missing", "absent")), None)

    blocker = first_missing("python", "numpy", "mujoco", "bddl", "opengl")
    no_video = first_missing("opencv", "ffmpeg")
    if blocker is not None:
        twin = Verdict(sim="mujoco", ready=False, text=f"not here: {_next_step(blocker)}")
    elif no_video is not None:
        twin = Verdict(
            sim="mujoco",
            ready=True,
            text=f"ready, but only with --no-video: {_next_step(no_video)}",
        )
    else:
        twin = Verdict(sim="mujoco", ready=True, text="ready")
    blocker = first_missing("nvidia gpu", "isaacsim", "torch", "omnigibson", "bddl")
    if blocker is None:
        omnigibson = Verdict(
            sim="omnigibson", ready=True, text="installed; its assets and driver were not tried"
        )
    else:
        omnigibson = Verdict(sim="omnigibson", ready=False, text=f"not here: {_next_step(blocker)}")
    return twin, omnigibson


def _next_step(check: Check) -> str:
    found = f"{check.name}: {check.detail}"
    return found if check.advice is None else f"{found}; {check.advice}"


def _python() -> Check:
    found = sys.version.split()[0]
    detail = f"{found} ({sys.executable})"
    if sys.version_info[:2] < MIN_PYTHON:
        return Check(
            name="python", state="missing", detail=detail, advice="use Python 3.10 or newer"
        )
    return Check(name="python", state="ok", detail=detail)


def installed_version(distribution: str) -> str | None:
    """Version from the metadata; None when it is not installed that way."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _package(name: str, advice: str | None = None, absent: State = "missing") -> Check:
    """A distribution whose module has the same name."""
    found = installed_version(name)
    if found is None and find_spec(name) is None:
        return Check(
            name=name, state=absent, detail="not installed", advice=advice or f"pip install {name}"
        )
    return Check(name=name, state="ok", detail=found or "importable, version unknown")


def _mujoco() -> Check:
    install = f"pip install 'mujoco>={MIN_MUJOCO[0]}.{MIN_MUJOCO[1]}'"
    check = _package("mujoco", install)
    numbers = check.detail.split(".")[:2]
    known = check.state == "ok" and all(part.isdigit() for part in numbers)
    if known and tuple(int(part) for part in numbers) < MIN_MUJOCO:
        return replace(check, state="missing", detail=f"{check.detail} is too old", advice=install)
    return check


def _bddl() -> Check:
    """Version and API generation, told by the files: both go by one name."""
    check = _package("bddl")
    spec = find_spec("bddl")
    if check.state != "ok" or spec is None or spec.origin is None:
        return check
    if (Path(spec.origin).parent / "backend_abc.py").exists():
        generation = "backend generation, domain omnigibson (PyPI 3.6)"
    else:
        generation = "callback generation, domain behavior-1k (BEHAVIOR-1K 3.7 and later)"
    return Check(name="bddl", state="ok", detail=f"{check.detail}, {generation}")


def _gl() -> tuple[Check, ...]:
    try:
        info = gl_info()
    except UnavailableError as error:
        found, _, advice = (
            str(error).removeprefix("no OpenGL").strip(" :").partition("; install with: ")
        )
        return (
            Check(
                name="opengl",
                state="missing",
                detail=found,
                advice=f"install with: {advice}" if advice else None,
            ),
        )
    try:
        took_ms = head_frame_ms()
    except Exception as error:  # noqa: BLE001 - a driver may fail in any way; doctor reports it
        reason = str(error) or type(error).__name__
        return (
            Check(
                name="opengl",
                state="missing",
                detail=f"{info.backend} starts but cannot render: {reason}",
                advice="set MUJOCO_GL to another backend (egl, osmesa)",
            ),
        )
    software = " (software)" if info.software else ""
    return (
        Check(name="opengl", state="ok", detail=f"{info.backend}, {info.renderer}{software}"),
        Check(
            name="head frame",
            state="note",
            detail=f"{took_ms:.1f} ms for {HEAD_PIXELS} x {HEAD_PIXELS} of an almost empty scene",
        ),
    )


def head_frame_ms(repeats: int = 5) -> float:
    """Median wall time of rendering an almost empty scene at the head camera's size [ms].

    Raises:
        UnavailableError: There is no OpenGL.
    """
    gl_info()  # before mujoco is imported, see b1k_envs.mujoco_twin.gl
    import mujoco

    model = mujoco.MjModel.from_xml_string(_SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    times = []
    with mujoco.Renderer(model, HEAD_PIXELS, HEAD_PIXELS) as renderer:
        for _ in range(repeats + 1):  # the first one compiles shaders
            started = time.perf_counter()
            renderer.update_scene(data, "head")
            renderer.render()
            times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times[1:])


def _cv2() -> Check:
    try:
        cv2 = import_cv2()
    except UnavailableError as error:
        found, _, advice = str(error).removeprefix("no OpenCV: ").partition("; ")
        return Check(name="opencv", state="missing", detail=found, advice=advice or None)
    return Check(name="opencv", state="ok", detail=str(cv2.__version__))


def _ffmpeg() -> Check:
    """The encoder itself is asked for: distributions ship ffmpeg without libx264."""
    try:
        exe = ffmpeg_exe()
        done = subprocess.run(
            [exe, "-hide_banner", "-encoders"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except (UnavailableError, OSError, subprocess.TimeoutExpired) as error:
        return Check(
            name="ffmpeg",
            state="missing",
            detail=str(error).removeprefix("no ffmpeg: "),
            advice="pip install imageio-ffmpeg",
        )
    if " libx264 " not in done.stdout:
        return Check(
            name="ffmpeg",
            state="missing",
            detail=f"{exe} has no libx264 encoder",
            advice="unset IMAGEIO_FFMPEG_EXE to use the bundled one",
        )
    return Check(name="ffmpeg", state="ok", detail=f"{Path(exe).name}, libx264")


def _disk(results: Path) -> Check:
    place = results.absolute()
    while not place.exists():
        place = place.parent
    free_gb = shutil.disk_usage(place).free / 1e9
    detail = f"{free_gb:.1f} GB free for {results}"
    if not os.access(place, os.W_OK):
        return Check(
            name="disk",
            state="note",
            detail=f"{place} cannot be written",
            advice="choose another folder with --out",
        )
    if free_gb < MIN_FREE_GB:
        return Check(
            name="disk", state="note", detail=detail, advice="free some space, or use --out"
        )
    return Check(name="disk", state="ok", detail=detail)


def _cpus() -> Check:
    usable = len(os.sched_getaffinity(0))
    return Check(name="cpus", state="ok", detail=f"{usable} usable of {os.cpu_count() or usable}")


def _memory() -> Check:
    page = os.sysconf("SC_PAGE_SIZE")
    total_gb = page * os.sysconf("SC_PHYS_PAGES") / 1e9
    free_gb = page * os.sysconf("SC_AVPHYS_PAGES") / 1e9
    return Check(name="memory", state="ok", detail=f"{total_gb:.1f} GB, {free_gb:.1f} GB unused")


def _gpu() -> Check:
    exe = shutil.which("nvidia-smi")
    advice = "OmniGibson needs an NVIDIA RTX GPU: run it on a machine with one"
    if exe is None:
        return Check(name="nvidia gpu", state="absent", detail="no nvidia-smi found", advice=advice)
    try:
        done = subprocess.run(
            [exe, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name="nvidia gpu", state="absent", detail=str(error), advice=advice)
    cards = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode != 0 or not cards:
        said = (done.stdout or done.stderr).strip().split("\n")[0]
        return Check(
            name="nvidia gpu",
            state="absent",
            detail=f"nvidia-smi: {said or f'status {done.returncode}'}",
            advice="look after the driver: nvidia-smi must list a GPU",
        )
    detail = "; ".join(cards)
    if all(any(word in card for word in _WITHOUT_RT) for card in cards):
        return Check(
            name="nvidia gpu",
            state="note",
            detail=detail,
            advice="has no ray-tracing cores, which Isaac Sim asks for; fine for policies",
        )
    return Check(name="nvidia gpu", state="ok", detail=detail)
