"""Run folders with results that a test chooses; nothing in them but what an analysis reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from b1k_envs.tasks.subgoals import SUBGOALS
from b1k_eval.cli.resolving import resolve_settings
from b1k_eval.records.identity import joined
from b1k_eval.settings import RunSettings

TASK = "clean_boxing_gloves"


def settings(**changes: object) -> RunSettings:
    given = {"task": "31", "policy": "hold", "sim": "mujoco", "instances": "0-9", "max_steps": 50}
    return replace(resolve_settings(given), **changes)


def finished_run(
    folder: Path,
    outcomes: Mapping[int, str | Sequence[str]],
    *,
    policy: Mapping[str, object] | None = None,
    env: Mapping[str, object] | None = None,
    **changes: object,
) -> Path:
    """A run folder.

    Args:
        folder: Is made.
        outcomes: By instance, the outcome of each rollout; one word for a single one.
        policy: `identity.policy` of run.json.
        env: `identity.env.settings` of run.json.
        changes: Of the settings.
    """
    folder.mkdir()
    tries = {n: [words] if isinstance(words, str) else list(words) for n, words in outcomes.items()}
    rollouts = max((len(words) for words in tries.values()), default=1)
    recorded = settings(instances=tuple(tries), rollouts=rollouts, **changes).as_json()
    identity = {
        "b1k_eval": "0",
        "settings": recorded,
        "policy": {"name": "other", **(policy or {})},
        "env": {"sim_version": "1", "settings": dict(env or {})},
        "privileged": False,
    }
    record = {"format": 1, "identity": identity, "sessions": [{"execution": {}}]}
    (folder / "run.json").write_text(json.dumps(record))
    lines = []
    for instance, words in tries.items():
        for rollout, outcome in enumerate(words):
            lines.append(json.dumps(line(instance, rollout, outcome)))
            episode = folder / "episodes" / f"{TASK}-{instance}-{rollout}"
            episode.mkdir(parents=True)
            (episode / "result.json").write_text(json.dumps(result(instance, rollout, outcome)))
    (folder / "episodes.jsonl").write_text("".join(f"{text}\n" for text in lines))
    return folder


def line(instance: int, rollout: int, outcome: str) -> dict[str, object]:
    scored = outcome != "error"
    return {
        "task": TASK,
        "task_index": 31,
        "instance": instance,
        "rollout": rollout,
        "seed": 0,
        "outcome": outcome,
        "success": outcome == "success" if scored else None,
        "q_score": float(outcome == "success") if scored else None,
        "failure_reason": None,
        "message": None,
        "steps": 10,
        "simulated_s": 0.3,
        "timing": dict.fromkeys(("wall_s", "reset_s", "step_s", "observe_s", "policy_s"), 0.1),
    }


def result(instance: int, rollout: int, outcome: str) -> dict[str, object]:
    return {
        **line(instance, rollout, outcome),
        "format": 1,
        "traceback": None,
        "terminated": False,
        "truncated": True,
        "inferences": 1,
        "privileged": False,
        "initial_predicates": {},
        "predicates": {},
        "subgoals": {subgoal.name: None for subgoal in SUBGOALS[TASK]},
        "efficiency": None,
    }


def run_of_tasks(folder: Path, runs: Mapping[str, Path]) -> Path:
    """A run of several tasks, from finished runs of one each, by the name that its task is to have.

    The runs are of `TASK`; their episodes are renamed and moved into the folder.
    """
    (folder / "episodes").mkdir(parents=True)
    lines, identities = [], []
    for task, run in runs.items():
        for file in run.rglob("*.json*"):
            file.write_text(file.read_text().replace(TASK, task))
        for episode in list((run / "episodes").iterdir()):
            episode.rename(folder / "episodes" / episode.name.replace(TASK, task))
        record = json.loads((run / "run.json").read_text())
        identities.append(record["identity"])
        lines.append((run / "episodes.jsonl").read_text())
    record["identity"] = joined(identities)
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "episodes.jsonl").write_text("".join(lines))
    return folder


def contents(folder: Path) -> dict[str, object]:
    """Everything in a run folder, with wall times and session records taken out."""
    import pandas as pd  # which takes half a second to import

    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name == ".lock":
            found[name] = None
        elif path.suffix == ".parquet":
            found[name] = (
                pd.read_parquet(path).drop(columns="latency_s").to_json(double_precision=15)
            )
        elif path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{**line, "timing": None} for line in lines]
        else:
            found[name] = {**json.loads(path.read_text()), "timing": None, "sessions": None}
    return found
