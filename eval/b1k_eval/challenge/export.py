"""A run as the folder that the BEHAVIOR challenge's scorer reads.

    TRACK.TESTSET.TEAM.AFFILIATION.DATE/
        json/<task>_<instance id>_<rollout>.json      `b1k_eval.official`
        videos/<task>_<instance id>_<rollout>.mp4     448 x 672, `b1k_eval.challenge.videos`
        export.json                                   which run this is, and of what

A draft of a run that is no submission says so everywhere: in the folder's name, which the scorer
refuses, in a file, in every json and across every picture.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b1k_envs.base import Split
from b1k_envs.errors import UsageError
from b1k_envs.omnigibson.data import FIRST_HIDDEN_ID, FIRST_PUBLIC_ID
from b1k_envs.tasks import HumanStats
from b1k_eval.challenge.rules import COUNTED_INSTANCES, Entry, objections
from b1k_eval.challenge.videos import official_video
from b1k_eval.compare.loading import EpisodeData, RunData
from b1k_eval.episode import RESULT_FILE
from b1k_eval.files import TEMP_PREFIX, to_json, write_atomic
from b1k_eval.official import official_name, official_text
from b1k_eval.store import START_AGAIN, storing

JSON_FOLDER, VIDEO_FOLDER = "json", "videos"
EXPORT_FILE = "export.json"
DRAFT_FILE = "DRAFT.txt"
FORMAT = 1

FIRST_ID_2026: Mapping[Split, int] = {
    "public-test": FIRST_PUBLIC_ID,
    "hidden-test": FIRST_HIDDEN_ID,
    "train": 0,
}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        folder: The submission's folder.
        files: Rollouts, each a json and, if it has one, a video.
        objections: Why it is only a draft; empty if it is none.
        remarks: What a person should read before sending it.
    """

    folder: Path
    files: int
    objections: tuple[str, ...]
    remarks: tuple[str, ...]


def export_run(
    run: RunData,
    entry: Entry,
    parent: Path,
    *,
    draft: bool = False,
    wrote: Callable[[str], None] = lambda name: None,
) -> Exported:
    """Write a submission.

    Args:
        run: What was run.
        entry: Who submits it, and to which track and test set.
        parent: Where the folder goes.
        draft: Write a draft where the run is no submission.
        wrote: Told of every rollout.

    Raises:
        UsageError: The run is no submission and no draft was asked for (lists every reason), or
            the folder is there already.
        StorageError: Something cannot be written.
        UnavailableError: There is no ffmpeg.
    """
    found = objections(run, entry.track)
    if found and not draft:
        listed = "; ".join(f"({number}) {why}" for number, why in enumerate(found, start=1))
        raise UsageError(
            f"{run.path} cannot be submitted to the {entry.track} track: {listed}. --force-draft "
            "writes a watermarked draft, to look at the format"
        )
    folder = parent / entry.folder(draft=bool(found))
    if folder.exists():
        raise UsageError(f"{folder} is there already: remove it, or choose another --out")
    final, folder = folder, folder.with_name(f"{TEMP_PREFIX}{folder.name}")
    ids = _instance_ids(run)
    with storing(folder, START_AGAIN):
        shutil.rmtree(folder, ignore_errors=True)
        for part in (JSON_FOLDER, VIDEO_FOLDER):
            (folder / part).mkdir(parents=True)
    files = 0
    for episode in run.scored:
        text = _text(run, episode, ids[episode.key.instance], found)
        if text is None:
            continue
        name = official_name(episode.key.task, ids[episode.key.instance], episode.key.rollout)
        with storing(folder, START_AGAIN):
            write_atomic(folder / JSON_FOLDER / name, text.encode())
        if episode.video is not None:
            target = folder / VIDEO_FOLDER / Path(name).with_suffix(".mp4")
            official_video(episode.video, target, draft=bool(found))
        files += 1
        wrote(name)
    with storing(folder, START_AGAIN):
        if found:
            words = "This is a draft, not a submission:\n" + "\n".join(f"- {f}" for f in found)
            write_atomic(folder / DRAFT_FILE, f"{words}\n".encode())
        write_atomic(folder / EXPORT_FILE, to_json(_provenance(run, entry, ids, found)).encode())
        folder.replace(final)  # what is only half there never has the name of a submission
    return Exported(
        folder=final, files=files, objections=found, remarks=tuple(_remarks(run, entry, files))
    )


def _instance_ids(run: RunData) -> dict[int, int]:
    """Number in each instance's own file, by index; the run's own record comes first."""
    settings = run.identity["settings"]
    recorded = run.identity.get("instance_ids")
    if recorded is not None:
        return {int(index): int(number) for index, number in recorded.items()}
    first = FIRST_ID_2026[settings["split"]] if settings["protocol"] == "2026" else 0
    return {index: first + index for index in settings["instances"]}


def _text(
    run: RunData, episode: EpisodeData, instance_id: int, found: tuple[str, ...]
) -> str | None:
    record = json.loads((episode.folder / RESULT_FILE).read_text(encoding="utf-8"))
    human, protocol = run.identity["human"], run.identity["settings"]["protocol"]
    if not found:
        return official_text(record, HumanStats(**human), protocol, instance_id)
    # A draft has null where a figure cannot be had, which a submission may not.
    known = {name: math.nan if value is None else value for name, value in human.items()}
    text = official_text(record, HumanStats(**known), protocol, instance_id)
    if text is None:
        return None
    draft = {"DRAFT": "not a submission, see DRAFT.txt", **_without_nan(json.loads(text))}
    return json.dumps(draft, indent=2)


def _without_nan(value: Any) -> Any:  # noqa: ANN401 - JSON values
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _provenance(
    run: RunData, entry: Entry, ids: Mapping[int, int], found: tuple[str, ...]
) -> dict[str, Any]:
    settings = run.identity["settings"]
    return {
        "format": FORMAT,
        "run": run.name,
        "policy": run.label,
        "settings": dict(settings),
        "human": dict(run.identity["human"]),
        "instance_ids": {str(index): number for index, number in ids.items()},
        "privileged": run.privileged,
        "env": dict(run.identity["env"]),
        "entry": {
            "track": entry.track,
            "testset": entry.testset,
            "team": entry.team,
            "affiliation": entry.affiliation,
            "date": entry.date.isoformat(),
        },
        "draft": list(found),
    }


def _remarks(run: RunData, entry: Entry, files: int) -> list[str]:
    remarks = []
    counted = len(COUNTED_INSTANCES)
    if files < counted:
        remarks.append(
            f"{counted - files} of the task's {counted} instances are missing and count as 0"
        )
    filed = len(run.scored) - files
    if filed:
        remarks.append(
            f"{filed} rollouts ended by the policy's fault, for which the 2025 evaluator files "
            "nothing"
        )
    if run.identity["policy"].get("forced"):
        remarks.append("the policy's contract overrules what its checkpoint states (forced)")
    if entry.track == "privileged" and not run.privileged:
        remarks.append("the policy reads nothing privileged: it could enter the standard track")
    return remarks
