"""Exporting runs as the folder that the BEHAVIOR challenge's scorer reads.

    TRACK.TESTSET.TEAM.AFFILIATION.DATE/
        json/<task>_<instance id>_<rollout>.json   all tasks, `b1k_eval.challenge.official_record`
        videos/<task>_<instance id>_<rollout>.mp4  448 x 672, `b1k_eval.challenge.videos`
        robot.yaml, wrapper.py, README.md          `b1k_eval.challenge.package`
        export.json                                which runs these are, and of what

and, if asked for, the build folder of an image that serves the policy (`b1k_eval.challenge.image`).

Runs that cannot be submitted can be exported as a draft, which is marked in the folder's name (the
scorer refuses it), in a file, in every json and across every picture. The scorer takes every folder
beside a submission for another one and stops at a name without five parts, so drafts have their own
place.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b1k_envs.base import Split
from b1k_envs.errors import UsageError
from b1k_envs.omnigibson.setup.data import FIRST_HIDDEN_ID, FIRST_PUBLIC_ID
from b1k_envs.tasks.table import TASKS, HumanStats
from b1k_eval.challenge.image import Serving, check_place, image_tag, write_image
from b1k_eval.challenge.official_record import official_name, official_text
from b1k_eval.challenge.package import package_files
from b1k_eval.challenge.rules import (
    COUNTED_INSTANCES,
    DRAFT,
    Entry,
    objections,
    require_one_entry,
)
from b1k_eval.challenge.videos import official_video
from b1k_eval.files import TEMP_PREFIX, to_json, write_atomic
from b1k_eval.records.loading import EpisodeData, RunData, read_tasks
from b1k_eval.records.run_files import RUN_FILE
from b1k_eval.records.store import START_AGAIN, storing

SUBMISSIONS, DRAFTS = Path("submissions"), Path("drafts")
"""Default parent folders."""

JSON_FOLDER, VIDEO_FOLDER = "json", "videos"
EXPORT_FILE = "export.json"
DRAFT_FILE = "DRAFT.txt"
FORMAT = 2
"""Format of export.json; 1 had the fields of its only run instead of `runs`."""

_PARTS = 5

FIRST_ID_2026: Mapping[Split, int] = {
    "public-test": FIRST_PUBLIC_ID,
    "hidden-test": FIRST_HIDDEN_ID,
    "train": 0,
}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Result of an export.

    Attributes:
        folder: The submission's folder.
        image: The build folder of the image, if one was asked for.
        files: Number of rollouts, each with a json and, if recorded, a video.
        objections: Why it is only a draft; empty for a submission.
        remarks: What the user should know before sending it.
    """

    folder: Path
    image: Path | None
    files: int
    objections: tuple[str, ...]
    remarks: tuple[str, ...]


def read_runs(paths: Sequence[Path]) -> list[RunData]:
    """Read runs by task, each a run folder or a folder of them.

    Raises:
        UsageError: One is neither; see `read_tasks`.
    """
    runs: list[RunData] = []
    for path in paths:
        inside = [] if (path / RUN_FILE).exists() else sorted(path.glob(f"*/{RUN_FILE}"))
        for folder in [file.parent for file in inside] or [path]:
            runs += read_tasks(folder)
    return runs


