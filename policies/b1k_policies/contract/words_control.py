"""Reads what people write about how long a row lasts, frames, masks and grippers that snap.

As `contract_words`: a reader that is not sure returns None, and its key is listed as not
understood.
"""

from __future__ import annotations

import re
from typing import Any

from b1k_envs.r1pro import CONTROL_HZ
from b1k_policies.contract.words import Found, Reader


def renamed(reader: Reader, old: str, new: str) -> Reader:
    """The same words, about another field."""

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        found = reader(value)
        return None if found is None else [(new if n == old else n, v) for n, v in found]

    return read


def _number(value: Any) -> float | None:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*(\d+(?:\.\d+)?))?\s*(?:s|hz)?\s*",
                             value.lower())  # fmt: skip
        if match is None or (match[2] is not None and float(match[2]) == 0):
            return None
        return float(match[1]) / float(match[2] or 1)
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if plain and value > 0 else None


def row_seconds(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """How long a row lasts: 0.0333, "1/30", "4/30 s".

    A whole number of control steps becomes the field; anything else contradicts every contract.
    """
    seconds = _number(value)
    if seconds is None or seconds <= 0:
        return None
    steps = seconds * CONTROL_HZ
    # People round 1/30 to 0.033 and 4/30 to 0.133.
    if round(steps) >= 1 and abs(steps - round(steps)) <= 0.02 * round(steps):
        return [("steps_per_row", round(steps))]
    return [("row_seconds", round(seconds, 3))]


def row_rate(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """How many rows a second: 30, "7.5 Hz"."""
    rate = _number(value)
    return None if rate is None or rate <= 0 else row_seconds(1.0 / rate)


def chunk_seconds(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """How long a whole chunk lasts."""
    seconds = _number(value)
    return None if seconds is None else [("chunk_seconds", round(seconds, 3))]


def base_frame(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """Words such as "world", "spawn frame", "robot", "base frame"."""
    text = value.lower() if isinstance(value, str) else ""
    if re.sub(r"[^a-z]+", " ", text).startswith("as recorded"):
        return [("base_qvel_frame", "as_recorded")]
    if re.search(r"\b(not|no|never)\b", text):
        return None
    world = bool(re.search(r"world|spawn|odom|global|fixed", text))
    robot = bool(re.search(r"robot|body|local|\bbase\b|egocentric", text))
    if world == robot:
        return None
    return [("base_qvel_frame", "world" if world else "robot")]


def columns(name: str) -> Reader:
    """Indices of columns, or none."""

    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        if value is None:
            return [(name, [])]
        whole = isinstance(value, list) and all(
            isinstance(v, int) and not isinstance(v, bool) for v in value
        )
        return [(name, sorted(set(value)))] if whole else None

    return read


_NOT_NORMALISED = re.compile(
    r"|none|null|no|false|off|identity|raw|unnormali[sz]ed|not normali[sz]ed"
)


def says_no(value: object) -> bool:
    """Whether a key that speaks of normalisation says that there is none."""
    if isinstance(value, str):
        return _NOT_NORMALISED.fullmatch(value.strip().lower()) is not None
    return value is None or value is False or value == []


def _normalisation(name: str) -> Reader:
    def read(value: Any) -> Found:  # noqa: ANN401 - any JSON value
        if says_no(value):
            return [(name, None)]
        return [(name, value)] if isinstance(value, dict) and "kind" in value else None

    return read


PROPRIO_NORMALISATION = _normalisation("proprio_normalisation")
"""None, or the object of `contract_normalisation`; other words are for `contract_statistics`."""
ACTION_NORMALISATION = _normalisation("action_normalisation")
"""Likewise."""


def threshold(value: Any) -> Found:  # noqa: ANN401 - any JSON value
    """A number between the gripper commands -1 and 1, or none."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return [("gripper_threshold", value)] if plain or value is None else None
