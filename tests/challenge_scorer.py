"""The rules by which the challenge's scorer takes or refuses a folder, written anew for tests.

From the published description of `score_utils.py` (2026): the folder's name has five parts, every
json file is `TASK_ID_0.json` of a known task and one of the test set's 20 ids, scores are summed
over what is there and divided by 20 instances and all tasks.
"""

from __future__ import annotations

import json
from pathlib import Path

PUBLIC, HIDDEN = range(301, 321), range(321, 341)


class RefusedError(Exception):
    """The official script would stop here."""


def refuse(why: object) -> None:
    raise RefusedError(str(why))


def score(folder: Path, tasks: list[str]) -> dict[str, float]:
    """Overall scores of a submission, as the 1.5x builds compute them."""
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
    ids = PUBLIC if testset == "public" else HIDDEN
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
        sums["time_score"] += 3 - 2 / result["time"]["normalized_time"]
        for body in ("base", "left", "right"):
            sums[body] += result["normalized_agent_distance"][body]
    return {name: total / len(ids) / len(tasks) for name, total in sums.items()}
