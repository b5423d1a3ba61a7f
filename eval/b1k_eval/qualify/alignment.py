"""Finding where a replay departs from its recording, and by how many steps it is shifted.

A row of the recording has the state before its action, as in LeRobot; the replay's state is also
read before each action. A shift shows as the same course some steps earlier or later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from b1k_envs.base import Float32Array, Float64Array, ProtocolYear
from b1k_envs.r1pro import ARMS, PROPRIO_LAYOUTS


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A quantity on which recording and replay must agree.

    Attributes:
        name: Its name, with its unit.
        fields: Its fields in the proprioception.
        bound: Largest difference allowed.
        same_layout: Whether only equal layouts can be compared, as 2025 has it in another frame.
        angle: Whether it is an angle, so that whole turns do not count.
    """

    name: str
    fields: tuple[str, ...]
    bound: float
    same_layout: bool = False
    angle: bool = False


QUANTITIES: tuple[Quantity, ...] = (
    Quantity(name="base position [m]", fields=("robot_pos",), bound=0.05),
    Quantity(name="base heading [rad]", fields=("robot_2d_ori",), bound=0.05, angle=True),
    Quantity(
        name="base velocity [m/s, rad/s]", fields=("base_qvel",), bound=0.15, same_layout=True
    ),
    Quantity(
        name="joints [rad]",
        fields=("trunk_qpos", *(f"arm_{arm}_qpos" for arm in ARMS)),
        bound=0.05,
    ),
    Quantity(
        name="hands in the base frame [m]",
        fields=tuple(f"eef_{arm}_pos" for arm in ARMS),
        bound=0.03,
    ),
    Quantity(
        name="gripper fingers [m]", fields=tuple(f"gripper_{arm}_qpos" for arm in ARMS), bound=0.01
    ),
)
"""The bounds are a few times what a controller lags in a step at the speeds of the demonstrations,
and less than what decides a grasp. Only the 256 numbers of 2025 have the base's pose."""

MOST_SHIFT = 10
"""Largest shift to look for, in steps either way."""

_CLEARER = 0.5
"""Largest share of the squared differences that a shift may leave."""

_FEWEST_ROWS = 30
"""Fewest rows that can show a shift."""

_FEW = 1e-4
"""Mean squared difference, in bounds, below which no shift is looked for."""


