"""A trace for the page: what changed and when, instead of one row per step.

A thousand steps of fifty columns become a few kilobytes. Steps are counted from 1, as in the trace;
numbers are rounded to four decimals, as they are only drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from b1k_envs.base import Float64Array
from b1k_envs.tasks.course import spans
from b1k_envs.tasks.subgoals import SUBGOALS
from b1k_eval.records.columns import COLUMNS, PREDICATE_PREFIX
from b1k_eval.records.loading import EpisodeData
from b1k_eval.records.trace_reading import EpisodeTrace, Values
from b1k_eval.video.text import readable

Changes = list[list[Any]]
"""Pairs of a step and the value from there on, or None."""

_CURVES = {
    column.name: column.curve
    for column in sorted(COLUMNS, key=lambda column: column.rerun is None)
    if column.curve is not None
}
"""Labels by column: first the policy's reports, then the goal."""


def timeline(episode: EpisodeData, trace: EpisodeTrace) -> dict[str, Any]:
    """Return what is drawn below the video of an episode of at least one step.

    Returns:
        `curves`: by column a `label` and `changes`, the `Changes`. `skill_prob`: `Changes`.
        `skills`: first step, last step, name (None if only its number is known), number (None if
        it has none). `predicates`, `subgoals`: a `name`, a `label` and `spans` of first and last
        step each, in order. `latency`: step and seconds of each inference, None if not measured.

    Raises:
        DamagedTraceError: A column is missing or cannot be read.
    """
    truths = {name: f"{PREDICATE_PREFIX}{name}" for name in episode.predicates}
    columns = trace.read(
        *("inference", "latency_s", "skill", "skill_index", "skill_prob"),
        *_CURVES,
        *truths.values(),
    )
    labels = {subgoal.name: subgoal.label for subgoal in SUBGOALS.get(episode.key.task, ())}
    inferences = np.flatnonzero(columns["inference"])
    return {
        "curves": {
            name: {"label": label, "changes": changes(columns[name])}
            for name, label in _CURVES.items()
        },
        "skill_prob": changes(columns["skill_prob"]),
        "skills": _skills(columns["skill"], columns["skill_index"]),
        "predicates": [
            _truth(name, readable(name), columns[column]) for name, column in truths.items()
        ],
        "subgoals": [
            _truth(name, labels.get(name, name), truth) for name, truth in trace.subgoals().items()
        ],
        "latency": [[int(row) + 1, _number(columns["latency_s"][row])] for row in inferences],
    }


def changes(values: Float64Array) -> Changes:
    """Return where a column, float64 [steps >= 1] with NaN for null, changes, and to what."""
    gone = np.isnan(values)
    differs = (values[1:] != values[:-1]) & ~(gone[1:] & gone[:-1])
    return [[row + 1, _number(values[row])] for row in _starts(differs)]


def _skills(names: Values, numbers: Values) -> list[list[Any]]:
    rows = _starts((names[1:] != names[:-1]) | (numbers[1:] != numbers[:-1]))
    return [
        [row + 1, end, names[row], None if numbers[row] < 0 else int(numbers[row])]
        for row, end in zip(rows, [*rows[1:], len(names)], strict=True)
        if names[row] is not None or numbers[row] >= 0
    ]


def _starts(differs: Values) -> list[int]:
    """Return the first row of each stretch, from bool [steps - 1]: the next row differs."""
    return [0, *(np.flatnonzero(differs) + 1).tolist()]


def _truth(name: str, label: str, truth: Values) -> dict[str, Any]:
    return {"name": name, "label": label, "spans": [list(span) for span in spans(truth)]}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
