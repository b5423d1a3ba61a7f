"""Importing results of the official evaluator as a run, to compare and report them.

The source is a folder of the evaluator's files (`b1k_eval.challenge.result_files`), a submission,
or our own export, whose `export.json` has more. The files have no trace, predicates or sub-goals.
The policy's name says that the run was imported; `REMARKS` say what was assumed.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from b1k_envs.base import ProtocolYear, Split
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks.table import TIME_LIMIT_FACTORS, Task
from b1k_eval import __version__
from b1k_eval.challenge.export import EXPORT_FILE, FIRST_ID_2026, VIDEO_FOLDER
from b1k_eval.challenge.result_files import (
    SUCCESS,
    OfficialFile,
    human_of,
    read_official,
    remarks_on,
    year_of,
)
from b1k_eval.files import to_json
from b1k_eval.records.episode import FORMAT, RESULT_FILE, VIDEO_FILE, EpisodeKey, EpisodeRecord
from b1k_eval.records.provenance import this_session
from b1k_eval.records.run_files import EPISODES_FILE, EPISODES_FOLDER, RUN_FILE
from b1k_eval.records.scoring import BODIES
from b1k_eval.records.store import START_AGAIN, RunStore, open_run, storing
from b1k_eval.run.launch import episode_seed
from b1k_eval.settings import IMPORTED, settled

REMARKS: Mapping[ProtocolYear, str] = {
    "2025": (
        "files of 2025 do not say which set an instance is of, nor its index: taken for "
        "public-test, with the number in the file's name for the index"
    ),
    "2026": "taken for rendered at every step and not privileged, as the official evaluator runs",
}

_LAST_HIDDEN_ID = 340


_WITHOUT_RECORD = f"remove {EXPORT_FILE}, to import the results as somebody else's"


def import_results(
    source: Path,
    out: Path,
    *,
    protocol: ProtocolYear | None = None,
    name: str | None = None,
    argv: Sequence[str] = (),
    remark: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Make a run folder for every task in the results.

    Args:
        source: Folder of the results.
        out: The run folder; with several tasks a folder of run folders, one per task.
        protocol: Expected year of the evaluator; None for either.
        name: Name of the policy; None for the folder's name.
        argv: Command line, for the record.
        remark: Called with what was assumed and what is odd; run.json has it too.

    Returns:
        The run folders.

    Raises:
        UsageError: There are no results, a file is not the evaluator's or contradicts another, the
            results are of both years, or `out` is taken.
        StorageError: Something cannot be written.
    """
    files = read_official(source)
    exported = _exported(source)
    found = year_of(files)
    if protocol is not None and protocol != found:
        raise UsageError(f"{source} has results of the {found} evaluator, not of {protocol}")
    by_task: dict[str, list[OfficialFile]] = defaultdict(list)
    for file in files:
        by_task[file.task.name].append(file)
    folders = {task: out if len(by_task) == 1 else out / task for task in by_task}
    for folder in folders.values():
        if (folder / RUN_FILE).exists():
            raise UsageError(f"{folder} holds a run already: choose another --out")
    try:
        records = {
            task: _record(source, rollouts, found, name, exported.get(task), argv)
            for task, rollouts in by_task.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{source / EXPORT_FILE} is damaged ({type(error).__name__}: {error}): "
            f"{_WITHOUT_RECORD}"
        ) from error
    new = [folder for folder in folders.values() if not folder.exists()]
    begun: list[Path] = []
    try:
        for task, rollouts in by_task.items():
            store = open_run(folders[task], records[task], resume=False, then=START_AGAIN)
            begun.append(folders[task])
            _write(store, rollouts, source)
    except BaseException:  # incomplete results are not a run and cannot be resumed
        for folder in begun:
            shutil.rmtree(folder if folder in new else folder / EPISODES_FOLDER, ignore_errors=True)
            for leftover in (EPISODES_FILE, RUN_FILE):
                (folder / leftover).unlink(missing_ok=True)
        raise
    remark(REMARKS[found])
    for record in records.values():
        for text in record["sessions"][0]["remarks"]:
            remark(text)
    return list(folders.values())


def _exported(source: Path) -> dict[str, dict[str, Any]]:
    """Read the record of our own export, by task; empty for other results.

    Raises:
        UsageError: The record cannot be read.
    """
    file = source / EXPORT_FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read ({error}): {_WITHOUT_RECORD}") from error
    try:
        runs = [found] if found["format"] == 1 else found["runs"]
        by_task: dict[str, dict[str, Any]] = {}
        for run in runs:
            task = run["settings"]["task"]
            ids = {**by_task.get(task, run)["instance_ids"], **run["instance_ids"]}
            by_task[task] = {**by_task.get(task, run), "instance_ids": ids}
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{file} is not a record of an export ({type(error).__name__}: {error}): "
            f"{_WITHOUT_RECORD}"
        ) from error
    return by_task


# --- as a run -------------------------------------------------------------------------------