@dataclass(frozen=True, kw_only=True)
class Parting:
    """The first difference of recording and replay beyond a bound.

    Attributes:
        step: Row of the recording.
        quantity: Name of the quantity that differs; of several, the one farthest beyond its bound.
        apart: The largest difference of its numbers.
        bound: The largest difference allowed.
    """

    step: int
    quantity: str
    apart: float
    bound: float

    def words(self) -> str:
        """Return the parting as a clause of a sentence."""
        return f"step {self.step}: {self.quantity} apart by {self.apart:.3g} (bound {self.bound:g})"


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How a replay's course compares with its recording.

    Attributes:
        shift: Steps by which the replay is later than the recording; negative for earlier.
        parting: Where they part after the shift is taken out; None if they never do.
        compared: Number of rows that were compared.
        largest: The largest difference up to the parting, by quantity.
    """

    shift: int
    parting: Parting | None
    compared: int
    largest: Mapping[str, float]


def align(
    recorded: Float32Array, layout: ProtocolYear, measured: Float32Array, protocol: ProtocolYear
) -> Alignment:
    """Compare a replay's proprioception with that of its recording.

    Args:
        recorded: float32 [N, 256 or 61], row t before action t.
        layout: Layout of `recorded`.
        measured: float32 [M, 256 or 61], row t before action t; M is at most N + 1.
        protocol: Layout of `measured`.
    """
    was, now, names = _comparable(recorded, layout, measured, protocol)
    shift = _shift(was, now, names)
    parting = _parting(was, now, names, shift)
    until = None if parting is None else parting.step
    apart, _ = _apart(was, now, names, shift)
    # `until` counts rows of the recording; a negative shift makes the comparison begin later.
    kept = apart if until is None else apart[: max(1, until - max(0, -shift))]
    return Alignment(
        shift=shift,
        parting=parting,
        compared=len(apart),
        largest={
            quantity.name: float(kept[:, column].max(initial=0.0) * quantity.bound)
            for column, quantity in enumerate(names)
        },
    )


_Blocks = tuple[list[Float64Array], list[Float64Array], list[Quantity]]


def _comparable(
    recorded: Float32Array, layout: ProtocolYear, measured: Float32Array, protocol: ProtocolYear
) -> _Blocks:
    """Return the numbers of each quantity that both have, float64 [rows, n] each."""
    first, second = PROPRIO_LAYOUTS[layout], PROPRIO_LAYOUTS[protocol]
    was, now, quantities = [], [], []
    for quantity in QUANTITIES:
        # 2025 has some quantities in another frame.
        if quantity.same_layout and layout != protocol:
            continue
        if not all(field in first and field in second for field in quantity.fields):
            continue
        was.append(_columns(recorded, first, quantity))
        now.append(_columns(measured, second, quantity))
        quantities.append(quantity)
    return was, now, quantities


def _columns(rows: Float32Array, layout: Mapping[str, slice], quantity: Quantity) -> Float64Array:
    parts = [rows[:, layout[field]] for field in quantity.fields]
    return np.concatenate(parts, axis=1).astype(np.float64)


def _apart(
    was: list[Float64Array], now: list[Float64Array], quantities: list[Quantity], shift: int
) -> tuple[Float64Array, int]:
    """Return differences in bounds, float64 [rows, quantities], and the recording's step of row 0.

    Row t of the recording is compared with row t + shift of the replay.
    """
    first = max(0, -shift)
    count = max(0, min(len(was[0]) - first, len(now[0]) - first - shift))
    columns = []
    for a, b, quantity in zip(was, now, quantities, strict=True):
        difference = b[first + shift : first + shift + count] - a[first : first + count]
        if quantity.angle:
            difference = (difference + np.pi) % (2 * np.pi) - np.pi
        columns.append(np.abs(difference).max(axis=1, initial=0.0) / quantity.bound)
    return np.stack(columns, axis=1), first


def _shift(was: list[Float64Array], now: list[Float64Array], quantities: list[Quantity]) -> int:
    """Return the shift that explains most; 0 unless another explains much more.

    Only rows that some shift can explain are compared, since after a real parting all differ.
    """
    shifts = sorted(range(-MOST_SHIFT, MOST_SHIFT + 1), key=abs)
    ends = {}
    for shift in shifts:
        parting = _parting(was, now, quantities, shift)
        ends[shift] = len(was[0]) if parting is None else parting.step
    end = max(ends.values())
    left = {}
    for shift in shifts:
        apart, first = _apart(was, now, quantities, shift)
        # Capped at three bounds, so that one row far off does not decide between two shifts.
        window = np.minimum(apart[: max(0, end - first)], 3.0)
        left[shift] = float((window**2).mean()) if len(window) >= _FEWEST_ROWS else np.inf
    best = min(shifts, key=lambda shift: left[shift])  # of equals, the one nearest to 0
    explained = _FEW < left[0] < np.inf and left[best] <= _CLEARER * left[0]
    return best if explained else 0


def _parting(
    was: list[Float64Array], now: list[Float64Array], quantities: list[Quantity], shift: int
) -> Parting | None:
    apart, first = _apart(was, now, quantities, shift)
    beyond = np.asarray((apart > 1.0).any(axis=1))
    if not beyond.any():
        return None
    row = int(np.argmax(beyond))
    column = int(np.argmax(apart[row]))
    quantity = quantities[column]
    return Parting(
        step=first + row,
        quantity=quantity.name,
        apart=float(apart[row, column] * quantity.bound),
        bound=quantity.bound,
    )


BOUNDS: Mapping[str, float] = MappingProxyType({each.name: each.bound for each in QUANTITIES})
"""The bounds by name, for the page."""
