"""Checking what the twin and its videos need, and the machine's size.

OpenGL is really tried, by rendering; ffmpeg is asked for its encoder; the rest is looked up.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from b1k_envs.errors import UnavailableError
from b1k_envs.mujoco_twin.engine import mujoco
from b1k_envs.mujoco_twin.rendering.gl import gl_info
from b1k_eval.doctor.checks import (
    BOTH_YEARS,
    EVERYTHING,
    TWIN,
    Check,
    find_package,
    is_pypi_bddl,
    release,
)
from b1k_eval.video.recorder import ffmpeg_exe
from b1k_eval.video.text import import_cv2

MIN_PYTHON = (3, 10)
MIN_MUJOCO = (3, 3)
MIN_FREE_GB = 1.0
"""Space for about a hundred episodes with video; with less, doctor says so [GB]."""

OMNIGIBSON_MEMORY_GB = 32
"""OmniGibson's documented minimum of main memory [GB]."""

HEAD_PIXELS = 720
"""Width and height of the head picture, the largest of the three [px]."""

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


def python() -> Check:
    """Check the interpreter; the one that OmniGibson needs is a check of its own."""
    found = sys.version.split()[0]
    old = sys.version_info[:2] < MIN_PYTHON
    return Check(
        name="python",
        state="missing" if old else "ok",
        detail=f"{found} ({sys.executable})",
        advice="use Python 3.10 or newer" if old else None,
        concerns=EVERYTHING,
    )


def numpy() -> Check:
    """Check numpy; the version that OmniGibson needs is a check of its own."""
    return find_package("numpy", concerns=EVERYTHING)


def twin_engine() -> Check:
    """Check that MuJoCo is there and new enough."""
    install = f"pip install 'mujoco>={MIN_MUJOCO[0]}.{MIN_MUJOCO[1]}'"
    check = find_package("mujoco", concerns=TWIN, advice=install)
    numbers = release(check.detail)[:2]
    if check.state == "ok" and len(numbers) == 2 and numbers < MIN_MUJOCO:
        return replace(check, state="missing", detail=f"{check.detail} is too old", advice=install)
    return check


def bddl() -> Check:
    """Check bddl's version and generation, by its files: both generations have one name."""
    check = find_package("bddl", concerns=(*TWIN, *BOTH_YEARS))
    if check.state != "ok":
        return check
    if is_pypi_bddl():
        generation = "backend generation, domain omnigibson (PyPI 3.6)"
    else:
        generation = "callback generation, domain behavior-1k (BEHAVIOR-1K 3.7 and later)"
    return replace(check, detail=f"{check.detail}, {generation}")


def graphics() -> tuple[Check, Check]:
    """Check OpenGL, and how long it takes for a picture."""
    try:
        info = gl_info()
    except UnavailableError as error:
        text = str(error).removeprefix("no OpenGL").strip(" :")
        found, _, advice = text.partition("; install with: ")
        return _no_graphics(found, f"install with: {advice}" if advice else None)
    try:
        took_ms = head_frame_ms()
    except Exception as error:  # noqa: BLE001 - a driver may fail in any way; doctor reports it
        reason = str(error) or type(error).__name__
        return _no_graphics(
            f"{info.backend} starts but cannot render: {reason}",
            "set MUJOCO_GL to another backend (egl, osmesa)",
        )
    software = " (software)" if info.software else ""
    return (
        Check(
            name="opengl",
            state="ok",
            detail=f"{info.backend}, {info.renderer}{software}",
            concerns=TWIN,
        ),
        Check(
            name="head frame",
            state="ok",
            detail=f"{took_ms:.1f} ms for {HEAD_PIXELS} x {HEAD_PIXELS} of an almost empty scene",
        ),
    )


def _no_graphics(found: str, advice: str | None) -> tuple[Check, Check]:
    return (
        Check(name="opengl", state="missing", detail=found, advice=advice, concerns=TWIN),
        Check(name="head frame", state="skipped", detail="there is no OpenGL to draw it with"),
    )


def head_frame_ms(repeats: int = 5) -> float:
    """Measure the median wall time to render a nearly empty scene at the head's size [ms].

    Raises:
        UnavailableError: There is no OpenGL.
    """
    gl_info()  # must come before mujoco is imported, see b1k_envs.mujoco_twin.rendering.gl
    model = mujoco.MjModel.from_xml_string(_SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    times = []
    with mujoco.Renderer(model, HEAD_PIXELS, HEAD_PIXELS) as renderer:
        for _ in range(repeats + 1):  # one more, because the first one compiles shaders
            started = time.perf_counter()
            renderer.update_scene(data, "head")
            renderer.render()
            times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times[1:])


def opencv() -> Check:
    """Check OpenCV by importing it: what is missing is usually a system library."""
    try:
        cv2 = import_cv2()
    except UnavailableError as error:
        found, _, advice = str(error).removeprefix("no OpenCV: ").partition("; ")
        return Check(name="opencv", state="missing", detail=found, advice=advice or None)
    return Check(name="opencv", state="ok", detail=str(cv2.__version__))


def ffmpeg() -> Check:
    """Check ffmpeg for its encoder: some distributions ship it without libx264."""
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


def nearest(path: Path) -> Path:
    """Return the nearest existing folder above a path, which is on the same disk."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return place


def disk(results: Path) -> Check:
    """Check that there is space for results, and permission to write them."""
    place = nearest(results)
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


def cpus() -> Check:
    """Count the cores that this process may use."""
    usable = len(os.sched_getaffinity(0))
    return Check(name="cpus", state="ok", detail=f"{usable} usable of {os.cpu_count() or usable}")


def memory() -> Check:
    """Check main memory; the limit of a container is not considered."""
    page = os.sysconf("SC_PAGE_SIZE")
    total_gb = page * os.sysconf("SC_PHYS_PAGES") / 1e9
    free_gb = page * os.sysconf("SC_AVPHYS_PAGES") / 1e9
    small = total_gb < OMNIGIBSON_MEMORY_GB
    return Check(
        name="memory",
        state="note" if small else "ok",
        detail=f"{total_gb:.1f} GB, {free_gb:.1f} GB unused",
        advice=f"OmniGibson's documented minimum is {OMNIGIBSON_MEMORY_GB} GB" if small else None,
        concerns=BOTH_YEARS,
    )
