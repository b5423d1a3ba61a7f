"""Turning checks into verdicts on what can run here."""

from __future__ import annotations

from collections.abc import Sequence

from b1k_eval.doctor.checks import EVERYTHING, Check, Subject, Verdict

_VIDEO = ("opencv", "ffmpeg")
_STOPS = ("missing", "absent")


def judge(checks: Sequence[Check]) -> tuple[Verdict, ...]:
    """Return the verdicts on the twin, OmniGibson's two years and checkpoints, from `examine`."""
    return tuple(_judge(subject, checks) for subject in EVERYTHING)


def _judge(subject: Subject, checks: Sequence[Check]) -> Verdict:
    mine = [check for check in checks if subject in check.concerns]
    steps = tuple(check.said() for check in mine if check.state in _STOPS)
    remarks = [check.said() for check in mine if check.state == "note"]
    if subject == "checkpoints":
        remarks += _without_gpu(checks)
    else:
        no_video = [check for check in checks if check.name in _VIDEO and check.state in _STOPS]
        remarks = [f"only with --no-video: {check.said()}" for check in no_video] + remarks
    if steps:
        text = f"not here: {_first(steps)}"
    else:
        text = f"ready, but {_first(remarks)}" if remarks else "ready"
    return Verdict(subject=subject, ready=not steps, text=text, steps=steps, remarks=tuple(remarks))


def _first(lines: Sequence[str]) -> str:
    return lines[0] if len(lines) == 1 else f"{lines[0]} (and {len(lines) - 1} more)"


def _without_gpu(checks: Sequence[Check]) -> list[str]:
    """Return the remark that a checkpoint runs slowly without a card, if there is none."""
    gpu = next((check for check in checks if check.name == "nvidia gpu"), None)
    if gpu is None or gpu.state == "ok":
        return []
    return ["no NVIDIA GPU answers here: a checkpoint computes on the CPU"]