def export_runs(
    runs: Sequence[RunData],
    entry: Entry,
    parent: Path | None,
    *,
    draft: bool = False,
    several_policies: bool = False,
    image: Path | None = None,
    wrote: Callable[[str], None] = lambda name: None,
) -> Exported:
    """Write a submission.

    Args:
        runs: At least one; together one entry.
        entry: Who submits it, and to which track and test set.
        parent: Parent folder; None for `SUBMISSIONS` or `DRAFTS`.
        draft: Write a draft if the runs cannot be submitted.
        several_policies: See `require_one_entry`.
        image: Where to write the build folder of an image that serves the policy, or None.
        wrote: Called with the name of every rollout written.

    Raises:
        UsageError: The runs are not one entry; they cannot be submitted and `draft` is not set (the
            message lists every reason); a folder exists, or would stop the scorer; or see
            `write_image`.
        StorageError: Something cannot be written.
        UnavailableError: There is no ffmpeg.
    """
    require_one_entry(runs, several_policies=several_policies)
    found = tuple(_all_objections(runs, entry))
    if found and not draft:
        listed = "; ".join(f"({number}) {why}" for number, why in enumerate(found, start=1))
        what = str(runs[0].path) if len(runs) == 1 else "what these runs have"
        raise UsageError(
            f"{what} cannot be submitted to the {entry.track} track: {listed}. --force-draft "
            "writes a watermarked draft, to look at the format"
        )
    if image is not None:
        check_place(image)
        Serving.of(runs)  # before minutes go into videos
    place = parent if parent is not None else DRAFTS if found else SUBMISSIONS
    final = place / entry.folder(draft=bool(found))
    _check_place(place, final, is_draft=bool(found))
    folder = final.with_name(f"{TEMP_PREFIX}{final.name}")
    try:
        tag = None if image is None else image_tag(entry.team)
        beside = package_files(runs, entry, draft=bool(found), image=tag)
        files = _write(runs, entry, folder, found, beside, wrote)
        if image is not None:
            write_image(runs, image, beside, wrote)
        with storing(folder, START_AGAIN):
            folder.replace(final)  # last, so that an incomplete folder never has this name
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Exported(
        folder=final,
        image=image,
        files=files,
        objections=found,
        remarks=tuple(_remarks(runs, entry, files, final, image)),
    )


def _all_objections(runs: Sequence[RunData], entry: Entry) -> Iterator[str]:
    for run in runs:
        named = f"{run.name}: " if len(runs) > 1 else ""
        yield from (f"{named}{why}" for why in objections(run, entry.track))


def _check_place(place: Path, final: Path, *, is_draft: bool) -> None:
    """Keep drafts and submissions apart.

    Raises:
        UsageError: The folder exists, or `place` has a draft beside a submission.
    """
    if final.exists():
        raise UsageError(f"{final} already exists: remove it, or choose another --out")
    for name in _folders(place):
        draft = name.startswith(DRAFT)
        if draft != is_draft and len(name.split(".")) == _PARTS:
            one, other = (
                ("a draft", "the submission") if is_draft else ("a submission", "the draft")
            )
            raise UsageError(
                f"{place} holds {other} {name}, and {one} must not lie beside it: the scorer takes "
                "every folder there and stops at a draft's; choose another --out"
            )


