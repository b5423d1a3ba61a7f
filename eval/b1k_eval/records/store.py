"""Writing the run folder: atomic and resumable.

    RUN/run.json            what was asked and with what
        episodes.jsonl      one line per finished episode
        episodes/TASK-INSTANCE-ROLLOUT/{result.json,trace.parquet,video.mp4}

An episode is written under a temporary name, flushed, renamed in one step, and only then gets its
line, so a line means complete files. A process killed at any moment leaves at worst temporary
files, one episode folder without a line, and a last line without its newline; `--resume` clears
all three away. Any other damage is reported, never repaired by guess. A later result for an
episode whose line says `error` replaces that line. Once the run is complete, lines are in the
order of the plan.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from b1k_envs.claims import Claim, ClaimedError, claim
from b1k_envs.errors import B1kEvalError, UsageError
from b1k_eval.files import TEMP_PREFIX, fsync_folder, make_new_folder, to_json, write_atomic
from b1k_eval.records.episode import EpisodeKey, EpisodeRecord
from b1k_eval.records.identity import check_identity
from b1k_eval.records.run_files import (
    EPISODES_FILE,
    EPISODES_FOLDER,
    LOCK_FILE,
    RUN_FILE,
    read_episodes,
    read_run,
)

RESUME = "--resume"
"""Advice of error messages once there is a run."""

START_AGAIN = "start again, or choose another --out"
"""The same before there is a run."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_PROBE_BYTES = 1 << 20


class StorageError(B1kEvalError):
    """The run folder cannot be written, e.g. because the disk is full."""


