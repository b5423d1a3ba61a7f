"""Writing files so that they exist completely or not at all."""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

TEMP_PREFIX = ".tmp-"
"""Prefix of unfinished files and folders; anything with this name may be deleted."""


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write a file, flush it to disk, and only then give it its name.

    Raises:
        OSError: The system refused; nothing is left under `path` that was not there before.
    """
    temp = path.with_name(f"{TEMP_PREFIX}{path.name}")
    try:
        with temp.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
    # Ctrl-C must not leave an unfinished file either.
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def dated_folder(name: str) -> Path:
    """Return a folder under ./results, named by what it is for and the time in UTC."""
    return Path("results") / f"{name}-{time_stamp()}"


def time_stamp() -> str:
    """Return the time in UTC, for names: `20261130-224530`."""
    return datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")


def make_new_folder(path: Path) -> Path:
    """Make a new folder: the path, or if it exists the path with a number.

    If several processes ask for the same path at the same time, each gets its own folder.

    Raises:
        OSError: The system refused.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable: the count has no end")


def link(source: Path, target: Path) -> None:
    """Link a file that is never changed, or copy it where links do not reach.

    Raises:
        OSError: It cannot be copied either.
    """
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)


def fsync_folder(path: Path) -> None:
    """Flush a folder, so that the names in it survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def to_json(value: Any, *, indent: int | None = 2) -> str:  # noqa: ANN401 - any JSON value
    """Return JSON text with a final newline; NaN and infinity, which JSON lacks, are refused.

    The text can be written as UTF-8: what stands for a byte of a path that is not text is escaped
    as in JSON, and reads back unchanged.

    Raises:
        ValueError: A number is not finite.
    """
    return spelled_out(json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)) + "\n"


def spelled_out(text: str) -> str:
    r"""Return a text that can be written as UTF-8, with surrogates (PEP 383) as `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