def _folders(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


def _write(
    runs: Sequence[RunData],
    entry: Entry,
    folder: Path,
    found: tuple[str, ...],
    beside: Mapping[str, str],
    wrote: Callable[[str], None],
) -> int:
    """Write everything, and return the number of rollouts."""
    with storing(folder, START_AGAIN):
        shutil.rmtree(folder, ignore_errors=True)
        for part in (JSON_FOLDER, VIDEO_FOLDER):
            (folder / part).mkdir(parents=True)
    files = 0
    for run in runs:
        ids = instance_ids(run)
        for episode in run.scored:
            number = ids[episode.key.instance]
            text = _text(run, episode, number, found)
            if text is None:
                continue
            name = official_name(episode.key.task, number, episode.key.rollout)
            with storing(folder, START_AGAIN):
                write_atomic(folder / JSON_FOLDER / name, text.encode())
            if episode.video is not None:
                target = folder / VIDEO_FOLDER / Path(name).with_suffix(".mp4")
                steps = None if found else episode.steps
                official_video(episode.video, target, steps=steps, draft=bool(found))
            files += 1
            wrote(name)
    with storing(folder, START_AGAIN):
        if found:
            words = "This is a draft, not a submission:\n" + "\n".join(f"- {f}" for f in found)
            write_atomic(folder / DRAFT_FILE, f"{words}\n".encode())
        for name, text in beside.items():
            write_atomic(folder / name, text.encode())
        write_atomic(folder / EXPORT_FILE, to_json(_provenance(runs, entry, found)).encode())
    return files


def instance_ids(run: RunData) -> dict[int, int]:
    """Return the official number of each instance, by index: as recorded, else as in 2026."""
    settings = run.identity["settings"]
    recorded = run.identity.get("instance_ids")
    if recorded is not None:
        return {int(index): int(number) for index, number in recorded.items()}
    first = FIRST_ID_2026[settings["split"]] if settings["protocol"] == "2026" else 0
    return {index: first + index for index in settings["instances"]}


def _text(
    run: RunData, episode: EpisodeData, instance_id: int, found: tuple[str, ...]
) -> str | None:
    human, protocol = run.identity["human"], run.identity["settings"]["protocol"]
    if not found:
        return official_text(episode, HumanStats(**human), protocol, instance_id)
    # A draft, unlike a submission, may lack a human figure: NaN here, null in the file.
    known = {name: math.nan if value is None else value for name, value in human.items()}
    text = official_text(episode, HumanStats(**known), protocol, instance_id)
    if text is None:
        return None
    draft = {"DRAFT": "not a submission, see DRAFT.txt", **_without_nan(json.loads(text))}
    return json.dumps(draft, indent=2)


def _without_nan(value: Any) -> Any:  # noqa: ANN401 - JSON values
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _provenance(runs: Sequence[RunData], entry: Entry, found: tuple[str, ...]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "runs": [
            {
                "run": run.name,
                "policy": run.label,
                "settings": dict(run.identity["settings"]),
                "human": dict(run.identity["human"]),
                "instance_ids": {str(i): number for i, number in instance_ids(run).items()},
                "privileged": run.privileged,
                "env": dict(run.identity["env"]),
            }
            for run in runs
        ],
        "entry": {
            "track": entry.track,
            "testset": entry.testset,
            "team": entry.team,
            "affiliation": entry.affiliation,
            "date": entry.date.isoformat(),
        },
        "draft": list(found),
    }


def _remarks(
    runs: Sequence[RunData], entry: Entry, files: int, final: Path, image: Path | None
) -> Iterator[str]:
    counted = len(COUNTED_INSTANCES)
    protocol = runs[0].identity["settings"]["protocol"]
    done: dict[str, int] = {}
    for run in runs:
        done[run.task] = done.get(run.task, 0) + len(run.scored)
    for task, count in done.items():
        if count < counted:
            yield (
                f"{counted - count} of the {counted} instances of {task} are missing and count as 0"
            )
    tasks = sum(task.in_2025 or protocol == "2026" for task in TASKS)
    if len(done) < tasks:
        yield f"{tasks - len(done)} of the challenge's {tasks} tasks are missing and count as 0"
    filed = sum(len(run.scored) for run in runs) - files
    if filed:
        yield (
            f"{filed} rollouts ended by the policy's fault, for which the 2025 evaluator files "
            "nothing"
        )
    if any(run.identity["policy"].get("forced") for run in runs):
        yield "the policy's contract overrules what its checkpoint states (forced)"
    if entry.track == "privileged" and not any(run.privileged for run in runs):
        yield "the policy reads nothing privileged: it could enter the standard track"
    versions = sorted({str(run.identity["env"].get("sim_version")) for run in runs})
    if len(versions) > 1:
        yield f"the runs were made with different versions of OmniGibson: {', '.join(versions)}"
    packages = [run.identity["policy"].get("packages") for run in runs]
    if any(other != packages[0] for other in packages):
        yield "the policy ran on different versions of packages: see run.json of the runs"
    where = "the Docker image, or the address and its ports"
    if image is not None:
        where = "where the image can be pulled, or its archive"
    yield f"README.md does not know where the organisers will find the policy: add {where}"
    odd = [name for name in _folders(final.parent) if len(name.split(".")) != _PARTS]
    if odd and not final.name.startswith(DRAFT):
        yield (
            f"{final.parent} also holds {', '.join(odd)}: the scorer takes every folder there for "
            "a submission and stops at a name without five parts; move it away"
        )
