"""What a policy is shown and told, disturbed: pictures, camera poses, proprio, instruction.

Works on an `Observation`, so it is the same in every simulator and for every policy. What the
goal, the trace's poses and the video show is the world as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from b1k_envs.base import VIEWS, Float32Array, Float64Array, Observation, UInt8Array, View
from b1k_envs.errors import UsageError
from b1k_envs.poses import camera_matrices
from b1k_envs.r1pro import CAM_REL_POSES_ORDER, PROPRIO_LAYOUTS
from b1k_envs.tasks.table import TASKS
from b1k_eval.disturbances.axes import Disturbance
from b1k_eval.disturbances.pictures import CHANGES, Draws


def draws(seed: int, each: Disturbance, step: int, part: str = "") -> Draws:
    """Return the random numbers of a disturbance: of the episode, and of a step."""
    # The axis is in the seed, so that adding one leaves what the others draw as it was.
    stream = zlib.crc32(f"{each.axis.name}/{part}".encode())
    return Draws(np.random.default_rng([seed, stream]), np.random.default_rng([seed, stream, step]))


class Shown:
    """Disturbs the observations of one episode after another; `reset` first."""

    def __init__(self, disturbances: Sequence[Disturbance]) -> None:
        self._all = tuple(each for each in disturbances if each.dose)
        self._seed = 0
        self._first: dict[View, UInt8Array] = {}

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self._seed, self._first = seed, {}

    def observation(self, seen: Observation) -> Observation:
        """Return the observation as the policy gets it; the same object if nothing is changed."""
        for each in self._all:
            if each.axis.kind == "picture" and seen.images:
                seen = replace(seen, images=MappingProxyType(self._pictures(each, seen)))
            elif each.axis.name == "focal":
                seen = replace(seen, focal=seen.focal * (1.0 + each.dose))
            elif each.axis.kind == "pose":
                told = self._poses(each, seen.cam_rel_poses)
                seen = replace(seen, cam_rel_poses=told, camera_to_base=camera_matrices(told))
            elif each.axis.kind == "state":
                seen = replace(seen, proprio=self._state(each, seen))
        return seen

    def instruction(self, text: str) -> str:
        """Return the task in words, as the policy is told it."""
        for each in self._all:
            if each.axis.name == "words-blank":
                text = ""
            elif each.axis.name == "words-other":
                others = [task.instruction for task in TASKS if task.instruction != text]
                text = others[int(draws(self._seed, each, 0).steady.integers(len(others)))]
            elif each.axis.name == "paraphrase":
                text = paraphrase(Path(each.part or ""), int(each.dose))
        return text

    def _pictures(self, each: Disturbance, seen: Observation) -> dict[View, UInt8Array]:
        pictures = dict(seen.images)
        if each.axis.name == "swapped":
            pictures["left_wrist"], pictures["right_wrist"] = (
                pictures["right_wrist"],
                pictures["left_wrist"],
            )
            return pictures
        for view in _concerned(each):
            if each.axis.name == "frozen":
                pictures[view] = self._first.setdefault(view, pictures[view])
                continue
            drawn = draws(self._seed, each, seen.step, view)
            pictures[view] = CHANGES[each.axis.name](pictures[view], each.dose, drawn)
            pictures[view].setflags(write=False)
        return pictures

    def _poses(self, each: Disturbance, recorded: Float32Array) -> Float32Array:
        told = recorded.astype(np.float64)
        for view in _concerned(each):
            first = 7 * CAM_REL_POSES_ORDER.index(view)
            place, turn = told[first : first + 3], told[first + 3 : first + 7]
            way = direction(draws(self._seed, each, 0, view).steady)
            if each.axis.name == "pose-shift":
                place += each.dose * way
            elif each.axis.name == "pose-turn":
                turn[:] = quaternion_product(turn, turn_about(way, np.radians(each.dose)))
            else:
                place[:], turn[:] = 0.0, (0.0, 0.0, 0.0, 1.0)
        return _sealed(told)

    def _state(self, each: Disturbance, seen: Observation) -> Float32Array:
        part = slice(None)
        if each.part is not None:
            part = PROPRIO_LAYOUTS[seen.protocol][each.part]
        told = seen.proprio.astype(np.float64)
        drawn = draws(self._seed, each, seen.step)
        if each.axis.name == "state-noise":
            told[part] += each.dose * drawn.fresh.standard_normal(told.shape)[part]
        elif each.axis.name == "state-bias":
            told[part] += each.dose * drawn.steady.choice((-1.0, 1.0), told.shape)[part]
        else:
            told[part] = 0.0
        return _sealed(told)


def _concerned(each: Disturbance) -> Iterator[View]:
    return (view for view in VIEWS if each.part in (None, view))


def _sealed(values: Float64Array) -> Float32Array:
    rounded = values.astype(np.float32)
    rounded.setflags(write=False)
    return rounded


def direction(generator: np.random.Generator) -> Float64Array:
    """Draw a unit vector, float64 [3], uniform over the sphere."""
    drawn = generator.standard_normal(3)
    return np.asarray(drawn / np.sqrt(drawn @ drawn), np.float64)


def turn_about(axis: Float64Array, angle: float) -> Float64Array:
    """Return the quaternion x, y, z, w of a turn by an angle [rad] about a unit vector."""
    return np.array([*np.sin(angle / 2.0) * axis, np.cos(angle / 2.0)])


def quaternion_product(first: Float64Array, second: Float64Array) -> Float64Array:
    """Return the turn that does `second` first, in the frame that `first` turns; x, y, z, w."""
    v, w = first[:3], first[3]
    u, s = second[:3], second[3]
    return np.array([*(w * u + s * v + np.cross(v, u)), w * s - v @ u])


@lru_cache(maxsize=8)
def _lines(file: Path) -> tuple[str, ...]:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"paraphrase: {file} cannot be read ({error})") from None
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def paraphrase(file: Path, number: int) -> str:
    """Return a line of a file of paraphrases, counted from 1; empty lines do not count.

    Raises:
        UsageError: The file cannot be read, or has fewer lines.
    """
    lines = _lines(file)
    if not 1 <= number <= len(lines):
        raise UsageError(f"paraphrase: {file} has {len(lines)} lines, and line {number} was asked")
    return lines[number - 1]
