"""`run --official`: sets everything that a submission needs, and refuses what contradicts it.

The rules are those of the export (`b1k_eval.challenge.rules`), checked before the first episode
instead of after the last. The resulting settings are recorded like those of any run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from b1k_envs.errors import UsageError
from b1k_eval.challenge.rules import COUNTED_INSTANCES, VIDEO_FPS, setting_objections
from b1k_eval.settings import RunSettings
from b1k_policies.options import flag

SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "sim": "omnigibson",
        "render": "every-step",
        "track": "standard",
        "instances": tuple(COUNTED_INSTANCES),
    }
)
"""Defaults that differ from those of `RunSettings`; all others are official already."""

_OPTIONS: Mapping[str, str] = MappingProxyType({"against": "--until-decided --against"})
"""Options whose names differ from their settings'."""


def hold_settings(values: Mapping[str, Any]) -> None:
    """Refuse settings that cannot be submitted.

    Args:
        values: By field of `RunSettings`, instances as numbers; `protocol` and `max_steps` may be
            None if they were not given.

    Raises:
        UsageError: The message names the option, its value and the reason.
    """
    for field, why in setting_objections(values, values["track"] or "standard"):
        raise _contradiction(
            _OPTIONS.get(field, flag(RunSettings, field)), _text(values[field]), why
        )
    if values["human_stats"] is not None:
        raise _contradiction(
            "--human-stats",
            values["human_stats"],
            "the evaluator takes the figures that come with OmniGibson's data",
        )


def hold_limit(max_steps: int, official: int) -> None:
    """Raise UsageError if a time limit is not the task's official one."""
    if max_steps != official:
        why = f"the official limit of the task is {official}, and it holds without the option"
        raise _contradiction("--max-steps", str(max_steps), why)


def execution(typed: Mapping[str, Any], sessions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Complete the typed fields of `Execution`: a video with one picture per step.

    Args:
        typed: Fields that were given.
        sessions: Sessions of the run that is resumed.

    Raises:
        UsageError: Another video was asked for, or recorded in an earlier session.
    """
    why = f"a submission has a video of every rollout, {VIDEO_FPS:g} pictures a second, one a step"
    if typed.get("video") is False:
        raise _contradiction("--no-video", "", why)
    if typed.get("video_fps", VIDEO_FPS) != VIDEO_FPS:
        raise _contradiction("--video-fps", f"{typed['video_fps']:g}", why)
    for session in sessions:
        before = session.get("execution") or {}
        if not before.get("video") or before.get("video_fps") != VIDEO_FPS:
            raise UsageError(
                f"--official does not go with the run in --out, which has other videos: "
                f"{why}; start it again under another --out"
            )
    return {**typed, "video": True, "video_fps": float(VIDEO_FPS)}


def _contradiction(option: str, value: str, why: str) -> UsageError:
    given = f"{option} {value}".strip()
    return UsageError(f"--official does not go with {given}: {why}; leave one of the two out")


def _text(value: Any) -> str:  # noqa: ANN401 - a setting
    if value is True:  # a flag
        return ""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
