"""The statistics that LeRobot's normalisers read: by episode, and of several episodes together.

Means and deviations of several episodes are exact. Their quantiles are the means of the episodes'
quantiles by number of frames, as lerobot's own are. Rows with a NaN are left out; a feature without
a row left has no statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Float64s = npt.NDArray[np.float64]
Stats = Mapping[str, npt.NDArray[Any]]
"""`min`, `max`, `mean`, `std`, quantiles, each [D] or, of pictures, [3, 1, 1]; `count` [1]."""

QUANTILES: Mapping[str, float] = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def of_numbers(values: npt.NDArray[Any]) -> Stats | None:
    """Return the statistics of rows [N, D]; None if none is finite."""
    rows = np.asarray(values, np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return None
    cuts = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        **dict(zip(QUANTILES, cuts, strict=True)),
        "count": np.array([len(rows)]),
    }


def of_pictures(histogram: npt.NDArray[np.int64], frames: int) -> Stats:
    """Return the statistics of pictures by channel, values in [0, 1].

    Args:
        histogram: int64 [3, 256], how often each value was seen.
        frames: Number of pictures.
    """
    levels = np.arange(256) / 255.0
    share = histogram / histogram.sum(axis=1, keepdims=True)
    mean = share @ levels
    std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
    upto = np.cumsum(share, axis=1)
    at = {name: levels[(upto < q).sum(axis=1)] for name, q in QUANTILES.items()}
    seen = [levels[counts > 0] for counts in histogram]
    ends = {"min": np.array([s[0] for s in seen]), "max": np.array([s[-1] for s in seen])}
    by_channel = {**ends, "mean": mean, "std": std, **at}
    shaped = {name: value.reshape(3, 1, 1) for name, value in by_channel.items()}
    return {**shaped, "count": np.array([frames])}


def together(parts: Sequence[Stats]) -> Stats:
    """Return the statistics of all episodes of at least one."""
    counts = np.array([part["count"][0] for part in parts], np.float64)

    def mean_of(values: Sequence[Float64s]) -> Float64s:
        return np.tensordot(counts / counts.sum(), np.stack(values), axes=1)

    mean = mean_of([part["mean"] for part in parts])
    spread = mean_of([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(spread),
        **{name: mean_of([part[name] for part in parts]) for name in QUANTILES},
        "count": np.array([int(counts.sum())]),
    }
