"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

TEMP_PREFIX = ".tmp-"
"""What unfinished files and folders are called; whatever is called so may be deleted."""


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write, flush to disk, and only then give the file its name.

    Raises:
        OSError: As the system has it; nothing is left under `path` that was not there before.
    """
    temp = path.with_name(f"{TEMP_PREFIX}{path.name}")
    try:
        with temp.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def make_new_folder(path: Path) -> Path:
    """Make a folder that was not there: the path, or beside it the path with a number.

    Of several processes that ask for the same one at the same time each gets its own.

    Raises:
        OSError: As the system has it.
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


def fsync_folder(path: Path) -> None:
    """Make the names in a folder last beyond a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def to_json(value: Any, *, indent: int | None = 2) -> str:  # noqa: ANN401 - any JSON value
    """JSON text with a final newline; NaN and infinity, which JSON does not have, are refused.

    It can be written as UTF-8: what stands for a byte of a path that is no text is spelled out as
    JSON has it, and read back as it was.

    Raises:
        ValueError: A number is not finite.
    """
    return spelled_out(json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)) + "\n"


def spelled_out(text: str) -> str:
    r"""A text that can be written as UTF-8: what stands for other bytes (PEP 383) as `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
