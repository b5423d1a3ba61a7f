"""The frames of runs, episodes and sub-goals as files: CSV, parquet and Markdown, for papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from b1k_eval.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["csv", "parquet", "markdown"]

ENDINGS: Mapping[Kind, str] = {"csv": "csv", "parquet": "parquet", "markdown": "md"}


def write_table(folder: Path, name: str, table: pd.DataFrame, kind: Kind) -> Path:
    """Write a table under its name.

    Raises:
        OSError: It cannot be written.
    """
    path = folder / f"{name}.{ENDINGS[kind]}"
    write_atomic(path, _WRITERS[kind](table))
    return path


def _csv(table: pd.DataFrame) -> bytes:
    text: str = table.to_csv(index=False, lineterminator="\n")  # what is missing is empty
    return text.encode("utf-8")


def _markdown(table: pd.DataFrame) -> bytes:
    lines = [list(table), ["---"] * len(table.columns)]
    known = table.notna()
    for row, there in zip(table.to_numpy(object), known.to_numpy(), strict=True):
        lines.append([_cell(value) if is_ else "" for value, is_ in zip(row, there, strict=True)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).encode("utf-8")


def _cell(value: Any) -> str:  # noqa: ANN401 - a value of a table
    text = f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    for character in "\\|`*_[]":  # markup in Markdown; names of policies have underscores
        text = text.replace(character, f"\\{character}")
    return " ".join(text.replace("<", "&lt;").split())


def _parquet(table: pd.DataFrame) -> bytes:
    written: bytes = table.to_parquet(index=False)
    return written


_WRITERS: Mapping[Kind, Callable[[pd.DataFrame], bytes]] = {
    "csv": _csv,
    "parquet": _parquet,
    "markdown": _markdown,
}
