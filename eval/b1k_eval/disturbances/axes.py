"""The axes along which an episode can be disturbed: one row each.

A disturbance is an axis, a dose and, where the axis allows it, the part that it is limited to:
`blur=3`, `blur:head=3`. Dose 0 is nothing. What is drawn is drawn from the episode's seed, so it is
the same for every policy. Names follow LIBERO-plus (sylvestf/LIBERO-plus, README: camera
viewpoints, robot initial states, language, light, background, sensor noise, layout) where it has
the axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

from b1k_envs.base import VIEWS
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import PROPRIO_2026

Kind = Literal["picture", "pose", "state", "words", "answer", "action", "world"]
"""What an axis disturbs: pictures, camera poses, proprio or instruction as the policy is told them;
its answers on their way; the executed actions; or the twin's world."""

_ARMS = ("arm_left", "arm_right")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis.

    Attributes:
        name: As typed.
        kind: What it disturbs.
        unit: Of its doses; empty for a plain number.
        meaning: What a dose does, `d` being the dose.
        doses: Those that a study tries, ascending from mild to severe.
        most: Largest dose.
        least: Smallest dose; 0 where it has no opposite.
        parts: What it can be limited to; without one it concerns all of them.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    doses: tuple[float, ...]
    most: float
    least: float = 0.0
    parts: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it has no doses between nothing and all."""
        return self.doses == (1.0,)


def _axis(
    kind: Kind,
    name: str,
    unit: str,
    meaning: str,
    doses: tuple[float, ...],
    most: float,
    least: float = 0.0,
    parts: tuple[str, ...] | None = None,
) -> Axis:
    own: Mapping[Kind, tuple[str, ...]] = {
        "picture": VIEWS, "pose": VIEWS, "state": tuple(PROPRIO_2026)
    }  # fmt: skip
    limits = own.get(kind, ()) if parts is None else parts
    return Axis(
        name=name, kind=kind, unit=unit, meaning=meaning, doses=doses, most=most, least=least,
        parts=limits,
    )  # fmt: skip


_ALL: tuple[Axis, ...] = (
    _axis("picture", "brightness", "", "d times white is added to every pixel",
          (-0.6, -0.3, 0.3, 0.6), 1.0, -1.0),
    _axis("picture", "contrast", "", "distances from the picture's mean grey times 1 + d",
          (-0.8, -0.5, 0.5, 1.0), 4.0, -1.0),
    _axis("picture", "hue", "deg", "colours turned by d round the wheel of hues",
          (15, 45, 90, 180), 180.0, -180.0),
    _axis("picture", "noise", "levels", "Gaussian noise of standard deviation d, anew each time",
          (8, 16, 32, 64), 255.0),
    _axis("picture", "blur", "px", "Gaussian blur of standard deviation d, at the native size",
          (1, 2, 4, 8), 64.0),
    _axis("picture", "jpeg", "", "stored as JPEG of quality 100 - d (chroma 4:2:0)",
          (50, 75, 90, 97), 99.0),
    _axis("picture", "patch", "", "a grey square of d of the picture's area, at a place of the "
          "episode's", (0.05, 0.1, 0.2, 0.4), 1.0),
    _axis("picture", "shift", "", "moved by d of its width, in a direction of the episode's, edges "
          "repeated", (0.02, 0.05, 0.1, 0.2), 0.5),
    _axis("picture", "rotation", "deg", "turned by d about its centre, edges repeated",
          (2, 5, 10, 20), 180.0, -180.0),
    _axis("picture", "blank", "", "black", (1,), 1.0),
    _axis("picture", "frozen", "", "the first picture of the episode, ever after", (1,), 1.0),
    _axis("picture", "swapped", "", "the two wrists' pictures exchanged", (1,), 1.0, parts=()),
    _axis("pose", "pose-turn", "deg", "told turned by d about an axis of the episode's, in the "
          "camera's frame", (1, 2, 5, 10), 180.0),
    _axis("pose", "pose-shift", "m", "told moved by d in a direction of the episode's, base frame",
          (0.01, 0.02, 0.05, 0.1), 1.0),
    _axis("pose", "pose-blank", "", "told to be at the base, looking along its axes", (1,), 1.0),
    _axis("pose", "focal", "", "focal lengths told times 1 + d; for checkpoints that are told K",
          (-0.1, -0.05, 0.05, 0.1), 1.0, -0.5, ()),
    _axis("state", "state-noise", "rad, m", "Gaussian noise of standard deviation d, anew each "
          "time", (0.005, 0.01, 0.02, 0.05), 1.0),
    _axis("state", "state-bias", "rad, m", "d added or taken away, by the episode, column by "
          "column", (0.005, 0.01, 0.02, 0.05), 1.0),
    _axis("state", "state-blank", "", "zeros", (1,), 1.0),
    _axis("words", "words-blank", "", "no instruction: an empty text", (1,), 1.0),
    _axis("words", "words-other", "", "the instruction of another task, of the episode's", (1,),
          1.0),
    _axis("words", "paraphrase", "line", "line d of the file, counted from 1 (paraphrase:FILE=d)",
          (1, 2, 3, 4), 1e6),
    _axis("answer", "latency", "ms", "an answer arrives d later, the old chunk goes on",
          (100, 200, 400, 800), 10_000.0),
    _axis("answer", "dropped", "", "an answer is lost with probability d, the old chunk goes on",
          (0.1, 0.25, 0.5, 0.75), 0.95),
    _axis("action", "action-noise", "", "noise of the executed actions, SIGMA of --action-noise",
          (0.01, 0.02, 0.04, 0.08), 1.0),
    _axis("action", "gripper-delay", "steps", "gripper commands come d control steps late",
          (3, 6, 15, 30), 300.0),
    _axis("action", "base-scale", "", "base velocities times 1 + d", (-0.5, -0.2, 0.2, 0.5), 4.0,
          -1.0),
    _axis("action", "arm-scale", "", "the arms' joint angles times 1 + d",
          (-0.1, -0.03, 0.03, 0.1), 1.0, -1.0, _ARMS),
    _axis("world", "light", "", "every lamp's brightness times 1 + d", (-0.8, -0.5, 0.5, 1.0), 4.0,
          -1.0),
    _axis("world", "colours", "", "each material's three channels times 1 - d to 1 + d, drawn by "
          "the episode", (0.2, 0.4, 0.6, 0.8), 1.0),
    _axis("world", "camera-turn", "deg", "cameras really turned by d about an axis of the "
          "episode's; the poses told are right", (2, 5, 10, 20), 90.0, parts=VIEWS),
    _axis("world", "camera-shift", "m", "cameras really moved by d in a direction of the "
          "episode's; the poses told are right", (0.01, 0.02, 0.05, 0.1), 1.0, parts=VIEWS),
    _axis("world", "start", "", "the robot's start 1 + d times as far from the nominal one",
          (0.5, 1.0, 1.5, 2.0), 4.0, -1.0),
    _axis("world", "places", "", "things 1 + d times as far from their nominal places",
          (0.5, 1.0, 1.5, 2.0), 3.0, -1.0),
    _axis("world", "friction", "", "sliding friction of all things times 1 + d",
          (-0.9, -0.6, -0.3, 1.0), 9.0, -0.99),
    _axis("world", "mass", "", "mass and inertia of all things times 1 + d",
          (-0.5, 1.0, 4.0, 9.0), 99.0, -0.9),
)  # fmt: skip

AXES: Mapping[str, Axis] = MappingProxyType({axis.name: axis for axis in _ALL})


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """An axis with a dose.

    Attributes:
        axis: The axis.
        dose: In the axis's unit; 0 is nothing.
        part: What it is limited to; None for everything that the axis concerns. Of `paraphrase`
            the file.
    """

    axis: Axis
    dose: float
    part: str | None = None

    def __str__(self) -> str:
        """As typed."""
        part = "" if self.part is None else f":{self.part}"
        return f"{self.axis.name}{part}={self.dose:g}"

    @property
    def words(self) -> str:
        """For people: `blur of the head 3 px`."""
        part = "" if self.part is None else f" ({self.part.replace('_', ' ')})"
        unit = f" {self.axis.unit}" if self.axis.unit else ""
        return f"{self.axis.name}{part} {self.dose:g}{unit}"


def find_axis(typed: str) -> tuple[Axis, str | None]:
    """Return the axis and the part that `AXIS` or `AXIS:PART` names.

    Raises:
        UsageError: There is none of that name, or it has no such part.
    """
    name, _, part = typed.partition(":")
    axis = AXES.get(name)
    if axis is None:
        near = get_close_matches(name, AXES, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(AXES)}"
        raise UsageError(f"there is no axis {name!r} to disturb; {hint}")
    if axis.name == "paraphrase":
        if not part:
            raise UsageError("paraphrase needs a file with a line for each: paraphrase:FILE=1")
        return axis, part
    if part and part not in axis.parts:
        have = f"it has {', '.join(axis.parts)}" if axis.parts else "it has no parts"
        near = get_close_matches(part, axis.parts, 1)
        hint = f"did you mean {axis.name}:{near[0]}?" if near else have
        raise UsageError(f"{axis.name} has no part {part!r}; {hint}")
    return axis, part or None


def parse_disturbance(typed: str) -> Disturbance:
    """Read `AXIS=DOSE` or `AXIS:PART=DOSE`.

    Raises:
        UsageError: See `find_axis`; or the dose is no number, or outside the axis's range.
    """
    name, equals, text = typed.rpartition("=")
    if not equals:
        axis, _ = find_axis(typed)
        raise UsageError(f"--disturb {typed!r} lacks a dose: {typed}={axis.doses[0]:g}, say")
    axis, part = find_axis(name.strip())
    try:
        dose = float(text)
    except ValueError:
        raise UsageError(f"--disturb {typed!r}: the dose {text!r} is no number") from None
    unit = f" {axis.unit}" if axis.unit else ""
    if not (math.isfinite(dose) and axis.least <= dose <= axis.most):
        raise UsageError(
            f"--disturb {typed!r}: the dose must lie in [{axis.least:g}, {axis.most:g}]{unit} "
            f"({axis.meaning})"
        )
    if axis.whole and dose not in (0.0, 1.0):
        raise UsageError(f"--disturb {typed!r}: {axis.name} is all or nothing, 1 or 0")
    if axis.unit in ("steps", "line") and dose != int(dose):
        raise UsageError(f"--disturb {typed!r}: {axis.name} is a whole number of {axis.unit}s")
    return Disturbance(axis=axis, dose=dose, part=part)


def parse_disturbances(typed: str | Iterable[str]) -> tuple[Disturbance, ...]:
    """Read any number of them, texts with commas between, one axis and part at most once each.

    Raises:
        UsageError: See `parse_disturbance`; or two concern the same.
    """
    texts = [typed] if isinstance(typed, str) else list(typed)
    found = [parse_disturbance(one.strip()) for text in texts for one in text.split(",")]
    seen: set[tuple[str, str | None]] = set()
    for each in found:
        same = (each.axis.name, each.part)
        if same in seen:
            raise UsageError(f"--disturb has {each.axis.name} twice; give it once")
        seen.add(same)
    return tuple(found)
