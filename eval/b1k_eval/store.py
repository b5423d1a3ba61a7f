"""The run folder: written atomically, resumable, read back with suspicion.

    RUN/run.json            what was asked and with what
        episodes.jsonl      one line per finished episode
        episodes/TASK-INSTANCE-ROLLOUT/{result.json,trace.parquet,video.mp4}

An episode is written under a temporary name, flushed, renamed in one step, and only then gets its
line, so a line means complete files. Killed at any moment, the folder holds at worst temporary
files, one episode folder without a line, and a last line without its newline; `--resume` clears
all three away. Any other damage is reported, never repaired by guess. A later result for an
episode whose line says `error` replaces that line.

Lines hold the fields of `LINE_FIELDS`, JSON, in the order of the plan once the run is complete.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from b1k_envs.errors import B1kEvalError, UsageError
from b1k_eval.files import TEMP_PREFIX, fsync_folder, to_json, write_atomic

RUN_FILE = "run.json"
EPISODES_FILE = "episodes.jsonl"
EPISODES_FOLDER = "episodes"
LOCK_FILE = ".lock"
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
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PROBE_BYTES = 1 << 20


class StorageError(B1kEvalError):
    """The results folder cannot be written any more, e.g. because the disk is full."""


class EpisodeKey(NamedTuple):
    """Which episode of a run."""

    task: str
    instance: int
    rollout: int

    @property
    def folder(self) -> str:
        """Name of its folder under `episodes/`."""
        return f"{self.task}-{self.instance}-{self.rollout}"


def disk_full(error: BaseException | None) -> bool:
    """Whether an exception, or what it was raised from, is a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def read_run(path: Path) -> dict[str, Any]:
    """Read run.json.

    Raises:
        UsageError: It is missing, damaged, or of another format.
    """
    file = path / RUN_FILE
    advice = "restore the file, or start the run again under another --out"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
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
            line = json.loads(raw.decode("utf-8"))
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


