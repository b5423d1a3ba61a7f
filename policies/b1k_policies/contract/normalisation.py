"""Normalisation of the robot's numbers: the contract's value for it, and its arithmetic.

Only plain statistics per column are supported; anything else is refused where it is found
(`statistics`).

Sources: openpi (`src/openpi/transforms.py`, Normalize and Unnormalize): mean and std, or quantiles
to [-1, 1], with 1e-6 added to the divisor. LeRobot (`NormalizationMode`): the same, and minimum
and maximum to [-1, 1], with 1e-8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np

from b1k_envs.base import Float32Array, Float64Array
from b1k_policies.contract.codecs import Codec, is_number, json_or_raw, optional

Kind = Literal["mean_std", "quantiles", "min_max"]

STATISTICS: Mapping[Kind, tuple[str, str]] = MappingProxyType(
    {"mean_std": ("mean", "std"), "quantiles": ("q01", "q99"), "min_max": ("min", "max")}
)
"""The names that files give to the two statistics of each kind."""

OPENPI_EPSILON = 1e-6
"""Added to the divisor where a file does not say otherwise."""


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """The statistics by which the columns of a vector are normalised.

    Attributes:
        kind: `mean_std`: (x - mean) / (std + epsilon). The others take [low, high] to [-1, 1]:
            2 * (x - low) / (high - low + epsilon) - 1.
        first: Mean, or low, in the unit of its column.
        second: Standard deviation, or high, in the unit of its column.
        epsilon: Keeps the divisor of a constant column from 0.
    """

    kind: Kind
    first: tuple[float, ...]
    second: tuple[float, ...]
    epsilon: float

    @property
    def _scale(self) -> tuple[Float64Array, Float64Array, float]:
        """(divisor, subtrahend, offset) of normalised = (x - subtrahend) / divisor + offset."""
        first, second = np.array(self.first), np.array(self.second)
        if self.kind == "mean_std":
            return second + self.epsilon, first, 0.0
        return (second - first + self.epsilon) / 2, first, -1.0

    def apply(self, values: Float32Array) -> Float32Array:
        """Normalise physical numbers, float32 [..., N]; returns a new array."""
        divisor, subtrahend, offset = self._scale
        return ((values.astype(np.float64) - subtrahend) / divisor + offset).astype(np.float32)

    def undo(self, values: Float32Array) -> Float32Array:
        """Turn normalised numbers, float32 [..., N], into physical ones; returns a new array."""
        divisor, subtrahend, offset = self._scale
        return ((values.astype(np.float64) - offset) * divisor + subtrahend).astype(np.float32)


def _decode(value: Any) -> Normalisation:  # noqa: ANN401 - judged here
    if isinstance(value, Normalisation):
        value = _encode(value)
    if isinstance(value, str) and value in STATISTICS:
        raise ValueError(
            f"expects the numbers with the kind: {_example(value)}; the kind alone is enough after "
            "--set where a file of the checkpoint has them"
        )
    if not isinstance(value, Mapping) or value.get("kind") not in STATISTICS:
        raise ValueError(f"expects none, or an object such as {_example('mean_std')}, got {value}")
    kind = cast("Kind", value["kind"])
    allowed = {"kind", "epsilon", *STATISTICS[kind]}
    if not set(value) <= allowed or not set(STATISTICS[kind]) <= set(value):
        raise ValueError(f"expects {_example(kind)}, got the keys {', '.join(map(str, value))}")
    first, second = (_numbers(value[name], name) for name in STATISTICS[kind])
    if len(first) != len(second):
        raise ValueError(f"has {len(first)} numbers of one kind and {len(second)} of the other")
    (epsilon,) = _numbers([value.get("epsilon", OPENPI_EPSILON)], "epsilon")
    # The divisor of each column, before epsilon is added.
    wide = (
        second if kind == "mean_std" else tuple(b - a for a, b in zip(first, second, strict=True))
    )
    if epsilon < 0 or min(wide) < 0 or min(wide) + epsilon <= 0:
        raise ValueError(
            f"has a column without width: {' and '.join(STATISTICS[kind])} of column "
            f"{wide.index(min(wide))} are {first[wide.index(min(wide))]:g} and "
            f"{second[wide.index(min(wide))]:g}, epsilon {epsilon:g}"
        )
    return Normalisation(kind=kind, first=first, second=second, epsilon=epsilon)


def _numbers(value: Any, name: str) -> tuple[float, ...]:  # noqa: ANN401 - judged here
    plain = isinstance(value, (list, tuple)) and bool(value)
    for number in value if plain else ():
        if not is_number(number) or not math.isfinite(number):
            raise ValueError(f"{name} expects finite numbers, got {number!r} in it")
    if not plain:
        raise ValueError(f"{name} expects a list of numbers, one a column, got {value!r}")
    return tuple(float(number) for number in value)


def _example(kind: str) -> str:
    first, second = STATISTICS[cast("Kind", kind)]
    return f'{{"kind": "{kind}", "{first}": [...], "{second}": [...], "epsilon": 1e-6}}'


def _encode(value: Normalisation) -> dict[str, Any]:
    first, second = STATISTICS[value.kind]
    return {
        "kind": value.kind,
        first: list(value.first),
        second: list(value.second),
        "epsilon": value.epsilon,
    }


NORMALISATION = optional(Codec(_decode, _example("mean_std"), json_or_raw, _encode))
"""Codec of a `Normalisation`, or none."""
