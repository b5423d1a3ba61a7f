"""Looking up what this machine has for each simulator and for checkpoints, without heavy imports.

torch, OmniGibson and Isaac Sim are looked up only in the metadata and files of installed packages,
as importing them takes minutes or starts a GPU. OpenGL is really tried, by rendering; if triton is
installed, a child process loads torch and OpenGL together.

What a pass does not prove: that OmniGibson's assets are complete or that its driver works.
"""

from __future__ import annotations

from pathlib import Path

from b1k_eval.doctor import basics
from b1k_eval.doctor.behavior_data import data_checks
from b1k_eval.doctor.checks import FORMAT, Check, State, Subject, Verdict
from b1k_eval.doctor.gpu import gpu_checks
from b1k_eval.doctor.omnigibson import omnigibson_checks
from b1k_eval.doctor.policies import checkpoint_checks
from b1k_eval.doctor.verdicts import judge

__all__ = ["FORMAT", "Check", "State", "Subject", "Verdict", "examine", "judge"]


def examine(results: Path) -> tuple[Check, ...]:
    """Make all checks; takes a second or two, most of it for OpenGL.

    The names of the checks and their order are the same on every machine.

    Args:
        results: Folder for runs; need not exist.
    """
    cards = gpu_checks()
    graphics = basics.graphics()
    return (
        basics.python(),
        basics.numpy(),
        basics.twin_engine(),
        basics.bddl(),
        *graphics,
        basics.opencv(),
        basics.ffmpeg(),
        basics.disk(results),
        basics.cpus(),
        *cards,
        basics.memory(),
        *checkpoint_checks(
            has_gpu=cards[0].state == "ok",
            has_gl=graphics[0].state == "ok",
        ),
        *omnigibson_checks(),
        *data_checks(),
    )
