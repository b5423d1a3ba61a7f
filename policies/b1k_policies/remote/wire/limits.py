"""How much one message from a peer may contain, and the error when it has more."""

from __future__ import annotations

from dataclasses import dataclass

from b1k_envs.errors import B1kEvalError

_DEEPEST = 64


class WireError(B1kEvalError):
    """Bytes are not a message of the protocol, or a value cannot be sent as one."""


@dataclass(frozen=True, kw_only=True)
class MessageLimits:
    """The limits of one message.

    Besides the message itself, reading it allocates at most `size` bytes (unaligned arrays are
    copied), four times `text` (Python's widest characters) and about 200 bytes for each of the
    `elements`.

    Attributes:
        size: Size of the whole message [bytes]. An observation of the evaluator has 4 MB, with
            depth and segmentation 20 MB, times the number of envs.
        depth: Nesting of maps and lists.
        elements: Number of values, keys included, at all depths.
        text: Size of all texts and keys together [bytes].
    """

    size: int = 64 * 2**20
    depth: int = 16
    elements: int = 10_000
    text: int = 2**20

    def __post_init__(self) -> None:
        for name in ("size", "depth", "elements", "text"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"MessageLimits: {name} must be at least 1, got {value}")
        if self.depth > _DEEPEST:  # the reader recurses, and Python's stack has an end
            raise ValueError(f"MessageLimits: depth may be {_DEEPEST} at most, got {self.depth}")


DEFAULT_LIMITS = MessageLimits()
"""Enough for every message of the official evaluators with up to three envs."""
