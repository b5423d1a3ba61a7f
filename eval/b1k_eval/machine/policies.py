"""What checkpoints need beside the twin: torch and the extra `xvla`, by their metadata."""

from __future__ import annotations

from b1k_eval.machine.checks import (
    BOTH_YEARS,
    CHECKPOINTS,
    Check,
    installed_version,
    is_importable,
    release,
)
from b1k_policies.checkpoint_folder import INSTALL

MIN_TORCH = (2, 1)
PACKAGES = {"transformers": (4, 40), "safetensors": (), "huggingface-hub": (0, 25)}
"""Distributions of the extra `xvla`, and the oldest release that serves."""

_CUDA_TORCH = "pip install torch --index-url https://download.pytorch.org/whl/cu128"


def checkpoint_checks(has_gpu: bool) -> tuple[Check, Check]:
    """torch, and the packages around it.

    Args:
        has_gpu: Whether an NVIDIA card answers, which torch should then use.
    """
    return _torch(has_gpu), _packages()


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