class RunStore:
    """The one writer of a run folder. Holds the folder's lock until `close`."""

    def __init__(
        self,
        path: Path,
        record: dict[str, Any],
        episodes: dict[EpisodeKey, dict[str, Any]],
        lock: IO[str],
    ) -> None:
        """Use `open_run`."""
        self.path = path
        self.record = record
        self.episodes = episodes
        self._lock = lock

    def pending(self, plan: Iterable[EpisodeKey]) -> list[EpisodeKey]:
        """The episodes of the plan that have no result yet, or only an error."""
        return [
            key
            for key in plan
            if key not in self.episodes or self.episodes[key]["outcome"] == "error"
        ]

    def begin(self, key: EpisodeKey) -> Path:
        """An empty folder to write the episode's files into.

        Raises:
            StorageError: It cannot be made.
        """
        folder = self.path / EPISODES_FOLDER / f"{TEMP_PREFIX}{key.folder}"
        with storing(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        return folder

    def commit(self, key: EpisodeKey, folder: Path, result: Mapping[str, Any]) -> None:
        """Make the episode part of the run: files first, line last.

        Args:
            key: Which episode.
            folder: From `begin`, with result.json and what else there is.
            result: Content of result.json.

        Raises:
            StorageError: Something cannot be written; the episode then has no line.
        """
        final = self.path / EPISODES_FOLDER / key.folder
        line = {name: result[name] for name in LINE_FIELDS}
        with storing(final):
            for file in folder.iterdir():
                _fsync_file(file)
            fsync_folder(folder)
            if final.exists():  # an error's files, or those of an episode that got no line
                replaced = final.with_name(f"{TEMP_PREFIX}old-{key.folder}")
                shutil.rmtree(replaced, ignore_errors=True)
                final.replace(replaced)
                folder.replace(final)
                shutil.rmtree(replaced, ignore_errors=True)
            else:
                folder.replace(final)
            fsync_folder(final.parent)
            replaces = key in self.episodes
            self.episodes[key] = line
            if replaces:
                self._rewrite()
            else:
                self._append(line)

    def finish(self, plan: Iterable[EpisodeKey]) -> None:
        """Put the lines into the order of the plan, whatever order they were finished in."""
        order = [key for key in plan if key in self.episodes]
        if order != list(self.episodes):
            self.episodes = {key: self.episodes[key] for key in order}
            with storing(self.path):
                self._rewrite()

    def close(self) -> None:
        """Let go of the lock; safe to call twice."""
        self._lock.close()

    def clean(self, plan: Iterable[EpisodeKey]) -> None:
        """Remove what a killed process left: temporary files, folders and lines half written.

        Raises:
            StorageError: It cannot be removed.
        """
        episodes = self.path / EPISODES_FOLDER
        with storing(self.path):
            episodes.mkdir(exist_ok=True)
            orphans = [episodes / key.folder for key in plan if key not in self.episodes]
            for entry in [
                *self.path.glob(f"{TEMP_PREFIX}*"),
                *episodes.glob(f"{TEMP_PREFIX}*"),
                *(folder for folder in orphans if folder.exists()),
            ]:
                if entry.is_dir():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
            file = self.path / EPISODES_FILE
            if file.exists() and not file.read_bytes().endswith(b"\n"):
                self._rewrite()

    def write_record(self) -> None:
        """Write run.json.

        Raises:
            StorageError: It cannot be written.
        """
        with storing(self.path / RUN_FILE):
            write_atomic(self.path / RUN_FILE, to_json(self.record).encode())

    def _append(self, line: Mapping[str, Any]) -> None:
        file = self.path / EPISODES_FILE
        new = not file.exists()
        with file.open("ab", buffering=0) as out:
            out.write(to_json(line, indent=None).encode())
            os.fsync(out.fileno())
        if new:
            fsync_folder(self.path)

    def _rewrite(self) -> None:
        lines = "".join(to_json(line, indent=None) for line in self.episodes.values())
        write_atomic(self.path / EPISODES_FILE, lines.encode())


def open_run(path: Path, record: dict[str, Any], *, resume: bool) -> RunStore:
    """Start a run in a new or empty folder, or take up the one that is there.

    Args:
        path: The run folder; made if need be.
        record: Content of run.json for a new run. On resume, its `identity` must equal the
            recorded one, and its `sessions` are appended to the recorded ones.
        resume: Take up a run; a folder without one is started anew.

    Raises:
        UsageError: The folder holds a run (without `resume`) or other things, cannot be written,
            is in use, is damaged, or was made with another identity.
        StorageError: The disk is full.
    """
    lock = _open_folder(path)
    try:
        exists = (path / RUN_FILE).exists()
        if exists and not resume:
            raise UsageError(
                f"{path} already holds a run: --resume continues it, another --out starts a new one"
            )
        if not exists and (others := [e.name for e in path.iterdir() if not _is_ours(e)]):
            raise UsageError(
                f"{path} is not empty (it has {sorted(others)[0]}) and holds no {RUN_FILE}: "
                "choose another --out"
            )
        if exists:
            known = read_run(path)
            _check_identity(path, known, record)
            record = {**known, "sessions": [*known["sessions"], *record["sessions"]]}
        store = RunStore(path, record, read_episodes(path) if exists else {}, lock)
        with storing(path):
            (path / EPISODES_FOLDER).mkdir(exist_ok=True)
            _probe(path)
        store.write_record()
    except BaseException:
        lock.close()
        raise
    return store


def _open_folder(path: Path) -> IO[str]:
    """Make the folder and take its lock."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        if disk_full(error):
            raise StorageError(_full(path)) from error
        raise UsageError(
            f"the results folder {path} cannot be written ({error.strerror}): choose another --out"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        owner = lock.read().strip() or "another process"
        lock.close()
        raise UsageError(
            f"{path} is being written by {owner}: wait for it, or choose another --out"
        ) from error
    with storing(path):
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        lock.flush()
    return lock


def _is_ours(entry: Path) -> bool:
    """Whether an entry of a folder without run.json is what a start that was killed leaves."""
    if entry.name == EPISODES_FOLDER:
        return not any(entry.iterdir())
    return entry.name == LOCK_FILE or entry.name.startswith(TEMP_PREFIX)


def _probe(path: Path) -> None:
    """Write and remove a megabyte, to fail before the first episode rather than after it."""
    probe = path / f"{TEMP_PREFIX}probe"
    try:
        write_atomic(probe, bytes(_PROBE_BYTES))
    finally:
        probe.unlink(missing_ok=True)


def _check_identity(path: Path, known: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    now = json.loads(to_json(asked["identity"]))  # tuples and lists are the same thing on disk
    differences = list(_differences("", known["identity"], now))
    if differences:
        listed = "; ".join(f"{name} {old} -> {new}" for name, old, new in differences)
        raise UsageError(
            f"{path} was made with other settings and cannot be resumed with these: {listed}. "
            "Repeat the old ones, or choose another --out"
        )


def _differences(
    prefix: str,
    old: Any,  # noqa: ANN401 - JSON values
    new: Any,  # noqa: ANN401 - JSON values
) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            inner = f"{prefix}.{name}" if prefix else name
            yield from _differences(inner, old.get(name), new.get(name))
    elif old != new:
        yield prefix, json.dumps(old), json.dumps(new)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into one sentence.

    Raises:
        StorageError: In place of OSError.
    """
    try:
        yield
    except OSError as error:
        if disk_full(error):
            raise StorageError(_full(path)) from error
        raise StorageError(
            f"{error.filename or path} cannot be written ({error.strerror}): "
            "put it right, then --resume"
        ) from error


def _full(path: Path) -> str:
    return f"no space left to write {path}: free some space, then --resume"


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