def _record(
    source: Path,
    files: Sequence[OfficialFile],
    protocol: ProtocolYear,
    name: str | None,
    exported: Mapping[str, Any] | None,
    argv: Sequence[str],
) -> dict[str, Any]:
    task = files[0].task
    ids = sorted({file.instance_id for file in files})
    index_of = _indices(ids, protocol, exported)
    known = dict(exported["settings"]) if exported else {}
    split = known.get("split") or _split(ids, protocol)
    rollouts = max(file.rollout for file in files) + 1
    human = human_of(files, exported["human"] if exported else None)
    label = name or (exported["policy"] if exported else source.resolve().name)
    settings = {
        "task": task.name,
        "policy": f"{IMPORTED}{label}",
        "sim": "omnigibson",
        "protocol": protocol,
        "split": split,
        # Rounded first: figure times ratio may be an ulp below the exact value; `int` truncates.
        "max_steps": int(round(human.length, 6) * TIME_LIMIT_FACTORS[protocol]),
        "chunking": None,
        "horizon": None,
        "ensemble_every": None,
        "ensemble_decay": None,
        "render": "every-step",
        "render_quality": "fast",
        "seed": 0,
        "action_noise": None,
        "action_noise_resolved": None,
        "human_stats": None,
        "checkpoint": None,
        "against": None,
        **known,
        "instances": [index_of[number] for number in ids],
        "rollouts": rollouts,
    }
    # Options that are newer than the export get the value that held before they existed.
    settings = {**settled(known or settings), **settings}
    env = dict(exported["env"]) if exported else _unknown_env(task, protocol, settings)
    return {
        "format": FORMAT,
        "identity": {
            "b1k_eval": __version__,
            "settings": settings,
            "policy": {"name": f"{label} (imported)", "chunk_length": None},
            "env": env,
            "human": asdict(human),
            "privileged": bool(exported and exported["privileged"]),
            "instance_ids": {str(index_of[number]): number for number in ids},
            "imported_from": str(source.resolve()),
        },
        "sessions": [
            {
                **this_session(argv).as_json(),
                "policy": {},
                "execution": None,
                "remarks": list(remarks_on(files, human, settings["max_steps"])),
            }
        ],
    }


def _unknown_env(task: Task, protocol: ProtocolYear, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sim": "omnigibson",
        "sim_version": "unknown",
        "protocol": protocol,
        "task": task.name,
        "task_index": task.index,
        "control_hz": CONTROL_HZ,
        "max_steps": settings["max_steps"],
        "settings": {"split": settings["split"]},
    }


def _split(ids: Sequence[int], protocol: ProtocolYear) -> Split:
    """Return the split of the instance numbers; those of 2025 are taken for the public one."""
    if protocol == "2025":
        return "public-test"
    public, hidden = FIRST_ID_2026["public-test"], FIRST_ID_2026["hidden-test"]
    if all(public <= number < hidden for number in ids):
        return "public-test"
    if all(hidden <= number <= _LAST_HIDDEN_ID for number in ids):
        return "hidden-test"
    if all(number < public for number in ids):
        return "train"
    raise UsageError(
        f"the results are of several sets (instances {ids[0]} to {ids[-1]}): import one set at a "
        "time"
    )


def _indices(
    ids: Sequence[int], protocol: ProtocolYear, exported: Mapping[str, Any] | None
) -> dict[int, int]:
    """Return the index within the split by number; without a record of 2025 the number itself."""
    if exported:
        return {number: int(index) for index, number in exported["instance_ids"].items()}
    offset = 0 if protocol == "2025" else FIRST_ID_2026[_split(ids, protocol)]
    return {number: number - offset for number in ids}


def _write(store: RunStore, files: Sequence[OfficialFile], source: Path) -> None:
    identity = store.record["identity"]
    try:
        index_of = {number: int(index) for index, number in identity["instance_ids"].items()}
        for file in files:
            key = EpisodeKey(file.task.name, index_of[file.instance_id], file.rollout)
            result = _result(file, key, identity)
            temporary = store.begin(key)
            video = source / VIDEO_FOLDER / file.path.with_suffix(".mp4").name
            with storing(temporary, START_AGAIN):
                text = to_json(result.to_json())
                (temporary / RESULT_FILE).write_text(text, encoding="utf-8")
                if video.is_file():
                    shutil.copyfile(video, temporary / VIDEO_FILE)
            store.commit(temporary, result)
    finally:
        store.close()


def _result(file: OfficialFile, key: EpisodeKey, identity: Mapping[str, Any]) -> EpisodeRecord:
    content, steps = file.content, file.content["time"]["simulator_steps"]
    q_score = float(content["q_score"]["final"])
    success = bool(content.get("success", q_score == SUCCESS))
    reason = content.get("failure_reason")
    limit = identity["settings"]["max_steps"]  # an episode that times out lasts a step longer
    notes: list[str] = ["imported from the official evaluator's file"]

    def finite(block: str, names: Sequence[str]) -> dict[str, float | None]:
        return {name: _finite(name, content[block], notes) for name in names}

    return EpisodeRecord(
        task=key.task,
        task_index=file.task.index,
        instance=key.instance,
        rollout=key.rollout,
        seed=episode_seed(0, key.task, key.instance, key.rollout),
        outcome="success" if success else "failure",
        success=success,
        q_score=q_score,
        failure_reason=reason,
        message=None,
        steps=steps,
        simulated_s=steps / CONTROL_HZ,
        terminated=success,
        truncated=not success and reason is None and steps > limit,
        privileged=bool(identity["privileged"]),
        efficiency={
            "time": {
                "simulator_steps": steps,
                "simulator_time": steps / CONTROL_HZ,
                **finite("time", ["normalized_time"]),
            },
            "agent_distance": finite("agent_distance", BODIES),
            "normalized_agent_distance": finite("normalized_agent_distance", BODIES),
            "notes": notes,
        },
        timing={},
    )


def _finite(name: str, block: Mapping[str, Any], notes: list[str]) -> float | None:
    """Return a figure, or None with a note if the official file has Infinity or NaN."""
    value = block[name]
    if value is not None and not math.isfinite(value):
        word = "NaN" if math.isnan(value) else "Infinity"
        notes.append(f"{name} is null: officially {word}, which JSON does not have")
        return None
    return None if value is None else float(value)
