"""The arms of a study: which axes are disturbed, and by which doses.

What a policy uses is asked by taking it away, one input at a time; that is the group `inputs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from b1k_envs.base import VIEWS, Sim
from b1k_envs.errors import UsageError
from b1k_eval.disturbances.axes import AXES, Axis, Disturbance, find_axis

BASE = "undisturbed"
"""Name of the arm that nothing disturbs."""

INPUTS: Mapping[str, str] = {
    **{f"blank:{view}": f"{view.replace('_', ' ')} picture" for view in VIEWS},
    **{f"pose-blank:{view}": f"{view.replace('_', ' ')} camera's pose" for view in VIEWS},
    "state-blank": "proprioception",
    "words-blank": "instruction",
}
"""Inputs by the disturbance that takes them away."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One axis, of one part, in one direction: doses of one sign.

    Attributes:
        axis: The axis.
        part: What it is limited to; None for all.
        sign: 1, or -1 for the doses below 0.
        doses: Their sizes, ascending and above 0.
    """

    axis: Axis
    part: str | None
    sign: int
    doses: tuple[float, ...]

    @property
    def name(self) -> str:
        """As typed, with the direction where the axis has two."""
        part = "" if self.part is None else f":{self.part}"
        two = {-1: " down", 1: " up"}[self.sign] if self.axis.least < 0 else ""
        return f"{self.axis.name}{part}{two}"

    def arm(self, size: float) -> Disturbance:
        """Return the disturbance of a dose."""
        return Disturbance(axis=self.axis, part=self.part, dose=self.sign * size)

    def between(self, low: float, high: float) -> float | None:
        """Return a dose in the middle of two; None if there is none worth trying."""
        middle = float(np.sqrt(low * high)) if low else high / 2.0
        if self.axis.unit in ("steps", "line"):
            middle = float(round(middle))
        # Two digits: a dose is to be typed and read.
        middle = float(f"{middle:.2g}")
        return middle if low * 1.1 < middle < high / 1.1 else None


def plan_curves(
    typed: Sequence[str], doses: Sequence[float] | None, *, sim: Sim
) -> tuple[Curve, ...]:
    """Return the curves that `--axes` names.

    Args:
        typed: Axes, axes with parts, `inputs`, or `all` for every axis that the simulator has.
        doses: Doses in place of the axis's own; for a single axis.
        sim: The simulator.

    Raises:
        UsageError: An axis is unknown or not of this simulator, or a dose is out of its range.
    """
    names: list[str] = []
    for name in typed:
        if name == "inputs":
            names += INPUTS
        elif name == "all":
            names += [
                each.name
                for each in AXES.values()
                if each.name != "paraphrase" and (each.kind != "world" or sim == "mujoco")
            ]
        else:
            names.append(name)
    names = list(dict.fromkeys(names))
    if doses is not None and len(names) != 1:
        raise UsageError(f"--doses goes with one axis, and --axes has {len(names)}")
    curves = []
    for name in names:
        axis, part = find_axis(name)
        tried = axis.doses if doses is None else tuple(dict.fromkeys(doses))
        for dose in tried:
            if not axis.least <= dose <= axis.most:
                unit = f" {axis.unit}" if axis.unit else ""
                raise UsageError(
                    f"--doses {dose:g} is out of the range of {axis.name}, "
                    f"{axis.least:g} to {axis.most:g}{unit}"
                )
        for sign in (-1, 1):
            sizes = tuple(sorted(abs(dose) for dose in tried if dose * sign > 0))
            if sizes:
                curves.append(Curve(axis=axis, part=part, sign=sign, doses=sizes))
    if not curves:
        raise UsageError("a study needs a dose that is not 0")
    return tuple(curves)
