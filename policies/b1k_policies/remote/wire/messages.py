"""The messages other than observations: resets and answers.

A connection begins with one message of the server, a map of metadata that may be empty
(`metadata`). The client sends {"reset": True} at the start of every episode, which is not answered,
and observations (`observations`), each answered by a map with `action`. If the answer is a text, it
is the server's account of an error. Arrays are encoded as in `codec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from b1k_envs.base import Float32Array
from b1k_envs.errors import ActionError, PolicyFaultError
from b1k_envs.r1pro import ACTION_DIM
from b1k_policies.base import ActionChunk, Skill
from b1k_policies.remote.wire import keys
from b1k_policies.remote.wire.limits import WireError
from b1k_policies.remote.wire.observations import ManyEnvsError, Question, from_wire, to_wire

__all__ = [
    "Announcement",
    "Answer",
    "ManyEnvsError",
    "NoActionError",
    "NoChunkError",
    "Question",
    "answer_message",
    "from_wire",
    "is_reset",
    "read_answer",
    "read_reset",
    "reset_message",
    "to_wire",
]

_LONGEST_NAME = 200


class NoActionError(PolicyFaultError):
    """The server answered with a map that has no `action`; the same question may be asked again."""


class NoChunkError(PolicyFaultError):
    """The server was asked for a chunk and gave one action: it answers with one at a time."""


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """What a client of ours says about the episode it begins, or continues on a new connection.

    Attributes:
        seed: Seed of the episode.
        instance: Instance index within the split.
        rollout: Number of the try on the instance.
        inference: Number of inferences already made in the episode.
        step: Number of control steps already made in the episode.
        progress: The policy's own progress at the last of the inferences; None if it gave none.
    """

    seed: int
    instance: int
    rollout: int
    inference: int = 0
    step: int = 0
    progress: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """A server's answer for one env.

    Attributes:
        actions: float32 [K, 23]; K is 1 if no chunk was asked for.
        timing: The server's own figures by name, mostly [ms].
        skill: As in `ActionChunk`, from a server of ours.
        progress: As in `ActionChunk`, from a server of ours.
    """

    actions: Float32Array
    timing: Mapping[str, float]
    skill: Skill | None = None
    progress: float | None = None


# --- Resets ---------------------------------------------------------------------------------


def reset_message(told: Announcement | None = None) -> dict[str, Any]:
    """Return the message that begins an episode; `told` is for servers that understand it."""
    message: dict[str, Any] = {keys.RESET: True}
    if told is not None:
        # At the start of an episode there is no progress, and older servers know no such key.
        message[keys.EXTENSION] = {k: v for k, v in asdict(told).items() if v is not None}
    return message


def is_reset(message: object) -> bool:
    """Whether a message begins an episode: it has the key `reset`, whatever else it has."""
    return isinstance(message, dict) and keys.RESET in message


def read_reset(message: Mapping[Any, Any]) -> Announcement | None:
    """Read what a reset says about its episode; None from a client that is not ours.

    Raises:
        WireError: A value is not valid.
    """
    block = message.get(keys.EXTENSION)
    if block is None:
        return None
    names = tuple(Announcement.__dataclass_fields__)
    if not isinstance(block, dict) or {*block, "progress"} != set(names):
        raise WireError(f"a reset's {keys.EXTENSION} must be a map of {', '.join(names)}")
    progress = block.get("progress")
    if progress is not None and not (isinstance(progress, float) and 0.0 <= progress <= 1.0):
        raise WireError(f"a reset's progress must lie in [0, 1], got {_shown(progress)}")
    for name, value in block.items():
        if name == "progress":
            continue
        if type(value) is not int or not (-1 if name == "instance" else 0) <= value < 2**53:
            raise WireError(f"a reset's {name} must be a whole number, got {_shown(value)}")
    return Announcement(**block)


# --- Answers --------------------------------------------------------------------------------


def answer_message(
    action: Float32Array,
    action_chunk: Float32Array | None = None,
    *,
    batched: bool,
    timing: Mapping[str, float] | None = None,
    said: ActionChunk | None = None,
) -> dict[str, Any]:
    """Return the answer to a `Question`.

    Args:
        action: float32 [N, 23], one row per env.
        action_chunk: float32 [N, K, 23] with `action` first; None if it was not asked for.
        batched: `Question.batched`.
        timing: Figures of the server; the reference server gives `infer_ms` and `prev_total_ms`.
        said: The chunk whose skill and progress are told to a client of ours.
    """
    arrays = {keys.ACTION: action}
    if action_chunk is not None:
        arrays[keys.ACTION_CHUNK] = action_chunk
    message: dict[str, Any] = {key: array if batched else array[0] for key, array in arrays.items()}
    if timing is not None:
        message[keys.SERVER_TIMING] = dict(timing)
    if said is not None:
        skill = None if said.skill is None else asdict(said.skill)
        message[keys.EXTENSION] = {"skill": skill, "progress": said.progress}
    return message


def read_answer(message: object, *, rows: int | None, extended: bool = False) -> Answer:
    """Read a server's answer to one env's observation.

    Args:
        message: As `codec.unpack` returns it.
        rows: K, if a chunk was asked for.
        extended: Whether to read what only a server of ours says.

    Raises:
        NoActionError: It is a map without `action`.
        NoChunkError: It is a map without `action_chunk`, though a chunk was asked for.
        PolicyFaultError: It is not a map.
        ActionError: An action has another shape or dtype or is not finite, or `action` and
            `action_chunk` differ.
        WireError: Skill or progress is not valid.
    """
    if not isinstance(message, dict):
        raise PolicyFaultError(f"the server answered with a {type(message).__name__}, not a map")
    if keys.ACTION not in message:
        have = ", ".join(_shown(key) for key in list(message)[:12]) or "nothing"
        raise NoActionError(f"the server's answer has no {keys.ACTION!r} (it has: {have})")
    action = _floats(message[keys.ACTION], keys.ACTION, ())
    actions = action[None]
    if rows is not None:
        if keys.ACTION_CHUNK not in message:
            raise NoChunkError(
                f"{rows} actions were asked for, but the server's answer has no "
                f"{keys.ACTION_CHUNK!r}"
            )
        actions = _floats(message[keys.ACTION_CHUNK], keys.ACTION_CHUNK, (rows,))
        if not np.array_equal(actions[0], action):
            raise ActionError(f"the server's {keys.ACTION!r} is not the first of its chunk")
    block = message.get(keys.EXTENSION) if extended else None
    skill, progress = _said(block) if isinstance(block, dict) else (None, None)
    return Answer(
        actions=actions,
        timing=_timing(message.get(keys.SERVER_TIMING)),
        skill=skill,
        progress=progress,
    )


def _floats(found: object, name: str, lead: tuple[int, ...]) -> Float32Array:
    """Return float32 [*lead, 23]; the received array may have a leading dimension of 1 env."""
    wanted = (*lead, ACTION_DIM)
    if not isinstance(found, np.ndarray):
        raise ActionError(f"the server's {name!r} must be an array, got {type(found).__name__}")
    if found.dtype.kind not in "fiu" or found.shape not in (wanted, (1, *wanted)):
        raise ActionError(
            f"the server's {name!r} must be float32 {list(wanted)}, or with a leading 1, got "
            f"{found.dtype} {list(found.shape)}"
        )
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused below
        actions = found.reshape(wanted).astype(np.float32)
    if not np.isfinite(actions).all():
        place = [int(index) for index in np.argwhere(~np.isfinite(actions))[0]]
        raise ActionError(f"the server's {name!r} is {actions[tuple(place)]} at {place}")
    return actions


def _timing(found: object) -> dict[str, float]:
    """Return the numbers in a server's timing; nothing depends on it, so the rest is ignored."""
    if not isinstance(found, dict):
        return {}
    return {
        name[:40]: float(value)
        for name, value in found.items()
        if isinstance(name, str) and isinstance(value, (int, float, np.floating))
    }


