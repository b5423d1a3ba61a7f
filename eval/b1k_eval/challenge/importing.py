"""Official evaluator results as a run, so that they can be compared and reported.

Read are the files of both generations: `<log path>/metrics/<task>_<id>_<rollout>.json` (2025) and
`<output dir>/json/<task>_<id>_<rollout>.json` (2026), a submission's folder, or our own export,
whose `export.json` says more. What the files do not have stays unknown: no trace, no predicates, no
sub-goals. A run says in its policy's name that it was imported, and `REMARKS` what was assumed.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from b1k_envs.base import Protocol, Split
from b1k_envs.errors import UsageError
from b1k_envs.r1pro import CONTROL_HZ
from b1k_envs.tasks import TIME_LIMIT_FACTORS, HumanStats, Task, get_task
from b1k_eval import __version__
from b1k_eval.challenge.export import EXPORT_FILE, FIRST_ID_2026, JSON_FOLDER, VIDEO_FOLDER
from b1k_eval.episode import RESULT_FILE, VIDEO_FILE
from b1k_eval.files import to_json
from b1k_eval.launch import episode_seed
from b1k_eval.provenance import this_session
from b1k_eval.run_files import EPISODES_FILE, EPISODES_FOLDER, FORMAT, RUN_FILE, EpisodeKey
from b1k_eval.scoring import BODIES
from b1k_eval.store import START_AGAIN, RunStore, open_run, storing

REMARKS: Mapping[Protocol, str] = {
    "2025": (
        "files of 2025 do not say which set an instance is of, nor its index: taken for "
        "public-test, with the number in the file's name for the index"
    ),
    "2026": "taken for rendered at every step and not privileged, as the official evaluator runs",
}

_FOLDERS = (JSON_FOLDER, "metrics")
_LAST_HIDDEN_ID = 340
_SUCCESS = 1.0


@dataclass(frozen=True, kw_only=True)
class OfficialFile:
    """One rollout as the evaluator filed it.

    Attributes:
        path: The file.
        task: The task.
        instance_id: Number in the instance's own file.
        rollout: Try number.
        content: What it holds.
    """

    path: Path
    task: Task
    instance_id: int
    rollout: int
    content: Mapping[str, Any]


def import_results(
    source: Path,
    out: Path,
    *,
    protocol: Protocol | None = None,
    name: str | None = None,
    argv: Sequence[str] = (),
) -> list[Path]:
    """Make a run folder of every task that the results have.

    Args:
        source: Where the results are.
        out: The run folder; with several tasks a folder of run folders, one per task.
        protocol: Which year's evaluator should have written them; None for either.
        name: Of what produced them; None for the folder's name.
        argv: For the record.

    Returns:
        The run folders.

    Raises:
        UsageError: There are no results, a file is none of the evaluator's, a task has two years
            in it, or `out` is taken.
        StorageError: Something cannot be written.
    """
    files = read_official(source)
    exported = _exported(source)
    found = _year(files)
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
            task: _record(source, rollouts, found, name, exported, argv)
            for task, rollouts in by_task.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{source / EXPORT_FILE} is damaged ({type(error).__name__}: {error}): remove it, to "
            "import the results as somebody else's"
        ) from error
    new = [folder for folder in folders.values() if not folder.exists()]
    begun: list[Path] = []
    try:
        for task, rollouts in by_task.items():
            store = open_run(folders[task], records[task], resume=False, then=START_AGAIN)
            begun.append(folders[task])
            _write(store, rollouts, source)
    except BaseException:  # half of the results are no run, and cannot be resumed
        for folder in begun:
            shutil.rmtree(folder if folder in new else folder / EPISODES_FOLDER, ignore_errors=True)
            for leftover in (EPISODES_FILE, RUN_FILE):
                (folder / leftover).unlink(missing_ok=True)
        raise
    return list(folders.values())


def read_official(source: Path) -> list[OfficialFile]:
    """Read every result in a folder of the evaluator's, in the order of task, instance, rollout.

    Raises:
        UsageError: There is none, or a file is not what it should be; names the file.
    """
    places = [source / folder for folder in _FOLDERS if (source / folder).is_dir()]
    folder = places[0] if places else source
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    files = [_read(path) for path in paths if path.name != EXPORT_FILE]
    if not files:
        raise UsageError(
            f"{source} has no results of the official evaluator: give the folder with json/ "
            "(2026) or metrics/ (2025) in it"
        )
    files.sort(key=lambda file: (file.task.index, file.instance_id, file.rollout))
    return files


def _read(path: Path) -> OfficialFile:
    try:
        task, number, rollout = path.stem.rsplit("_", 2)
        found = get_task(task)
        if not (number.isdecimal() and rollout.isdecimal() and found.name == task):
            raise ValueError
    except (ValueError, UsageError):
        raise UsageError(
            f"{path} is not named <task>_<instance id>_<rollout>.json, with a task of the table"
        ) from None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _check(content)
        _check_name(content, task, int(number), int(rollout))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no result of the official evaluator ({type(error).__name__}: {error})"
        ) from error
    return OfficialFile(
        path=path,
        task=found,
        instance_id=int(number),
        rollout=int(rollout),
        content=content,
    )


def _check(content: Any) -> None:  # noqa: ANN401 - whatever JSON was found
    """Hold a result to what is read of it.

    Raises:
        ValueError: A figure is out of its range.
        KeyError: A field is missing.
        TypeError: A field is of another kind.
    """
    q_score, time = content["q_score"]["final"], content["time"]
    if not 0.0 <= q_score <= 1.0:
        raise ValueError(f"q_score {q_score} is not within 0 and 1")
    steps = time["simulator_steps"]
    if type(steps) is not int or steps < 0:
        raise ValueError(f"simulator_steps is {steps!r}")
    figures = [time["normalized_time"]]
    if not math.isclose(time["simulator_time"], steps / CONTROL_HZ, rel_tol=1e-6):
        raise ValueError(f"{steps} steps cannot last {time['simulator_time']} s")
    for block in ("agent_distance", "normalized_agent_distance"):
        figures += [content[block][body] for body in BODIES]
    if not all(figure is None or figure >= 0 for figure in figures):
        raise ValueError("a figure is negative or no number")


def _check_name(content: Mapping[str, Any], task: str, number: int, rollout: int) -> None:
    """Hold what a 2026 file says it is of to its name, and its figures to each other.

    Raises:
        ValueError: They contradict.
    """
    steps = content["time"]["simulator_steps"]
    expected = {"task": task, "instance_id": number, "rollout_id": rollout, "steps": steps}
    if content.get("success") is not None:
        expected["success"] = content["q_score"]["final"] == _SUCCESS
    for key, value in expected.items():
        if key in content and content[key] != value:
            raise ValueError(f"{key} is {content[key]!r}, expected {value!r}")


def _exported(source: Path) -> Mapping[str, Any] | None:
    try:
        found = json.loads((source / EXPORT_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{source / EXPORT_FILE} cannot be read: {error}") from error
    if not isinstance(found, dict) or "settings" not in found:
        raise UsageError(f"{source / EXPORT_FILE} is no record of an export")
    return found


def _year(files: Sequence[OfficialFile]) -> Protocol:
    """The 2026 evaluator writes what a result is of into it, that of 2025 does not."""
    years: set[Protocol] = {"2026" if "instance_id" in file.content else "2025" for file in files}
    if len(years) != 1:
        raise UsageError("the results are of both years' evaluators: import them one by one")
    return years.pop()


# --- as a run -------------------------------------------------------------------------------


def _record(
    source: Path,
    files: Sequence[OfficialFile],
    protocol: Protocol,
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
    human = dict(exported["human"]) if exported else asdict(_human_of(files))
    label = name or (exported["policy"] if exported else source.resolve().name)
    settings = {
        "task": task.name,
        "policy": f"imported:{label}",
        "sim": "omnigibson",
        "protocol": protocol,
        "split": split,
        "max_steps": int(round(human["length"], 6) * TIME_LIMIT_FACTORS[protocol]),
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
    env = dict(exported["env"]) if exported else _unknown_env(task, protocol, settings)
    return {
        "format": FORMAT,
        "identity": {
            "b1k_eval": __version__,
            "settings": settings,
            "policy": {"name": f"{label} (imported)", "chunk_length": None},
            "env": env,
            "human": human,
            "privileged": bool(exported and exported["privileged"]),
            "instance_ids": {str(index_of[number]): number for number in ids},
            "imported_from": str(source.resolve()),
        },
        "sessions": [{**this_session(argv).as_json(), "policy": {}, "execution": None}],
    }


def _unknown_env(task: Task, protocol: Protocol, settings: Mapping[str, Any]) -> dict[str, Any]:
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


def _split(ids: Sequence[int], protocol: Protocol) -> Split:
    """Which set the numbers are of; those of 2025 do not tell, and are taken for the public one."""
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
    ids: Sequence[int], protocol: Protocol, exported: Mapping[str, Any] | None
) -> dict[int, int]:
    """Index within the split by number; for 2025 results of others the number itself."""
    if exported:
        return {number: int(index) for index, number in exported["instance_ids"].items()}
    offset = 0 if protocol == "2025" else FIRST_ID_2026[_split(ids, protocol)]
    return {number: number - offset for number in ids}


def _human_of(files: Sequence[OfficialFile]) -> HumanStats:
    """The human figures, out of the first file that has a figure and its normalised form."""
    found: dict[str, float | None] = {"length": None, **dict.fromkeys(BODIES)}
    for file in files:
        content = file.content
        if content.get("failure_reason") is not None:
            continue
        pairs = {"length": (content["time"]["normalized_time"], content["time"]["simulator_steps"])}
        for body in BODIES:
            pairs[body] = (
                content["normalized_agent_distance"][body],
                content["agent_distance"][body],
            )
        for name, (normalized, measured) in pairs.items():
            if found[name] is None and normalized is not None and math.isfinite(normalized):
                found[name] = normalized * measured
    length = found["length"]
    return HumanStats(
        length=float(files[0].task.human_steps) if length is None else length,
        distance_traveled=found["base"],
        left_eef_displacement=found["left"],
        right_eef_displacement=found["right"],
    )


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
                (temporary / RESULT_FILE).write_text(to_json(result), encoding="utf-8")
                if video.is_file():
                    shutil.copyfile(video, temporary / VIDEO_FILE)
            store.commit(key, temporary, result)
    finally:
        store.close()


def _result(file: OfficialFile, key: EpisodeKey, identity: Mapping[str, Any]) -> dict[str, Any]:
    content, steps = file.content, file.content["time"]["simulator_steps"]
    q_score = float(content["q_score"]["final"])
    success = bool(content.get("success", q_score == _SUCCESS))
    limit = identity["settings"]["max_steps"]  # an episode that times out lasts a step longer
    notes: list[str] = ["imported from the official evaluator's file"]
    return {
        "format": 1,
        "task": key.task,
        "task_index": file.task.index,
        "instance": key.instance,
        "rollout": key.rollout,
        "seed": episode_seed(0, key.task, key.instance, key.rollout),
        "outcome": "success" if success else "failure",
        "success": success,
        "q_score": q_score,
        "failure_reason": content.get("failure_reason"),
        "message": None,
        "traceback": None,
        "steps": steps,
        "simulated_s": steps / CONTROL_HZ,
        "terminated": success,
        "truncated": not success and content.get("failure_reason") is None and steps > limit,
        "inferences": 0,
        "stalled_steps": 0,
        "privileged": bool(identity["privileged"]),
        "initial_predicates": {},
        "predicates": {},
        "subgoals": {},
        "efficiency": {
            "time": {
                "simulator_steps": steps,
                "simulator_time": steps / CONTROL_HZ,
                "normalized_time": _finite("normalized_time", content["time"], notes),
            },
            "agent_distance": {body: content["agent_distance"][body] for body in BODIES},
            "normalized_agent_distance": {
                body: _finite(body, content["normalized_agent_distance"], notes) for body in BODIES
            },
            "notes": notes,
        },
        "timing": {},
    }


def _finite(name: str, block: Mapping[str, Any], notes: list[str]) -> float | None:
    """A figure, or None where the official file has Infinity."""
    value = block[name]
    if value is not None and not math.isfinite(value):
        notes.append(f"{name} is null: officially Infinity, which JSON does not have")
        return None
    return None if value is None else float(value)
