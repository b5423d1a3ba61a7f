"""What a policy was asked, in a few numbers that tell one question from another.

They are taken where the question is handed over: one that was meant for another episode, or shows
an older state, differs here before any action does. Pictures are hashed whole, in 1.2 ms for all
three at their native sizes. What the numbers do not show: what becomes of a question after that,
on its way to a server or within a model; the actions do.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from b1k_envs.base import VIEWS, Observation
from b1k_policies.base import Query

_POSITIVE = 0x7FFF_FFFF  # a trace keeps these numbers as int32


class Asked(NamedTuple):
    """A question, for the trace.

    Attributes:
        seed: Seed of the inference.
        instruction: The task in words.
        state: Checksum of step, time, proprio and camera poses, in [0, 2^31).
        pictures: Checksum of pictures and depth, in [0, 2^31); None if there are none.
    """

    seed: int
    instruction: str
    state: int
    pictures: int | None


def asked(query: Query) -> Asked:
    """Take the numbers of a question."""
    seen = query.observation
    return Asked(query.seed, query.instruction, _state(seen), _pictures(seen))


def _state(seen: Observation) -> int:
    poses = [seen.camera_to_base[view] for view in VIEWS if view in seen.camera_to_base]
    moment = np.array([seen.step, seen.time], dtype=np.float64)
    return _checksum([moment, seen.proprio, seen.cam_rel_poses, *poses])


def _pictures(seen: Observation) -> int | None:
    found = [of[view] for of in (seen.images, seen.depth or {}) for view in VIEWS if view in of]
    return _checksum(found) if found else None


def _checksum(arrays: Iterable[npt.NDArray[Any]]) -> int:
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).data, total)
    return total & _POSITIVE
