"""Reading a run folder, with suspicion: what is damaged is named, never repaired by guess.

The layout is described in `b1k_eval.records.store`, which writes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from b1k_envs.errors import UsageError

RUN_FILE = "run.json"
EPISODES_FILE = "episodes.jsonl"
EPISODES_FOLDER = "episodes"
FORMAT = 1

LINE_FIELDS: tuple[str, ...] = (
    "task",
    "task_index",
    "instance",
    "rollout",
    "seed",
    "outcome",
    "success",
    "q_score",
    "failure_reason",
    "message",
    "steps",
    "simulated_s",
    "privileged",
    "timing",
)
"""Fields of result.json that the episode's line repeats."""

_OUTCOMES = ("success", "failure", "error")


class EpisodeKey(NamedTuple):
    """Which episode of a run."""

    task: str
    instance: int
    rollout: int

    @property
    def folder(self) -> str:
        """Name of its folder under `episodes/`."""
        return f"{self.task}-{self.instance}-{self.rollout}"


def read_run(path: Path) -> dict[str, Any]:
    """Read run.json.

    Raises:
        UsageError: It is missing, damaged, or of another format.
    """
    file = path / RUN_FILE
    advice = "restore the file, or start the run again under another --out"
    try:
        record = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        raise UsageError(f"{path} holds no run: it has no {RUN_FILE}") from None
    except (ValueError, OSError) as error:
        raise UsageError(f"{file} is damaged ({error}): {advice}") from error
    if not isinstance(record, dict):
        raise UsageError(f"{file} is damaged (it holds no JSON object): {advice}")
    if record.get("format") != FORMAT:
        raise UsageError(
            f"{file} has format {record.get('format')!r}, this version reads {FORMAT}: {advice}"
        )
    for name, kind in (("identity", dict), ("sessions", list)):
        if not isinstance(record.get(name), kind) or not record[name]:
            raise UsageError(f"{file} is damaged (it lacks {name!r}): {advice}")
    for number, session in enumerate(record["sessions"]):
        if not isinstance(session, dict):
            raise UsageError(
                f"{file} is damaged (sessions[{number}] is {session!r}, no object): {advice}"
            )
    return record


def read_episodes(path: Path) -> dict[EpisodeKey, dict[str, Any]]:
    """Read the lines of episodes.jsonl, in their order; a torn last line is left out.

    Raises:
        UsageError: A line is damaged or occurs twice, or its files are not there.
    """
    file = path / EPISODES_FILE
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    episodes: dict[EpisodeKey, dict[str, Any]] = {}
    # The last piece is empty, or a line that was being appended when the process was killed.
    for number, raw in enumerate(data.split(b"\n")[:-1], start=1):
        where = f"{file}, line {number}"
        advice = "remove that line and --resume: its episode will be run again"
        try:
            line = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
        except ValueError as error:
            raise UsageError(f"{where} is damaged ({error}): {advice}") from error
        problem = _line_problem(line)
        if problem:
            raise UsageError(f"{where} is damaged ({problem}): {advice}")
        key = EpisodeKey(line["task"], line["instance"], line["rollout"])
        if key in episodes:
            raise UsageError(f"{where} repeats episode {key.folder}: {advice}")
        # An error's files may be missing: killed while a retry was taking their place.
        present = (path / EPISODES_FOLDER / key.folder / "result.json").is_file()
        if not present and line["outcome"] != "error":
            raise UsageError(
                f"{where} lists episode {key.folder}, whose result.json is missing: {advice}"
            )
        episodes[key] = line
    return episodes


def _refuse(constant: str) -> None:
    """What JSON does not have, and Python reads all the same: NaN and the infinities."""
    raise ValueError(f"it has {constant}, which is no JSON")


def _line_problem(line: Any) -> str | None:  # noqa: ANN401 - whatever JSON was found
    if not isinstance(line, dict):
        return "it holds no JSON object"
    missing = [name for name in LINE_FIELDS if name not in line]
    if missing:
        return f"it lacks {missing[0]!r}"
    for name, kind in (("task", str), ("instance", int), ("rollout", int)):
        if not isinstance(line[name], kind):
            return f"{name!r} is {line[name]!r}"
    if line["outcome"] not in _OUTCOMES:
        return f"'outcome' is {line['outcome']!r}, expected one of {', '.join(_OUTCOMES)}"
    return None
