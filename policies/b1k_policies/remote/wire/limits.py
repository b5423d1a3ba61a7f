"""How much a peer may ask of us, and the error when it asks for more."""

from __future__ import annotations

from dataclasses import dataclass

from b1k_envs.errors import B1kEvalError

_DEEPEST = 64


class WireError(B1kEvalError):
    """Bytes that are no message of the protocol, or a value that cannot be one."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one message may be at most.

    Reading a message allocates, beside the message itself, at most `size` bytes (arrays that lie
    across the machine's alignment are copied), four times `text` (Python's widest characters) and
    about 200 bytes for each of the `elements`.

    Attributes:
        size: Whole message [bytes]. An observation of the evaluator has 4 MB, with depth and
            segmentation 20 MB; times the number of envs.
        depth: Maps and lists inside one another.
        elements: Values, keys included, at all depths.
        text: All texts and keys together [bytes].
    """

    size: int = 64 * 2**20
    depth: int = 16
    elements: int = 10_000
    text: int = 2**20

    def __post_init__(self) -> None:
        for name in ("size", "depth", "elements", "text"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"Limits: {name} must be at least 1, got {value}")
        if self.depth > _DEEPEST:  # the reader recurses
            raise ValueError(f"Limits: depth may be {_DEEPEST} at most, got {self.depth}")


DEFAULT_LIMITS = Limits()
"""Enough for every message of the official evaluators with up to three envs."""
