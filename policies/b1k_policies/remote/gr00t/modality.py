"""What a server wants and gives: its modality config, held to what an evaluator here can provide.

A config has per modality (`video`, `state`, `language`, `action`) the names of its entries and the
steps, relative to the present one, of which it wants each.

Source: NVIDIA/Isaac-GR00T, `gr00t/data/types.py`@be889e7a. It is the same with and without the
wrapper for simulations, so it does not say which of the two forms of observations the server takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from b1k_envs.base import VIEWS, ProtocolYear, View
from b1k_envs.errors import UnavailableError, UsageError
from b1k_envs.r1pro import PROPRIO_LAYOUTS
from b1k_envs.tracks import FORBIDDEN_PROPRIO
from b1k_policies.remote.gr00t.forms import config_form
from b1k_policies.remote.gr00t.robot import (
    ACTIONS,
    CAMERA_POSES,
    LANGUAGE,
    STATES,
    picture_key,
    read_picture_key,
    state_dim,
)
from b1k_policies.remote.wire.limits import WireError

_LONGEST_CHUNK = 10_000
_MOST_NAMES = 200
_LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class Modality:
    """What a server asks for and gives.

    Attributes:
        pictures: Camera and size [px] by the picture's name; empty for a server that sees nothing.
        states: Names of the state, of `PROPRIO_2025` or `CAMERA_POSES`.
        language: Keys of the sentence.
        chunk_length: Rows of its chunks.
    """

    pictures: Mapping[str, tuple[View, int]]
    states: tuple[str, ...]
    language: tuple[str, ...]
    chunk_length: int

    @property
    def global_pose(self) -> tuple[str, ...]:
        """Names of the state that the standard track of 2025 forbids."""
        forbidden = {name.partition(",")[0] for name in FORBIDDEN_PROPRIO["2025"]}
        return tuple(name for name in self.states if name in forbidden)

    def check_protocol(self, protocol: ProtocolYear, address: object) -> None:
        """Check that a protocol's observations have every state.

        Raises:
            UsageError: Some are missing; the text names them.
        """
        known = {*PROPRIO_LAYOUTS[protocol], CAMERA_POSES}
        missing = [name for name in self.states if name not in known]
        if missing:
            raise UsageError(
                f"{address} reads the robot's state as 2025's evaluator gives it, and the "
                f"observations of protocol {protocol} have no {', no '.join(missing)}: take a task "
                "of --protocol 2025"
            )


def read_modality(found: object, address: object) -> Modality:
    """Read a server's modality config.

    Args:
        found: The server's answer.
        address: Of the server, for errors.

    Raises:
        WireError: It is not a modality config.
        UnavailableError: It asks for something that cannot be provided, or gives no actions of this
            robot; the text names everything that is wrong.
    """
    if not isinstance(found, dict):
        raise WireError(f"a modality config must be a map, got {type(found).__name__}")
    parts = {
        name: _Part.read(name, found[name])
        for name in ("video", "state", "language", "action")
        if name in found
    }
    wrong = list(_objections(parts))
    if wrong:
        raise UnavailableError(
            f"{address} is no server for this robot: {'; '.join(wrong)}. GR00T's is started with "
            "--embodiment-tag BEHAVIOR_R1_PRO"
        )
    video, language = parts.get("video"), parts.get("language")
    keys = () if video is None else video.keys
    pictures = {key: seen for key in keys if (seen := read_picture_key(key)) is not None}
    return Modality(
        pictures=MappingProxyType(pictures),
        states=parts["state"].keys,
        language=() if language is None else language.keys,
        chunk_length=len(parts["action"].steps),
    )


def modality_config(
    *, pictures: bool, states: tuple[str, ...], chunk_length: int
) -> dict[str, dict[str, Any]]:
    """Return the modality config of a server of ours.

    Args:
        pictures: Whether its policy looks at pictures; if so it reads the cameras' poses, too.
        states: Names that it needs beside `STATES`.
        chunk_length: Rows of its chunks.
    """
    names = [*STATES, *(name for name in states if name not in STATES)]
    video = {"video": _config([0], [picture_key(view) for view in VIEWS])} if pictures else {}
    return video | {
        "state": _config([0], names),
        "action": _config(list(range(chunk_length)), list(ACTIONS)),
        "language": _config([0], [LANGUAGE]),
    }


def _config(steps: list[int], keys: list[str]) -> dict[str, Any]:
    return config_form({"delta_indices": steps, "modality_keys": keys})


@dataclass(frozen=True)
class _Part:
    """One modality: names and relative steps."""

    keys: tuple[str, ...]
    steps: tuple[int, ...]

    @classmethod
    def read(cls, modality: str, found: object) -> _Part:
        if not isinstance(found, dict):
            raise WireError(f"the modality {modality} must be a map, got {type(found).__name__}")
        keys, steps = found.get("modality_keys"), found.get("delta_indices")
        if not isinstance(keys, list) or not _are_names(keys):
            raise WireError(f"the modality {modality} has no list of names as modality_keys")
        if not isinstance(steps, list) or not all(type(step) is int for step in steps):
            raise WireError(f"the modality {modality} has no list of steps as delta_indices")
        return cls(tuple(keys), tuple(steps))


def _are_names(found: list[object]) -> bool:
    return len(set(map(str, found))) == len(found) <= _MOST_NAMES and all(
        isinstance(key, str) and key.isprintable() and 0 < len(key) <= _LONGEST_NAME
        for key in found
    )


def _objections(parts: Mapping[str, _Part]) -> Iterator[str]:
    """Say everything that a server asks for and cannot be given."""
    for modality in ("video", "state", "language"):
        if modality in parts and parts[modality].steps != (0,):
            steps = ", ".join(map(str, parts[modality].steps[:8]))
            yield f"it wants the {modality} of the steps [{steps}], and gets that of [0]"
    if "video" in parts:
        unknown = [key for key in parts["video"].keys if read_picture_key(key) is None]
        if unknown:
            known = picture_key("head")
            yield f"it wants the pictures {', '.join(unknown)}, and there are those as {known}"
    state, action = parts.get("state"), parts.get("action")
    if state is None:
        yield "it wants no state"
    else:
        unknown = [key for key in state.keys if state_dim(key) is None]
        if unknown:
            yield f"it wants the state {', '.join(unknown)}, which 2025's 256 numbers do not have"
    if action is None or set(action.keys) != set(ACTIONS):
        have = "none" if action is None else ", ".join(action.keys)
        yield f"its actions are {have}, and the robot's {', '.join(ACTIONS)}"
    elif not 1 <= len(action.steps) <= _LONGEST_CHUNK or action.steps != tuple(
        range(len(action.steps))
    ):
        yield "its chunk is not of consecutive steps from 0 on"