def _shown(value: object) -> str:
    """Return the beginning of a value in ASCII: a terminal would obey control characters."""
    return ascii(str(value)[:40])[1:-1]


def _said(block: Mapping[Any, Any]) -> tuple[Skill | None, float | None]:
    skill, progress = block.get("skill"), block.get("progress")
    if progress is not None and not (isinstance(progress, float) and 0.0 <= progress <= 1.0):
        raise WireError(f"the server's progress must lie in [0, 1], got {_shown(progress)}")
    if skill is None:
        return None, progress
    kinds = {"index": int, "name": str, "probability": float}
    if not isinstance(skill, dict) or set(skill) != set(kinds):
        raise WireError(f"the server's skill must be a map of {', '.join(kinds)}")
    for name, kind in kinds.items():
        if skill[name] is not None and type(skill[name]) is not kind:
            raise WireError(
                f"the server's skill has a {type(skill[name]).__name__} for its {name}, "
                f"expected {kind.__name__}"
            )
    _check_skill(**skill)
    return Skill(**skill), progress


def _check_skill(index: int | None, name: str | None, probability: float | None) -> None:
    """Check that a skill is as `Skill` says, and that its name can be shown on a line of text."""
    if index is not None and not 0 <= index < 2**31:
        raise WireError(f"the server's skill has the index {index}, expected 0 to 2^31 - 1")
    if name is not None and not (name.isprintable() and len(name) <= _LONGEST_NAME):
        raise WireError(
            f"the server's skill has the name {name[:40]!r}, expected at most {_LONGEST_NAME} "
            "printable letters"
        )
    if probability is not None and not 0.0 <= probability <= 1.0:
        raise WireError(f"the server's skill has the probability {probability}, not in [0, 1]")
