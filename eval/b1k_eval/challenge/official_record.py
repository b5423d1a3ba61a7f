"""Writing an episode as the official evaluator does.

Sources, repository StanfordVL/BEHAVIOR-1K under `OmniGibson/omnigibson/`: names, order and form of
the files from `learning/eval.py`@4c1184a6 (2025: one line, figures only) and `eval/evaluator.py`
of the v3.9.3 era (2026: indented by two, with task, instance and rollout in front); the figures
from `metrics/agent_metric.py` and `metrics/task_metric.py`. The files have Infinity if the robot
did not move and NaN for a position that was not finite, which Python reads and JSON does not have.

A policy's fault is written as by the client after v3.9.3; earlier clients crash and write nothing.
The place of `failure_reason` among the fields is our choice, as its source could not be read.

What a pass does not prove: the last digits of the distances. The evaluator adds lengths of float32
vectors, this package float64 ones.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from b1k_envs.base import ProtocolYear
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks.table import HumanStats
from b1k_eval.records.episode import EpisodeRecord
from b1k_eval.records.scoring import BODIES, official_figures

OFFICIAL_REASONS: tuple[str, ...] = (
    "policy_connection_lost",
    "group_time_budget_exceeded",
    "policy_error",
    "policy_query_timeout",
)
"""Values of `failure_reason`; a fault of any other kind is a `policy_error`."""

_RENDERING_DT = 1.0 / CONTROL_HZ
"""The evaluator multiplies by this, which differs from a division in the last digit."""


def official_name(task: str, instance_id: int, rollout: int) -> str:
    """Return the name of an episode's file.

    Args:
        task: Task name.
        instance_id: Official number of the instance, not its index in the split.
        rollout: Number of the attempt; a submission is accepted with 0 only.
    """
    return f"{task}_{instance_id}_{rollout}.json"


def official_text(
    record: EpisodeRecord, human: HumanStats, protocol: ProtocolYear, instance_id: int
) -> str | None:
    """Return the content of an episode's file.

    Args:
        record: The episode.
        human: Human figures, which normalised figures are relative to.
        protocol: Year of the evaluator.
        instance_id: See `official_name`.

    Returns:
        The text, without a final newline; None if there would be no file: after an `error`, and
        in 2025 after a policy's fault.

    Raises:
        UsageError: A human figure is missing.
    """
    reason = record.failure_reason
    if record.efficiency is None or (reason is not None and protocol == "2025"):
        return None
    missing = [name for name, figure in asdict(human).items() if figure is None]
    if missing and reason is None:
        raise UsageError(
            f"the human figure {missing[0]} is not published for this task: official files need "
            "the evaluator's own metadata, given with --human-stats"
        )
    ways = record.efficiency["agent_distance"]
    distance = {body: math.nan if ways[body] is None else ways[body] for body in BODIES}
    figures = official_figures(record.steps, distance, human, forfeited=reason is not None)
    time = {**figures["time"], "simulator_time": record.steps * _RENDERING_DT}
    content = {
        "agent_distance": figures["agent_distance"],
        "normalized_agent_distance": figures["normalized_agent_distance"],
        "q_score": {"final": record.q_score},
        "time": time,
    }
    if protocol == "2025":
        return json.dumps(content)
    head: dict[str, Any] = {
        "task": record.task,
        "instance_id": instance_id,
        "rollout_id": record.rollout,
        "steps": record.steps,
        "success": record.success,
    }
    if reason is not None:
        head["failure_reason"] = reason if reason in OFFICIAL_REASONS else "policy_error"
    return json.dumps({**head, **content}, indent=2)
