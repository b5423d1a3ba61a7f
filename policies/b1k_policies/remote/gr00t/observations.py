"""Observations and actions in GR00T's protocol, both ways.

Flat, for a server with the wrapper for simulations: `video.NAME` uint8 [B, 1, S, S, 3],
`state.NAME` float32 [B, 1, D], the sentences as a list of B texts; answered by `action.NAME`
float32 [B, T, D]. Nested, for one without: the same arrays by NAME under `video` and `state`, the
sentences as B lists of one text under `language`; answered by NAME. The answer is a list of two,
actions and a map that is not looked at.

Source: NVIDIA/Isaac-GR00T, `gr00t/policy/gr00t_policy.py`@226ca9bf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from b1k_envs.base import Float32Array, Observation, UInt8Array, View
from b1k_envs.errors import ActionError, PolicyFaultError
from b1k_envs.r1pro import ACTION_DIM, PROPRIO_2025
from b1k_policies.remote.gr00t.modality import Modality
from b1k_policies.remote.gr00t.robot import ACTIONS, CAMERA_POSES
from b1k_policies.remote.wire.address import KeyForm

Pictures = Mapping[str, UInt8Array]
"""uint8 [S, S, 3] RGB by the picture's name."""


def to_message(
    observations: Sequence[Observation],
    sentences: Sequence[str],
    modality: Modality,
    pictures: Callable[[Observation, View, int], UInt8Array],
    form: KeyForm,
) -> dict[str, Any]:
    """Return the observation of B worlds as a server takes it.

    Args:
        observations: Per world, of 2025's layout.
        sentences: Per world, the task in words.
        modality: What the server wants.
        pictures: Gives a view's picture in a size [px], uint8 [S, S, 3].
        form: Flat or nested.
    """
    video = {
        key: np.stack([pictures(one, view, size)[None] for one in observations])
        for key, (view, size) in modality.pictures.items()
    }
    state = {
        name: np.stack([_state(one, name)[None] for one in observations])
        for name in modality.states
    }
    if form == "nested":
        words = {key: [[text] for text in sentences] for key in modality.language}
        return {"video": video, "state": state, "language": words}
    return {
        **{f"video.{key}": array for key, array in video.items()},
        **{f"state.{name}": array for name, array in state.items()},
        **{key: list(sentences) for key in modality.language},
    }


def _state(observation: Observation, name: str) -> Float32Array:
    if name == CAMERA_POSES:
        return observation.cam_rel_poses
    return observation.proprio[PROPRIO_2025[name]]


def action_message(actions: Float32Array, form: KeyForm) -> dict[str, Float32Array]:
    """Return the actions of B worlds, float32 [B, T, 23], by name."""
    lead = "action." if form == "flat" else ""
    return {f"{lead}{name}": actions[..., part] for name, part in ACTIONS.items()}


def read_actions(answer: object, *, worlds: int, rows: int, form: KeyForm) -> Float32Array:
    """Read the answer to an observation of B worlds.

    Returns:
        float32 [B, T, 23], new. It may hold numbers that are not finite.

    Raises:
        PolicyFaultError: It is no list of two, or a part of the action is missing.
        ActionError: A part has another shape or dtype.
    """
    if not isinstance(answer, list) or len(answer) != 2 or not isinstance(answer[0], dict):
        raise PolicyFaultError(
            f"the server's answer must be a list of actions and info, got a {type(answer).__name__}"
        )
    found, lead = answer[0], "action." if form == "flat" else ""
    missing = [f"{lead}{name}" for name in ACTIONS if f"{lead}{name}" not in found]
    if missing:
        have = ", ".join(ascii(str(key)[:40])[1:-1] for key in list(found)[:12]) or "nothing"
        raise PolicyFaultError(
            f"the server's answer has no {', no '.join(missing)} (it has: {have})"
        )
    actions = np.empty((worlds, rows, ACTION_DIM), dtype=np.float32)
    for name, part in ACTIONS.items():
        wanted = (worlds, rows, part.stop - part.start)
        actions[..., part] = _floats(found[f"{lead}{name}"], f"{lead}{name}", wanted)
    return actions


def _floats(found: object, name: str, wanted: tuple[int, ...]) -> npt.NDArray[Any]:
    if not isinstance(found, np.ndarray):
        raise ActionError(f"the server's {name!r} must be an array, got {type(found).__name__}")
    if found.dtype.kind not in "fiu" or found.shape != wanted:
        raise ActionError(
            f"the server's {name!r} must be float32 {list(wanted)}, got {found.dtype} "
            f"{list(found.shape)}"
        )
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused by the chunk
        return found.astype(np.float32)
