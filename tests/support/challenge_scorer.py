"""The rules by which the challenge's scorer takes or refuses folders, written anew for tests.

From the published description of `score_utils.py` (2026; 2025 in its final form): the name of every
folder has five parts, every json file is `TASK_ID_0.json` of a known task and one of the test set's
ids, scores are summed over what is there and divided by the set's instances and all tasks.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

PUBLIC, HIDDEN = range(301, 321), range(321, 341)


class RefusedError(Exception):
    """The official script would stop here."""


def refuse(why: object) -> None:
    raise RefusedError(str(why))


def score_all(parent: Path, tasks: list[str], **year) -> dict[str, dict[str, float]]:
    """Overall scores of every submission in a folder, which holds nothing else."""
    return {folder.name: score(folder, tasks, **year) for folder in sorted(parent.iterdir())}


def score(
    folder: Path, tasks: list[str], *, year: str = "2026", ids: Collection[int] | None = None
) -> dict[str, float]:
    """Overall scores of a submission, as the builds of 2026 with a limit of 1.5, or 2025's, do.

    Args:
        folder: The submission.
        tasks: All tasks of the challenge.
        year: Whose scores.
        ids: Of the test set; those of 2026 if None, where 20 count.
    """
    try:
        track, testset, team, affiliation, date = folder.name.split(".")
    except ValueError:
        refuse(f"{folder.name} has not five parts")
    if track not in ("standard", "privileged"):
        refuse(f"track {track}")
    if testset not in ("public", "hidden"):
        refuse(f"testset {testset}")
    if "" in (team, affiliation, date):
        refuse("an empty part")
    if not (folder / "json").is_dir():
        refuse("no json folder")
    if ids is None:
        ids = PUBLIC if testset == "public" else HIDDEN
    limit = {"2025": 2.0, "2026": 1.5}[year]
    names = {f"{task}_{number}_0.json": task for task in tasks for number in ids}
    sums = dict.fromkeys(("q_score", "task_sr", "time_score", "base", "left", "right"), 0.0)
    for file in sorted((folder / "json").iterdir()):
        if file.suffix != ".json":
            continue
        name = file.name
        if not name.removesuffix(".json").split("_")[-2].isdigit():
            name = name.removesuffix(".json") + "_0.json"
        if name not in names:
            refuse(f"file {file.name}")
        result = json.loads(file.read_text())
        q = result["q_score"]["final"]
        sums["q_score"] += q
        sums["task_sr"] += q == 1
        # 1 at the human's speed, 0 at the time limit: 2 - 1 / n in 2025, 3 - 2 / n in 2026.
        slower = 1 / result["time"]["normalized_time"]
        sums["time_score"] += (limit - slower) / (limit - 1)
        for body in ("base", "left", "right"):
            sums[body] += result["normalized_agent_distance"][body]
    return {name: total / len(ids) / len(tasks) for name, total in sums.items()}
