"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
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


def fsync_folder(path: Path) -> None:
    """Make the names in a folder last beyond a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def to_json(value: Any, *, indent: int | None = 2) -> str:  # noqa: ANN401 - any JSON value
    """JSON text with a final newline; NaN and infinity, which JSON does not have, are refused.

    Raises:
        ValueError: A number is not finite.
    """
    return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n"