def disk_full(error: BaseException | None) -> bool:
    """Return whether an exception was caused by a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


class RunStore:
    """The only writer of a run folder; it holds the folder's lock until `close`.

    Attributes:
        path: The folder.
        record: Content of run.json.
        episodes: The lines, by episode.
        remark: A remark on the lock for the user, or None.
    """

    def __init__(
        self,
        path: Path,
        record: dict[str, Any],
        episodes: dict[EpisodeKey, dict[str, Any]],
        lock: Claim,
        then: str = RESUME,
    ) -> None:
        """Use `open_run`."""
        self.path = path
        self.record = record
        self.episodes = episodes
        self.remark = lock.remark
        self._lock = lock
        self._then = then

    def pending(self, plan: Iterable[EpisodeKey]) -> list[EpisodeKey]:
        """Return the episodes of the plan that have no result yet, or only an error."""
        return [
            key
            for key in plan
            if key not in self.episodes or self.episodes[key]["outcome"] == "error"
        ]

    def begin(self, key: EpisodeKey, attempt: int = 0) -> Path:
        """Make an empty temporary folder for the episode's files, a new one for each attempt.

        Raises:
            StorageError: It cannot be made.
        """
        again = f"-again-{attempt}" if attempt else ""
        folder = self.path / EPISODES_FOLDER / f"{TEMP_PREFIX}{key.folder}{again}"
        with storing(folder, self._then):
            shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed
            folder.mkdir()
        return folder

    def commit(self, folder: Path, record: EpisodeRecord) -> None:
        """Add the episode to the run: files first, line last.

        Args:
            folder: From `begin`, with all files of the episode.
            record: The content of result.json.

        Raises:
            StorageError: Something cannot be written; the episode then has no line.
        """
        key, line = record.key, record.line()
        final = self.path / EPISODES_FOLDER / key.folder
        with storing(final, self._then):
            # Flushed before the rename, and that before the line: after a power cut, too, a line
            # means complete files.
            for file in folder.iterdir():
                _fsync_file(file)
            fsync_folder(folder)
            if final.exists():  # files of an error, or of an episode without a line
                # In two steps: a rename cannot replace a folder that is not empty.
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
                return
            try:
                self._append(line)
            except OSError:
                del self.episodes[key]
                raise

    def finish(self, plan: Iterable[EpisodeKey]) -> None:
        """Put the lines into the order of the plan."""
        order = [key for key in plan if key in self.episodes]
        if order != list(self.episodes):
            self.episodes = {key: self.episodes[key] for key in order}
            with storing(self.path, self._then):
                self._rewrite()

    def close(self) -> None:
        """Release the lock; safe to call twice."""
        self._lock.close()

    def clean(self, plan: Iterable[EpisodeKey]) -> None:
        """Remove what a killed process left: temporary files, folders and half-written lines.

        Raises:
            UsageError: There is a line of an episode that is not in the plan; nothing is removed.
            StorageError: It cannot be removed.
        """
        plan = set(plan)
        for number, key in enumerate(self.episodes, start=1):
            if key not in plan:
                raise UsageError(
                    f"{self.path / EPISODES_FILE}, line {number} lists episode {key.folder}, which "
                    f"{RUN_FILE} does not list: remove that line and --resume"
                )
        episodes = self.path / EPISODES_FOLDER
        with storing(self.path, self._then):
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

    def write_record(self, then: str | None = None) -> None:
        """Write run.json.

        Raises:
            StorageError: It cannot be written; `then` is the advice if it differs from the usual.
        """
        with storing(self.path / RUN_FILE, then or self._then):
            write_atomic(self.path / RUN_FILE, to_json(self.record).encode())

    def _append(self, line: Mapping[str, Any]) -> None:
        file = self.path / EPISODES_FILE
        new = not file.exists()
        left = memoryview(to_json(line, indent=None).encode())
        with file.open("ab", buffering=0) as out:
            length = out.seek(0, os.SEEK_END)
            try:
                while left:  # an almost full disk writes a part and refuses the rest
                    written = os.write(out.fileno(), left)
                    if written == 0:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
                    left = left[written:]
                os.fsync(out.fileno())
            except OSError:
                with suppress(OSError):  # otherwise a torn last line stays, which a resume removes
                    out.truncate(length)
                raise
        if new:
            fsync_folder(self.path)

    def _rewrite(self) -> None:
        lines = "".join(to_json(line, indent=None) for line in self.episodes.values())
        write_atomic(self.path / EPISODES_FILE, lines.encode())


def open_run(
    path: Path,
    record: dict[str, Any],
    *,
    resume: bool,
    beside: bool = False,
    then: str = RESUME,
) -> RunStore:
    """Start a run in a new or empty folder, or resume the one that is there.

    A start that fails leaves nothing behind.

    Args:
        path: The run folder; made if needed.
        record: Content of run.json for a new run. On resume, its `identity` must equal the
            recorded one but for more episodes, and its `sessions` are appended to those there.
        resume: Resume a run; if there is none, start one.
        beside: If `path` exists, use a new folder of that name with a number.
        then: Advice of later error messages.

    Raises:
        UsageError: The folder holds a run (without `resume`) or other files, cannot be written,
            is in use, is damaged, or was made with another identity.
        StorageError: The disk is full.
    """
    if not beside:
        check_folder(path, resume=resume)
    made = beside or not path.exists()
    path = _make_folder(path, beside=beside)
    try:
        lock = _claim_folder(path)
    except BaseException:
        if made:
            with suppress(OSError):  # not empty: another process was faster
                path.rmdir()
        raise
    exists = True  # until checked, so that a failure deletes nothing
    try:
        exists = check_folder(path, resume=resume)  # again: only now the folder is locked
        if exists:
            known = read_run(path)
            identity = check_identity(path, known, record)
            record = {
                **known,
                "identity": identity,
                "sessions": [*known["sessions"], *record["sessions"]],
            }
        store = RunStore(path, record, read_episodes(path) if exists else {}, lock, then)
        at_start = RESUME if exists else START_AGAIN
        with storing(path, at_start):
            (path / EPISODES_FOLDER).mkdir(exist_ok=True)
            _probe(path)
        store.write_record(at_start)
    except BaseException:
        if made and not exists:
            shutil.rmtree(path, ignore_errors=True)  # it contains only what this start made
        lock.close()
        raise
    return store


def check_folder(path: Path, *, resume: bool) -> bool:
    """Refuse a folder that is not for this run, without touching it; return whether it has a run.

    Raises:
        UsageError: See `open_run`; the lock is not checked.
    """
    try:
        if not path.is_dir():
            return False
        if (path / RUN_FILE).exists():
            if not resume:
                raise UsageError(
                    f"{path} already holds a run: --resume continues it, another --out starts a "
                    "new one"
                )
            return True
        others = sorted(entry.name for entry in path.iterdir() if not _is_ours(entry))
    except OSError as error:
        raise UsageError(
            f"the results folder {path} cannot be read ({error.strerror}): choose another --out"
        ) from error
    if others:
        raise UsageError(
            f"{path} is not empty (it has {others[0]}) and holds no {RUN_FILE}: "
            "choose another --out"
        )
    return False


def _make_folder(path: Path, *, beside: bool) -> Path:
    with _opening(path):
        if beside:
            return make_new_folder(path)
        path.mkdir(parents=True, exist_ok=True)
        return path


def _claim_folder(path: Path) -> Claim:
    try:
        with _opening(path):
            return claim(path / LOCK_FILE)
    except ClaimedError as error:
        if error.remove is None:
            raise UsageError(
                f"{path} is being written by {error.owner}: wait for it, or choose another --out"
            ) from error
        raise UsageError(
            f"{path} may still be written by {error.owner}: {error.remove.name} says so, and "
            f"whether that has ended cannot be told from here: wait for it, remove {error.remove} "
            "if you know that it has ended, or choose another --out"
        ) from error


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if disk_full(error):
            raise StorageError(_full(path, START_AGAIN)) from error
        raise UsageError(
            f"the results folder {path} cannot be written ({error.strerror}): choose another --out"
        ) from error


def _is_ours(entry: Path) -> bool:
    """Return whether a start that was killed may have left this entry."""
    if entry.name == EPISODES_FOLDER:
        return entry.is_dir() and not any(entry.iterdir())
    return entry.name.startswith((LOCK_FILE, TEMP_PREFIX))


def _probe(path: Path) -> None:
    """Write and remove a megabyte, so that a full disk is found before the first episode."""
    probe = path / f"{TEMP_PREFIX}probe"
    try:
        write_atomic(probe, bytes(_PROBE_BYTES))
    finally:
        probe.unlink(missing_ok=True)


@contextmanager
def storing(path: Path, then: str = RESUME) -> Iterator[None]:
    """Turn an OSError from writing `path` into a StorageError with the advice `then`."""
    try:
        yield
    except OSError as error:
        if disk_full(error):
            raise StorageError(_full(path, then)) from error
        raise StorageError(
            f"{error.filename or path} cannot be written ({error.strerror}): fix that, then {then}"
        ) from error


def _full(path: Path, then: str) -> str:
    return f"no space left to write {path}: free some space, then {then}"


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
