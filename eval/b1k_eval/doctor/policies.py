"""Checking what checkpoints need beside the twin: torch and the extra `xvla`, by their metadata.

Whether torch's compiler and OpenGL work together is tried in a child process, because with some
versions of triton that process dies (see `b1k_envs.mujoco_twin.rendering.gl`).
"""

from __future__ import annotations

import signal
import subprocess
import sys

from b1k_eval.doctor.checks import (
    BOTH_YEARS,
    CHECKPOINTS,
    Check,
    installed_version,
    is_importable,
    release,
)
from b1k_policies.xvla.files.folder import INSTALL

MIN_TORCH = (2, 1)
PACKAGES = {"transformers": (4, 40), "safetensors": (), "huggingface-hub": (0, 25)}
"""Distributions of the extra `xvla`, and the oldest releases that work."""

FAMILY_PACKAGES = {
    "addict": (2, 4),
    "depth-anything-3": (0, 1, 1),
    "einops": (0, 7),
    "fastapi": (0, 100),
    "json-numpy": (2, 0),
    "pillow": (10,),
    "timm": (1, 0),
    "transformers": (4, 46),
    "uvicorn": (0, 23),
}
"""Packages that the public code of the X-VLA family imports (extra `da3`), and oldest releases."""
FAMILY_TRANSFORMERS_BELOW = (4, 54)
FAMILY_INSTALL = "pip install '.[da3]' in the checkout"

_CUDA_TORCH = "pip install torch --index-url https://download.pytorch.org/whl/cu128"


_TOGETHER = """
from b1k_envs.mujoco_twin.rendering.gl import gl_info
gl_info()
import triton
import torch
"""
_TOGETHER_S = 120.0


def checkpoint_checks(has_gpu: bool, has_gl: bool) -> tuple[Check, ...]:
    """Check torch, the packages around it, and both together with OpenGL.

    Args:
        has_gpu: Whether an NVIDIA card answers, which torch should then be able to use.
        has_gl: Whether OpenGL works.
    """
    return _torch(has_gpu), _packages(), _family_packages(), _beside_gl(has_gl)


def _torch(has_gpu: bool) -> Check:
    name, concerns = "torch", (*BOTH_YEARS, *CHECKPOINTS)
    found = installed_version(name)
    if found is None:
        there = is_importable(name)
        return Check(
            name=name,
            state="ok" if there else "absent",
            detail="importable, version unknown" if there else "not installed",
            advice=None if there else INSTALL,
            concerns=concerns,
        )
    if release(found)[:2] < MIN_TORCH:
        return Check(
            name=name,
            state="absent",
            detail=f"{found} is too old",
            advice=INSTALL,
            concerns=concerns,
        )
    if has_gpu and found.endswith("+cpu"):
        return Check(
            name=name,
            state="note",
            detail=f"{found}, a build that uses no GPU",
            advice=_CUDA_TORCH,
            concerns=concerns,
        )
    return Check(name=name, state="ok", detail=found, concerns=concerns)


def _packages() -> Check:
    found = {name: installed_version(name) for name in PACKAGES}
    lacking = [
        name if number is None else f"{name} {number}, which is too old"
        for name, number in found.items()
        if number is None or release(number)[: len(PACKAGES[name])] < PACKAGES[name]
    ]
    if lacking:
        return Check(
            name="checkpoint packages",
            state="absent",
            detail=f"not here: {', '.join(lacking)}",
            advice=INSTALL,
            concerns=CHECKPOINTS,
        )
    return Check(
        name="checkpoint packages",
        state="ok",
        detail=", ".join(f"{name} {number}" for name, number in found.items()),
        concerns=CHECKPOINTS,
    )


def _family_packages() -> Check:
    """Check the packages of the public family's code; other code may need none of them."""
    name = "da3 packages"
    found = {name: installed_version(name) for name in FAMILY_PACKAGES}
    unfit = []
    for package, number in found.items():
        oldest = FAMILY_PACKAGES[package]
        if number is None:
            unfit.append(f"no {package}")
        elif release(number)[: len(oldest)] < oldest:
            unfit.append(f"{package} {number}, which is too old")
        elif package == "transformers" and release(number)[:2] >= FAMILY_TRANSFORMERS_BELOW:
            unfit.append(f"transformers {number}, which is too new")
    if not unfit:
        shown = ", ".join(f"{package} {number}" for package, number in found.items())
        return Check(name=name, state="ok", detail=shown)
    return Check(
        name=name,
        state="note",
        detail=f"the X-VLA family's public code would find {', '.join(unfit)}",
        advice=f"{FAMILY_INSTALL} for a checkpoint whose code imports them",
    )


def _beside_gl(has_gl: bool) -> Check:
    """Load OpenGL, triton and torch in a child process, in the order in which a run loads them."""
    name, concerns = "triton and opengl", CHECKPOINTS
    if not has_gl or not is_importable("triton") or not is_importable("torch"):
        why = "there is no OpenGL" if not has_gl else "triton or torch is not installed"
        return Check(name=name, state="skipped", detail=why, concerns=concerns)
    found = f"triton {installed_version('triton') or 'of unknown version'}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TOGETHER],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TOGETHER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        how = f"did not end in {_TOGETHER_S:.0f} s"
    else:
        if done.returncode == 0:
            return Check(name=name, state="ok", detail=f"{found} and OpenGL in one process")
        how = _how_it_ended(done.returncode, done.stderr)
    return Check(
        name=name,
        state="absent",
        detail=f"{found}: a process that loads it beside OpenGL {how}",
        advice="pip install 'triton<3.7' where torch allows it, or another torch",
        concerns=concerns,
    )


def _how_it_ended(code: int, errors: str) -> str:
    if code < 0:
        return f"dies of {signal.Signals(-code).name}"
    lines = errors.strip().splitlines()
    return f"fails ({lines[-1] if lines else f'exit code {code}'})"
