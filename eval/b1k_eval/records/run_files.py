"""Reading the files of a run folder; damage is reported, never repaired by guess.

The layout is described in `b1k_eval.records.store`, which writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from b1k_envs.errors import UsageError
from b1k_eval.files import TEMP_PREFIX
from b1k_eval.records.episode import (
    FORMAT,
    LINE_FIELDS,
    OUTCOMES,
    RESULT_FILE,
    DamagedRecordError,
    EpisodeKey,
)

RUN_FILE = "run.json"
EPISODES_FILE = "episodes.jsonl"
STUDY_FILE = "study.json"
"""In a folder of `stress`, whose folders are runs."""
EPISODES_FOLDER = "episodes"
LOCK_FILE = ".lock"
PROGRESS_FILE = f"{TEMP_PREFIX}progress.json"
"""What the process that runs it says of the moment; only while it does, or if it was killed."""


def read_run(path: Path) -> dict[str, Any]:
    """Read run.json.

    Raises:
        UsageError: It is missing, damaged, or of another format.
    """
    file = path / RUN_FILE
    advice = "restore the file, or start the run again under another --out"
    try:
        record = parse_object(file.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path} holds no run: it has no {RUN_FILE}") from None
    except (DamagedRecordError, OSError) as error:
        raise UsageError(f"{file} is damaged ({error}): {advice}") from error
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
                f"{file} is damaged (sessions[{number}] is {session!r}, not an object): {advice}"
            )
    return record


def runs_there(folder: Path = Path("results"), most: int = 8) -> str:
    """Say which runs a folder holds, the newest first, for who has named too few."""
    try:
        found = [entry for entry in folder.iterdir() if (entry / RUN_FILE).is_file()]
        found.sort(key=lambda entry: (entry / RUN_FILE).stat().st_mtime, reverse=True)
    except OSError:
        found = []
    if not found:
        return f"there is no run in {folder}"
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return f"in {folder} there are: {', '.join(str(run) for run in found[:most])}{more}"


class Line(NamedTuple):
    """A line of episodes.jsonl.

    Attributes:
        number: From 1.
        key: Its episode; None if it names none.
        content: Its content, as far as it can be read.
        problem: Why it cannot be used; None if it can.
    """

    number: int
    key: EpisodeKey | None
    content: dict[str, Any]
    problem: str | None


def read_lines(path: Path, needed: Sequence[str]) -> Iterator[Line]:
    """Read episodes.jsonl, without a torn last line: its episode counts as unfinished.

    Args:
        path: The run folder.
        needed: Fields that a line must have.

    Raises:
        UsageError: The file cannot be read.
    """
    file = path / EPISODES_FILE
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    # Not `splitlines`: what follows the last newline is a torn line, or nothing.
    for number, raw in enumerate(data.split(b"\n")[:-1], start=1):
        key, content = None, {}
        try:
            content = parse_object(raw)
            for name in needed:
                if name not in content:
                    raise DamagedRecordError(f"it lacks {name!r}")
            for name, kind in (("task", str), ("instance", int), ("rollout", int)):
                if type(content[name]) is not kind:
                    raise DamagedRecordError(f"{name!r} is {content[name]!r}")
            key = EpisodeKey(content["task"], content["instance"], content["rollout"])
            if content["outcome"] not in OUTCOMES:
                expected = ", ".join(OUTCOMES)
                raise DamagedRecordError(
                    f"'outcome' is {content['outcome']!r}, expected one of {expected}"
                )
        except DamagedRecordError as error:
            yield Line(number, key, content, str(error))
        else:
            yield Line(number, key, content, None)


def read_episodes(path: Path) -> dict[EpisodeKey, dict[str, Any]]:
    """Read the lines of episodes.jsonl in order, for resuming the run.

    Raises:
        UsageError: A line is damaged or occurs twice, or its files are missing.
    """
    episodes: dict[EpisodeKey, dict[str, Any]] = {}
    for number, key, line, problem in read_lines(path, LINE_FIELDS):
        where = f"{path / EPISODES_FILE}, line {number}"
        advice = "remove that line and --resume: its episode will be run again"
        if problem or key is None:
            raise UsageError(f"{where} is damaged ({problem}): {advice}")
        if key in episodes:
            raise UsageError(f"{where} repeats episode {key.folder}: {advice}")
        # An error's files may be missing, if a process was killed while a retry replaced them.
        present = (path / EPISODES_FOLDER / key.folder / RESULT_FILE).is_file()
        if not present and line["outcome"] != "error":
            raise UsageError(
                f"{where} lists episode {key.folder}, whose {RESULT_FILE} is missing: {advice}"
            )
        episodes[key] = line
    return episodes


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object; NaN and infinities, which Python's parser accepts, are refused.

    Raises:
        DamagedRecordError: It is not a JSON object.
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except ValueError as error:
        raise DamagedRecordError(f"it is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise DamagedRecordError("it is not a JSON object")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"it has {constant}")
